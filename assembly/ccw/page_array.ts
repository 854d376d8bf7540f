// The pages a channel program needs: where its IDALs lie, which pages are pinned for them and how often, and giving them back.
// Kernel counterpart: struct page_array in vfio_ccw_cp.c, one for a whole program instead of one per CCW.
//
// Block: IDALs grow up from the header, pins grow down from the end; a CCW's IDAL and pins always lie in one block.
//   offset size field
//        0    4 next   the block before this one; 0 ends the list
//        4    4 brk    first free byte behind the IDALs
//        8    4 pins   the newest pin
//       12    4 end    behind the oldest pin: a pin record without a page, so that the newest pin can always be looked at
// Pin: neighbouring pins of one page are one record.
//        0    8 page   iova >> 12
//        8    4 entry  the iommu's page entry, which stays where it is as long as the page is pinned
//       12    4 count  pins
//
// Pins are counted in the page entries as they are made; the iommu's sums follow in pins_close, once per program.
import {
  BLOCK_BRK, BLOCK_END, BLOCK_NEXT, BLOCK_PINS, CP_ARENA, CP_BLOCKS, CP_FORCED, CP_HIT, CP_HIT_BLOCK, CP_IOMMU, CP_MADE, CP_MODE, CP_NEWLY, IOMMU_FORCED,
  PIN_COUNT, PIN_ENTRY, PIN_PAGE, PIN_SIZE, PTE_FRAME,
} from '../abi';
import { arena_alloc, arena_free } from '../arena';
import { PTE_PIN, pin_mode, pte_unpinnable, unpin_many, unpin_mode } from '../iommu/direct';
import { pins_count } from '../iommu/pfn';

const BLOCK_HEADER: usize = 16;
/** Bytes of a block beyond the first; holds the IDAL and the pins of the largest CCW (33 words) many times. */
const BLOCK_SIZE: usize = 4096;
/** No iova has this page. */
const NO_PAGE: u64 = 0xffffffffffffffff;

/** Makes `size` bytes at `block` an empty block in front of the program's list. */
export function block_init(cp: usize, block: usize, size: usize): void {
  const end = block + size - PIN_SIZE;
  store<u32>(block, load<u32>(cp, CP_BLOCKS), BLOCK_NEXT);
  store<u32>(block, <u32>(block + BLOCK_HEADER), BLOCK_BRK);
  store<u32>(block, <u32>end, BLOCK_PINS);
  store<u32>(block, <u32>end, BLOCK_END);
  store<u64>(end, NO_PAGE, PIN_PAGE);
  // Looked at, never used: no page is NO_PAGE.
  store<u32>(end, <u32>end, PIN_ENTRY);
  store<u32>(cp, <u32>block, CP_BLOCKS);
}

/** @returns a block with room for `size` bytes at its brk, or 0 when the heap is full. `size` is at most 2,500. */
// @ts-expect-error: decorator
@inline
export function block_with_room(cp: usize, size: usize): usize {
  const block = <usize>load<u32>(cp, CP_BLOCKS);
  if (<usize>load<u32>(block, BLOCK_BRK) + size <= <usize>load<u32>(block, BLOCK_PINS)) return block;
  return block_add(cp);
}

function block_add(cp: usize): usize {
  const block = arena_alloc(load<u32>(cp, CP_ARENA), BLOCK_SIZE);
  if (block != 0) block_init(cp, block, BLOCK_SIZE);
  return block;
}

/** Begins a translation: how pins may be made until pins_close, and nothing made yet. */
export function pins_open(cp: usize): void {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  store<u32>(cp, pin_mode(iommu), CP_MODE);
  store<u64>(cp, 0, CP_MADE);
  store<u32>(cp, load<u32>(iommu, IOMMU_FORCED), CP_FORCED);
}

/** Ends a translation, done or failed: the iommu's sums hear of its pins. */
// @ts-expect-error: decorator
@inline
export function pins_close(cp: usize): void {
  pins_count(load<u32>(cp, CP_IOMMU), load<u32>(cp, CP_MADE), load<u32>(cp, CP_NEWLY));
}

/** Notes pins made as counts, `newly` of them on pages that had none. */
// @ts-expect-error: decorator
@inline
export function pins_note(cp: usize, made: u32, newly: u32): void {
  store<u32>(cp, load<u32>(cp, CP_MADE) + made, CP_MADE);
  store<u32>(cp, load<u32>(cp, CP_NEWLY) + newly, CP_NEWLY);
}

/** Puts a pin of another page than the newest in front. @returns the new newest record. */
// @ts-expect-error: decorator
@inline
export function pin_push(pins: usize, page: u64, entry: usize): usize {
  const pin = pins - PIN_SIZE;
  store<u64>(pin, page, PIN_PAGE);
  store<u64>(pin, <u64>entry | ((<u64>1) << 32), PIN_ENTRY);
  return pin;
}

/**
 * Undoes pins of a block, newest first, until record `to` is the newest and holds `count` pins; what a CCW that failed half way
 * needs, after pins_note. @param pins the newest record, which the block need not know yet.
 */
export function block_undo(cp: usize, pins: usize, to: usize, count: u32): void {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  // The careful way looks at the sums, so they must be right.
  pins_close(cp);
  store<u64>(cp, 0, CP_MADE);
  for (; pins < to; pins += PIN_SIZE) unpin_many(iommu, load<u64>(pins, PIN_PAGE), load<u32>(pins, PIN_COUNT));
  const more = load<u32>(to, PIN_COUNT) - count;
  if (more != 0) {
    unpin_many(iommu, load<u64>(to, PIN_PAGE), more);
    store<u32>(to, count, PIN_COUNT);
  }
}

