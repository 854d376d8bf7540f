// Capability chains of the INFO ioctls: build one behind a structure, walk one that a call returned. Source: spec vfio-core section 6.1.1.
//
//   header   id u16@0, version u16@2, next u32@4 (from the start of the whole buffer, 0 ends the chain); the capability's own fields follow
//   Every capability is rounded up to 8 bytes before the next is appended (zero fill).
import { getU16, getU32, setU16, setU32 } from './words.ts';

export const CAP_HEADER_SIZE = 8;

/** One capability: `data` is what follows the header. */
export interface InfoCap {
  readonly id: number;
  readonly version: number;
  readonly data: Uint8Array;
}

const roundUp = (size: number): number => Math.ceil(size / 8) * 8;

/** Bytes that the chain of these capabilities takes. */
export const capsSize = (caps: readonly InfoCap[]): number =>
  caps.reduce((size, cap) => size + roundUp(CAP_HEADER_SIZE + cap.data.length), 0);

/** The chain as it lies at `base` bytes into the buffer, in the order given. */
export function chainCaps(base: number, caps: readonly InfoCap[]): Uint8Array {
  const bytes = new Uint8Array(capsSize(caps));
  let at = 0;
  caps.forEach((cap, i) => {
    const end = at + roundUp(CAP_HEADER_SIZE + cap.data.length);
    setU16(bytes, at, cap.id);
    setU16(bytes, at + 2, cap.version);
    setU32(bytes, at + 4, i === caps.length - 1 ? 0 : base + end);
    bytes.set(cap.data, at + CAP_HEADER_SIZE);
    at = end;
  });
  return bytes;
}

/**
 * The capabilities of a returned buffer. Stops at the end of the chain, at a header that does not fit, and at one already seen.
 * @param buffer the whole buffer. @param capOffset its cap_offset field; 0 gives none. `data` reaches to the next header or the buffer's end.
 */
export function walkCaps(buffer: Uint8Array, capOffset: number): InfoCap[] {
  const starts: number[] = [];
  for (let at = capOffset; at !== 0 && at + CAP_HEADER_SIZE <= buffer.length && !starts.includes(at); ) {
    starts.push(at);
    at = getU32(buffer, at + 4);
  }
  const ends = [...starts, buffer.length].sort((a, b) => a - b);
  return starts.map((at) => ({
    id: getU16(buffer, at),
    version: getU16(buffer, at + 2),
    data: buffer.slice(
      at + CAP_HEADER_SIZE,
      ends.find((end) => end > at),
    ),
  }));
}
