// What a recorded sequence has in storage, as far as its steps tell: what they set and what was stored; and the channel program that its last SSCH
// started.
import { type Line, parseBytes, type Step } from './lines.ts';

type Stored = ReadonlyArray<readonly [string, string]>;

/** Bytes by address after step `index`. @param stored what each step stored. */
export function memoryAfter(
  line: Line,
  index: number,
  stored: (step: number) => Stored | undefined,
): ReadonlyMap<number, number> {
  const memory = new Map<number, number>();
  const put = (pairs: Stored): void => {
    for (const [address, text] of pairs)
      parseBytes(text).forEach((byte, i) => {
        memory.set(Number(address) + i, byte);
      });
  };
  line.steps.slice(0, index + 1).forEach((step, i) => {
    put(step.set ?? []);
    put(stored(i) ?? []);
  });
  return memory;
}

/** A CCW of a program. */
export interface RecordedCcw {
  readonly command: number;
  readonly flags: number;
  readonly count: number;
  readonly address: number;
  /** 0 or 1. */
  readonly format: number;
}

export const FLAG_CHAIN_DATA = 0x80;
const FLAG_CHAIN = 0xc0;
export const FLAG_SLI = 0x20;
export const FLAG_SKIP = 0x10;
export const FLAG_IDA = 0x04;
const FORMAT_1 = 0x80;
const MAX_CCWS = 32;

export interface RecordedProgram {
  /** Its CCWs from the first one on, TICs not followed. */
  readonly ccws: readonly RecordedCcw[];
  /** The CCW at an address. */
  at(address: number): RecordedCcw;
}

/** The program that the last SSCH up to a step started; null when there was none. */
export function programOf(line: Line, index: number): RecordedProgram | null {
  const start = line.steps.findLastIndex(({ i }, at) => at <= index && i === 'SSCH');
  if (start < 0) return null;
  const memory = memoryAfter(line, start, () => undefined);
  const byte = (address: number): number => memory.get(address) ?? 0;
  const half = (address: number): number => byte(address) * 256 + byte(address + 1);
  const orb = Number((line.steps[start] as Step).in?.['r6'] ?? 0);
  const format1 = (byte(orb + 5) & FORMAT_1) !== 0;
  const at = (address: number): RecordedCcw => ({
    command: byte(address),
    flags: byte(address + (format1 ? 1 : 4)),
    count: half(address + (format1 ? 2 : 6)),
    address: format1
      ? half(address + 4) * 0x10000 + half(address + 6)
      : byte(address + 1) * 0x10000 + half(address + 2),
    format: format1 ? 1 : 0,
  });
  const ccws: RecordedCcw[] = [];
  for (let address = half(orb + 8) * 0x10000 + half(orb + 10); ccws.length < MAX_CCWS; address += 8) {
    const ccw = at(address);
    ccws.push(ccw);
    if ((ccw.flags & FLAG_CHAIN) === 0) break;
  }
  return { ccws, at };
}
