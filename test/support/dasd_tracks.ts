// What a recorded 3390 program expects of the volume: the records that its CCWs read, with their lengths, and the records that it writes.
// Follows the program as recorded - seek, search, locate, prefix, then data commands one record after another.
import { CCW_SKIP, STATUS_MODIFIER } from '../../host/css/cio.ts';
import { parseLocate } from '../../host/devices/dasd/parameters.ts';
import {
  type CkdRecord,
  concat,
  fromCount,
  HEADS,
  recordsPerTrack,
  recordZero,
  type Track,
} from '../../host/devices/dasd/track.ts';
import { Volume } from '../../host/devices/dasd/volume.ts';
import { GuestImage, type Recording } from '../../host/devices/recording.ts';
import { givenBytes, type PlannedCommand, planCommands } from '../../host/devices/replay_plan.ts';

/** A record after the program has run. */
export interface Written {
  readonly track: number;
  readonly record: number;
  readonly keyLength: number;
  /** Key and data. */
  readonly bytes: Uint8Array;
}

export interface Expectation {
  readonly volume: Volume;
  readonly written: readonly Written[];
}

/** Volume table records have a key of 44 bytes, labels one of 4 (spec channel-devices). */
const VTOC_RECORD = 140;
const keyLengthOf = (length: number): number => (length === VTOC_RECORD ? 44 : 4);
const COUNT = 8;
const PREFIX_WITH_LOCATE = 1;

class Walk {
  readonly tracks = new Map<number, Map<number, CkdRecord>>();
  readonly written = new Map<string, Written>();
  readonly #image: GuestImage;
  #track = 0;
  #record = 0;
  /** The record at the head has only been identified: its data come next. */
  #here = false;

  constructor(recording: Recording) {
    this.#image = new GuestImage(recording);
  }

  follow(planned: PlannedCommand): void {
    switch (planned.command) {
      case 0x07:
        this.#seek(this.#data(planned), 2);
        break;
      case 0x31:
        if ((planned.unitStatus & STATUS_MODIFIER) !== 0) this.#search(this.#data(planned));
        break;
      case 0x47:
      case 0x4b:
        this.#locate(this.#data(planned));
        break;
      case 0xe7: {
        const data = this.#data(planned);
        if (data[0] === PREFIX_WITH_LOCATE) this.#locate(data.subarray(44));
        break;
      }
      case 0x06:
      case 0x86:
        this.#expect(planned.length, 0);
        break;
      case 0x0e:
      case 0x8e:
        this.#expect(planned.length, keyLengthOf(planned.length));
        break;
      case 0x12:
      case 0x92:
        this.#count(givenBytes(planned));
        break;
      case 0x05:
      case 0x85:
        this.#update(planned, 0);
        break;
      case 0x0d:
      case 0x8d:
        this.#update(planned, keyLengthOf(planned.length));
        break;
      case 0x1d:
      case 0x9d:
        this.#format(planned);
        break;
      case 0xde:
        this.#wholeTrack(planned);
        break;
    }
  }

  /** What a write or control command gives, from the recorded storage. */
  #data(planned: PlannedCommand): Uint8Array {
    let left = planned.length;
    const parts = planned.addresses.flatMap((address) => {
      const ccw = this.#image.ccw(address);
      const size = Math.min(ccw.count, left);
      left -= size;
      return this.#image
        .areas({ ...ccw, flags: ccw.flags & ~CCW_SKIP }, size)
        .map(({ iova, len }) => this.#image.read(iova, len));
    });
    return concat(parts);
  }