/** Did somebody take pins by force since the translation? Then entries may be gone, and pages that the program names are not its own. */
// @ts-expect-error: decorator
@inline
function forced(cp: usize): bool {
  return load<u32>(<usize>load<u32>(cp, CP_IOMMU), IOMMU_FORCED) != load<u32>(cp, CP_FORCED);
}

/** Unpins every page of the program and gives all blocks but the first one back, which becomes empty. */
// @ts-expect-error: decorator
@inline
export function blocks_release(cp: usize): void {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  const fast = unpin_mode(iommu) && !forced(cp);
  let block = <usize>load<u32>(cp, CP_BLOCKS);
  store<u64>(cp, 0, CP_MADE);
  for (;;) {
    const end = <usize>load<u32>(block, BLOCK_END);
    let pin = <usize>load<u32>(block, BLOCK_PINS);
    while (pin < end) {
      if (fast) pin = release_run(cp, pin, end);
      if (pin == end) break;
      unpin_many(iommu, load<u64>(pin, PIN_PAGE), load<u32>(pin, PIN_COUNT));
      pin += PIN_SIZE;
    }
    const next = <usize>load<u32>(block, BLOCK_NEXT);
    if (next == 0) break;
    arena_free(load<u32>(cp, CP_ARENA), block, BLOCK_SIZE);
    block = next;
  }
  pins_count(iommu, -load<i32>(cp, CP_MADE), -load<i32>(cp, CP_NEWLY));
  store<u32>(block, <u32>(block + BLOCK_HEADER), BLOCK_BRK);
  store<u32>(block, load<u32>(block, BLOCK_END), BLOCK_PINS);
  store<u32>(cp, <u32>block, CP_BLOCKS);
  store<u32>(cp, 0, CP_HIT_BLOCK);
}

/**
 * Takes back pins that are only counts, from `pin` on. What was taken, and how many pages have no pin left, is added to CP_MADE and CP_NEWLY.
 * A loop without calls, so that its values stay in registers. @returns the first pin that needs a closer look, or `end`.
 */
// @ts-expect-error: decorator
@inline
function release_run(cp: usize, pin: usize, end: usize): usize {
  let pins: u64 = 0;
  let gone: u32 = 0;
  for (; pin < end; pin += PIN_SIZE) {
    // Entry in the lower half, count in the upper, as it is in the entry.
    const word = load<u64>(pin, PIN_ENTRY);
    const taken = word & 0xffffffff00000000;
    const pte = load<u64>(<usize>word, PTE_FRAME);
    if (!pte_unpinnable(pte, taken)) break;
    store<u64>(<usize>word, pte - taken, PTE_FRAME);
    pins += taken;
    gone += u32(pte - taken < PTE_PIN);
  }
  pins_note(cp, <u32>(pins >> 32), gone);
  return pin;
}

/** Is a page in [first, last] (page numbers, inclusive) pinned by the program? */
export function blocks_pin_iova(cp: usize, first: u64, last: u64): bool {
  for (let block = <usize>load<u32>(cp, CP_BLOCKS); block != 0; block = <usize>load<u32>(block, BLOCK_NEXT)) {
    const end = <usize>load<u32>(block, BLOCK_END);
    for (let pin = <usize>load<u32>(block, BLOCK_PINS); pin < end; pin += PIN_SIZE) {
      const page = load<u64>(pin, PIN_PAGE);
      if (first <= page && page <= last) return true;
    }
  }
  return false;
}

/**
 * Is the page at this linear address (page aligned) pinned by the program? A device asks in the order of the program, which is the order
 * in which pins were made, so the search goes on where it last found something.
 */
export function blocks_pin_frame(cp: usize, frame: u32): bool {
  if (load<u32>(cp, CP_IOMMU) == 0 || forced(cp)) return false;
  const hit = <usize>load<u32>(cp, CP_HIT_BLOCK);
  if (hit != 0 && block_pin_frame(cp, hit, load<u32>(cp, CP_HIT), frame)) return true;
  for (let block = <usize>load<u32>(cp, CP_BLOCKS); block != 0; block = <usize>load<u32>(block, BLOCK_NEXT)) {
    if (block != hit && block_pin_frame(cp, block, <usize>load<u32>(block, BLOCK_END) - PIN_SIZE, frame)) return true;
  }
  return false;
}

/** The same in one block, from the pin `from` on to the newest, then from the oldest. */
function block_pin_frame(cp: usize, block: usize, from: usize, frame: u32): bool {
  const newest = <usize>load<u32>(block, BLOCK_PINS);
  let pin = from;
  for (let n = <usize>(load<u32>(block, BLOCK_END) - <u32>newest) / PIN_SIZE; n != 0; n--) {
    if ((load<u32>(<usize>load<u32>(pin, PIN_ENTRY), PTE_FRAME) & ~4095) == frame) {
      store<u32>(cp, <u32>block, CP_HIT_BLOCK);
      store<u32>(cp, <u32>pin, CP_HIT);
      return true;
    }
    pin = pin == newest ? <usize>load<u32>(block, BLOCK_END) - PIN_SIZE : pin - PIN_SIZE;
  }
  return false;
}
