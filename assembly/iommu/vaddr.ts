// Giving maps a new vaddr while hardware goes on using their pages: UNMAP with VADDR invalidates, MAP with VADDR gives the new address. Source:
// spec iommu-type1 section 5.4.
import { add_u32 } from '../mem';
import {
  EINVAL, ENOENT, ENOMEM, IOMMU_DOMAINS, IOMMU_INVALID, IOMMU_UNMAPPED, MAP_LOCK_CAP, MAP_VADDR_INVALID, PROT_READ, PROT_WRITE, UNMAP_ALL,
  UNMAP_V1, VMA_RAM,
} from '../abi';
import { iommu_bisects } from './dma';
import { map_mm } from './entry';
import { entries_count, entries_drop, entries_revoke } from './leaf';
import { mm_get, mm_lock, mm_may_lock, mm_put } from './mm';
import {
  COUNT, ranges_from, ranges_next, slot_key, slot_last, slot_meta, slot_set_meta, slot_set_value,
} from './ranges';
import { MAPS, MIXED, MM, RUNS } from './record';

/**
 * Marks the vaddr of every map in [iova, last] invalid. @param mode UNMAP_V1, UNMAP_ALL as in iommu_unmap.
 * @returns 0 with IOMMU_UNMAPPED the bytes concerned; -EINVAL a map would be cut, or one is invalid already: nothing changed.
 */
export function iommu_vaddr_invalidate(iommu: usize, iova: u64, last: u64, mode: u32): i32 {
  const maps = iommu + MAPS;
  store<u64>(iommu, 0, IOMMU_UNMAPPED);
  if ((mode & (UNMAP_V1 | UNMAP_ALL)) == 0 && iommu_bisects(iommu, iova, last)) return -EINVAL;
  const first = ranges_from(maps, iova);
  if (first == 0 || ((mode & UNMAP_V1) != 0 && slot_key(first) < iova)) return 0;
  let bytes: u64 = 0;
  let count: u32 = 0;
  for (let map = first; map != 0 && slot_key(map) <= last; map = ranges_next(map)) {
    if (slot_meta(map) & MAP_VADDR_INVALID) return -EINVAL;
    bytes += slot_last(map) - slot_key(map) + 1;
    count++;
  }
  for (let map = first; map != 0 && slot_key(map) <= last; map = ranges_next(map)) {
    slot_set_meta(map, slot_meta(map) | MAP_VADDR_INVALID);
    entries_revoke(iommu, slot_key(map) >> 12, slot_last(map) >> 12);
  }
  store<u64>(iommu, bytes, IOMMU_UNMAPPED);
  add_u32(iommu + IOMMU_INVALID, count);
  return 0;
}

/**
 * Gives the map that is exactly [iova, last] a new address in `mm`; what it has locked is charged there from now on.
 * @param meta 0, or MAP_LOCK_CAP: the limit does not apply. It counts when the map changes hands; otherwise what it was made with stays.
 * @returns 0; -ENOENT no map touches the range; -EINVAL its vaddr is valid, or it is another range; -ENOMEM over the limit.
 */
export function iommu_vaddr_update(iommu: usize, mm: usize, iova: u64, last: u64, vaddr: u64, meta: u32): i32 {
  const maps = iommu + MAPS;
  const map = ranges_from(maps, iova);
  if (map == 0 || slot_key(map) > last) return -ENOENT;
  const old = slot_meta(map);
  if ((old & MAP_VADDR_INVALID) == 0 || slot_key(map) != iova || slot_last(map) != last) return -EINVAL;
  const before = map_mm(old);
  if (before != mm) {
    const npage = map_locked(iommu, iova, last);
    if ((meta & MAP_LOCK_CAP) == 0 && !mm_may_lock(mm, npage)) return -ENOMEM;
    mm_lock(before, -(<i32>npage));
    mm_lock(mm, <i32>npage);
    mm_put(before, 1);
    mm_get(mm);
    if (load<u32>(maps, COUNT) == 1) store<u32>(iommu, <u32>mm, MM);
    else store<u32>(iommu, 1, MIXED);
  } else meta = old;
  slot_set_value(map, vaddr);
  slot_set_meta(map, <u32>mm | (meta & MAP_LOCK_CAP) | (old & (PROT_READ | PROT_WRITE)));
  add_u32(iommu + IOMMU_INVALID, -1);
  entries_drop(iommu, iova >> 12, last >> 12);
  return 0;
}

/** Pages that the map [iova, last] has locked. */
function map_locked(iommu: usize, iova: u64, last: u64): u32 {
  if (load<u32>(iommu, IOMMU_DOMAINS) == 0) return entries_count(iommu, iova >> 12, last >> 12, 0x7fffffff);
  let npage: u32 = 0;
  for (let run = ranges_from(iommu + RUNS, iova); run != 0 && slot_key(run) <= last; run = ranges_next(run))
    if (slot_meta(run) & VMA_RAM) npage += <u32>((slot_last(run) - slot_key(run)) >> 12) + 1;
  return npage;
}
