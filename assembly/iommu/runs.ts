// What a hardware IOMMU was given: runs of pages, pinned for as long as their map lasts. A terabyte in one piece is one run. Kernel
// counterpart: vfio_pin_map_dma / vfio_unmap_unpin (spec iommu-type1 sections 1.1 and 4).
import { EFAULT, ENOMEM, ERANGE, IOMMU_NOTIFY_IOVA, IOMMU_NOTIFY_LAST, IOMMU_PIN_NTH, MAP_LOCK_CAP, PROT_READ, PROT_WRITE, VMA_IO, VMA_RAM, VMA_UNBACKED } from '../abi';
import { map_mm } from './entry';
import { entries_count } from './leaf';
import { mm_find, mm_lock, mm_within } from './mm';
import { pages_get, pages_put } from './pages';
import { ranges_find, ranges_from, slot_key, slot_last, slot_meta, slot_value } from './ranges';
import { ranges_insert, ranges_remove } from './ranges_edit';
import { ARENA, PAGES, RUNS } from './record';

/**
 * Pins the pages of one map and notes them as runs. Pages that drivers pinned already are charged already.
 * @param end first iova that the unit cannot translate; 0: none. @param limit pages the task may have locked (the caller's RLIMIT_MEMLOCK).
 * @returns 0; -EFAULT nothing behind the address, or not with the map's permission; -ENOMEM RLIMIT_MEMLOCK or the heap; -ERANGE at or above
 * `end`. Nothing is pinned after a failure.
 */
export function runs_map(iommu: usize, key: u64, last: u64, vaddr: u64, meta: u32, end: u64, limit: u32): i32 {
  const mm = map_mm(meta);
  const arena = <usize>load<u32>(iommu, ARENA);
  const prot = meta & (PROT_READ | PROT_WRITE);
  const wanted = meta & PROT_WRITE ? PROT_WRITE : PROT_READ;
  let iova = key;
  let failed: i32 = 0;
  for (;;) {
    const at = vaddr + (iova - key);
    const vma = mm_find(mm, at);
    if (vma == 0 || (slot_meta(vma) & wanted) == 0 || (slot_meta(vma) & VMA_UNBACKED) != 0) {
      failed = -EFAULT;
      break;
    }
    const stop = min(last - iova, slot_last(vma) - at) + iova;
    const value = slot_value(vma) + (at - slot_key(vma));
    const kind = slot_meta(vma) & (VMA_RAM | VMA_IO);
    const npage = ((stop - iova) >> 12) + 1;
    let newly: u32 = 0;
    if (kind == VMA_RAM) {
      const nth = load<u32>(iommu, IOMMU_PIN_NTH);
      if (nth != 0) {
        store<u32>(iommu, nth > npage ? nth - <u32>npage : 0, IOMMU_PIN_NTH);
        if (nth <= npage) failed = -ENOMEM;
      }
      newly = <u32>npage - entries_count(iommu, iova >> 12, stop >> 12, <u32>npage);
      if (newly != 0 && (meta & MAP_LOCK_CAP) == 0 && !mm_within(mm, newly, limit)) failed = -ENOMEM;
      if (failed != 0) break;
    }
    if (end != 0 && stop >= end) {
      failed = -ERANGE;
      break;
    }
    if (ranges_insert(iommu + RUNS, arena, iova, stop, value, prot | kind) == 0) {
      failed = -ENOMEM;
      break;
    }
    if (kind == VMA_RAM) {
      pages_get(<usize>load<u32>(iommu, PAGES), <usize>value, <u32>npage);
      mm_lock(mm, <i32>newly);
    }
    if (stop == last) return 0;
    iova = stop + 1;
  }
  runs_unmap(iommu, key, last, mm);
  return failed;
}

/**
 * What the hardware finds at `iova`. @returns the run's VMA_* kind and PROT_* bits, with IOMMU_NOTIFY_IOVA the linear address or region token +
 * offset behind `iova`, IOMMU_NOTIFY_LAST the last iova of the run; 0: a translation fault.
 */
export function iommu_run(iommu: usize, iova: u64): u32 {
  const run = ranges_find(iommu + RUNS, iova);
  if (run == 0) return 0;
  store<u64>(iommu, slot_value(run) + (iova - slot_key(run)), IOMMU_NOTIFY_IOVA);
  store<u64>(iommu, slot_last(run), IOMMU_NOTIFY_LAST);
  return slot_meta(run);
}

/** Takes the runs of one map back and unpins their pages; pages that drivers still pin stay charged. */
export function runs_unmap(iommu: usize, key: u64, last: u64, mm: usize): void {
  const runs = iommu + RUNS;
  for (;;) {
    const run = ranges_from(runs, key);
    if (run == 0 || slot_key(run) > last) return;
    const first = slot_key(run) >> 12;
    const final_page = slot_last(run) >> 12;
    if (slot_meta(run) & VMA_RAM) {
      const npage = <u32>(final_page - first) + 1;
      pages_put(<usize>load<u32>(iommu, PAGES), <usize>slot_value(run), npage);
      mm_lock(mm, <i32>entries_count(iommu, first, final_page, npage) - <i32>npage);
    }
    ranges_remove(runs, <usize>load<u32>(iommu, ARENA), run, 1);
  }
}
