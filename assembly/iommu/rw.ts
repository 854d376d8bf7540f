// Reads and writes of the CPU through the mappings, without pinning. Kernel counterpart: vfio_iommu_type1_dma_rw (spec iommu-type1
// section 7).
import { EFAULT, EPERM, IOMMU_READ_NTH, IOMMU_RW_ERRNO, PROT_READ, PROT_WRITE, PTE_FRAME, VMA_RAM } from '../abi';
import { iommu_dirty_mark } from './dirty';
import { entries_fill, map_mm, page_lookup, unmapped_errno } from './entry';
import { injected, READ_ERRNO } from './inject';
import { mm_dead, mm_find } from './mm';
import { ranges_find, slot_key, slot_last, slot_meta, slot_value } from './ranges';
import { INJECT, MAPS } from './record';

/** Linear address of `size` readable bytes at `iova` that lie in one page which translates, or 0: only iommu_read can tell. */
// @ts-expect-error: decorator
@inline
export function iommu_window(iommu: usize, iova: u64, size: u32): usize {
  if (size > 4096 - (<u32>iova & 4095) || (load<u32>(iommu, IOMMU_RW_ERRNO) | load<u32>(iommu, IOMMU_READ_NTH)) != 0) return 0;
  const e = page_lookup(iommu, iova);
  if (e == 0) return 0;
  const frame = load<u32>(e, PTE_FRAME);
  return frame & PROT_READ ? <usize>((frame & ~4095) | (<u32>iova & 4095)) : 0;
}

/**
 * Copies `size` bytes from iova space to `dst`. The range may span maps; the first page that fails decides.
 * @returns 0; the refusal in IOMMU_RW_ERRNO (-EBUSY a vaddr is invalid); -EINVAL (type1) / -ENOENT (IOAS) no map, or the range wraps; -EPERM the
 * map lacks READ, or its task is gone; -EFAULT no readable RAM there; an injected errno. `dst` is undefined after a failure.
 */
export function iommu_read(iommu: usize, iova: u64, dst: usize, size: u32): i32 {
  const from = iommu_window(iommu, iova, size);
  if (from != 0) {
    memory.copy(dst, from, size);
    return 0;
  }
  return rw(iommu, iova, dst, size, false);
}

/**
 * Copies `size` bytes from `src` into iova space and marks the pages dirty. What lies in one map is written whole or not at all; maps before
 * a failing one stay written. @returns as iommu_read, with -EPERM also for a map without WRITE.
 */
export function iommu_write(iommu: usize, iova: u64, src: usize, size: u32): i32 {
  return rw(iommu, iova, src, size, true);
}

function rw(iommu: usize, iova: u64, buffer: usize, size: u32, write: bool): i32 {
  const refused = load<u32>(iommu, IOMMU_RW_ERRNO);
  if (refused != 0) return -(<i32>refused);
  while (size != 0) {
    const nth = load<u32>(iommu, IOMMU_READ_NTH);
    if (nth != 0) {
      store<u32>(iommu, nth - 1, IOMMU_READ_NTH);
      if (nth == 1) return -EFAULT;
    }
    const map = ranges_find(iommu + MAPS, iova);
    if (map == 0) return -unmapped_errno(iommu);
    const prot = slot_meta(map);
    if ((prot & PROT_READ) == 0 || (write && (prot & PROT_WRITE) == 0) || mm_dead(map_mm(prot))) return -EPERM;
    const last = slot_last(map);
    const n = <u32>min<u64>(size - 1, last - iova) + 1;
    // A write is checked to its end before its first byte; one page needs no second look.
    if (write && (<u32>iova & 4095) + <u64>n > 4096) {
      const failed = copy(iommu, iova, buffer, n, write, false);
      if (failed != 0) return failed;
    }
    const failed = copy(iommu, iova, buffer, n, write, true);
    if (failed != 0) return failed;
    if (write) iommu_dirty_mark(iommu, iova, n);
    size -= n;
    buffer += n;
    iova += n;
    if (iova == 0 && size != 0) return -unmapped_errno(iommu);
  }
  return 0;
}

/** A piece inside one map, page by page; `really` false only checks. */
function copy(iommu: usize, iova: u64, buffer: usize, size: u32, write: bool, really: bool): i32 {
  while (size != 0) {
    const n = min<u32>(size, 4096 - (<u32>iova & 4095));
    const linear = resolve(iommu, iova, write);
    if (linear > <usize>-4096) return <i32>linear;
    if (really) {
      if (write) memory.copy(linear, buffer, n);
      else memory.copy(buffer, linear, n);
    }
    size -= n;
    buffer += n;
    iova += n;
  }
  return 0;
}

/** The linear address behind a mapped iova, or -errno (the last 4096 linear addresses are never user pages). */
// @ts-expect-error: decorator
@inline
function resolve(iommu: usize, iova: u64, write: bool): usize {
  let e = page_lookup(iommu, iova);
  if (e == 0) {
    const fault = load<u32>(iommu, INJECT) != 0 ? injected(iommu, iova >> 12) : 0;
    if (fault == 0) {
      if (entries_fill(iommu, iova >> 12, 1) == 0) e = page_lookup(iommu, iova);
    } else if (load<u32>(fault, READ_ERRNO) != 0) return -(<usize>load<u32>(fault, READ_ERRNO));
  }
  if (e != 0) return ((<usize>load<u32>(e, PTE_FRAME)) & ~4095) | (<usize>iova & 4095);
  // No entry may be made (a page with injected errors, a range readable only, a full heap): look behind it each time.
  const map = ranges_find(iommu + MAPS, iova);
  const vaddr = slot_value(map) + (iova - slot_key(map));
  const vma = mm_find(map_mm(slot_meta(map)), vaddr);
  const wanted = (write ? PROT_WRITE : PROT_READ) | VMA_RAM;
  if (vma == 0 || (slot_meta(vma) & wanted) != wanted) return -EFAULT;
  return <usize>slot_value(vma) + <usize>(vaddr - slot_key(vma));
}
