// The chunking rules as the sheet writes them (zdev sections 3.2 and 4), one decision at a time: the slow twin of the core's planner.
import type { StorePiece, StoreRules } from '../../../host/zpci.ts';

const powerBelow = (n: number): number => [8, 4, 2, 1].find((power) => power <= n) ?? 1;

function chunk(io: number, mem: number, left: number, rules: StoreRules): number {
  const max = rules.maxBlock ?? 128;
  if (rules.split === true) return [8, 4, 2, 1].find((size) => io % size === 0 && size <= left) ?? 1;
  let n = Math.min(left, 4096 - (io % 4096), max === 0 ? 8 : max);
  if (max !== 0) {
    if (rules.relaxed === true) return n;
    if (rules.blockAware === true && n > 8) n -= n % 8;
    if (io % 8 === 0 && mem % 8 === 0 && n % 8 === 0) return n;
  }
  return powerBelow(Math.min(n, 8 - (io % 8)));
}

export function slowPlan(io: number, mem: number, length: number, rules: StoreRules): StorePiece[] {
  const pieces: StorePiece[] = [];
  for (let at = 0; at < length; ) {
    const n = chunk(io + at, mem + at, length - at, rules);
    const blocks = rules.split !== true && rules.maxBlock !== 0;
    pieces.push({ at, length: n, block: blocks && (n > 8 || rules.relaxed === true) });
    at += n;
  }
  return pieces;
}

/** Does PCISTB pass steps 5 to 8? */
export function blockAllowed(offset: number, length: number, gaddr: number, rules: StoreRules): boolean {
  const max = rules.maxBlock ?? 128;
  if (rules.relaxed !== true) {
    if (offset % 8 !== 0) return false;
    if (length <= 8 || length % 8 !== 0 || length > max) return false;
    if (gaddr % 8 !== 0) return false;
  }
  if (length === 0 || length > max) return false;
  return (offset % 4096) + length <= 4096;
}
