// Pages that leave their address space: entries that name them stop translating. Kernel counterpart: the MMU notifier.
import { PTE_FRAME, PTE_ORPHAN, PTE_PINS, PTE_VALID } from '../abi';
import { pages_get, PAGES_IOMMUS } from './pages';
import { LEAF_SIZE, NO_LEAF, radix_get, radix_next } from './radix';
import { ENTRIES, NEXT_IOMMU } from './record';

/**
 * Entries of every iommu that name a page in [first, last] (linear addresses): unpinned ones vanish; pinned ones keep their page (one reference
 * each, given back at the last unpin) but answer no translation any more.
 */
export function iommus_forget(pages: usize, first: usize, last: usize): void {
  for (let iommu = <usize>load<u32>(pages, PAGES_IOMMUS); iommu != 0; iommu = <usize>load<u32>(iommu, NEXT_IOMMU)) {
    const table = iommu + ENTRIES;
    for (let i = radix_next(table, 0); i != NO_LEAF; i = radix_next(table, i + 1)) {
      const leaf = radix_get(table, i);
      for (let e = leaf; e < leaf + LEAF_SIZE; e += 16) {
        const frame = load<u32>(e, PTE_FRAME);
        const linear = <usize>frame & ~4095;
        if (linear < first || linear > last || (frame & PTE_ORPHAN) != 0) continue;
        if (load<u32>(e, PTE_PINS) == 0) {
          v128.store(e, i64x2.splat(0));
        } else {
          store<u32>(e, (frame & ~PTE_VALID) | PTE_ORPHAN, PTE_FRAME);
          pages_get(pages, linear, 1);
        }
      }
    }
  }
}
