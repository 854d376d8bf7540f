// Recorded instruction sequences (vectors/insn, FORMAT.md): one JSON line is a sequence of steps on a fresh machine. This file knows the text form.
import { fromHex, toHex } from '../../hex.ts';

export interface Expected {
  readonly cc?: number;
  readonly pgm?: number;
  readonly out?: Readonly<Record<string, string>>;
  readonly st?: ReadonlyArray<readonly [string, string]>;
}

export interface Step extends Expected {
  readonly set?: ReadonlyArray<readonly [string, string]>;
  readonly i?: string;
  readonly op?: string;
  readonly in?: Readonly<Record<string, string>>;
  readonly problem?: number;
  readonly quirk?: string;
  readonly storage_order?: string;
  readonly v72?: Expected;
  /** Pseudo steps. */
  readonly cr6?: string | number;
  readonly sclp?: 'configure' | 'deconfigure';
  readonly dma?: 'write' | 'read';
  readonly v?: string | number;
  readonly len?: string | number;
  readonly rc?: string | number;
  readonly completed?: number;
}

export interface Line {
  readonly id: string;
  readonly quirk?: readonly string[];
  readonly steps: readonly Step[];
}

/** What a step gave here. */
export interface StepResult {
  cc?: number;
  pgm?: number;
  out?: Record<string, string>;
  st?: Array<[string, string]>;
  /** Response code of a service-processor call. */
  rc?: string;
  /** Whether a movement of data by the device was completed. */
  completed?: number;
}

export interface LineResult {
  readonly id: string;
  readonly steps: StepResult[];
  /** Steps whose channel program the driver refused: it could not be copied, or its pages not be pinned. */
  readonly refused: readonly number[];
}

/** Bytes in hex, or `xx*n` = byte xx repeated n times. */
export function parseBytes(text: string): Uint8Array {
  const repeat = /^([0-9a-f]{2})\*(\d+)$/i.exec(text);
  if (repeat !== null) return new Uint8Array(Number(repeat[2])).fill(Number.parseInt(repeat[1] as string, 16));
  if (text.length % 2 !== 0 || /[^0-9a-f]/i.test(text)) throw new Error(`"${text}" is no string of bytes`);
  return fromHex(text);
}

/** Bytes that differ, runs up to 7 equal bytes apart merged. `base` is the address of the first byte. */
export function changes(before: Uint8Array, after: Uint8Array, base: number): Array<[string, string]> {
  const runs: Array<[number, number]> = [];
  for (let i = 0; i < after.length; i++) {
    if (before[i] === after[i]) continue;
    const last = runs.at(-1);
    if (last !== undefined && i - last[1] < 8) last[1] = i + 1;
    else runs.push([i, i + 1]);
  }
  return runs.map(([start, end]) => [`0x${(base + start).toString(16)}`, toHex(after.subarray(start, end))]);
}
