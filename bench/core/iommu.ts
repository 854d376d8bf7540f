// The core with loops around it: a call per operation would measure the boundary. Compiled by bench/core_build.ts with the core's own flags.
import { PTE_FRAME } from '../../assembly/abi';
import { leaf_pte, low_leaf, low_node, low_root, PIN_NEW, PTE_PIN, pin_mode, pte_pinnable, pte_unpinnable } from '../../assembly/iommu/direct';
import { iommu_map, iommu_unmap } from '../../assembly/iommu/dma';
import { page_lookup } from '../../assembly/iommu/entry';
import { pin_page_run, pins_count, unpin_page_run } from '../../assembly/iommu/pfn';
import { ranges_find } from '../../assembly/iommu/ranges';
import { MAPS } from '../../assembly/iommu/record';
import { page_lookup_many } from '../../assembly/iommu/translate';

export * from '../../assembly/index';

/** Maps a page at each of n iovas (u64) onto the same vaddr. */
export function bench_map(iommu: usize, mm: usize, iovas: usize, n: u32, vaddr: u64): i32 {
  for (let i: u32 = 0; i < n; ++i) {
    const iova = load<u64>(iovas + (<usize>i << 3));
    const result = iommu_map(iommu, mm, iova, iova + 4095, vaddr, 3, 0);
    if (result != 0) return result;
  }
  return 0;
}

/** Unmaps each of n pages. */
export function bench_unmap(iommu: usize, iovas: usize, n: u32): i32 {
  for (let i: u32 = 0; i < n; ++i) {
    const iova = load<u64>(iovas + (<usize>i << 3));
    const result = iommu_unmap(iommu, iova, iova + 4095, 0);
    if (result != 0) return result;
  }
  return 0;
}

/** Finds the map of n iovas, one after the other. */
export function bench_find(iommu: usize, iovas: usize, n: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < n; ++i) sum += <u32>ranges_find(iommu + MAPS, load<u64>(iovas + (<usize>i << 3)));
  return sum;
}

/** Translates n iovas, one after the other. */
export function bench_translate(iommu: usize, iovas: usize, n: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i < n; ++i) sum += load<u32>(page_lookup(iommu, load<u64>(iovas + (<usize>i << 3))), 8);
  return sum;
}

/** Translates n iovas in one call. */
export function bench_translate_many(iommu: usize, iovas: usize, n: u32, out: usize): u32 {
  page_lookup_many(iommu, iovas, n, out);
  return load<u32>(out);
}

/** Pins and unpins `runs` times `npage` pages in a row. */
export function bench_pin_run(iommu: usize, iova: u64, npage: u32, runs: u32): i32 {
  for (let i: u32 = 0; i < runs; ++i) {
    if (pin_page_run(iommu, iova, npage, 3, 0) < 0) return -1;
    unpin_page_run(iommu, iova, npage);
  }
  return 0;
}

/**
 * Pins n pages anywhere, then unpins them, as a translator does: pins as counts, each entry noted in `out` (n x u32) for the way back, the sums
 * once.
 */
export function bench_pin_random(iommu: usize, iovas: usize, n: u32, out: usize): i32 {
  const mode = pin_mode(iommu);
  const root = low_root(iommu);
  if (mode != PIN_NEW || root == 0) return -1;
  let newly: u32 = 0;
  for (let i: u32 = 0; i < n; ++i) {
    const page = <u32>(load<u64>(iovas + (<usize>i << 3)) >> 12);
    const node = low_node(root, page);
    if (node == 0) return -1;
    const leaf = low_leaf(node, page);
    if (leaf == 0) return -1;
    const e = leaf_pte(leaf, page);
    const pte = load<u64>(e, PTE_FRAME);
    if (!pte_pinnable(pte, mode)) return -1;
    newly += u32(pte < PTE_PIN);
    store<u64>(e, pte + PTE_PIN, PTE_FRAME);
    store<u32>(out + (<usize>i << 2), <u32>e);
  }
  pins_count(iommu, n, newly);
  let gone: u32 = 0;
  for (let i: u32 = 0; i < n; ++i) {
    const e = <usize>load<u32>(out + (<usize>i << 2));
    const pte = load<u64>(e, PTE_FRAME);
    if (!pte_unpinnable(pte, PTE_PIN)) return -1;
    gone += u32(pte - PTE_PIN < PTE_PIN);
    store<u64>(e, pte - PTE_PIN, PTE_FRAME);
  }
  pins_count(iommu, -(<i32>n), -(<i32>gone));
  return 0;
}
