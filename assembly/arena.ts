// Allocator for the core's records inside the heap region that the host names. No headers: the caller frees with the size
// it asked for. Answers 0 when full, counts live bytes, can be told to fail the n-th allocation (fault injection).
//
// Arena header, at the start of the heap (little-endian):
//   offset size field
//        0    4 end          first address behind the heap
//        4    4 brk          first address never handed out
//       16    4 live_bytes   sum of the rounded sizes handed out and not yet freed
//       20    4 fail_nth     0: off; n: the n-th allocation from now fails, then off again
//       24    4 mm_bytes     the same sum for records of address spaces, which belong to tasks (arena_mm_begin)
//       64  4*N free         heads of the free lists by size class (see size_class)
//
// Classes: multiples of 16 up to 1024 (classes 0..63), then powers of two (class 64 + log2(size) - 11 for 2048, 4096, ...).
import { ARENA_FAIL_NTH, ARENA_LIVE_BYTES, ARENA_MM_BYTES } from './abi';
import { align_up } from './mem';

const END = 0;
const BRK = 4;
const FREE = 64;
const CLASSES = 64 + 21;
const HEADER_SIZE: usize = FREE + CLASSES * 4;

/**
 * Makes an arena of the heap [base, base + size).
 * @param base 16-byte aligned linear address. @param size bytes.
 * @returns the arena (= base), or 0 if the region is too small to hold the header.
 */
export function arena_create(base: usize, size: usize): usize {
  if (size < HEADER_SIZE + 16) return 0;
  memory.fill(base, 0, HEADER_SIZE);
  store<u32>(base, <u32>(base + size), END);
  store<u32>(base, <u32>align_up(base + HEADER_SIZE, 16), BRK);
  return base;
}

// @ts-expect-error: decorator
@inline
function rounded(size: usize): usize {
  if (size <= 1024) return align_up(max<usize>(size, 16), 16);
  return <usize>1 << (32 - clz<u32>(<u32>(size - 1)));
}

// @ts-expect-error: decorator
@inline
function size_class(bytes: usize): usize {
  if (bytes <= 1024) return (bytes >> 4) - 1;
  return 64 + ctz<u32>(<u32>bytes) - 11;
}

/**
 * @param size bytes, 1 .. 2^30. @returns a 16-byte aligned address whose content is undefined, or 0 when the heap is full.
 */
export function arena_alloc(arena: usize, size: usize): usize {
  const nth = load<u32>(arena, ARENA_FAIL_NTH);
  if (nth != 0) {
    store<u32>(arena, nth - 1, ARENA_FAIL_NTH);
    if (nth == 1) return 0;
  }
  const bytes = rounded(size);
  const head = arena + (size_class(bytes) << 2);
  let p = <usize>load<u32>(head, FREE);
  if (p != 0) {
    store<u32>(head, load<u32>(p), FREE);
  } else {
    p = <usize>load<u32>(arena, BRK);
    if (<u64>p + <u64>bytes > <u64>load<u32>(arena, END)) return 0;
    store<u32>(arena, <u32>(p + bytes), BRK);
  }
  store<u32>(arena, load<u32>(arena, ARENA_LIVE_BYTES) + <u32>bytes, ARENA_LIVE_BYTES);
  return p;
}

/** Gives back what arena_alloc(arena, size) returned, with the same size. */
export function arena_free(arena: usize, p: usize, size: usize): void {
  const bytes = rounded(size);
  const head = arena + (size_class(bytes) << 2);
  store<u32>(p, load<u32>(head, FREE));
  store<u32>(head, <u32>p, FREE);
  store<u32>(arena, load<u32>(arena, ARENA_LIVE_BYTES) - <u32>bytes, ARENA_LIVE_BYTES);
}

/** What is allocated and freed from here to arena_mm_end counts as mm_bytes. @returns what arena_mm_end wants to know. */
// @ts-expect-error: decorator
@inline
export function arena_mm_begin(arena: usize): u32 {
  return load<u32>(arena, ARENA_LIVE_BYTES);
}

// @ts-expect-error: decorator
@inline
export function arena_mm_end(arena: usize, before: u32): void {
  const delta = load<u32>(arena, ARENA_LIVE_BYTES) - before;
  store<u32>(arena, load<u32>(arena, ARENA_MM_BYTES) + delta, ARENA_MM_BYTES);
  store<u32>(arena, before, ARENA_LIVE_BYTES);
}
