// Makes and destroys the iommu object (record.ts draws it), attaches it to a translation domain, and answers what the host asks about it.
import { arena_free, arena_zalloc } from '../arena';
import { ERANGE, IOMMU_AVAIL, IOMMU_DOMAINS, IOMMU_FLAVOUR, UNMAP_ALL } from '../abi';
import { iommu_dirty_stop } from './dirty';
import { iommu_unmap } from './dma';
import { map_mm } from './entry';
import { inject_clear } from './inject';
import { PAGES_IOMMUS } from './pages';
import { unpin_force } from './pfn';
import { radix_destroy } from './radix';
import { ranges_from, ranges_next, slot_key, slot_last, slot_meta, slot_value } from './ranges';
import { ranges_destroy } from './ranges_edit';
import { ARENA, ENTRIES, IOMMU_SIZE, MAPS, NEXT_IOMMU, NO_INDEX, PAGES, RUNS } from './record';
import { runs_map, runs_unmap } from './runs';

/** @param flavour FLAVOUR_*. @returns an iommu without maps, or 0: the heap is full. */
export function iommu_create(arena: usize, pages: usize, flavour: u32): usize {
  const iommu = arena_zalloc(arena, IOMMU_SIZE);
  if (iommu == 0) return 0;
  store<u32>(iommu, <u32>arena, ARENA);
  store<u32>(iommu, <u32>pages, PAGES);
  store<u32>(iommu, flavour, IOMMU_FLAVOUR);
  store<u32>(iommu, 65535, IOMMU_AVAIL);
  store<u32>(iommu, load<u32>(pages, PAGES_IOMMUS), NEXT_IOMMU);
  store<u32>(pages, <u32>iommu, PAGES_IOMMUS);
  return iommu;
}

/** Removes every map, whatever is pinned, and frees the object. */
export function iommu_destroy(iommu: usize): void {
  const arena = <usize>load<u32>(iommu, ARENA);
  unpin_force(iommu, 0, NO_INDEX >> 12);
  iommu_unmap(iommu, 0, NO_INDEX, UNMAP_ALL);
  iommu_dirty_stop(iommu);
  inject_clear(iommu);
  radix_destroy(iommu + ENTRIES, arena);
  ranges_destroy(iommu + MAPS, arena);
  ranges_destroy(iommu + RUNS, arena);
  let link = <usize>load<u32>(iommu, PAGES) + PAGES_IOMMUS;
  while (load<u32>(link) != <u32>iommu) link = <usize>load<u32>(link) + NEXT_IOMMU;
  store<u32>(link, load<u32>(iommu, NEXT_IOMMU));
  arena_free(arena, iommu, IOMMU_SIZE);
}

/**
 * One translation domain more. The first one pins every map.
 * @param end first iova that the unit cannot translate; 0: none. @param limit the caller's RLIMIT_MEMLOCK in pages. @returns 0 or runs_map's errno, then nothing is pinned and no domain added.
 */
export function iommu_attach_domain(iommu: usize, end: u64, limit: u32): i32 {
  const domains = load<u32>(iommu, IOMMU_DOMAINS);
  for (let map = ranges_from(iommu + MAPS, 0); map != 0; map = ranges_next(map)) {
    let failed: i32 = 0;
    if (domains == 0) failed = runs_map(iommu, slot_key(map), slot_last(map), slot_value(map), slot_meta(map), end, limit);
    else if (end != 0 && slot_last(map) >= end) return -ERANGE;
    if (failed != 0) {
      drop_runs(iommu, slot_key(map));
      return failed;
    }
  }
  store<u32>(iommu, domains + 1, IOMMU_DOMAINS);
  return 0;
}

/** One domain less. With the last one the pages are unpinned that no driver pins. */
export function iommu_detach_domain(iommu: usize): void {
  const domains = load<u32>(iommu, IOMMU_DOMAINS) - 1;
  store<u32>(iommu, domains, IOMMU_DOMAINS);
  if (domains == 0) drop_runs(iommu, NO_INDEX);
}

/** Unpins the runs of the maps before `end`. */
function drop_runs(iommu: usize, end: u64): void {
  for (let map = ranges_from(iommu + MAPS, 0); map != 0 && slot_key(map) < end; map = ranges_next(map))
    runs_unmap(iommu, slot_key(map), slot_last(map), map_mm(slot_meta(map)));
}
