// Many translations at once. One lookup waits for memory at each level of the table; lookups in a row that do not depend on each other, and
// leave nothing behind, wait together.
import { LOW_PAGES, low_entry, page_lookup } from './entry';
import { radix_low } from './radix';
import { ENTRIES } from './record';

/**
 * Translates `n` iovas (u64 each). @param out n x u32: what page_lookup answers for each.
 */
export function page_lookup_many(iommu: usize, iovas: usize, n: u32, out: usize): void {
  const end = out + (<usize>n << 2);
  const root = radix_low(iommu + ENTRIES);
  // A loop without calls, so that its values stay in registers.
  for (; root != 0 && out < end; iovas += 8, out += 4) {
    const page = load<u64>(iovas) >> 12;
    if (page >= LOW_PAGES) break;
    store<u32>(out, <u32>low_entry(root, <u32>page));
  }
  for (; out < end; iovas += 8, out += 4) store<u32>(out, <u32>page_lookup(iommu, load<u64>(iovas)));
}
