// Pages that leave their address space: entries that name them stop translating. Kernel counterpart: the MMU notifier.
import { PTE_FRAME, PTE_ORPHAN, PTE_PINS, PTE_VALID } from '../abi';
import { entries_next, entry_at, entry_clear } from './leaf';
import { pages_get, PAGES_IOMMUS } from './pages';
import { LAST_PAGE, NEXT_IOMMU, NO_INDEX } from './record';

/**
 * Entries of every iommu that name a page in [first, last] (linear addresses): unpinned ones vanish; pinned ones keep their page (one reference
 * each, given back at the last unpin) but answer no translation any more.
 */
export function iommus_forget(pages: usize, first: usize, last: usize): void {
  for (let iommu = <usize>load<u32>(pages, PAGES_IOMMUS); iommu != 0; iommu = <usize>load<u32>(iommu, NEXT_IOMMU)) {
    for (let page: u64 = 0; (page = entries_next(iommu, page, LAST_PAGE)) != NO_INDEX; page++) {
      const e = entry_at(iommu, page);
      const frame = load<u32>(e, PTE_FRAME);
      const linear = <usize>frame & ~4095;
      if (linear < first || linear > last || (frame & PTE_ORPHAN) != 0) continue;
      if (load<u32>(e, PTE_PINS) == 0) {
        entry_clear(e);
      } else {
        store<u32>(e, (frame & ~PTE_VALID) | PTE_ORPHAN, PTE_FRAME);
        pages_get(pages, linear, 1);
      }
    }
  }
}
