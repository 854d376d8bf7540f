// Errors injected into single pages, for tests: reading a page, or pinning it, fails as if its storage did. Such pages never have a valid
// entry, so only the slow paths look here.
//
// Record (24 bytes):
//   offset size field
//        0    4 next
//        4    4 read_errno  reading any byte of the page fails with it; 0: works
//        8    4 pin_errno   pinning the page fails with it; 0: works; PIN_SHORT: the request ends before this page
//       16    8 page        iova >> 12
import { arena_alloc, arena_free } from '../arena';
import { ENOMEM, PTE_FRAME, PTE_PINS, PTE_VALID } from '../abi';
import { entry_clear } from './leaf';
import { radix_get } from './radix';
import { ARENA, ENTRIES, INJECT, LEAF_SHIFT } from './record';

const SIZE = 24;
const NEXT = 0;
export const READ_ERRNO = 4;
export const PIN_ERRNO = 8;
const PAGE = 16;

/** The record of this page, or 0. */
export function injected(iommu: usize, page: u64): usize {
  let p = <usize>load<u32>(iommu, INJECT);
  while (p != 0 && load<u64>(p, PAGE) != page) p = <usize>load<u32>(p, NEXT);
  return p;
}

/**
 * Injects errors into the page that holds `iova`, or takes them back (both 0).
 * @param read_errno positive errno or 0. @param pin_errno positive errno, PIN_SHORT, or 0. @returns 0; -ENOMEM.
 */
export function iommu_inject(iommu: usize, iova: u64, read_errno: u32, pin_errno: u32): i32 {
  const page = iova >> 12;
  const arena = <usize>load<u32>(iommu, ARENA);
  let slot = iommu + INJECT;
  while (load<u32>(slot) != 0 && load<u64>(<usize>load<u32>(slot), PAGE) != page) slot = <usize>load<u32>(slot);
  let p = <usize>load<u32>(slot);
  if ((read_errno | pin_errno) == 0) {
    if (p != 0) {
      store<u32>(slot, load<u32>(p));
      arena_free(arena, p, SIZE);
    }
    return 0;
  }
  if (p == 0) {
    p = arena_alloc(arena, SIZE);
    if (p == 0) return -ENOMEM;
    store<u32>(p, 0, NEXT);
    store<u64>(p, page, PAGE);
    store<u32>(slot, <u32>p);
  }
  // Only the slow paths look here: the page's entry must not translate.
  const leaf = radix_get(iommu + ENTRIES, page >> LEAF_SHIFT);
  if (leaf != 0) {
    const e = leaf + ((<usize>page & 63) << 4);
    if (load<u32>(e, PTE_PINS) == 0) entry_clear(e);
    else store<u32>(e, load<u32>(e, PTE_FRAME) & ~PTE_VALID, PTE_FRAME);
  }
  store<u32>(p, read_errno, READ_ERRNO);
  store<u32>(p, pin_errno, PIN_ERRNO);
  return 0;
}

/** Takes every injection back. */
export function inject_clear(iommu: usize): void {
  const arena = <usize>load<u32>(iommu, ARENA);
  let p = <usize>load<u32>(iommu, INJECT);
  while (p != 0) {
    const next = <usize>load<u32>(p, NEXT);
    arena_free(arena, p, SIZE);
    p = next;
  }
  store<u32>(iommu, 0, INJECT);
}