  #seek(argument: Uint8Array, at: number): void {
    const view = new DataView(argument.buffer, argument.byteOffset, argument.length);
    this.#track = view.getUint16(at) * HEADS + view.getUint16(at + 2);
    this.#record = 0;
    this.#here = false;
  }

  /** A search from the index on passes the records before the one it finds. */
  #search(argument: Uint8Array): void {
    this.#seek(argument, 0);
    for (let record = 1; record < argument[4]!; record++) this.#define(record, 0, 8);
    this.#record = argument[4]!;
    this.#here = true;
  }

  #locate(parameters: Uint8Array): void {
    const { seekCylinder, seekHead, search } = parseLocate(parameters);
    this.#track = seekCylinder * HEADS + seekHead;
    this.#record = search[4]!;
    this.#here = true;
    // A locate that only leads to format writes or counts must find its record too.
    if (this.#record > 0) this.#define(this.#record, 0, 8);
  }

  #advance(length: number): void {
    if (this.#here) this.#here = false;
    else if (this.#record >= recordsPerTrack(length)) {
      this.#track += 1;
      this.#record = 1;
    } else this.#record += 1;
  }

  /** The record must be there with these lengths; a length that was only assumed gives way. */
  #define(record: number, keyLength: number, dataLength: number): void {
    const track = this.tracks.get(this.#track) ?? new Map<number, CkdRecord>();
    this.tracks.set(this.#track, track);
    if (record === 0) return;
    const [cylinder, head] = [Math.floor(this.#track / HEADS), this.#track % HEADS];
    track.set(record, { cylinder, head, record, key: new Uint8Array(keyLength), data: new Uint8Array(dataLength) });
  }

  #expect(length: number, keyLength: number): void {
    this.#advance(length - keyLength);
    if (!this.written.has(`${this.#track}.${this.#record}`)) this.#define(this.#record, keyLength, length - keyLength);
  }

  /** READ COUNT tells the record itself, always the one behind the head. */
  #count(bytes: Uint8Array): void {
    this.#here = true;
    if (bytes.every((byte) => byte === 0)) {
      // Beyond what was recorded of the data: whatever comes next.
      this.#record += 1;
      this.#define(this.#record, 0, 8);
      return;
    }
    const record = fromCount(concat([bytes, new Uint8Array(COUNT)]));
    this.#record = record.record;
    this.#track = record.cylinder * HEADS + record.head;
    this.#define(record.record, record.key.length, record.data.length);
  }

  #update(planned: PlannedCommand, keyLength: number): void {
    this.#advance(planned.length - keyLength);
    this.#define(this.#record, keyLength, planned.length - keyLength);
    this.#note(keyLength, this.#data(planned));
  }

  #format(planned: PlannedCommand): void {
    const data = this.#data(planned);
    if (planned.command === 0x9d) this.#track += 1;
    this.tracks.set(this.#track, this.tracks.get(this.#track) ?? new Map());
    const record = fromCount(data.subarray(0, COUNT));
    const bytes = new Uint8Array(record.key.length + record.data.length);
    bytes.set(data.subarray(COUNT));
    this.#record = record.record;
    this.#here = false;
    this.#note(record.key.length, bytes);
  }

  #note(keyLength: number, bytes: Uint8Array): void {
    const [track, record] = [this.#track, this.#record];
    this.written.set(`${track}.${record}`, { track, record, keyLength, bytes });
  }

  /** READ TRACK: the records as far as they were recorded, then one that makes up the length. */
  #wholeTrack(planned: PlannedCommand): void {
    const { length } = planned;
    const bytes = givenBytes(planned);
    this.#record = 0;
    this.#here = false;
    let left = length - 2 * COUNT - COUNT;
    let record = 1;
    for (let at = 2 * COUNT; at + COUNT <= bytes.length && left > COUNT; record++) {
      const { key, data } = fromCount(bytes.subarray(at, at + COUNT));
      const known = key.length + data.length > 0 && COUNT + key.length + data.length <= left;
      const [keyLength, dataLength] = known ? [key.length, data.length] : [0, left - COUNT];
      this.#define(record, keyLength, dataLength);
      at += COUNT + keyLength + dataLength;
      left -= COUNT + keyLength + dataLength;
    }
  }
}

/** Makes the volume that the program expects, sparse, of this many cylinders. */
export function expectationOf(recording: Recording, cylinders: number): Expectation {
  const walk = new Walk(recording);
  for (const planned of planCommands(recording)) walk.follow(planned);
  const volume = Volume.empty(cylinders, { blockSize: 0 });
  for (const [number, records] of walk.tracks) {
    const [cylinder, head] = [Math.floor(number / HEADS), number % HEADS];
    const sorted = [...records.values()].sort((a, b) => a.record - b.record);
    const track: Track = { records: [recordZero(cylinder, head), ...sorted] };
    volume.put(cylinder, head, track);
  }
  return { volume, written: [...walk.written.values()] };
}
