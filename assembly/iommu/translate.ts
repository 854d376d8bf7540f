// Many translations at once. One lookup waits for memory at each level of the table; lookups in a row that do not depend on each other, and
// leave nothing behind, wait together.
import { lookup } from './entry';

/**
 * Translates `n` iovas (u64 each). @param out n x u32: what page_lookup answers for each.
 */
export function page_lookup_many(iommu: usize, iovas: usize, n: u32, out: usize): void {
  for (; n != 0; n--, iovas += 8, out += 4) store<u32>(out, <u32>lookup(iommu, load<u64>(iovas)));
}
