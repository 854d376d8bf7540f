// What a translator does directly on page entries: pin scattered pages one at a time while a pin is only
// a count, with the sums brought up to date once for many. Everything that needs a closer look goes through rw.ts and pfn.ts.
import { IOMMU_DIRTY_ON, IOMMU_DOMAINS, IOMMU_PIN_ERRNO, IOMMU_PIN_NTH, MM_LIMIT, PROT_READ, PROT_WRITE, PTE_VALID } from '../abi';
import { unpin_page_run } from './pfn';
import { radix_get, radix_leaf, radix_low, radix_node } from './radix';
import { ENTRIES, LEAF_SHIFT, MIXED, MM } from './record';

// What pins may be made as counts now (until the next map, unmap or change of the record).
const PIN_NOTHING: u32 = 0;
/** One pin more for pages that have one. */
const PIN_MORE: u32 = 1;
/** Pages without a pin too. */
export const PIN_NEW: u32 = 2;

/** @returns which pins may be made as counts, the `mode`. */
// @ts-expect-error: decorator
@inline
export function pin_mode(iommu: usize): u32 {
  if (load<u32>(iommu, IOMMU_PIN_ERRNO) != 0) return PIN_NOTHING;
  if ((load<u32>(iommu, IOMMU_PIN_NTH) | load<u32>(iommu, IOMMU_DIRTY_ON)) != 0) return PIN_MORE;
  if (load<u32>(iommu, IOMMU_DOMAINS) != 0) return PIN_NEW;
  const mm = <usize>load<u32>(iommu, MM);
  return mm == 0 || load<u32>(iommu, MIXED) != 0 || load<u32>(mm, MM_LIMIT) != 0xffffffff ? PIN_MORE : PIN_NEW;
}

// Frame and count of an entry are looked at as one u64, `pte`.
/** One pin. */
export const PTE_PIN: u64 = 0x100000000;
/** A page that translates, may be read and written, and has no pin yet: pte & PTE_FRESH_MASK == PTE_FRESH. */
export const PTE_FRESH: u64 = PROT_READ | PROT_WRITE | PTE_VALID;
export const PTE_FRESH_MASK: u64 = 0xffffffff00000000 | PTE_FRESH;

/** Finds a page's entry (page = iova >> 12), translating or not; 0: there is no leaf. */
// @ts-expect-error: decorator
@inline
export function pte_find(iommu: usize, page: u64): usize {
  const leaf = radix_get(iommu + ENTRIES, page >> LEAF_SHIFT);
  return leaf == 0 ? 0 : leaf_pte(leaf, <u32>page);
}

/** For loops over pages below 256 GiB: the root of their entries, or 0: there are none. */
// @ts-expect-error: decorator
@inline
export function low_root(iommu: usize): usize {
  return radix_low(iommu + ENTRIES);
}

/** The inner node on the way to such a page, or 0. */
// @ts-expect-error: decorator
@inline
export function low_node(root: usize, page: u32): usize {
  return radix_node(root, page >> LEAF_SHIFT);
}

/** The leaf of such a page below its inner node, or 0. */
// @ts-expect-error: decorator
@inline
export function low_leaf(node: usize, page: u32): usize {
  return radix_leaf(node, page >> LEAF_SHIFT);
}

/** The entry of a page in its leaf. */
// @ts-expect-error: decorator
@inline
export function leaf_pte(leaf: usize, page: u32): usize {
  return leaf + ((page & 63) << 4);
}

/**
 * May one more pin of a page, for reading and writing, be only a count? Then the caller stores pte + PTE_PIN, adds up what it pinned and
 * calls pins_count; otherwise it uses pin_page_run.
 */
// @ts-expect-error: decorator
@inline
export function pte_pinnable(pte: u64, mode: u32): bool {
  return (pte & PTE_FRESH) == PTE_FRESH && mode > u32(pte < PTE_PIN);
}

/** May pins be taken as counts now? The last pin of a page is only a count while one task pays for all and nothing is logged. */
// @ts-expect-error: decorator
@inline
export function unpin_mode(iommu: usize): bool {
  return (load<u32>(iommu, MIXED) | load<u32>(iommu, IOMMU_DIRTY_ON)) == 0;
}

/**
 * May `taken` (count * PTE_PIN) be taken from a page as a count? Then the caller stores pte - taken, adds up and calls pins_count; otherwise
 * it uses unpin_many.
 */
// @ts-expect-error: decorator
@inline
export function pte_unpinnable(pte: u64, taken: u64): bool {
  return (<u32>pte & PTE_VALID) != 0 && pte >= taken;
}

/** Takes `count` pins of one page back, the careful way. A page that lost its map or its pins meanwhile is passed over. */
export function unpin_many(iommu: usize, page: u64, count: u32): void {
  for (; count != 0; count--) unpin_page_run(iommu, page << 12, 1);
}
