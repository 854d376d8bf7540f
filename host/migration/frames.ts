// Frames: what a migration stream is made of. This file knows the layout and the kinds; reader and writer are in stream.ts. Little-endian.
//
//   offset size field
//        0    4 magic      'VWM1': the number is the version of this layout
//        4    2 type       FRAME_*
//        6    2 flags      bit 0: the payload is compressed (deflate-raw)
//        8    4 length     bytes of the payload as sent
//       12    4 sequence   0, 1, 2, ... for each direction of a link
//       16    4 payload    CRC32C of the payload as sent
//       20    4 header     CRC32C of bytes 0 to 19: the length is believed only when this holds
//       24    - payload
export const FRAME_MAGIC = 0x314d5756;
export const FRAME_HEADER = 24;
/** The stream's own version, said in HELLO. A receiver refuses another major one, and a newer minor one. */
export const STREAM_MAJOR = 1;
export const STREAM_MINOR = 0;

/** Source to destination. */
export const FRAME_HELLO = 1;
/** Pages of one block: u32 block, u32 runs, then per run, ascending, u32 first page, u32 pages, u32 kind (0 data, 1 zero), u32 0; then the data of the data runs. */
export const FRAME_PAGES = 2;
/** Bytes of one device: u32 device, u32 0, then data. */
export const FRAME_DEVICE = 3;
/** A round begins: JSON. */
export const FRAME_ROUND = 4;
/** The source has stopped: downtime begins. */
export const FRAME_STOPPED = 5;
/** The explicit end: u64 frames before this one, u64 their bytes, 16 bytes digest of their headers. */
export const FRAME_END = 6;
/** The decision: the destination is to run. The source never runs again after the first byte of it. */
export const FRAME_COMMIT = 7;
export const FRAME_ABORT = 8;
/** Answer to QUERY: JSON. */
export const FRAME_OUTCOME = 9;
/** Destination to source. */
export const FRAME_ACCEPT = 16;
export const FRAME_REFUSED = 17;
export const FRAME_READY = 18;
export const FRAME_RUNNING = 19;
/** On a new link, after the old one broke: what became of the migration with this id? JSON. */
export const FRAME_QUERY = 20;

export const FLAG_COMPRESSED = 1;

export const RUN_SIZE = 16;
export const PAGES_HEADER = 8;
export const DEVICE_HEADER = 8;
const END_SIZE = 32;

const NAMES: Readonly<Record<number, string>> = {
  [FRAME_HELLO]: 'HELLO',
  [FRAME_PAGES]: 'PAGES',
  [FRAME_DEVICE]: 'DEVICE',
  [FRAME_ROUND]: 'ROUND',
  [FRAME_STOPPED]: 'STOPPED',
  [FRAME_END]: 'END',
  [FRAME_COMMIT]: 'COMMIT',
  [FRAME_ABORT]: 'ABORT',
  [FRAME_OUTCOME]: 'OUTCOME',
  [FRAME_ACCEPT]: 'ACCEPT',
  [FRAME_REFUSED]: 'REFUSED',
  [FRAME_READY]: 'READY',
  [FRAME_RUNNING]: 'RUNNING',
  [FRAME_QUERY]: 'QUERY',
};
export const frameName = (type: number): string => NAMES[type] ?? `frame ${type}`;

/** What is wrong with a stream. */
export type StreamFault =
  | 'truncated'
  | 'magic'
  | 'version'
  | 'header-sum'
  | 'payload-sum'
  | 'length'
  | 'sequence'
  | 'type'
  | 'content'
  | 'digest';

/** A stream that cannot be believed. Nothing of the frame it was found in has been used. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly fault: StreamFault;
  /** Number of the frame, counted from 0. */
  readonly frame: number;
  constructor(fault: StreamFault, frame: number, why: string) {
    super(`frame ${frame}: ${why}`);
    this.fault = fault;
    this.frame = frame;
  }
}

/**
 * Digest over all frame headers, hence over order, kinds, lengths and the sums of all payloads: 128 bits, mixed differently from the CRC. It guards
 * against errors, not against forgery.
 */
export class StreamDigest {
  #a = 0x9e3779b9;
  #b = 0x7f4a7c15;
  #c = 0xf39cc060;
  #d = 0x5cedc834;
  frames = 0n;
  bytes = 0n;

  /** @param header the 24 bytes of a frame. */
  update(header: DataView): void {
    for (let at = 4; at < FRAME_HEADER; at += 4) {
      const word = header.getUint32(at, true);
      this.#a = Math.imul(rotate(this.#a ^ word, 15), 0x85ebca6b);
      this.#b = Math.imul(rotate(this.#b + word + this.#a, 13), 0xc2b2ae35);
      this.#c = Math.imul(rotate(this.#c ^ (word + this.#b), 17), 0x27d4eb2f);
      this.#d = (Math.imul(rotate(this.#d + this.#c, 19), 0x165667b1) + word) | 0;
    }
    this.frames += 1n;
    this.bytes += BigInt(FRAME_HEADER + header.getUint32(8, true));
  }

  /** The payload of END. */
  finish(): Uint8Array {
    const bytes = new Uint8Array(END_SIZE);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, this.frames, true);
    view.setBigUint64(8, this.bytes, true);
    const words = [this.#a, this.#b, this.#c, this.#d];
    for (let round = 0; round < 4; round++)
      for (let i = 0; i < 4; i++) words[i] = Math.imul(rotate(words[i]! ^ words[(i + 1) & 3]!, 11 + i), 0x9e3779b1);
    words.forEach((word, i) => {
      view.setUint32(16 + 4 * i, word >>> 0, true);
    });
    return bytes;
  }
}

const rotate = (value: number, by: number): number => (value << by) | (value >>> (32 - by));
