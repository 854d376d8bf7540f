// A task's address space: ranges of virtual addresses and what stands behind them, and how many pages the task has locked. Kernel
// counterpart: struct mm_struct. A vaddr is any 64-bit number; it is looked up here when a page is pinned, not when it is mapped for DMA.
//
// Record (96 bytes):
//   offset size field
//        0    4 arena
//        4    4 pages      the pages of the user windows (pages.ts)
//        8    4 users      the task itself, and each map made from it
//       12    4 dead       1: the task is gone
//       16    4 locked     pages locked on the task's behalf
//       20    4 limit      RLIMIT_MEMLOCK in pages; largest = no limit
//       32   64 vmas       table of ranges: value = linear address (RAM) or token of the host + offset (device region),
//                          meta = VMA_* kind and PROT_* bits
//
// Its bytes count in the arena's mm_bytes, not in live_bytes: they belong to the task, not to an object that a descriptor holds.
import { add_u32 } from '../mem';
import { arena_free, arena_mm_begin, arena_mm_end, arena_zalloc } from '../arena';
import { EEXIST, ENOMEM, MM_LIMIT, MM_LOCKED, VMA_RAM } from '../abi';
import { iommus_forget } from './forget';
import { pages_put, pages_seen } from './pages';
import { RANGES_SIZE, ranges_find, ranges_from, slot_key, slot_last, slot_meta, slot_set_key, slot_set_last, slot_set_value, slot_value } from './ranges';
import { OVERLAP, ranges_destroy, ranges_insert, ranges_remove } from './ranges_edit';

const ARENA = 0;
const PAGES = 4;
const USERS = 8;
const DEAD = 12;
const VMAS = 32;
const MM_SIZE = VMAS + RANGES_SIZE;

/** @param pages record of the user windows' pages. @returns an empty address space without a limit, or 0: the heap is full. */
export function mm_create(arena: usize, pages: usize): usize {
  const before = arena_mm_begin(arena);
  const mm = arena_zalloc(arena, MM_SIZE);
  if (mm != 0) {
    store<u32>(mm, <u32>arena, ARENA);
    store<u32>(mm, <u32>pages, PAGES);
    store<u32>(mm, 1, USERS);
    store<u32>(mm, 0xffffffff, MM_LIMIT);
  }
  arena_mm_end(arena, before);
  return mm;
}

/** The task is gone: everything is unmapped. The record stays until the last map made from it goes. */
export function mm_destroy(mm: usize): void {
  mm_unmap(mm, 0, 0xffffffffffffffff);
  store<u32>(mm, 1, DEAD);
  mm_put(mm, 1);
}

export function mm_get(mm: usize): void {
  add_u32(mm + USERS, 1);
}

/** Gives `n` references back. */
export function mm_put(mm: usize, n: u32): void {
  const users = load<u32>(mm, USERS) - n;
  store<u32>(mm, users, USERS);
  if (users != 0) return;
  const arena = <usize>load<u32>(mm, ARENA);
  const before = arena_mm_begin(arena);
  ranges_destroy(mm + VMAS, arena);
  arena_free(arena, mm, MM_SIZE);
  arena_mm_end(arena, before);
}

// @ts-expect-error: decorator
@inline
export function mm_dead(mm: usize): bool {
  return load<u32>(mm, DEAD) != 0;
}

/**
 * Puts a range into the address space. The reference that pages_alloc took on RAM pages passes to it.
 * @param start, last page aligned, inclusive. @param value linear address or token. @param meta VMA_* kind and PROT_* bits.
 * @returns 0; -EEXIST something is there; -ENOMEM the heap is full. Nothing changed on failure.
 */
export function mm_map(mm: usize, start: u64, last: u64, value: u64, meta: u32): i32 {
  const slot = insert(mm, start, last, value, meta);
  return slot == OVERLAP ? -EEXIST : slot == 0 ? -ENOMEM : 0;
}

function insert(mm: usize, start: u64, last: u64, value: u64, meta: u32): usize {
  const arena = <usize>load<u32>(mm, ARENA);
  const before = arena_mm_begin(arena);
  const slot = ranges_insert(mm + VMAS, arena, start, last, value, meta);
  arena_mm_end(arena, before);
  return slot;
}

/**
 * Unmaps whatever lies in [start, last] (page aligned, last inclusive); ranges that reach beyond are cut. RAM pages that nobody pins are free
 * then; pinned ones stay until their last unpin. @returns 0; -ENOMEM a cut needs a record and the heap is full, nothing changed.
 */
export function mm_unmap(mm: usize, start: u64, last: u64): i32 {
  const vmas = mm + VMAS;
  const arena = <usize>load<u32>(mm, ARENA);
  let from = start;
  for (;;) {
    let slot = ranges_from(vmas, from);
    if (slot == 0) break;
    const key = slot_key(slot);
    if (key > last) break;
    const end = slot_last(slot);
    const value = slot_value(slot);
    const meta = slot_meta(slot);
    const to = min(end, last);
    from = max(key, start);
    if (key < start) {
      if (end > last) {
        // The middle of one range goes: its tail becomes a range of its own first, since only that can fail.
        slot_set_last(slot, last);
        if (insert(mm, last + 1, end, value + (last + 1 - key), meta) == 0) {
          slot_set_last(slot, end);
          return -ENOMEM;
        }
        slot = ranges_from(vmas, key);
      }
      slot_set_last(slot, start - 1);
    } else if (end > last) {
      slot_set_key(slot, last + 1);
      slot_set_value(slot, value + (last + 1 - key));
    } else {
      const before = arena_mm_begin(arena);
      ranges_remove(vmas, arena, slot, 1);
      arena_mm_end(arena, before);
    }
    gone(mm, from, to, value + (from - key), meta);
    if (to == last) break;
    from = to + 1;
  }
  return 0;
}

// @ts-expect-error: decorator
@inline
function gone(mm: usize, start: u64, last: u64, value: u64, meta: u32): void {
  if ((meta & VMA_RAM) == 0) return;
  const pages = <usize>load<u32>(mm, PAGES);
  const npage = <u32>((last - start + 1) >> 12);
  const linear = <usize>value;
  if (pages_seen(pages, linear, npage)) iommus_forget(pages, linear, linear + (<usize>npage << 12) - 1);
  pages_put(pages, linear, npage);
}

/** The range that holds `vaddr`: a slot of ranges.ts, or 0. */
// @ts-expect-error: decorator
@inline
export function mm_find(mm: usize, vaddr: u64): usize {
  return ranges_find(mm + VMAS, vaddr);
}

/** Room for `npage` more locked pages? @param limit pages; largest = no limit. */
export function mm_within(mm: usize, npage: u32, limit: u32): bool {
  return limit == 0xffffffff || <u64>load<u32>(mm, MM_LOCKED) + <u64>npage <= <u64>limit;
}

/** Room in the task's own limit? */
// @ts-expect-error: decorator
@inline
export function mm_may_lock(mm: usize, npage: u32): bool {
  return mm_within(mm, npage, load<u32>(mm, MM_LIMIT));
}

/** `npage` pages more (or less) are locked on the task's behalf. */
// @ts-expect-error: decorator
@inline
export function mm_lock(mm: usize, npage: i32): void {
  add_u32(mm + MM_LOCKED, npage);
}
