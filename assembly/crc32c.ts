// CRC32C (Castagnoli, reflected polynomial 0x82f63b78): the check sum of migration frames. The sum of long inputs is folded without tables, the rest
// goes through eight-byte slicing.
//
// Record, made per core because a core has no static data (little-endian):
//   offset size field
//        0 8192 table     [8][256] u32: table[k][b] is the remainder of byte b followed by k zero bytes
//     8192 19728 fold     (HISTORY + CHUNK) blocks of 16 bytes: scratch of the folding
//
// Folding: with y = x^128 the relation y^209 = y^144 + y^54 + y^39 + y^14 + 1 holds modulo the polynomial (it is the shortest of six terms, found by
// exhaustive search; five terms cannot vanish because x + 1 divides the polynomial). A block of 16 bytes may therefore be replaced by
// adding it to the blocks 65, 155, 170, 195 and 209 further on. All blocks but the last 209 vanish that way, with loads and XORs only.
import { arena_alloc, arena_free } from './arena';

const POLY: u32 = 0x82f63b78;
const TABLE_SIZE: usize = 8 * 256 * 4;
const HISTORY: usize = 209 * 16;
const CHUNK: usize = 1024 * 16;
const RECORD_SIZE: usize = TABLE_SIZE + HISTORY + CHUNK;
/** Shorter inputs are not worth the folding. */
const FOLD_MIN: usize = 4 * HISTORY;
/** Distances in blocks at which a block comes back. */
const D1: usize = 65 * 16;
const D2: usize = 155 * 16;
const D3: usize = 170 * 16;
const D4: usize = 195 * 16;
/** @returns a record with its tables, or 0 when the heap is full. */
export function crc32c_create(arena: usize): usize {
  const table = arena_alloc(arena, RECORD_SIZE);
  if (table == 0) return 0;
  for (let i: u32 = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (POLY & (0 - (crc & 1)));
    store<u32>(table + (<usize>i << 2), crc);
  }
  for (let i: usize = 256; i < 2048; i++) {
    const before = load<u32>(table + ((i - 256) << 2));
    store<u32>(table + (i << 2), (before >> 8) ^ load<u32>(table + (<usize>(before & 0xff) << 2)));
  }
  return table;
}

export function crc32c_destroy(arena: usize, table: usize): void {
  arena_free(arena, table, RECORD_SIZE);
}

/**
 * Continues a sum over [p, p + len). @param crc the sum so far, 0 to begin. @returns the sum; every 32-bit value is possible.
 * The range must lie in memory; the host checks that.
 */
export function crc32c(table: usize, crc: u32, p: usize, len: usize): u32 {
  let state = ~crc;
  if (len >= FOLD_MIN) {
    const blocks = len & ~(<usize>15);
    state = folded(table, state, p, blocks);
    p += blocks;
    len -= blocks;
  }
  return ~sliced(table, state, p, len);
}

// @ts-expect-error: decorator
@inline
function slice8(table: usize, word: u64): u32 {
  return (
    load<u32>(table + ((<usize>word & 0xff) << 2), 7 << 10) ^
    load<u32>(table + ((<usize>(word >> 8) & 0xff) << 2), 6 << 10) ^
    load<u32>(table + ((<usize>(word >> 16) & 0xff) << 2), 5 << 10) ^
    load<u32>(table + ((<usize>(word >> 24) & 0xff) << 2), 4 << 10) ^
    load<u32>(table + ((<usize>(word >> 32) & 0xff) << 2), 3 << 10) ^
    load<u32>(table + ((<usize>(word >> 40) & 0xff) << 2), 2 << 10) ^
    load<u32>(table + ((<usize>(word >> 48) & 0xff) << 2), 1 << 10) ^
    load<u32>(table + (<usize>(word >> 56) << 2))
  );
}

/** Eight bytes at a time. */
function sliced(table: usize, state: u32, p: usize, len: usize): u32 {
  for (; len >= 8; p += 8, len -= 8) state = slice8(table, load<u64>(p) ^ <u64>state);
  for (; len > 0; p++, len--) state = (state >> 8) ^ load<u32>(table + (<usize>((state ^ load<u8>(p)) & 0xff) << 2));
  return state;
}

/** Sum over whole blocks, at least FOLD_MIN bytes: everything but the last HISTORY bytes is folded into them. */
function folded(table: usize, state: u32, p: usize, len: usize): u32 {
  const history = table + TABLE_SIZE;
  const work = history + HISTORY;
  memory.fill(history, 0, HISTORY);
  // The state belongs to the first four bytes of the input.
  memory.copy(work, p, 16);
  store<u32>(work, load<u32>(work) ^ state);
  let from: usize = 16;
  let left = len - HISTORY;
  while (left > 0) {
    const n = min(left, CHUNK);
    fold(work + from, p + from, n - from);
    memory.copy(history, work + n - HISTORY, HISTORY);
    from = 0;
    p += n;
    left -= n;
  }
  // The last blocks get what the eliminated ones owe them; among themselves they owe nothing.
  memory.copy(work, p, HISTORY);
  settle(work, history + HISTORY - D1, D1);
  settle(work, history + HISTORY - D2, D2);
  settle(work, history + HISTORY - D3, D3);
  settle(work, history + HISTORY - D4, D4);
  settle(work, history, HISTORY);
  return sliced(table, 0, work, HISTORY);
}

// @ts-expect-error: decorator
@inline
function debts(to: usize): v128 {
  return v128.xor(
    v128.xor(v128.load(to - D1), v128.load(to - D2)),
    v128.xor(v128.xor(v128.load(to - D3), v128.load(to - D4)), v128.load(to - HISTORY)),
  );
}

/** Writes n bytes of folded blocks at `to`; the HISTORY bytes in front of it hold the ones before. */
function fold(to: usize, p: usize, n: usize): void {
  for (const end = p + n; p < end; p += 16, to += 16) v128.store(to, v128.xor(v128.load(p), debts(to)));
}

function settle(to: usize, from: usize, n: usize): void {
  for (const end = to + n; to < end; to += 16, from += 16) v128.store(to, v128.xor(v128.load(to), v128.load(from)));
}
