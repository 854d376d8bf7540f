// A channel program as recorded from a running system: its form, what is wrong with a malformed one, and the guest storage it names. The form
// is that of test/data/ccw-real (one JSON object per program): `orb`, `memory` (iova, bytes), `data` areas, `outcome`, the CCWs `executed`,
// the status of every command (`steps`) and what the device stored (`result`).

import { CCW_IDA, type Ccw, decodeCcw, ORB_FORMAT1, ORB_IDAW_2K, ORB_IDAW64 } from '../css/cio.ts';
import { IRB_SIZE } from '../css/schib.ts';
import { fromHex } from '../hex.ts';

export interface RecordedArea {
  readonly iova: string;
  readonly len: number;
}
export interface RecordedOutcome {
  /** `ended`, `suspended`, `clear` or `halt`. */
  readonly kind: string;
  readonly unit_status: string;
  readonly channel_status: string;
  readonly residual_count: number;
  /** As in the SCSW: 8 behind the last CCW. */
  readonly ccw_address: string;
  readonly sense?: string;
  /** All 64 bytes, from machines that showed them. */
  readonly irb?: string;
}
export interface Recording {
  readonly name: string;
  readonly devtype?: string;
  /** First 12 bytes of the ORB. */
  readonly orb: string;
  /** `SSCH`, or how the recorder made one up. */
  readonly orb_origin?: string;
  readonly memory: ReadonlyArray<{ iova: string; hex: string }>;
  readonly data: ReadonlyArray<RecordedArea & { dir: string; outside_memory?: boolean }>;
  readonly outcome: RecordedOutcome;
  /** Addresses in the order of fetching, cut at 600. */
  readonly executed?: readonly string[];
  /** `[address of the command's last CCW, unit status, channel status, residual]`, cut at 200. */
  readonly steps?: ReadonlyArray<readonly [string, string, string, number]>;
  readonly result?: ReadonlyArray<RecordedArea & { hex: string }>;
  readonly self_modifying?: boolean;
  readonly resumed?: boolean;
  /** CCWs as really fetched, when they differ from `memory`. */
  readonly fetched?: ReadonlyArray<readonly [string, string]>;
}

/** How many entries of `executed` and `steps` a recording keeps. */
export const EXECUTED_KEPT = 600;
export const STEPS_KEPT = 200;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isHex = (value: unknown): value is string => typeof value === 'string' && /^([0-9a-f]{2})*$/i.test(value);
const isByte = (value: unknown): boolean => isHex(value) && value.length === 2;
const isAddress = (value: unknown): boolean => typeof value === 'string' && /^0x0*[0-9a-f]{1,12}$/i.test(value);
const isCount = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 1 << 24;

/** @returns the items of a list, `[]` when an optional one is absent, or null when it is no list. */
function list(value: unknown, optional: boolean): unknown[] | null {
  if (value === undefined && optional) return [];
  return Array.isArray(value) ? value : null;
}

