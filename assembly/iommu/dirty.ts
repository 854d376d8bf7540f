// Dirty tracking: one bit for each page of iova space, kept only where a bit was ever set. Kernel counterpart: vfio_dma's bitmaps (spec
// iommu-type1 section 8). A bitmap of a map is the part of the table that its range covers.
//
// Leaf of the sparse table `dirty`: 8192 bits as 128 little-endian u64 words; bit i of leaf n is page n * 8192 + i.
//
// A mark cannot fail where it happens (an unpin has no errno): when the heap is full, dirty_on becomes DIRTY_ALL and every page counts as
// dirty until tracking is stopped.
import { DIRTY_ALL, EINVAL, ENOMEM, IOMMU_DIRTY_ON, PTE_PINS } from '../abi';
import { entries_next, entry_at } from './leaf';
import { is_zero } from '../mem';
import { LEAF_SIZE, NO_LEAF, radix_destroy, radix_get, radix_make, radix_next, radix_remove } from './radix';
import { ranges_from, ranges_next, slot_key, slot_last } from './ranges';
import { ARENA, DIRTY, MAPS } from './record';

const BITS_SHIFT = 13;
const BITS = 8192;
const MAX_MAP_PAGES: u64 = 0x7fffffff;

/** May a map of this range carry a bitmap? More than 2^31 - 1 pages may not. */
// @ts-expect-error: decorator
@inline
export function dirty_fits(key: u64, last: u64): bool {
  return (last - key) >> 12 < MAX_MAP_PAGES;
}

/** Sets the bits of `npage` pages while tracking runs. */
export function dirty_mark(iommu: usize, page: u64, npage: u64): void {
  if (load<u32>(iommu, IOMMU_DIRTY_ON) != 1) return;
  const end = page + npage;
  while (page < end) {
    const leaf = radix_make(iommu + DIRTY, <usize>load<u32>(iommu, ARENA), page >> BITS_SHIFT);
    if (leaf == 0) {
      store<u32>(iommu, DIRTY_ALL, IOMMU_DIRTY_ON);
      return;
    }
    const bit = <u32>page & (BITS - 1);
    const n = <u32>min<u64>(end - page, BITS - bit);
    put_bits(leaf, bit, bit + n - 1, ~(<u64>0));
    page += n;
  }
}

/** Sets (`value` all ones) or clears (0) the bits [from, to] of a leaf. */
function put_bits(leaf: usize, from: u32, to: u32, value: u64): void {
  let p = leaf + ((<usize>from >> 6) << 3);
  const q = leaf + ((<usize>to >> 6) << 3);
  let mask = ~(<u64>0) << (from & 63);
  if (p != q) {
    store<u64>(p, (load<u64>(p) & ~mask) | (value & mask));
    memory.fill(p + 8, <u8>value, q - p - 8);
    p = q;
    mask = ~(<u64>0);
  }
  mask &= ~(<u64>0) >> (63 - (to & 63));
  store<u64>(p, (load<u64>(p) & ~mask) | (value & mask));
}

/** Clears the bits of the pages [first, last] and frees what is empty then. */
export function dirty_clear(iommu: usize, first: u64, last: u64): void {
  const table = iommu + DIRTY;
  const end = last >> BITS_SHIFT;
  for (let i = first >> BITS_SHIFT; (i = radix_next(table, i)) <= end; i++) {
    const leaf = radix_get(table, i);
    const base = i << BITS_SHIFT;
    const from = base < first ? <u32>(first - base) : 0;
    const to = base + (BITS - 1) > last ? <u32>(last - base) : BITS - 1;
    put_bits(leaf, from, to, 0);
    if (is_zero(leaf, LEAF_SIZE)) radix_remove(table, <usize>load<u32>(iommu, ARENA), i);
  }
}

/** Marks the pages in [first, last] that hold a pin: they may change at any time. */
export function dirty_seed(iommu: usize, first: u64, last: u64): void {
  for (let page = first; (page = entries_next(iommu, page, last)) != NO_LEAF; page++)
    if (load<u32>(entry_at(iommu, page), PTE_PINS) != 0) dirty_mark(iommu, page, 1);
}

/**
 * DIRTY_PAGES START: pages that are pinned now are dirty. Nothing happens when tracking runs already.
 * @returns 0; -EINVAL a map has more than 2^31 - 1 pages; -ENOMEM. Tracking stays off on failure.
 */
export function iommu_dirty_start(iommu: usize): i32 {
  if (load<u32>(iommu, IOMMU_DIRTY_ON) != 0) return 0;
  for (let map = ranges_from(iommu + MAPS, 0); map != 0; map = ranges_next(map))
    if (!dirty_fits(slot_key(map), slot_last(map))) return -EINVAL;
  store<u32>(iommu, 1, IOMMU_DIRTY_ON);
  dirty_seed(iommu, 0, NO_LEAF >> 12);
  if (load<u32>(iommu, IOMMU_DIRTY_ON) == 1) return 0;
  iommu_dirty_stop(iommu);
  return -ENOMEM;
}

/** Marks every page of every map: hardware that left may have written anything. */
export function iommu_dirty_fill(iommu: usize): void {
  for (let map = ranges_from(iommu + MAPS, 0); map != 0; map = ranges_next(map))
    dirty_mark(iommu, slot_key(map) >> 12, ((slot_last(map) - slot_key(map)) >> 12) + 1);
}

