// One page at a time, by its entry: what a channel program does for each CCW, so everything here is inlined into the caller. The slow
// cases are pin_page_run and unpin_page_run (pfn.ts).
import { IOMMU_PINS, IOMMU_PIN_ERRNO, IOMMU_RW_ERRNO, PROT_READ, PROT_WRITE, PTE_FRAME, PTE_IDAW, PTE_PINS, PTE_VALID } from '../abi';
import { leaf_of, page_lookup } from './entry';
import { pin_page_run, unpin_page_run } from './pfn';
import { LEAF_SHIFT } from './record';

/** Linear address behind an iova that can be read right now, good up to the end of its page; 0: ask iommu_read, which knows why not. */
// @ts-expect-error: decorator
@inline
export function page_readable(iommu: usize, iova: u64): usize {
  const e = page_lookup(iommu, iova);
  if (e == 0 || (load<u32>(e, PTE_FRAME) & PROT_READ) == 0 || load<u32>(iommu, IOMMU_RW_ERRNO) != 0) return 0;
  return (<usize>load<u32>(e, PTE_FRAME) & ~4095) | (<usize>iova & 4095);
}

/** The page's address as a format-2 IDAW, as it stands in storage (big-endian): OR the offset in. */
// @ts-expect-error: decorator
@inline
export function page_idaw(entry: usize): u64 {
  return load<u64>(entry, PTE_IDAW);
}

/** Linear page frame (linear address >> 12). */
// @ts-expect-error: decorator
@inline
export function page_linear(entry: usize): u32 {
  return load<u32>(entry, PTE_FRAME) >> 12;
}

/**
 * Pins one page for reading and writing, `count` (> 0) times. @param page iova >> 12.
 * @returns the page's entry, good until the last unpin, or -errno (compare with <usize>-4096): as pin_page_run, nothing is pinned then.
 */
// @ts-expect-error: decorator
@inline
export function pin_page(iommu: usize, page: u64, count: u32): usize {
  const leaf = leaf_of(iommu, page >> LEAF_SHIFT);
  const e = leaf + ((<usize>page & 63) << 4);
  const want = PROT_READ | PROT_WRITE | PTE_VALID;
  if (leaf != 0 && load<u32>(iommu, IOMMU_PIN_ERRNO) == 0) {
    const pins = load<u32>(e, PTE_PINS);
    if (pins != 0 && (load<u32>(e, PTE_FRAME) & want) == want) {
      store<u32>(e, pins + count, PTE_PINS);
      store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) + count, IOMMU_PINS);
      return e;
    }
  }
  return pin_page_first(iommu, page, count);
}

/** The first pin of a page goes the long way; further ones are counts. */
function pin_page_first(iommu: usize, page: u64, count: u32): usize {
  const result = pin_page_run(iommu, page << 12, 1, PROT_READ | PROT_WRITE, 0);
  if (result < 0) return <usize>result;
  const e = leaf_of(iommu, page >> LEAF_SHIFT) + ((<usize>page & 63) << 4);
  store<u32>(e, load<u32>(e, PTE_PINS) + (count - 1), PTE_PINS);
  store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) + (count - 1), IOMMU_PINS);
  return e;
}

/**
 * Takes `count` pins of one page back; fewer when it holds fewer. A page whose map is gone (its pins were taken by force) is passed over.
 * @param entry what pin_page returned. @param page iova >> 12.
 */
// @ts-expect-error: decorator
@inline
export function unpin_page(iommu: usize, entry: usize, page: u64, count: u32): void {
  const leaf = leaf_of(iommu, page >> LEAF_SHIFT);
  if (leaf == 0 || leaf + ((<usize>page & 63) << 4) != entry) return;
  const pins = load<u32>(entry, PTE_PINS);
  if (pins > count) {
    store<u32>(entry, pins - count, PTE_PINS);
    store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) - count, IOMMU_PINS);
  } else if (pins != 0) unpin_page_last(iommu, entry, page, pins);
}

function unpin_page_last(iommu: usize, entry: usize, page: u64, pins: u32): void {
  store<u32>(entry, 1, PTE_PINS);
  store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) - (pins - 1), IOMMU_PINS);
  unpin_page_run(iommu, page << 12, 1);
}
