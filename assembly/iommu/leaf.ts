// Leaves of page entries (entry.ts draws an entry): finding one, walking those in use, forgetting what only caches.
import { IOMMU_PINNED_PAGES, PTE_FRAME, PTE_PINS, PTE_VALID } from '../abi';
import { is_zero } from '../mem';
import { LEAF_SIZE, radix_get, radix_next, radix_remove } from './radix';
import { ARENA, ENTRIES, LEAF_SHIFT, NO_INDEX } from './record';

/** The leaf of entries with this number (page >> 6), or 0. */
export function leaf_of(iommu: usize, index: u64): usize {
  return radix_get(iommu + ENTRIES, index);
}

/** The next page in [page, last] whose entry is in use, or NO_INDEX. A leaf that is not there costs one step, whatever it spans. */
export function entries_next(iommu: usize, page: u64, last: u64): u64 {
  const table = iommu + ENTRIES;
  while (page <= last) {
    const index = radix_next(table, page >> LEAF_SHIFT);
    if (index > last >> LEAF_SHIFT) break;
    if (index != page >> LEAF_SHIFT) page = index << LEAF_SHIFT;
    const leaf = leaf_of(iommu, index);
    do {
      if (load<u32>(leaf + ((<usize>page & 63) << 4), PTE_FRAME) != 0) return page <= last ? page : NO_INDEX;
      page++;
    } while ((page & 63) != 0);
  }
  return NO_INDEX;
}

/** The entry of a page that entries_next gave. */
export function entry_at(iommu: usize, page: u64): usize {
  return leaf_of(iommu, page >> LEAF_SHIFT) + ((<usize>page & 63) << 4);
}

/** Forgets what an entry says. */
export function entry_clear(e: usize): void {
  store<u64>(e, 0);
  store<u64>(e, 0, 8);
}

/** Forgets unpinned entries of the pages [first, last] and frees leaves that are empty then. */
export function entries_drop(iommu: usize, first: u64, last: u64): void {
  for (let page = first; (page = entries_next(iommu, page, last)) != NO_INDEX; ) {
    const index = page >> LEAF_SHIFT;
    const leaf = leaf_of(iommu, index);
    do {
      const e = leaf + ((<usize>page & 63) << 4);
      if (load<u32>(e, PTE_PINS) == 0) entry_clear(e);
      page++;
    } while ((page & 63) != 0 && page <= last);
    if (is_zero(leaf, LEAF_SIZE)) leaf_remove(iommu, index);
  }
}

/** The pages [first, last] translate no more: unpinned entries vanish, pinned ones lose PTE_VALID. */
export function entries_revoke(iommu: usize, first: u64, last: u64): void {
  entries_drop(iommu, first, last);
  for (let page = first; (page = entries_next(iommu, page, last)) != NO_INDEX; page++) {
    const e = entry_at(iommu, page);
    store<u32>(e, load<u32>(e, PTE_FRAME) & ~PTE_VALID, PTE_FRAME);
  }
}

/** Frees the leaf of this number, which holds nothing. */
export function leaf_remove(iommu: usize, index: u64): void {
  radix_remove(iommu + ENTRIES, <usize>load<u32>(iommu, ARENA), index);
}

/** How many pages in [first, last] hold a pin, counting no further than `most`. */
export function entries_count(iommu: usize, first: u64, last: u64, most: u32): u32 {
  let count: u32 = 0;
  if (load<u32>(iommu, IOMMU_PINNED_PAGES) == 0) return 0;
  for (let page = first; count < most && (page = entries_next(iommu, page, last)) != NO_INDEX; page++)
    count += u32(load<u32>(entry_at(iommu, page), PTE_PINS) != 0);
  return count;
}
