// Allocator for the core's records inside the heap region that the host names. Blocks carry no headers: the caller frees with the size it
// asked for. Answers 0 when full, counts live bytes, can be told to fail the n-th allocation (fault injection). Freed memory goes back to
// whole pages and merges with its neighbours, so any size can have it again. Kernel counterpart: slab over page allocator.
//
// Blocks up to 2048 bytes come from slabs, by size class (multiples of 16); a slab is one page, or four for blocks above 256 bytes. Slots whose
// distance would alias in the first-level cache (multiples of 128 from 256 bytes on) lie 64 bytes further apart. Larger blocks are runs of pages.
//
// Header, at the start of the heap             Page map entry (16 bytes a page; only the first and last page of a run or slab have a
//   offset size field                          meaning)
//        0    4 pages      first page            free run:   0  4 npage with the top bit set (first and last page)
//        4    4 npage                                        4  4 next  8  4 prev  entries of runs in the same bin
//        8    4 bins       bit n: a run of       slab:       0  4 free  first free slot, 0: none
//                          2^n.. pages                       4  4 next  8  4 prev  slabs of the class with free slots
//       16    4 live_bytes handed out and                   12  2 used  slots handed out   14  2 fresh  slots ever handed out
//                          not yet freed         slab, inner page:    12  4 0xffff0000 + pages back to the first
//       20    4 fail_nth   0: off; n: the        block of pages: 0  4 0 (first and last page)
//                          n-th allocation from now fails, then off again
//       24    4 mm_bytes   as live_bytes, for records of address spaces, which belong to tasks (arena_mm_begin)
//       64   80 bin        20 lists of free runs, by the top bit of their length
//      144  516 slabs      129 lists of slabs with free slots, by size / 16
//      672      page map, then the pages
import { ARENA_FAIL_NTH, ARENA_LIVE_BYTES, ARENA_MM_BYTES } from './abi';
import { add_u32, align_up } from './mem';

const PAGES = 0;
const NPAGE = 4;
const BINS = 8;
const BIN = 64;
const SLABS = 144;
const MAP: usize = 672;

const FREE = 0;
const NEXT = 4;
const PREV = 8;
const USED = 12;
const FRESH = 14;
const RUN: u32 = 0x80000000;
const SLAB_MAX: usize = 2048;
const INNER: u32 = 0xffff0000;

/**
 * Makes an arena of the heap [base, base + size).
 * @param base 16-byte aligned linear address. @param size bytes.
 * @returns the arena (= base), or 0 if the region is too small for the header and one page.
 */
export function arena_create(base: usize, size: usize): usize {
  if (size < MAP + 64 + 4096 + 16) return 0;
  const npage = <u32>((size - MAP - 64) / (4096 + 16));
  memory.fill(base, 0, MAP);
  store<u32>(base, <u32>align_up(base + MAP + (<usize>npage << 4), 64), PAGES);
  store<u32>(base, npage, NPAGE);
  run_link(base, 0, npage);
  return base;
}

// @ts-expect-error: decorator
@inline
function entry_of(arena: usize, page: u32): usize {
  return arena + MAP + (<usize>page << 4);
}

// @ts-expect-error: decorator
@inline
function page_of(arena: usize, entry: usize): u32 {
  return <u32>((entry - arena - MAP) >> 4);
}

// @ts-expect-error: decorator
@inline
function address_of(arena: usize, entry: usize): usize {
  return <usize>load<u32>(arena, PAGES) + ((entry - arena - MAP) << 8);
}

/** Puts `entry` in front of the list at `head`. */
function list_add(head: usize, entry: usize): void {
  const next = <usize>load<u32>(head);
  store<u32>(entry, <u32>next, NEXT);
  store<u32>(entry, 0, PREV);
  if (next != 0) store<u32>(next, <u32>entry, PREV);
  store<u32>(head, <u32>entry);
}

