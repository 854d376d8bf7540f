// Little-endian integers in plain bytes. A DataView would do the same, but a fresh one costs more than a whole call (small arrays lie in the
// script's own heap until something asks for their buffer), so structures and arguments that live for one call are read and written here.

/** One 64-bit number and its halves, whichever byte order the machine has. Engines compile this access, and call for that of a DataView. */
const whole = new BigUint64Array(1);
const halves = new Uint32Array(whole.buffer);
whole[0] = 1n;
const LOW = halves[0] === 1 ? 0 : 1;
const HIGH = 1 - LOW;

export const getU16 = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);

export const getS32 = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

export const getU32 = (bytes: Uint8Array, at: number): number => getS32(bytes, at) >>> 0;

export function getU64(bytes: Uint8Array, at: number): bigint {
  halves[LOW] = getS32(bytes, at);
  halves[HIGH] = getS32(bytes, at + 4);
  return whole[0]!;
}

export function setU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

/** Signed values too: what counts is the value modulo 2^32. */
export function setU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export function setU64(bytes: Uint8Array, at: number, value: bigint): void {
  whole[0] = value;
  setU32(bytes, at, halves[LOW]!);
  setU32(bytes, at + 4, halves[HIGH]!);
}

/** `view.getBigUint64(at, true)`, compiled instead of called. */
export function viewU64(view: DataView, at: number): bigint {
  halves[LOW] = view.getUint32(at, true);
  halves[HIGH] = view.getUint32(at + 4, true);
  return whole[0]!;
}
export function setViewU64(view: DataView, at: number, value: bigint): void {
  whole[0] = value;
  view.setUint32(at, halves[LOW]!, true);
  view.setUint32(at + 4, halves[HIGH]!, true);
}
