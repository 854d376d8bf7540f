// Many translations at once. One lookup waits for memory at each level of the table; lookups in a row that do not depend on each other, and
// leave nothing behind, wait together.
import { PTE_FRAME, PTE_VALID } from '../abi';
import { leaf_pte } from './direct';
import { radix_walk } from './radix';
import { ENTRIES, LEAF_SHIFT } from './record';

/**
 * Translates `n` iovas (u64 each). @param out n x u32: what page_lookup answers for each.
 */
export function page_lookup_many(iommu: usize, iovas: usize, n: u32, out: usize): void {
  for (; n != 0; n--, iovas += 8, out += 4) {
    const page = load<u64>(iovas) >> 12;
    const leaf = radix_walk(iommu + ENTRIES, page >> LEAF_SHIFT);
    let e: usize = 0;
    if (leaf != 0) {
      e = leaf_pte(leaf, <u32>page);
      if ((load<u32>(e, PTE_FRAME) & PTE_VALID) == 0) e = 0;
    }
    store<u32>(out, <u32>e);
  }
}
