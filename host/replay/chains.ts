// The chains that a translator copies of a recorded program: where each begins and how long it is, by the rules of the copy phase (spec ccw section
// 5.1). A guest needs the 2048 bytes behind each beginning mapped; a chain or a program beyond the limits must be refused.
import { CCW_CC, CCW_CD, CMD_TIC } from '../css/cio.ts';
import type { GuestImage } from '../devices/recording.ts';

/** Bytes read at the beginning of each chain, and the CCWs in them. */
export const CHAIN_WINDOW = 2048;
export const MAX_CCWS = 256;
export const MAX_CHAINS = 16;

export interface Chains {
  /** Address of each chain, in the order they are found. */
  readonly starts: readonly number[];
  /** Why the program must be refused with EINVAL, in words, or undefined. */
  readonly refusal: string | undefined;
}

/** Finds the chains of a program; stops at the first that is beyond a limit. */
export function findChains(image: GuestImage): Chains {
  const chains: Array<{ start: number; length: number }> = [];
  const starts: number[] = [];
  let refusal: string | undefined;
  const build = (start: number): boolean => {
    starts.push(start);
    const length = chainLength(image, start);
    if (length === null) refusal = `a chain of more than ${MAX_CCWS} CCWs at 0x${start.toString(16)}`;
    else if (chains.length === MAX_CHAINS) refusal = `more than ${MAX_CHAINS} chains`;
    if (length === null || refusal !== undefined) return false;
    chains.push({ start, length });
    for (let i = 0; i < length; i++) {
      const ccw = image.ccw(start + 8 * i);
      const known = chains.some(
        (chain) => ccw.address >= chain.start && ccw.address <= chain.start + 8 * (chain.length - 1),
      );
      if (ccw.command === CMD_TIC && !known && !build(ccw.address)) return false;
    }
    return true;
  };
  build(image.start);
  return { starts, refusal };
}

/** CCWs of the chain, or null when the 256th still continues. A TIC continues it when it leads back into what has been seen. */
function chainLength(image: GuestImage, start: number): number | null {
  for (let n = 1; n <= MAX_CCWS; n++) {
    const ccw = image.ccw(start + 8 * (n - 1));
    const back = ccw.command === CMD_TIC && ccw.address >= start && ccw.address <= start + 8 * (n - 1);
    if ((ccw.flags & (CCW_CC | CCW_CD)) === 0 && !back) return n;
  }
  return null;
}
