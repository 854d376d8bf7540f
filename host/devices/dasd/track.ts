// Count-key-data tracks of a 3390: records, how much of a track they take, and their form as bytes. Source: spec channel-devices, 3390 section;
// track capacity: 3390 Direct Access Storage Reference, "Track capacity" (a track has 1729 cells of 34 bytes behind R0).

export const HEADS = 15;
/** Longest data area. */
export const MAX_DATA = 56664;
const CELLS = 1729;

/** A record. The identifier is what its count area says, which need not be where it lies. */
export interface CkdRecord {
  readonly cylinder: number;
  readonly head: number;
  readonly record: number;
  readonly key: Uint8Array;
  data: Uint8Array;
}

/** R0 first, then the records in the order they pass the head. */
export interface Track {
  readonly records: CkdRecord[];
}

export const COUNT_SIZE = 8;
export const END_OF_TRACK: Uint8Array = new Uint8Array(8).fill(0xff);

/** The count area: cylinder 2, head 2, record 1, key length 1, data length 2. */
export function countArea(record: CkdRecord): Uint8Array {
  const count = new Uint8Array(COUNT_SIZE);
  const view = new DataView(count.buffer);
  view.setUint16(0, record.cylinder);
  view.setUint16(2, record.head);
  view.setUint8(4, record.record);
  view.setUint8(5, record.key.length);
  view.setUint16(6, record.data.length);
  return count;
}

/** A record as its count area announces it, key and data zeros. */
export function fromCount(count: Uint8Array): CkdRecord {
  const view = new DataView(count.buffer, count.byteOffset, COUNT_SIZE);
  return {
    cylinder: view.getUint16(0),
    head: view.getUint16(2),
    record: view.getUint8(4),
    key: new Uint8Array(view.getUint8(5)),
    data: new Uint8Array(view.getUint16(6)),
  };
}

/** Cells that a record takes: 10 for the count area, and 9 and its bytes with their checks for each of key and data. */
function cells(record: CkdRecord): number {
  const area = (length: number) => 9 + Math.ceil((length + 6 * Math.ceil((length + 6) / 232) + 6) / 34);
  return 10 + (record.key.length === 0 ? 0 : area(record.key.length)) + area(record.data.length);
}

/** Do these records (without R0) fit on a track? */
export function fits(records: readonly CkdRecord[]): boolean {
  return records.reduce((sum, record) => sum + cells(record), 0) <= CELLS;
}

/** How many records of this data length, without keys, a track takes. */
export function recordsPerTrack(dataLength: number): number {
  const record = { cylinder: 0, head: 0, record: 1, key: new Uint8Array(0), data: new Uint8Array(dataLength) };
  return Math.floor(CELLS / cells(record));
}

export function recordZero(cylinder: number, head: number): CkdRecord {
  return { cylinder, head, record: 0, key: new Uint8Array(0), data: new Uint8Array(8) };
}

/** A track with R0 and `count` records of zeros. */
export function formattedTrack(cylinder: number, head: number, count: number, dataLength: number): Track {
  const records = [recordZero(cylinder, head)];
  for (let record = 1; record <= count; record++)
    records.push({ cylinder, head, record, key: new Uint8Array(0), data: new Uint8Array(dataLength) });
  return { records };
}

/** Count, key and data of every record, then the end mark: what READ TRACK gives. */
export function trackBytes(records: readonly CkdRecord[]): Uint8Array {
  const parts = records.flatMap((record) => [countArea(record), record.key, record.data]);
  return concat([...parts, END_OF_TRACK]);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * Reads records as READ TRACK gives them, from `at` to the end mark.
 * @returns the records and the offset behind the end mark, or what is wrong, in words.
 */
export function parseTrack(bytes: Uint8Array, at: number, end: number): { records: CkdRecord[]; end: number } | string {
  const records: CkdRecord[] = [];
  for (let offset = at; ; ) {
    if (offset + COUNT_SIZE > end) return `no end of track behind ${records.length} records`;
    if (bytes.subarray(offset, offset + COUNT_SIZE).every((byte) => byte === 0xff))
      return { records, end: offset + COUNT_SIZE };
    const record = fromCount(bytes.subarray(offset, offset + COUNT_SIZE));
    offset += COUNT_SIZE;
    const size = record.key.length + record.data.length;
    if (offset + size > end) return `record ${record.record} (${size} bytes of key and data) reaches beyond its track`;
    record.key.set(bytes.subarray(offset, offset + record.key.length));
    record.data.set(bytes.subarray(offset + record.key.length, offset + size));
    records.push(record);
    offset += size;
  }
}