function list_del(head: usize, entry: usize): void {
  const next = <usize>load<u32>(entry, NEXT);
  const prev = <usize>load<u32>(entry, PREV);
  if (next != 0) store<u32>(next, <u32>prev, PREV);
  if (prev != 0) store<u32>(prev, <u32>next, NEXT);
  else store<u32>(head, <u32>next);
}

// @ts-expect-error: decorator
@inline
function bin_of(npage: u32): u32 {
  return 31 - clz(npage);
}

/** Marks [page, page + npage) free and puts it into its bin. */
function run_link(arena: usize, page: u32, npage: u32): void {
  const entry = entry_of(arena, page);
  store<u32>(entry_of(arena, page + npage - 1), npage | RUN);
  store<u32>(entry, npage | RUN);
  const bin = bin_of(npage);
  list_add(arena + BIN + (<usize>bin << 2), entry);
  store<u32>(arena, load<u32>(arena, BINS) | (1 << bin), BINS);
}

function run_unlink(arena: usize, entry: usize, npage: u32): void {
  const bin = bin_of(npage);
  const head = arena + BIN + (<usize>bin << 2);
  list_del(head, entry);
  if (load<u32>(head) == 0) store<u32>(arena, load<u32>(arena, BINS) & ~(1 << bin), BINS);
}

/** Takes `npage` pages. @returns the entry of the first one, or 0. */
function run_take(arena: usize, npage: u32): usize {
  const bin = bin_of(npage);
  let entry = <usize>load<u32>(arena + BIN + (<usize>bin << 2));
  while (entry != 0 && (load<u32>(entry) & ~RUN) < npage) entry = <usize>load<u32>(entry, NEXT);
  if (entry == 0) {
    const larger = load<u32>(arena, BINS) & (~(<u32>0) << (bin + 1));
    if (larger == 0) return 0;
    entry = <usize>load<u32>(arena + BIN + (<usize>ctz(larger) << 2));
  }
  const there = load<u32>(entry) & ~RUN;
  run_unlink(arena, entry, there);
  const page = page_of(arena, entry);
  if (there > npage) run_link(arena, page + npage, there - npage);
  store<u32>(entry, 0);
  store<u32>(entry_of(arena, page + npage - 1), 0);
  return entry;
}

/** Gives pages back; free neighbours become one run with them. */
function run_give(arena: usize, entry: usize, npage: u32): void {
  let page = page_of(arena, entry);
  if (page != 0) {
    const before = load<u32>(entry - 16);
    if (before & RUN) {
      const n = before & ~RUN;
      page -= n;
      run_unlink(arena, entry_of(arena, page), n);
      npage += n;
    }
  }
  if (page + npage < load<u32>(arena, NPAGE)) {
    const behind = entry_of(arena, page + npage);
    if (load<u32>(behind) & RUN) {
      const n = load<u32>(behind) & ~RUN;
      run_unlink(arena, behind, n);
      npage += n;
    }
  }
  run_link(arena, page, npage);
}

/** Gives the empty slabs back that are kept for the next allocation. @returns whether there were any. */
function reclaim(arena: usize): bool {
  let found = false;
  for (let size: usize = 16; size <= SLAB_MAX; size += 16) {
    const head = arena + SLABS + (size >> 4 << 2);
    const slab = <usize>load<u32>(head);
    if (slab == 0 || load<u32>(slab, NEXT) != 0 || load<u16>(slab, USED) != 0) continue;
    list_del(head, slab);
    run_give(arena, slab, slab_pages(size));
    found = true;
  }
  return found;
}

function run_alloc(arena: usize, npage: u32): usize {
  const entry = run_take(arena, npage);
  return entry == 0 && reclaim(arena) ? run_take(arena, npage) : entry;
}

// @ts-expect-error: decorator
@inline
function slab_pages(size: usize): u32 {
  return size <= 256 ? 1 : 4;
}

/** Distance of the slots of a slab. */
// @ts-expect-error: decorator
@inline
function stride_of(size: usize): usize {
  return size >= 256 && (size & 127) == 0 ? size + 64 : size;
}

