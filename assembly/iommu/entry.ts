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
import { entries_drop } from './leaf';
import { mm_dead, mm_find } from './mm';
import { pages_see } from './pages';
import { RADIX_LOW, radix_get, radix_leaf, radix_make, radix_node, radix_root } from './radix';
import { ranges_find, slot_key, slot_last, slot_meta, slot_value } from './ranges';
import { ARENA, ENTRIES, LAST_PAGE, LEAF_SHIFT, MAPS, PAGES } from './record';

/**
 * The entry that translates the page of `iova` now, or 0: nothing is known yet, or it may not be used (then the slow functions of pfn.ts and
 * rw.ts find out). Test PROT_* in its frame word. The address is good until the next call that maps, unmaps or pins; that of a pinned entry
 * until its last unpin.
 */
export function page_lookup(iommu: usize, iova: u64): usize {
  const table = iommu + ENTRIES;
  const page = iova >> 12;
  const root = radix_root(table);
  if (root != 0 && page < LOW_PAGES) return low_entry(root, <u32>page);
  const leaf = radix_get(table, page >> LEAF_SHIFT);
  return leaf == 0 ? 0 : valid(leaf, <u32>page);
}

/** Pages below the low root: 256 GiB. */
export const LOW_PAGES: u64 = RADIX_LOW << LEAF_SHIFT;

/** page_lookup below LOW_PAGES, for loops. @param root the low root of the table (radix.ts). */
// @ts-expect-error: decorator
@inline
export function low_entry(root: usize, page: u32): usize {
  const node = radix_node(root, page >> LEAF_SHIFT);
  if (node == 0) return 0;
  const leaf = radix_leaf(node, page >> LEAF_SHIFT);
  return leaf == 0 ? 0 : valid(leaf, page);
}

/** The entry of a page in its leaf when it translates, or 0. */
// @ts-expect-error: decorator
@inline
function valid(leaf: usize, page: u32): usize {
  const e = leaf + ((page & 63) << 4);
  return load<u32>(e, PTE_FRAME) & PTE_VALID ? e : 0;
}

/** The errno for a page without a map. */
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
  const flags = (meta & (PROT_READ | PROT_WRITE)) | PTE_VALID;
  for (let i: u32 = 0; i < <u32>count; ++i) {
    const e = leaf + (<usize>(place + i) << 4);
    const at = linear + (<usize>i << 12);
    // A page with injected errors never translates; the one that is about to be pinned gets its frame all the same.
    const fault = injected(iommu, page + i) != 0;
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
  entries_drop(iommu, 0, LAST_PAGE);
  return radix_make(iommu + ENTRIES, arena, index);
}
