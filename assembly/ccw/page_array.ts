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
//        8    4 frame  linear address of the page
//       12    4 count  pins
import {
  BLOCK_BRK,
  BLOCK_END,
  BLOCK_NEXT,
  BLOCK_PINS,
  CP_ARENA,
  CP_BLOCKS,
  PIN_COUNT,
  PIN_FRAME,
  PIN_PAGE,
  PIN_SIZE,
} from '../abi';
import { arena_alloc, arena_free } from '../arena';
import { pins_released, unpin_fast, unpin_many } from '../iommu/direct';

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

/**
 * Undoes pins of a block, newest first, until record `to` is the newest and holds `count` pins; what a CCW that failed half way
 * needs. @param pins the newest record, which the block need not know yet.
 */
export function block_undo(iommu: usize, pins: usize, to: usize, count: u32): void {
  for (; pins < to; pins += PIN_SIZE) unpin_many(iommu, load<u64>(pins, PIN_PAGE), load<u32>(pins, PIN_COUNT));
  const more = load<u32>(to, PIN_COUNT) - count;
  if (more != 0) {
    unpin_many(iommu, load<u64>(to, PIN_PAGE), more);
    store<u32>(to, count, PIN_COUNT);
  }
}

/** Unpins every page of the program and gives all blocks but the first one back, which becomes empty. */
export function blocks_release(cp: usize, iommu: usize): void {
  let block = <usize>load<u32>(cp, CP_BLOCKS);
  let pins: u32 = 0;
  let gone: u32 = 0;
  for (;;) {
    const end = <usize>load<u32>(block, BLOCK_END);
    for (let pin = <usize>load<u32>(block, BLOCK_PINS); pin < end; pin += PIN_SIZE) {
      const count = load<u32>(pin, PIN_COUNT);
      const left = unpin_fast(iommu, load<u64>(pin, PIN_PAGE), count);
      if (left >= 0) {
        pins += count;
        gone += u32(left == 0);
      } else unpin_many(iommu, load<u64>(pin, PIN_PAGE), count);
    }
    const next = <usize>load<u32>(block, BLOCK_NEXT);
    if (next == 0) break;
    arena_free(load<u32>(cp, CP_ARENA), block, BLOCK_SIZE);
    block = next;
  }
  pins_released(iommu, pins, gone);
  store<u32>(block, <u32>(block + BLOCK_HEADER), BLOCK_BRK);
  store<u32>(block, load<u32>(block, BLOCK_END), BLOCK_PINS);
  store<u32>(cp, <u32>block, CP_BLOCKS);
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

/** Is the page at this linear address (page aligned) pinned by the program? */
export function blocks_pin_frame(cp: usize, frame: u32): bool {
  for (let block = <usize>load<u32>(cp, CP_BLOCKS); block != 0; block = <usize>load<u32>(block, BLOCK_NEXT)) {
    const end = <usize>load<u32>(block, BLOCK_END);
    for (let pin = <usize>load<u32>(block, BLOCK_PINS); pin < end; pin += PIN_SIZE) {
      if (load<u32>(pin, PIN_FRAME) == frame) return true;
    }
  }
  return false;
}
