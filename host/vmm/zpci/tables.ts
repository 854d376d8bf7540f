// The guest's I/O translation tables: region third, segment and page tables of big-endian 64-bit entries (spec zdev section 3.7). A walk
// reads each entry once and judges the copy; a table outside storage reads as zero entries, which is what the emulation does.

export const EVENT_INVALID_AS = 0x01;
export const EVENT_OUT_OF_RANGE = 0x02;
export const EVENT_NO_PERMISSION = 0x04;
export const EVENT_INVALID_ENTRY = 0x07;
export const EVENT_TABLE_LENGTH = 0x08;
export const EVENT_TABLE_TYPE = 0x09;
export const EVENT_MEASUREMENT_PROTECTION = 0x2c;

const INVALID = 0x20n;
const PROTECTED = 0x200n;
const PAGE_INVALID = 0x400n;
const SEGMENT_LARGE = 0x400n;
const TYPE_MASK = 0xcn;
const TYPE_REGION_THIRD = 0x4n;
const REGION_LENGTH = 0x3n;
const REGION_OFFSET = 0xc0n;
const PAGE_SHIFT = 12n;
const SEGMENT_SHIFT = 20n;
const REGION_SHIFT = 31n;

export const SEGMENT_SIZE = 1n << SEGMENT_SHIFT;
export const REGION_SIZE = 1n << REGION_SHIFT;

/** A valid or invalid translation, or the error that a table holds. */
export type Walk =
  | { readonly kind: 'page'; readonly address: bigint; readonly write: boolean }
  /** Nothing is mapped in the naturally aligned span of `size` bytes around the address. */
  | { readonly kind: 'invalid'; readonly size: bigint }
  | { readonly kind: 'error'; readonly event: number };

/** Reads one entry; 0 outside storage. */
export type ReadEntry = (address: bigint) => bigint;

const error = (event: number): Walk => ({ kind: 'error', event });

/**
 * Translates one I/O address. @param iota as registered: its origin is iota & ~0xfff.
 * Rules in order for each entry: all zero → event 7; invalid → nothing mapped; wrong type → 9; region length or offset → 8; next address 0 → 9.
 */
export function walkTables(read: ReadEntry, iota: bigint, iova: bigint): Walk {
  const region = read((iota & ~0xfffn) + ((iova >> REGION_SHIFT) & 0x7ffn) * 8n);
  if (region === 0n) return error(EVENT_INVALID_ENTRY);
  if ((region & INVALID) !== 0n) return { kind: 'invalid', size: REGION_SIZE };
  if ((region & TYPE_MASK) !== TYPE_REGION_THIRD) return error(EVENT_TABLE_TYPE);
  if ((region & REGION_LENGTH) !== REGION_LENGTH || (region & REGION_OFFSET) !== 0n) return error(EVENT_TABLE_LENGTH);
  const segmentTable = region & ~0x3fffn;
  if (segmentTable === 0n) return error(EVENT_TABLE_TYPE);

  const segment = read(segmentTable + ((iova >> SEGMENT_SHIFT) & 0x7ffn) * 8n);
  if (segment === 0n) return error(EVENT_INVALID_ENTRY);
  if ((segment & INVALID) !== 0n) return { kind: 'invalid', size: SEGMENT_SIZE };
  if ((segment & TYPE_MASK) !== 0n) return error(EVENT_TABLE_TYPE);
  const protectedAbove = ((region | segment) & PROTECTED) !== 0n;
  if ((segment & SEGMENT_LARGE) !== 0n) {
    const address = (segment & ~0xfffffn) | (iova & 0xff000n);
    return { kind: 'page', address, write: !protectedAbove };
  }
  const pageTable = segment & ~0x7ffn;
  if (pageTable === 0n) return error(EVENT_TABLE_TYPE);

  const page = read(pageTable + ((iova >> PAGE_SHIFT) & 0xffn) * 8n);
  if (page === 0n) return error(EVENT_INVALID_ENTRY);
  if ((page & PAGE_INVALID) !== 0n) return { kind: 'invalid', size: 1n << PAGE_SHIFT };
  return { kind: 'page', address: page & ~0xfffn, write: !protectedAbove && (page & PROTECTED) === 0n };
}
