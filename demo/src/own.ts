// The reader's own program, on the live disk: what it begins as, and how the address of the page carries it.
import { decode, encode, type GuestCcw } from './ccw.ts';
import { type GuestProgram, own } from './run.ts';

export type OwnCcw = Omit<GuestCcw, 'address'>;

/** More do not help a reader, and none is not a program. */
export const MOST_CCWS = 16;
const DEFINE_EXTENT = Uint8Array.from([0x40, 0xc0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14]);
const LOCATE_RECORD = Uint8Array.from([0x06, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x10, 0]);
const FIRST: readonly OwnCcw[] = [
  { cmd: 0x63, flags: 0x40, count: 16, cda: 0x3000 },
  { cmd: 0x47, flags: 0x40, count: 16, cda: 0x3010 },
  { cmd: 0x86, flags: 0x40, count: 4096, cda: 0x4800 },
  { cmd: 0x86, flags: 0x00, count: 4096, cda: 0x6000 },
];

export const ownProgram = (ccws: readonly OwnCcw[]): GuestProgram =>
  own(ccws, encode, [
    { iova: 0x3000, bytes: DEFINE_EXTENT },
    { iova: 0x3010, bytes: LOCATE_RECORD },
  ]);

/** CCWs as hex, 16 digits each; empty for what the page begins with. */
export function ownToText(ccws: readonly OwnCcw[]): string {
  const text = (list: readonly OwnCcw[]) =>
    list.map((ccw) => Array.from(encode(ccw), (byte) => byte.toString(16).padStart(2, '0')).join('')).join('');
  return text(ccws) === text(FIRST) ? '' : text(ccws);
}

/** The CCWs of such a text; what the page begins with when it is none. */
export function ownFromText(text: string): readonly OwnCcw[] {
  if (!/^([0-9a-f]{16})+$/i.test(text) || text.length > 16 * MOST_CCWS) return FIRST;
  return (text.match(/.{16}/g) ?? []).map((hex) => {
    const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    const { cmd, flags, count, cda } = decode(bytes, 1, 0);
    return { cmd, flags, count, cda };
  });
}
