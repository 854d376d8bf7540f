// What the user maps: ranges of iova onto ranges of a task's virtual addresses. Mapping pins nothing by itself; a terabyte is one entry. Kernel
// counterpart: vfio_dma_do_map / vfio_dma_do_unmap (spec iommu-type1 sections 4 and 5). The host checks arguments, this file the table.
import { add_u32 } from '../mem';
import {
  EEXIST, EINVAL, ENOMEM, ENOSPC, IOMMU_AVAIL, IOMMU_DIRTY_ON, IOMMU_DOMAINS, IOMMU_INVALID, IOMMU_NOTIFY_IOVA, IOMMU_NOTIFY_LAST, IOMMU_PINNED_PAGES,
  IOMMU_UNMAPPED, MAP_VADDR_INVALID, MM_LIMIT, UNMAP_AGAIN, UNMAP_ALL, UNMAP_NOTIFY, UNMAP_V1,
} from '../abi';
import { dirty_clear, dirty_fits } from './dirty';
import { map_mm } from './entry';
import { entries_count, entries_drop } from './leaf';
import { mm_get, mm_put } from './mm';
import { unpin_force } from './pfn';
import { COUNT, key_at, last_at, LEN, NEXT, ranges_find, ranges_find_many, ranges_from, slot_key, slot_last, slot_meta } from './ranges';
import { OVERLAP, ranges_insert, ranges_remove } from './ranges_edit';
import { ARENA, MAPS, MIXED, MM } from './record';
import { runs_map, runs_unmap } from './runs';

/** Would a map of [iova, last] be taken? @returns 0; -EEXIST a map is there; -ENOSPC no map is left. */
export function iommu_map_check(iommu: usize, iova: u64, last: u64): i32 {
  const there = ranges_from(iommu + MAPS, iova);
  if (there != 0 && slot_key(there) <= last) return -EEXIST;
  return load<u32>(iommu, IOMMU_AVAIL) == 0 ? -ENOSPC : 0;
}

/**
 * Maps [iova, last] onto `vaddr` of a task. With a translation domain its pages are pinned now, otherwise nothing behind it is looked at.
 * @param iova page aligned; `last` inclusive. @param mm the task's address space. @param meta PROT_* and MAP_LOCK_CAP.
 * @param end first iova that the hardware cannot translate; 0: none.
 * @returns 0. -EEXIST a map is there. -ENOSPC no map is left. -ENOMEM heap or RLIMIT_MEMLOCK. -EFAULT, -ERANGE as runs_map. -EINVAL
 * dirty tracking runs and the map has more than 2^31 - 1 pages. Nothing is mapped after a failure.
 */
export function iommu_map(iommu: usize, mm: usize, iova: u64, last: u64, vaddr: u64, meta: u32, end: u64): i32 {
  if (load<u32>(iommu, IOMMU_AVAIL) == 0) return iommu_map_check(iommu, iova, last);
  const maps = iommu + MAPS;
  const map = ranges_insert(maps, <usize>load<u32>(iommu, ARENA), iova, last, vaddr, <u32>mm | meta);
  if (map == OVERLAP) return -EEXIST;
  if (map == 0) return -ENOMEM;
  let failed: i32 = 0;
  if (load<u32>(iommu, IOMMU_DOMAINS) != 0) failed = runs_map(iommu, iova, last, vaddr, <u32>mm | meta, end, load<u32>(mm, MM_LIMIT));
  if (failed == 0 && load<u32>(iommu, IOMMU_DIRTY_ON) != 0 && !dirty_fits(iova, last)) {
    runs_unmap(iommu, iova, last, mm);
    failed = -EINVAL;
  }
  if (failed != 0) {
    ranges_remove(maps, <usize>load<u32>(iommu, ARENA), map, 1);
    return failed;
  }
  add_u32(iommu + IOMMU_AVAIL, -1);
  mm_get(mm);
  if (load<u32>(iommu, MM) == 0) store<u32>(iommu, <u32>mm, MM);
  else if (load<u32>(iommu, MM) != <u32>mm) store<u32>(iommu, 1, MIXED);
  return 0;
}

/** Does a map begin before `at` and reach it? */
function bisects(iommu: usize, at: u64): bool {
  const map = ranges_find(iommu + MAPS, at);
  return map != 0 && slot_key(map) != at;
}

/** Would [iova, last] cut a map at either end? */
export function iommu_bisects(iommu: usize, iova: u64, last: u64): bool {
  return bisects(iommu, iova) || (last != 0xffffffffffffffff && bisects(iommu, last + 1));
}

/**
 * Removes the maps in [iova, last]. @param mode UNMAP_V1: a map that begins before iova ends the call, one that begins inside goes as a whole;
 * otherwise a cut map refuses the call. UNMAP_ALL: no such check. UNMAP_AGAIN: this repeats the call after UNMAP_NOTIFY.
 * @returns 0; UNMAP_NOTIFY: the map [IOMMU_NOTIFY_IOVA, IOMMU_NOTIFY_LAST] holds pins; -EINVAL a map would be cut. IOMMU_UNMAPPED counts the
 * bytes removed since the first call (2^64 reads as 0).
 */
