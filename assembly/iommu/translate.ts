// Many translations at once. One lookup waits for memory at each level of the table; eight in lockstep wait together.
import { PTE_FRAME, PTE_VALID } from '../abi';
import { page_lookup } from './entry';
import { ENTRIES, LEAF_SHIFT } from './record';

/** One level down for one of the eight; a node that is not there (0) stays so. */
// @ts-expect-error: decorator
@inline
function down(node: usize, page: u64, shift: u64): usize {
  return node == 0 ? 0 : <usize>load<u32>(node + ((<usize>(page >> shift) & 1023) << 2));
}

// @ts-expect-error: decorator
@inline
function finish(leaf: usize, page: u64, capacity: u64): u32 {
  if (leaf == 0 || page >= capacity) return 0;
  const e = leaf + ((<usize>page & 63) << 4);
  return load<u32>(e, PTE_FRAME) & PTE_VALID ? <u32>e : 0;
}

/**
 * Translates `n` iovas (u64 each). @param out n x u32: what page_lookup answers for each.
 */
export function page_lookup_many(iommu: usize, iovas: usize, n: u32, out: usize): void {
  const root = <usize>load<u32>(iommu + ENTRIES);
  const top = <u64>load<u32>(iommu + ENTRIES, 4) * 10 + LEAF_SHIFT;
  const capacity: u64 = <u64>1 << top;
  while (n >= 8) {
    const a = load<u64>(iovas) >> 12;
    const b = load<u64>(iovas, 8) >> 12;
    const c = load<u64>(iovas, 16) >> 12;
    const d = load<u64>(iovas, 24) >> 12;
    const e = load<u64>(iovas, 32) >> 12;
    const f = load<u64>(iovas, 40) >> 12;
    const g = load<u64>(iovas, 48) >> 12;
    const h = load<u64>(iovas, 56) >> 12;
    let na = root;
    let nb = root;
    let nc = root;
    let nd = root;
    let ne = root;
    let nf = root;
    let ng = root;
    let nh = root;
    for (let shift = top; shift != LEAF_SHIFT; ) {
      shift -= 10;
      na = down(na, a, shift);
      nb = down(nb, b, shift);
      nc = down(nc, c, shift);
      nd = down(nd, d, shift);
      ne = down(ne, e, shift);
      nf = down(nf, f, shift);
      ng = down(ng, g, shift);
      nh = down(nh, h, shift);
    }
    store<u32>(out, finish(na, a, capacity));
    store<u32>(out, finish(nb, b, capacity), 4);
    store<u32>(out, finish(nc, c, capacity), 8);
    store<u32>(out, finish(nd, d, capacity), 12);
    store<u32>(out, finish(ne, e, capacity), 16);
    store<u32>(out, finish(nf, f, capacity), 20);
    store<u32>(out, finish(ng, g, capacity), 24);
    store<u32>(out, finish(nh, h, capacity), 28);
    iovas += 64;
    out += 32;
    n -= 8;
  }
  for (; n != 0; n--, iovas += 8, out += 4) store<u32>(out, <u32>page_lookup(iommu, load<u64>(iovas)));
}
