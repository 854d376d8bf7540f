// What a translator does directly on page entries: look at storage inside one page, pin scattered pages one at a time while a pin is only
// a count, with the sums brought up to date once for many. Everything that needs a closer look goes through rw.ts and pfn.ts.
import { IOMMU_DIRTY_ON, IOMMU_DOMAINS, IOMMU_PINNED_PAGES, IOMMU_PINS, IOMMU_PIN_ERRNO, IOMMU_PIN_NTH, IOMMU_READ_NTH, IOMMU_RW_ERRNO } from '../abi';
import { MM_LIMIT, PROT_READ, PROT_WRITE, PTE_FRAME, PTE_PINS, PTE_VALID } from '../abi';
import { page_lookup } from './entry';
import { mm_lock } from './mm';
import { unpin_page_run } from './pfn';
import { MIXED, MM } from './record';

/** Linear address of `size` (at most 4096) readable bytes at `iova` that lie in one page, or 0: use iommu_read. */
// @ts-expect-error: decorator
@inline
export function iommu_window(iommu: usize, iova: u64, size: u32): usize {
  if ((<u32>iova & 4095) + size > 4096) return 0;
  if ((load<u32>(iommu, IOMMU_RW_ERRNO) | load<u32>(iommu, IOMMU_READ_NTH)) != 0) return 0;
  const e = page_lookup(iommu, iova);
  if (e == 0) return 0;
  const frame = load<u32>(e, PTE_FRAME);
  return frame & PROT_READ ? <usize>((frame & ~4095) | (<u32>iova & 4095)) : 0;
}

/** What pin_fast may do now (until the next map, unmap or change of the record). */
export const PIN_NOTHING: u32 = 0;
/** One pin more for pages that have one. */
export const PIN_MORE: u32 = 1;
/** Pages without a pin too. */
export const PIN_NEW: u32 = 2;

/** @returns PIN_NOTHING, PIN_MORE or PIN_NEW. */
export function pin_mode(iommu: usize): u32 {
  if (load<u32>(iommu, IOMMU_PIN_ERRNO) != 0) return PIN_NOTHING;
  if ((load<u32>(iommu, IOMMU_PIN_NTH) | load<u32>(iommu, IOMMU_DIRTY_ON)) != 0) return PIN_MORE;
  if (load<u32>(iommu, IOMMU_DOMAINS) != 0) return PIN_NEW;
  const mm = <usize>load<u32>(iommu, MM);
  return mm == 0 || load<u32>(iommu, MIXED) != 0 || load<u32>(mm, MM_LIMIT) != 0xffffffff ? PIN_MORE : PIN_NEW;
}

/**
 * Pins the page of `iova` for reading and writing if that is only a count. The caller adds up what it pinned and calls pins_made.
 * @returns the page's entry (its count tells whether the page is newly pinned), or 0: use pin_page_run.
 */
// @ts-expect-error: decorator
@inline
export function pin_fast(iommu: usize, iova: u64, mode: u32): usize {
  const e = page_lookup(iommu, iova);
  if (e == 0) return 0;
  const want: u32 = PROT_READ | PROT_WRITE;
  const pins = load<u32>(e, PTE_PINS);
  if ((load<u32>(e, PTE_FRAME) & want) != want || mode < (pins == 0 ? PIN_NEW : PIN_MORE)) return 0;
  store<u32>(e, pins + 1, PTE_PINS);
  return e;
}

/** Brings the sums up to date: `pins` made by pin_fast, `newly` of them on pages that had none. */
export function pins_made(iommu: usize, pins: u32, newly: u32): void {
  store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) + pins, IOMMU_PINS);
  if (newly == 0) return;
  store<u32>(iommu, load<u32>(iommu, IOMMU_PINNED_PAGES) + newly, IOMMU_PINNED_PAGES);
  if (load<u32>(iommu, IOMMU_DOMAINS) == 0) mm_lock(<usize>load<u32>(iommu, MM), <i32>newly);
}

/**
 * Takes `count` pins of a page back if that is only a count. The caller adds up and calls pins_released.
 * @returns the pins left, or -1: nothing happened, use unpin_many.
 */
// @ts-expect-error: decorator
@inline
export function unpin_fast(iommu: usize, page: u64, count: u32): i32 {
  const e = page_lookup(iommu, page << 12);
  if (e == 0 || (load<u32>(iommu, MIXED) | load<u32>(iommu, IOMMU_DIRTY_ON)) != 0) return -1;
  const left = <i32>(load<u32>(e, PTE_PINS) - count);
  if (left >= 0) store<u32>(e, left, PTE_PINS);
  return left < 0 ? -1 : left;
}

/** Brings the sums up to date: `pins` taken by unpin_fast, the last one of `gone` pages. */
export function pins_released(iommu: usize, pins: u32, gone: u32): void {
  store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) - pins, IOMMU_PINS);
  if (gone == 0) return;
  store<u32>(iommu, load<u32>(iommu, IOMMU_PINNED_PAGES) - gone, IOMMU_PINNED_PAGES);
  if (load<u32>(iommu, IOMMU_DOMAINS) == 0) mm_lock(<usize>load<u32>(iommu, MM), -(<i32>gone));
}

/** Takes `count` pins of one page back, the careful way. A page that lost its map or its pins meanwhile is passed over. */
export function unpin_many(iommu: usize, page: u64, count: u32): void {
  for (; count != 0; count--) unpin_page_run(iommu, page << 12, 1);
}