export function iommu_unmap(iommu: usize, iova: u64, last: u64, mode: u32): i32 {
  if ((mode & UNMAP_AGAIN) == 0) store<u64>(iommu, 0, IOMMU_UNMAPPED);
  const maps = iommu + MAPS;
  const arena = <usize>load<u32>(iommu, ARENA);
  let first = ranges_from(maps, iova);
  if ((mode & (UNMAP_V1 | UNMAP_ALL)) == 0 && first != 0) {
    // A request that is exactly one map, the common one, needs no second search.
    if (slot_key(first) < iova) return -EINVAL;
    if (slot_last(first) != last && last != 0xffffffffffffffff && bisects(iommu, last + 1)) return -EINVAL;
  }
  // Nothing pinned, one task, every vaddr valid: then the maps of a leaf go without a look at each.
  const plain =
    (load<u32>(iommu, IOMMU_PINNED_PAGES) | load<u32>(iommu, IOMMU_DOMAINS) | load<u32>(iommu, IOMMU_INVALID) | load<u32>(iommu, MIXED)) == 0;
  let pinned = false;
  while (!pinned) {
    if (first == 0 || slot_key(first) > last || ((mode & UNMAP_V1) != 0 && slot_key(first) < iova)) return 0;
    // As many as possible out of one leaf at a time.
    const room = load<u32>(first & ~15, LEN) - (<u32>first & 15);
    let n: u32 = 0;
    let bytes: u64 = 0;
    while (n < room) {
      const map = first + n;
      const key = key_at(map);
      if (key > last) break;
      const end = last_at(map);
      if (!plain) {
        if (iommu_pinned(iommu, key, end)) {
          store<u64>(iommu, key, IOMMU_NOTIFY_IOVA);
          store<u64>(iommu, end, IOMMU_NOTIFY_LAST);
          pinned = true;
          break;
        }
        const meta = slot_meta(map);
        if (meta & MAP_VADDR_INVALID) add_u32(iommu + IOMMU_INVALID, -1);
        if (load<u32>(iommu, IOMMU_DOMAINS) != 0) runs_unmap(iommu, key, end, map_mm(meta));
        mm_put(map_mm(meta), 1);
      }
      bytes += end - key + 1;
      n++;
    }
    if (n != 0) {
      if (plain) mm_put(<usize>load<u32>(iommu, MM), n);
      const from = slot_key(first) >> 12;
      const to = slot_last(first + n - 1) >> 12;
      const leaf = first & ~15;
      // A leaf that goes as a whole leaves the one behind it as it is.
      const behind = first == leaf && n == room ? <usize>load<u32>(leaf, NEXT) : 0;
      ranges_remove(maps, arena, first, n);
      first = behind;
      entries_drop(iommu, from, to);
      dirty_clear(iommu, from, to);
      store<u64>(iommu, load<u64>(iommu, IOMMU_UNMAPPED) + bytes, IOMMU_UNMAPPED);
      add_u32(iommu + IOMMU_AVAIL, n);
      if (load<u32>(maps, COUNT) == 0) store<u64>(iommu, 0, MM);
      if (to << 12 == last - 4095) return 0;
    }
    if (first == 0) first = ranges_from(maps, iova);
  }
  return UNMAP_NOTIFY;
}

/**
 * The first map that holds `iova` or lies behind it. @returns 1: it is [IOMMU_NOTIFY_IOVA, IOMMU_NOTIFY_LAST]; 0: there is none.
 */
export function iommu_next_map(iommu: usize, iova: u64): u32 {
  const map = ranges_from(iommu + MAPS, iova);
  if (map == 0) return 0;
  store<u64>(iommu, slot_key(map), IOMMU_NOTIFY_IOVA);
  store<u64>(iommu, slot_last(map), IOMMU_NOTIFY_LAST);
  return 1;
}

/**
 * What the user permitted at each of `n` iovas (u64 each). @param out n x u32: the meta word of the map that holds it, PROT_* in its low two
 * bits; 0: there is no map. Nothing is pinned or looked at behind the maps.
 */
export function iommu_prot_many(iommu: usize, iovas: usize, n: u32, out: usize): void {
  ranges_find_many(iommu + MAPS, iovas, n, out);
}

/** Does a page in [iova, last] hold a pin? */
export function iommu_pinned(iommu: usize, iova: u64, last: u64): bool {
  return entries_count(iommu, iova >> 12, last >> 12, 1) != 0;
}

/** Takes every pin in [iova, last]: drivers were asked and did not let go. */
export function iommu_unpin_all(iommu: usize, iova: u64, last: u64): void {
  unpin_force(iommu, iova >> 12, last >> 12);
}
