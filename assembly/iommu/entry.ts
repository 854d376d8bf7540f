// Page entries: what one page of iova space really is. They come into being when a page is first translated or pinned and serve as a cache;
// an unmap, or a page that leaves its address space, takes them away. A pin is a count in the entry.
//
// Page entry (16 bytes, 64 to a leaf of the sparse table `entries`):
//   offset size field
//        0    8 idaw    linear address of the page, byte-swapped: a format-2 IDAW once the offset is ORed in (big-endian)
//        8    4 frame   linear address of the page | PTE_* | PROT_* of the map
//       12    4 pins
//
// PTE_VALID: the entry answers translations now. A pinned entry can lose it (the page left its address space, or the map's vaddr is
// invalid) and still takes further pins, as in the kernel. An entry without pins and without PTE_VALID is zero.
import { EFAULT, EINVAL, ENODEV, ENOENT, ENOMEM, FLAVOUR_IOAS, IOMMU_FLAVOUR } from '../abi';
import { PROT_READ, PROT_WRITE, PTE_FRAME, PTE_ORPHAN, PTE_PINS, PTE_VALID, VMA_IO, VMA_RAM } from '../abi';
import { injected } from './inject';
import { mm_dead, mm_find } from './mm';
import { pages_see } from './pages';
import { radix_get, radix_make, radix_next, radix_remove, radix_walk } from './radix';
import { ranges_find, slot_key, slot_last, slot_meta, slot_value } from './ranges';
import { ARENA, ENTRIES, INJECT, LEAF, LEAF_INDEX, LEAF_SHIFT, MAPS, NO_INDEX, PAGES } from './record';

/** The leaf of entries with this number (page >> 6), or 0. The last one is remembered. */
// @ts-expect-error: decorator
@inline
export function leaf_of(iommu: usize, index: u64): usize {
  if (load<u64>(iommu, LEAF_INDEX) == index) return <usize>load<u32>(iommu, LEAF);
  return leaf_search(iommu, index);
}

function leaf_search(iommu: usize, index: u64): usize {
  const leaf = radix_walk(iommu + ENTRIES, index);
  store<u64>(iommu, leaf != 0 ? index : NO_INDEX, LEAF_INDEX);
  store<u32>(iommu, <u32>leaf, LEAF);
  return leaf;
}

/**
 * The entry that translates the page of `iova` now, or 0: nothing is known yet, or it may not be used (then the slow functions of pfn.ts and
 * rw.ts find out). Test PROT_* in its frame word. The address is good until the next call that maps, unmaps or pins; that of a pinned entry
 * until its last unpin.
 */
// @ts-expect-error: decorator
@inline
export function page_lookup(iommu: usize, iova: u64): usize {
  const page = iova >> 12;
  const leaf = leaf_of(iommu, page >> LEAF_SHIFT);
  if (leaf == 0) return 0;
  const e = leaf + ((<usize>page & 63) << 4);
  return load<u32>(e, PTE_FRAME) & PTE_VALID ? e : 0;
}

/** The errno for a page without a map. */
// @ts-expect-error: decorator
@inline
export function unmapped_errno(iommu: usize): i32 {
  return load<u32>(iommu, IOMMU_FLAVOUR) == FLAVOUR_IOAS ? ENOENT : EINVAL;
}

/** The mm of a map's meta word. */
// @ts-expect-error: decorator
@inline
export function map_mm(meta: u32): usize {
  return <usize>meta & ~15;
}

/**
 * Looks a page up in its map's address space and makes its entry valid, and those behind it up to `n`, as far as map, address range and leaf
 * reach. Faults with the permission of the map, not of the caller. Pages with injected errors stay without a valid entry.
 * @returns 0; the flavour's errno no map; -ENODEV the task is gone; -EFAULT nothing there, or not with the map's permission; -EINVAL a device
 * region; -ENOMEM. A leaf that this call made stays only on success.
 */