function slab_make(arena: usize, head: usize, size: usize): usize {
  const slab = run_alloc(arena, slab_pages(size));
  if (slab == 0) return 0;
  store<u32>(slab, 0, USED);
  for (let i: u32 = 1; i < slab_pages(size); ++i) {
    store<u32>(slab + (<usize>i << 4), 0);
    store<u32>(slab + (<usize>i << 4), INNER | i, USED);
  }
  list_add(head, slab);
  return slab;
}

/** Is there no free slot? */
function slab_full(slab: usize, size: usize): bool {
  const stride = stride_of(size);
  return load<u32>(slab, FREE) == 0 && <usize>load<u16>(slab, FRESH) * stride + stride > <usize>slab_pages(size) << 12;
}

// @ts-expect-error: decorator
@inline
function count(arena: usize, bytes: i32): void {
  add_u32(arena + ARENA_LIVE_BYTES, bytes);
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
  if (size > SLAB_MAX) {
    const npage = <u32>((size + 4095) >> 12);
    const entry = run_alloc(arena, npage);
    if (entry == 0) return 0;
    count(arena, <i32>(npage << 12));
    return address_of(arena, entry);
  }
  const bytes = align_up(size, 16);
  const head = arena + SLABS + (bytes >> 4 << 2);
  let slab = <usize>load<u32>(head);
  if (slab == 0) {
    slab = slab_make(arena, head, bytes);
    if (slab == 0) return 0;
  }
  let p = <usize>load<u32>(slab, FREE);
  if (p != 0) store<u32>(slab, load<u32>(p), FREE);
  else {
    const fresh = load<u16>(slab, FRESH);
    p = address_of(arena, slab) + <usize>fresh * stride_of(bytes);
    store<u16>(slab, fresh + 1, FRESH);
  }
  store<u16>(slab, load<u16>(slab, USED) + 1, USED);
  if (slab_full(slab, bytes)) list_del(head, slab);
  count(arena, <i32>bytes);
  return p;
}

/** arena_alloc with content: zeros. */
export function arena_zalloc(arena: usize, size: usize): usize {
  const p = arena_alloc(arena, size);
  if (p != 0) memory.fill(p, 0, size);
  return p;
}

/** Gives back what arena_alloc(arena, size) returned, with the same size. */
export function arena_free(arena: usize, p: usize, size: usize): void {
  let slab = arena + MAP + ((p - load<u32>(arena, PAGES)) >> 12 << 4);
  if (size > SLAB_MAX) {
    const npage = <u32>((size + 4095) >> 12);
    run_give(arena, slab, npage);
    return count(arena, -(<i32>(npage << 12)));
  }
  const bytes = align_up(size, 16);
  const inner = load<u32>(slab, USED);
  if (inner >= INNER) slab -= <usize>(inner & 0xffff) << 4;
  const head = arena + SLABS + (bytes >> 4 << 2);
  if (slab_full(slab, bytes)) list_add(head, slab);
  store<u32>(p, load<u32>(slab, FREE));
  store<u32>(slab, <u32>p, FREE);
  const used = load<u16>(slab, USED) - 1;
  store<u16>(slab, used, USED);
  // The last slab of a class is kept, so that a single block that comes and goes is cheap.
  if (used == 0 && (load<u32>(slab, NEXT) | load<u32>(slab, PREV)) != 0) {
    list_del(head, slab);
    run_give(arena, slab, slab_pages(bytes));
  }
  count(arena, -(<i32>bytes));
}

/** What is allocated and freed from here to arena_mm_end counts as mm_bytes. @returns what arena_mm_end wants to know. */
// @ts-expect-error: decorator
@inline
export function arena_mm_begin(arena: usize): u32 {
  return load<u32>(arena, ARENA_LIVE_BYTES);
}

export function arena_mm_end(arena: usize, before: u32): void {
  add_u32(arena + ARENA_MM_BYTES, load<u32>(arena, ARENA_LIVE_BYTES) - before);
  store<u32>(arena, before, ARENA_LIVE_BYTES);
}
