// A caller's own address space as the iova space of its 2016 requests: every user virtual address maps to itself, so that the core pins the caller's
// pages with the same counts and the same errnos as any other program. Nothing is pinned by making it.
import { ENOMEM, FLAVOUR_TYPE1, MAP_LOCK_CAP, PROT_READ, PROT_WRITE } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import type { AddressSpace } from '../vfio/mm.ts';

/** Addresses that no process has are unbacked (EFAULT), not unmapped (EINVAL). */
const LAST = 0xffffffffffffffffn;

/** @returns the core's iommu object, or -ENOMEM. Whoever makes it destroys it with `iommu_destroy`, which also ends its pins. */
export function userSpaceOf(core: Core, mm: AddressSpace): number {
  const { exports } = core;
  const iommu = exports.iommu_create(core.arena, core.pages, FLAVOUR_TYPE1) >>> 0;
  if (iommu === 0) return -ENOMEM;
  const meta = PROT_READ | PROT_WRITE | MAP_LOCK_CAP;
  const mapped = exports.iommu_map(iommu, mm.record, 0n, LAST, 0n, meta, 0n);
  if (mapped < 0) {
    exports.iommu_destroy(iommu);
    return mapped;
  }
  return iommu;
}