export function entries_fill(iommu: usize, page: u64, n: u32): i32 {
  const map = ranges_find(iommu + MAPS, page << 12);
  if (map == 0) return -unmapped_errno(iommu);
  const meta = slot_meta(map);
  const mm = map_mm(meta);
  if (mm_dead(mm)) return -ENODEV;
  const vaddr = slot_value(map) + ((page << 12) - slot_key(map));
  const vma = mm_find(mm, vaddr);
  if (vma == 0) return -EFAULT;
  const vma_meta = slot_meta(vma);
  if ((vma_meta & (meta & PROT_WRITE ? PROT_WRITE : PROT_READ)) == 0) return -EFAULT;
  if ((vma_meta & VMA_RAM) == 0) return vma_meta & VMA_IO ? -EINVAL : -EFAULT;
  const index = page >> LEAF_SHIFT;
  const leaf = entry_leaf(iommu, index);
  if (leaf == 0) return -ENOMEM;
  const place = <u32>page & 63;
  let count = <u64>min(n, 64 - place);
  count = min(count, ((slot_last(map) >> 12) - page) + 1);
  count = min(count, ((slot_last(vma) - vaddr) >> 12) + 1);
  const linear = <usize>slot_value(vma) + <usize>(vaddr - slot_key(vma));
  const faulty = load<u32>(iommu, INJECT) != 0;
  const flags = (meta & (PROT_READ | PROT_WRITE)) | PTE_VALID;
  for (let i: u32 = 0; i < <u32>count; ++i) {
    const e = leaf + (<usize>(place + i) << 4);
    const at = linear + (<usize>i << 12);
    // A page with injected errors never translates; the one that is about to be pinned gets its frame all the same.
    const fault = faulty && injected(iommu, page + i) != 0;
    if (fault && i != 0) continue;
    const bits = fault ? flags & ~PTE_VALID : flags;
    if (load<u32>(e, PTE_PINS) != 0) {
      const frame = load<u32>(e, PTE_FRAME);
      if ((frame & (~4095 | PTE_ORPHAN)) == <u32>at) store<u32>(e, frame | bits, PTE_FRAME);
      continue;
    }
    store<u64>(e, bswap<u64>(<u64>at));
    store<u32>(e, <u32>at | bits, PTE_FRAME);
  }
  pages_see(<usize>load<u32>(iommu, PAGES), linear, <u32>count);
  return 0;
}

/** The leaf, made if need be; when the heap is full, leaves that only cache are given up first. 0: still full. */
function entry_leaf(iommu: usize, index: u64): usize {
  const arena = <usize>load<u32>(iommu, ARENA);
  const leaf = radix_make(iommu + ENTRIES, arena, index);
  if (leaf != 0) return leaf;
  entries_drop(iommu, 0, NO_INDEX >> 12);
  return radix_make(iommu + ENTRIES, arena, index);
}

/** Forgets unpinned entries of the pages [first, last] and frees leaves that are empty then. */
export function entries_drop(iommu: usize, first: u64, last: u64): void {
  const table = iommu + ENTRIES;
  const arena = <usize>load<u32>(iommu, ARENA);
  const end = last >> LEAF_SHIFT;
  for (let i = radix_next(table, first >> LEAF_SHIFT); i <= end; i = radix_next(table, i + 1)) {
    const leaf = radix_get(table, i);
    let used: u32 = 0;
    for (let k: u64 = 0; k < 64; ++k) {
      const page = (i << LEAF_SHIFT) + k;
      const e = leaf + (<usize>k << 4);
      if (load<u32>(e, PTE_PINS) == 0 && page >= first && page <= last) v128.store(e, i64x2.splat(0));
      used |= load<u32>(e, PTE_FRAME);
    }
    if (used == 0) leaf_remove(iommu, i);
    if (i == end) break;
  }
}

/** The pages [first, last] translate no more: unpinned entries vanish, pinned ones lose PTE_VALID. */
export function entries_revoke(iommu: usize, first: u64, last: u64): void {
  entries_drop(iommu, first, last);
  const table = iommu + ENTRIES;
  const end = last >> LEAF_SHIFT;
  for (let i = radix_next(table, first >> LEAF_SHIFT); i <= end; i = radix_next(table, i + 1)) {
    const leaf = radix_get(table, i);
    for (let k: u64 = 0; k < 64; ++k) {
      const page = (i << LEAF_SHIFT) + k;
      const e = leaf + (<usize>k << 4);
      if (page >= first && page <= last) store<u32>(e, load<u32>(e, PTE_FRAME) & ~PTE_VALID, PTE_FRAME);
    }
  }
}

/** Frees the leaf of this number, which holds nothing. */
export function leaf_remove(iommu: usize, index: u64): void {
  if (load<u64>(iommu, LEAF_INDEX) == index) store<u64>(iommu, NO_INDEX, LEAF_INDEX);
  radix_remove(iommu + ENTRIES, <usize>load<u32>(iommu, ARENA), index);
}

/** Does a page in [first, last] hold a pin? */
export function entries_pinned(iommu: usize, first: u64, last: u64): bool {
  return entries_count(iommu, first, last, 1) != 0;
}

/** How many pages in [first, last] hold a pin, counting no further than `most`. */
export function entries_count(iommu: usize, first: u64, last: u64, most: u32): u32 {
  const table = iommu + ENTRIES;
  const end = last >> LEAF_SHIFT;
  let count: u32 = 0;
  for (let i = radix_next(table, first >> LEAF_SHIFT); i <= end && count < most; i = radix_next(table, i + 1)) {
    const leaf = radix_get(table, i);
    const base = i << LEAF_SHIFT;
    const from = base < first ? <u32>(first - base) : 0;
    const to = base + 63 > last ? <u32>(last - base) : 63;
    for (let k = from; k <= to; ++k) count += u32(load<u32>(leaf + (<usize>k << 4), PTE_PINS) != 0);
  }
  return count;
}
