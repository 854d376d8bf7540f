// What a channel program has told the device so far: its extent and file mask, the locate-record domain, and where on which track the head
// is. Made anew for every program; only the arm stays where it was.
import {
  EXT_READ_ANY,
  type Extent,
  type Locate,
  MASK_NO_SEEKS,
  MASK_NO_WRITES,
  MASK_SEEKS,
  MASK_WRITES,
  OP_EXTENDED,
  ORIENT_DATA,
  ORIENT_HOME_ADDRESS,
  ORIENT_INDEX,
} from './parameters.ts';
import { endOfCylinder, fileProtected, invalidSequence, noRecordFound, writeInhibited } from './sense.ts';
import { type CkdRecord, HEADS, type Track } from './track.ts';
import type { Volume } from './volume.ts';

/** How far the head has come in the record it is at. */
export type Area = 'gap' | 'count' | 'key' | 'data';

const INDEX = -1;

export class Domain {
  readonly volume: Volume;
  extent: Extent | null = null;
  /** File mask set by its own command, when there is no extent. */
  fileMask: number | null = null;
  locate: Locate | null = null;
  cylinder: number;
  head: number;
  /** Bytes that READ SUBSYSTEM DATA gives. */
  subsystemData: Uint8Array | null = null;
  area: Area = 'gap';
  #track: Track | null = null;
  /** Record of the track at or behind the head: -1 at the index, 0 R0. */
  #index = INDEX;
  /** Times the index went by since something was found. */
  #turns = 0;
  /** What is left of the locate-record count, and the record that was counted last. */
  #left = 0;
  #counted: CkdRecord | null = null;

  constructor(volume: Volume, cylinder: number, head: number) {
    this.volume = volume;
    this.cylinder = cylinder;
    this.head = head;
  }

  get track(): Track {
    this.#track ??= this.volume.track(this.cylinder, this.head);
    return this.#track;
  }

  /** The record at the head. */
  get current(): CkdRecord | undefined {
    return this.track.records[this.#index];
  }

  get operation(): number | null {
    return this.locate?.operation ?? null;
  }

  /** Bits 0-1 of the mask in force. */
  get writeMask(): number {
    return this.#mask & MASK_WRITES;
  }

  get #mask(): number {
    return this.extent?.mask ?? this.fileMask ?? 0;
  }

  /** Moves the arm. @throws file protected outside the extent. */
  seek(cylinder: number, head: number): void {
    this.checkExtent(cylinder, head);
    this.cylinder = cylinder;
    this.head = head;
    this.toIndex();
  }

  /** To the index point of the track. */
  toIndex(): void {
    this.#track = null;
    this.#index = INDEX;
    this.area = 'gap';
    this.#turns = 0;
  }

  checkExtent(cylinder: number, head: number): void {
    if (this.extent === null) return;
    const track = cylinder * HEADS + head;
    if (track < this.extent.first || track > this.extent.last) throw fileProtected();
  }

  /** @param forbidden seek masks under which this seek is not allowed, beside the one that allows none. @throws file protected. */
  checkSeek(...forbidden: number[]): void {
    const seeks = this.#mask & MASK_SEEKS;
    if (seeks === MASK_NO_SEEKS || forbidden.includes(seeks)) throw fileProtected();
  }

  /** @param forbidden masks under which this write is not allowed. @throws write inhibited. */
  checkWrite(...forbidden: number[]): void {
    if (this.writeMask === MASK_NO_WRITES || forbidden.includes(this.writeMask)) throw writeInhibited();
  }

  /** Begins a locate-record domain and finds its record. @throws file protected, no record found. */
  begin(locate: Locate): void {
    this.locate = locate;
    this.#left = locate.count;
    this.#counted = null;
    this.seek(locate.seekCylinder, locate.seekHead);
    if (this.#any) {
      this.toRecordZero();
      return;
    }
    if (locate.orientation === ORIENT_HOME_ADDRESS || locate.orientation === ORIENT_INDEX) return;
    this.#find(locate.search);
    if (locate.orientation === ORIENT_DATA) this.area = 'data';
  }

  /** The next record, R0 only when `withR0`. With `multitrack` the next track follows the last record. */
  advance(multitrack: boolean, withR0 = false): CkdRecord {
    if (this.locate !== null && this.#left === 0) throw invalidSequence();
    const any = this.#any;
    for (;;) {
      if (this.#index === INDEX && !withR0) this.#index = 0;
      this.#index += 1;
      const record = this.current;
      this.area = 'gap';
      if (record !== undefined) return record;
      if (multitrack && !any) this.nextTrack();
      else {
        this.#turns += 1;
        if (this.#turns > 1) throw noRecordFound();
      }
      this.#index = INDEX;
    }
  }

  /** Head switch. @throws end of cylinder without an extent, file protected behind it. */
  nextTrack(): void {
    if (this.locate === null) this.checkSeek();
    const next = this.cylinder * HEADS + this.head + 1;
    if (this.extent === null && next % HEADS === 0) throw endOfCylinder();
    const [cylinder, head] = [Math.floor(next / HEADS), next % HEADS];
    if (!this.volume.has(cylinder, head)) throw endOfCylinder();
    const turns = this.#turns;
    this.seek(cylinder, head);
    this.#turns = turns;
  }

  /** Something was found: the index may go by again. */
  found(area: Area): void {
    this.area = area;
    this.#turns = 0;
  }

  /** Takes one record (or track) off the locate-record count. @throws invalid sequence when the count is used up. */
  count(record: CkdRecord | null): void {
    if (this.locate === null || (record !== null && record === this.#counted)) return;
    if (this.#left === 0) throw invalidSequence();
    this.#left -= 1;
    this.#counted = record;
  }

  /** Records or tracks of the locate-record count still to come. */
  get left(): number {
    return this.#left;
  }

  /** Goes to R0 as if its count area had just been read. */
  toRecordZero(): CkdRecord | undefined {
    this.#index = 0;
    this.area = 'count';
    return this.current;
  }

  /** Records from the head on: the current one when only its count went by, else those behind it. */
  rest(): CkdRecord[] {
    const from = this.area === 'count' ? this.#index : this.#index + 1;
    return this.track.records.slice(Math.max(0, from));
  }

  /** Records up to the head, without R0. */
  upToHere(): CkdRecord[] {
    return this.track.records.slice(1, this.#index + 1);
  }

  /** Drops everything behind the record at the head, appends `record` and stands behind it. */
  append(record: CkdRecord): void {
    const track = this.volume.writable(this.cylinder, this.head);
    this.#track = track;
    track.records.splice(this.#index + 1);
    track.records.push(record);
    this.#index = track.records.length - 1;
    this.found('data');
  }

  /** Drops everything behind the record at the head. */
  truncate(): void {
    const track = this.volume.writable(this.cylinder, this.head);
    this.#track = track;
    track.records.splice(this.#index + 1);
  }

  /** Stands behind the last record of the track. */
  toEnd(): void {
    this.#index = this.track.records.length - 1;
    this.found('data');
  }

  /** Read any: no record is searched for, and reading stays on its track. */
  get #any(): boolean {
    return this.locate?.operation === OP_EXTENDED && this.locate.extendedOperation === EXT_READ_ANY;
  }

  #find(id: Uint8Array): void {
    const view = new DataView(id.buffer, id.byteOffset, 5);
    const [cylinder, head, number] = [view.getUint16(0), view.getUint16(2), view.getUint8(4)];
    const found = this.track.records.findIndex(
      (record) => record.cylinder === cylinder && record.head === head && record.record === number,
    );
    if (found === -1) throw noRecordFound();
    this.#index = found;
    this.found('count');
  }
}