/** DIRTY_PAGES STOP: every bit is forgotten. */
export function iommu_dirty_stop(iommu: usize): void {
  store<u32>(iommu, 0, IOMMU_DIRTY_ON);
  radix_destroy(iommu + DIRTY, <usize>load<u32>(iommu, ARENA));
}

/** Marks the pages of [iova, iova + size) when tracking runs. */
export function iommu_dirty_mark(iommu: usize, iova: u64, size: u64): void {
  if (size == 0) return;
  const first = iova >> 12;
  dirty_mark(iommu, first, ((iova + (size - 1)) >> 12) - first + 1);
}

/**
 * Writes the bits of `npage` pages from the page of `iova` to `out`: ceil((shift + npage) / 64) little-endian u64 words, page i at bit shift + i,
 * every other bit 0. @param shift 0..63. @param all 1: every page counts as dirty.
 */
export function iommu_dirty_bits(iommu: usize, iova: u64, npage: u32, out: usize, shift: u32, all: u32): void {
  const words = <u32>((<u64>shift + npage + 63) >> 6);
  const tail = ~(<u64>0) >> ((64 - ((shift + npage) & 63)) & 63);
  if (all != 0 || load<u32>(iommu, IOMMU_DIRTY_ON) == DIRTY_ALL) memory.fill(out, 0xff, <usize>words << 3);
  else copy_bits(iommu, (iova >> 12) - shift, words, out);
  store<u64>(out, load<u64>(out) & (~(<u64>0) << shift));
  const end = out + (<usize>(words - 1) << 3);
  store<u64>(end, load<u64>(end) & tail);
}

/** Words of 64 pages from `page` on, which may be anywhere (and below 0: those bits are masked by the caller). */
// @ts-expect-error: decorator
@inline
function copy_bits(iommu: usize, page: u64, words: u32, out: usize): void {
  const table = iommu + DIRTY;
  const skew = page & 63;
  let index = NO_LEAF;
  let leaf: usize = 0;
  let carry: u64 = 0;
  let at = page - skew;
  const end = out + (<usize>words << 3);
  // With a skew the word before the first one only fills the carry.
  for (let p = skew == 0 ? out : out - 8; p != end; p += 8, at += 64) {
    if (at >> BITS_SHIFT != index) {
      index = at >> BITS_SHIFT;
      leaf = radix_get(table, index & (NO_LEAF >> BITS_SHIFT >> 12));
    }
    const word = leaf == 0 ? 0 : load<u64>(leaf + ((<usize>(at & (BITS - 1)) >> 6) << 3));
    if (p + 8 != out) store<u64>(p, skew == 0 ? word : carry | (word << (64 - skew)));
    carry = word >> skew;
  }
}

/** Clears the bits of [iova, last], then marks its pinned pages again (what DIRTY_PAGES GET does to each map it reported). */
export function iommu_dirty_clear(iommu: usize, iova: u64, last: u64): void {
  dirty_clear(iommu, iova >> 12, last >> 12);
  dirty_seed(iommu, iova >> 12, last >> 12);
}

/**
 * Reports dirty pages of [iova, last] as ranges, in order: pairs of u64 {iova, bytes} at `out`. Neighbouring pages make one range.
 * @param max pairs that fit. @returns how many were written; when that is `max`, go on behind the last one.
 */
export function iommu_dirty_ranges(iommu: usize, iova: u64, last: u64, out: usize, max: u32): u32 {
  const table = iommu + DIRTY;
  const first = iova >> 12;
  const final_page = last >> 12;
  if (max == 0) return 0;
  if (load<u32>(iommu, IOMMU_DIRTY_ON) == DIRTY_ALL) {
    store<u64>(out, first << 12);
    store<u64>(out, (final_page - first + 1) << 12, 8);
    return 1;
  }
  const stop = out + (<usize>max << 4);
  let p = out;
  /** First page of the range that is open, if `open` is 1: then the bit before the next word is set. */
  let start: u64 = 0;
  let open: u64 = 0;
  let page = (first >> 6) << 6;
  while (page <= final_page) {
    const index = radix_next(table, page >> BITS_SHIFT);
    if (index != page >> BITS_SHIFT) {
      // Nothing is dirty from here to the next leaf.
      if (open != 0) p = put_range(p, start, page);
      if (p == stop) return max;
      open = 0;
      if (index > final_page >> BITS_SHIFT) break;
      page = index << BITS_SHIFT;
    }
    const leaf = radix_get(table, index);
    const end = min(final_page, page | (BITS - 1));
    for (; page <= end; page += 64) {
      let word = load<u64>(leaf + ((<usize>page & (BITS - 1)) >> 6 << 3));
      if (page < first) word &= ~(<u64>0) << (first - page);
      if (final_page - page < 63) word &= ~(<u64>0) >> (63 - (final_page - page));
      // Bits that differ from the one before: each opens a range or ends the open one.
      let edges = word ^ ((word << 1) | open);
      for (open = word >> 63; edges != 0; edges &= edges - 1) {
        const at = page + ctz(edges);
        if ((word >> (at & 63)) & 1) start = at;
        else {
          p = put_range(p, start, at);
          if (p == stop) return max;
        }
      }
    }
  }
  if (open != 0) p = put_range(p, start, final_page + 1);
  return <u32>((p - out) >> 4);
}

// @ts-expect-error: decorator
@inline
function put_range(p: usize, start: u64, end: u64): usize {
  store<u64>(p, start << 12);
  store<u64>(p, (end - start) << 12, 8);
  return p + 16;
}
