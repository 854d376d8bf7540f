// Reader and writer of frames over a link. Payloads are built and checked in a piece of the core's memory, where the sum is computed and from where
// pages are copied into place. Layout: frames.ts.
import { ENOMEM } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import {
  FLAG_COMPRESSED,
  FRAME_HEADER,
  FRAME_MAGIC,
  frameName,
  StreamDigest,
  StreamError,
  type StreamFault,
} from './frames.ts';
import { type Link, LinkError } from './link.ts';
import { MigrationError } from './types.ts';

/** Room for one frame in the core's heap, and the tables of the sum. */
export class FrameRoom {
  readonly core: Core;
  /** Linear address; the header lies here, the payload behind it. */
  readonly address: number;
  /** Bytes, header included. */
  readonly size: number;
  readonly #table: number;

  /** @throws MigrationError `refused`, ENOMEM, when the core's heap has no room. */
  constructor(core: Core, size: number) {
    this.core = core;
    this.size = size;
    this.#table = core.exports.crc32c_create(core.arena) >>> 0;
    this.address = this.#table === 0 ? 0 : core.exports.arena_alloc(core.arena, size) >>> 0;
    if (this.address === 0) {
      if (this.#table !== 0) core.exports.crc32c_destroy(core.arena, this.#table);
      throw new MigrationError('refused', `no room for frames of ${size} bytes in the core's heap`, { errno: ENOMEM });
    }
  }

  get payload(): number {
    return this.address + FRAME_HEADER;
  }
  get capacity(): number {
    return this.size - FRAME_HEADER;
  }
  bytes(from: number, length: number): Uint8Array {
    return this.core.u8.subarray(this.address + from, this.address + from + length);
  }
  get view(): DataView {
    return new DataView(this.core.memory.buffer, this.address, this.size);
  }
  /** The sum over [address, address + length) of the core's memory. @param before the sum of what comes before. */
  sum(address: number, length: number, before = 0): number {
    return this.core.exports.crc32c(this.#table, before, address, length) >>> 0;
  }

  release(): void {
    this.core.exports.arena_free(this.core.arena, this.address, this.size);
    this.core.exports.crc32c_destroy(this.core.arena, this.#table);
  }
}

/** Sends frames in order. */
export class FrameWriter {
  readonly room: FrameRoom;
  readonly digest = new StreamDigest();
  readonly #link: Link;
  readonly #compress: boolean;
  #sequence = 0;

  constructor(core: Core, link: Link, frameSize: number, compress = false) {
    this.room = new FrameRoom(core, frameSize);
    this.#link = link;
    this.#compress = compress;
  }

  /** Sends the `length` bytes that were put at `room.payload`. @returns bytes on the wire. */
  async send(type: number, length: number): Promise<number> {
    const { room } = this;
    let sent = length;
    let flags = 0;
    if (this.#compress && length >= 256) {
      const smaller = await deflate(room.bytes(FRAME_HEADER, length));
      if (smaller.length < length) {
        room.bytes(FRAME_HEADER, smaller.length).set(smaller);
        sent = smaller.length;
        flags = FLAG_COMPRESSED;
      }
    }
    await this.#link.send(this.#finish(type, flags, sent));
    return FRAME_HEADER + sent;
  }

  /** Writes the header before a payload of `sent` bytes. @returns the whole frame, in the room. */
  #finish(type: number, flags: number, sent: number): Uint8Array {
    const { room } = this;
    const { view } = room;
    view.setUint32(0, FRAME_MAGIC, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, sent, true);
    view.setUint32(12, this.#sequence++, true);
    view.setUint32(16, room.sum(room.payload, sent), true);
    view.setUint32(20, room.sum(room.address, 20), true);
    this.digest.update(view);
    return room.bytes(0, FRAME_HEADER + sent);
  }

  /** Sends a payload from elsewhere. */
  async sendBytes(type: number, payload: Uint8Array): Promise<number> {
    if (payload.length > this.room.capacity) throw new RangeError(`${frameName(type)} of ${payload.length} bytes`);
    this.room.bytes(FRAME_HEADER, payload.length).set(payload);
    return this.send(type, payload.length);
  }

  sendJson(type: number, value: unknown): Promise<number> {
    return this.sendBytes(type, new TextEncoder().encode(JSON.stringify(value)));
  }

  /** Sends a copy and does not wait: last words that nobody may be listening to. Only between frames, or when the link is broken. */
  post(type: number, value: unknown): void {
    const payload = new TextEncoder().encode(JSON.stringify(value)).subarray(0, this.room.capacity);
    this.room.bytes(FRAME_HEADER, payload.length).set(payload);
    this.#link.send(this.#finish(type, 0, payload.length).slice()).catch(() => {});
  }

  release(): void {
    this.room.release();
  }
}

/** A frame that was received whole and sound. Its payload lies in the room until the next is asked for. */
export interface Frame {
  readonly type: number;
  /** Number in its direction, from 0. */
  readonly sequence: number;
  /** Bytes of the payload, unpacked. */
  readonly length: number;
  /** The payload behind its head lies where the landing said, not in the room. */
  readonly landed: boolean;
}

/**
 * Saves a copy of large payloads: when the head of one has arrived, the rest goes straight to where it belongs. That is before the sum of either is
 * known, so whoever names a place must be able to take everything back.
 */
export interface Landing {
  readonly type: number;
  /** Bytes of the payload that decide, not compressed. */
  readonly head: number;
  /** The head lies in the room. @param length of the whole payload. @returns a linear address, or 0: all goes into the room. */
  place(room: FrameRoom, length: number): number;
}

/** Receives frames: in order, none missing, none doubled, each sound. */
export class FrameReader {
  readonly room: FrameRoom;
  /** Over all frames returned before the last one. */
  readonly digest = new StreamDigest();
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #ahead: Promise<IteratorResult<Uint8Array>> | null = null;
  #sequence = 0;
  #last: DataView | null = null;
  #released = false;
  /** Bytes of the wire so far. */
  received = 0;

  /** Only while frames are believed as they come. */
  landing: Landing | null = null;

  constructor(core: Core, link: Link, frameSize: number) {
    this.room = new FrameRoom(core, frameSize);
    this.#chunks = link.incoming[Symbol.asyncIterator]();
  }

  /** @returns the next frame, or null at a clean end between frames. @throws StreamError; whatever the link throws. */
  async next(): Promise<Frame | null> {
    const { room } = this;
    if (this.#last !== null) this.digest.update(this.#last);
    this.#last = null;
    const got = await this.#fill(room.address, FRAME_HEADER);
    if (got === 0) return null;
    if (got < FRAME_HEADER) this.#wrong('truncated', `the stream ends ${got} bytes into a header`);
    const view = new DataView(room.bytes(0, FRAME_HEADER).slice().buffer);
    if (view.getUint32(0, true) !== FRAME_MAGIC) this.#wrong('magic', 'no frame begins here');
    if (view.getUint32(20, true) !== room.sum(room.address, 20))
      this.#wrong('header-sum', 'the header does not match its sum');
    const type = view.getUint16(4, true);
    const flags = view.getUint16(6, true);
    const length = view.getUint32(8, true);
    const sequence = view.getUint32(12, true);
    if (sequence !== this.#sequence) this.#wrong('sequence', `number ${sequence} where ${this.#sequence} should be`);
    if (length > room.capacity) this.#wrong('length', `${length} bytes, frames have at most ${room.capacity}`);
    if ((flags & ~FLAG_COMPRESSED) !== 0) this.#wrong('type', `unknown flags 0x${flags.toString(16)}`);
    const { landing } = this;
    const splits = landing !== null && landing.type === type && flags === 0 && landing.head < length;
    const head = splits ? landing.head : length;
    let body = await this.#fill(room.payload, head);
    let sum = room.sum(room.payload, head);
    let landed = false;
    if (splits && body === head) {
      const place = landing.place(room, length);
      landed = place !== 0;
      const rest = landed ? place : room.payload + head;
      body += await this.#fill(rest, length - head);
      sum = room.sum(rest, length - head, sum);
    }
    if (body < length) this.#wrong('truncated', `the stream ends ${body} bytes into ${length} of ${frameName(type)}`);
    if (view.getUint32(16, true) !== sum) this.#wrong('payload-sum', `${frameName(type)} does not match its sum`);
    // Asking ahead tells the sender that its bytes are used up; it may be waiting to hear the answer to this very frame.
    if (this.#chunk.length === 0 && this.#ahead === null) {
      this.#ahead = this.#chunks.next();
      this.#ahead.catch(() => {});
    }
    this.#last = view;
    this.#sequence++;
    this.received += FRAME_HEADER + length;
    const unpacked = (flags & FLAG_COMPRESSED) === 0 ? length : await this.#inflate(length);
    return { type, sequence, length: unpacked, landed };
  }

  /** The payload of the last frame, borrowed. */
  payload(frame: Frame): Uint8Array {
    return this.room.bytes(FRAME_HEADER, frame.length);
  }

  /** @throws StreamError naming the present frame. */
  wrong(fault: StreamFault, why: string): never {
    throw new StreamError(fault, this.#sequence - 1, why);
  }

  /** Does not wait for the link to stop: a peer that says nothing more must not hold this side up. */
  release(): void {
    this.#released = true;
    this.room.release();
    this.#chunks.return?.()?.catch(() => {});
  }

  #wrong(fault: StreamFault, why: string): never {
    throw new StreamError(fault, this.#sequence, why);
  }

  /** Fills [address, address + length) of the core's memory. @returns bytes got; fewer at the end of the stream. */
  async #fill(address: number, length: number): Promise<number> {
    let filled = 0;
    while (filled < length) {
      if (this.#chunk.length === 0) {
        this.#ahead ??= this.#chunks.next();
        const { done, value } = await this.#ahead;
        this.#ahead = null;
        // Whoever gave up waiting has given the room back.
        if (this.#released) throw new LinkError('nobody waits for this any more');
        if (done === true) return filled;
        this.#chunk = value;
        continue;
      }
      const n = Math.min(this.#chunk.length, length - filled);
      this.room.core.u8.set(this.#chunk.subarray(0, n), address + filled);
      this.#chunk = this.#chunk.subarray(n);
      filled += n;
    }
    return filled;
  }

  async #inflate(length: number): Promise<number> {
    const { room } = this;
    const bytes = await inflate(room.bytes(FRAME_HEADER, length).slice(), room.capacity);
    if (bytes === null) this.wrong('content', 'the payload does not unpack to a frame');
    room.bytes(FRAME_HEADER, bytes.length).set(bytes);
    return bytes.length;
  }
}

/** Both directions of one side. @throws as FrameRoom; then nothing is held. */
export function openFrames(
  core: Core,
  link: Link,
  readSize: number,
  writeSize: number,
): { reader: FrameReader; writer: FrameWriter; release(): void } {
  const writer = new FrameWriter(core, link, writeSize);
  try {
    const reader = new FrameReader(core, link, readSize);
    return {
      reader,
      writer,
      release() {
        writer.release();
        reader.release();
      },
    };
  } catch (error) {
    writer.release();
    throw error;
  }
}

async function deflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes.slice()]).stream().pipeThrough(new CompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** null: not deflate data, or more than `limit` bytes (then no more is unpacked). */
async function inflate(bytes: Uint8Array<ArrayBuffer>, limit: number): Promise<Uint8Array | null> {
  const out = new Uint8Array(limit);
  let length = 0;
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return out.subarray(0, length);
      if (length + value.length > limit) {
        await reader.cancel();
        return null;
      }
      out.set(value, length);
      length += value.length;
    }
  } catch {
    return null;
  }
}