/** What is wrong with a recording, in words, or undefined when it can be replayed. */
export function checkRecording(value: unknown): string | undefined {
  if (!isObject(value)) return 'not a JSON object';
  if (typeof value['name'] !== 'string' || value['name'] === '') return 'name: a text is required';
  if (!isHex(value['orb']) || value['orb'].length < 24) return 'orb: at least 12 bytes of hex are required';
  const { outcome } = value;
  if (!isObject(outcome)) return 'outcome: an object is required';
  if (typeof outcome['kind'] !== 'string') return 'outcome.kind: a text is required';
  for (const field of ['unit_status', 'channel_status'])
    if (!isByte(outcome[field])) return `outcome.${field}: two hex digits are required`;
  if (!isCount(outcome['residual_count'])) return 'outcome.residual_count: a count is required';
  if (!isAddress(outcome['ccw_address'])) return 'outcome.ccw_address: a hex address is required';
  const { sense, irb } = outcome;
  if (sense !== undefined && !isHex(sense)) return 'outcome.sense: hex is required';
  if (irb !== undefined && !(isHex(irb) && irb.length === 2 * IRB_SIZE))
    return `outcome.irb: ${IRB_SIZE} bytes of hex are required`;
  const lists: Array<[string, boolean, (item: unknown) => boolean, string]> = [
    ['memory', false, (item) => isObject(item) && isAddress(item['iova']) && isHex(item['hex']), 'iova and hex'],
    ['data', false, (item) => isObject(item) && isAddress(item['iova']) && isCount(item['len']), 'iova and len'],
    ['executed', true, isAddress, 'a hex address'],
    ['steps', true, isStep, 'address, unit status, channel status, residual'],
    [
      'result',
      true,
      (item) => isObject(item) && isAddress(item['iova']) && isCount(item['len']) && isHex(item['hex']),
      'iova, len and hex',
    ],
    [
      'fetched',
      true,
      (item) => Array.isArray(item) && isAddress(item[0]) && isHex(item[1]) && item[1].length === 16,
      'address and CCW',
    ],
  ];
  for (const [field, optional, good, wanted] of lists) {
    const items = list(value[field], optional);
    if (items === null) return `${field}: a list is required`;
    const bad = items.findIndex((item) => !good(item));
    if (bad !== -1) return `${field}[${bad}]: ${wanted} required`;
  }
  return undefined;
}

function isStep(item: unknown): boolean {
  return Array.isArray(item) && isAddress(item[0]) && isByte(item[1]) && isByte(item[2]) && isCount(item[3]);
}

export const toAddress = (address: number): string => `0x${address.toString(16)}`;

/** One part of a data area: what one IDAW, or a CCW without IDAL, designates. */
export interface GuestArea {
  readonly iova: number;
  readonly len: number;
}

/** The guest's storage as a recording shows it; zeros where it is silent. */
export class GuestImage {
  /** ORB word 1. */
  readonly orbFlags: number;
  /** Address of the first CCW. */
  readonly start: number;
  readonly ranges: ReadonlyArray<{ iova: number; bytes: Uint8Array }>;

  constructor(recording: Recording) {
    const orb = new DataView(fromHex(recording.orb).buffer);
    this.orbFlags = orb.getUint32(4);
    this.start = orb.getUint32(8);
    this.ranges = recording.memory.map(({ iova, hex }) => ({ iova: Number(iova), bytes: fromHex(hex) }));
  }

  get format1(): boolean {
    return (this.orbFlags & ORB_FORMAT1) !== 0;
  }

  read(iova: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (const range of this.ranges) {
      const from = Math.max(iova, range.iova);
      const to = Math.min(iova + length, range.iova + range.bytes.length);
      if (from < to) bytes.set(range.bytes.subarray(from - range.iova, to - range.iova), from - iova);
    }
    return bytes;
  }

  ccw(address: number): Ccw {
    return decodeCcw(new DataView(this.read(address, 8).buffer), 0, this.format1);
  }

  /** The areas that the first `length` bytes of a CCW's data fill, in order. */
  areas(ccw: Ccw, length: number): GuestArea[] {
    if (length === 0) return [];
    if ((ccw.flags & CCW_IDA) === 0) return [{ iova: ccw.address, len: length }];
    const wide = (this.orbFlags & ORB_IDAW64) !== 0;
    const block = wide && (this.orbFlags & ORB_IDAW_2K) === 0 ? 4096 : 2048;
    const areas: GuestArea[] = [];
    for (let left = length, at = ccw.address; left > 0; at += wide ? 8 : 4) {
      const word = new DataView(this.read(at, wide ? 8 : 4).buffer);
      const iova = wide ? Number(word.getBigUint64(0)) : word.getUint32(0);
      const len = Math.min(left, block - (iova % block));
      areas.push({ iova, len });
      left -= len;
    }
    return areas;
  }
}
