// Capability chains of the INFO ioctls: build one behind a structure, walk one that a call returned. Source: spec vfio-core section 6.1.1.
//
//   header   id u16@0, version u16@2, next u32@4 (from the start of the whole buffer, 0 ends the chain); the capability's own fields follow
//   Every capability is rounded up to 8 bytes before the next is appended (zero fill).

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
  const view = new DataView(bytes.buffer);
  let at = 0;
  caps.forEach((cap, i) => {
    const end = at + roundUp(CAP_HEADER_SIZE + cap.data.length);
    view.setUint16(at, cap.id, true);
    view.setUint16(at + 2, cap.version, true);
    view.setUint32(at + 4, i === caps.length - 1 ? 0 : base + end, true);
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
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const starts: number[] = [];
  for (let at = capOffset; at !== 0 && at + CAP_HEADER_SIZE <= buffer.length && !starts.includes(at); ) {
    starts.push(at);
    at = view.getUint32(at + 4, true);
  }
  const ends = [...starts, buffer.length].sort((a, b) => a - b);
  return starts.map((at) => ({
    id: view.getUint16(at, true),
    version: view.getUint16(at + 2, true),
    data: buffer.slice(
      at + CAP_HEADER_SIZE,
      ends.find((end) => end > at),
    ),
  }));
}
