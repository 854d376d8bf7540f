// The binary interface at a glance: every export, grouped by the object it works on. Numbers only cross this line.
// Result >= 0 is success or a count, < 0 is -errno. `*_create` answers 0 when the heap is full.

import { CORE_ABI } from './abi';

/** @returns the version of this interface (abi.ts, CORE_ABI). */
export function core_abi(): i32 {
  return CORE_ABI;
}

// arena: the heap of records
export { arena_alloc, arena_create, arena_free } from './arena';

// iommu: what the user maps, what it pins, what became dirty
export {
  iommu_dirty_bits,
  iommu_dirty_clear,
  iommu_dirty_fill,
  iommu_dirty_mark,
  iommu_dirty_ranges,
  iommu_dirty_start,
  iommu_dirty_stop,
} from './iommu/dirty';
export { iommu_bisects, iommu_map, iommu_map_check, iommu_next_map, iommu_pinned, iommu_prot_many, iommu_unmap, iommu_unpin_all } from './iommu/dma';
export { iommu_inject } from './iommu/inject';
export { iommu_attach_domain, iommu_create, iommu_destroy, iommu_detach_domain } from './iommu/iommu';

// mm: a task's address space
export { mm_create, mm_destroy, mm_map, mm_unmap } from './iommu/mm';

// pages of the user windows
export { pages_alloc, pages_claim, pages_create, pages_put } from './iommu/pages';

// page entries and pins; the core's own users take iommu/direct.ts
export { page_lookup } from './iommu/entry';
export { pin_page_run, unpin_page_run } from './iommu/pfn';
export { iommu_run } from './iommu/runs';
export { iommu_read, iommu_write } from './iommu/rw';
export { page_lookup_many } from './iommu/translate';
export { iommu_vaddr_invalidate, iommu_vaddr_update } from './iommu/vaddr';

// zpci: stores and loads as instructions
export { zpci_block_check, zpci_plan, zpci_store } from './zpci/store';

// crc32c: check sums of migration frames
export { crc32c, crc32c_create, crc32c_destroy } from './crc32c';

// mem: pages that need not travel
export { is_zero } from './mem';

// cp: channel programs
export {
  cp_create,
  cp_destroy,
  cp_free,
  cp_get_orb,
  cp_init,
  cp_iova_pinned,
  cp_page_pinned,
  cp_prefetch,
  cp_update_scsw,
} from './ccw/cp';
export { cp_init_flat } from './ccw/flat';
