// Pinning: pages of iova space held for a device, counted per page entry, charged to the task that mapped them. Kernel counterpart:
// vfio_iommu_type1_pin_pages / unpin_pages (spec iommu-type1 section 6). entry.ts draws the page entry and offers page_lookup.
import { add_u32 } from '../mem';
import { EINVAL, ENOMEM, EPERM, IOMMU_DIRTY_ON, IOMMU_DOMAINS, IOMMU_FORCED, IOMMU_PINNED_PAGES, IOMMU_PINS, IOMMU_PIN_ERRNO, IOMMU_PIN_NTH } from '../abi';
import { MAP_LOCK_CAP, MM_LIMIT, PIN_SHORT, PROT_WRITE, PTE_FRAME, PTE_ORPHAN, PTE_PINS, PTE_VALID } from '../abi';
import { dirty_mark } from './dirty';
import { entries_fill, map_mm, unmapped_errno } from './entry';
import { injected, PIN_ERRNO } from './inject';
import { entries_next, entry_at, entry_clear, leaf_of, leaf_remove } from './leaf';
import { mm_lock, mm_may_lock } from './mm';
import { pages_put } from './pages';
import { LEAF_SIZE } from './radix';
import { ranges_find, slot_meta } from './ranges';
import { INJECT, LEAF_SHIFT, MAPS, MIXED, MM, NO_INDEX, PAGES } from './record';

const ANY: u32 = 0xffffffff;

/**
 * Pins `npage` consecutive pages from the page that holds `iova` (its low 12 bits are ignored). A page pinned before gets one pin more.
 * @param prot PROT_READ and/or PROT_WRITE: what the device will do. The page is faulted in with the permission of the map.
 * @param out 0, or npage x u32 that receive the address of each page's entry (good until its last unpin).
 * @returns npage; fewer (> 0) only when a page with PIN_SHORT was reached: those before it stay pinned.
 * Failures, nothing stays pinned and no record is kept: the refusal in IOMMU_PIN_ERRNO (-EACCES v1, -EBUSY a vaddr is invalid, -EINVAL no
 * device); by the first page that fails: -EINVAL (type1) / -ENOENT (IOAS) no map, or the range ends behind 2^64; -EPERM the map lacks prot; -ENODEV the
 * task is gone; -EFAULT nothing behind the address; -EINVAL a device region; -ENOMEM RLIMIT_MEMLOCK or the heap; an injected errno.
 */
export function pin_page_run(iommu: usize, iova: u64, npage: u32, prot: u32, out: usize): i32 {
  const refused = load<u32>(iommu, IOMMU_PIN_ERRNO);
  if (refused != 0) return -(<i32>refused);
  const first = iova >> 12;
  if (npage > 0x7fffffff) return -EINVAL;
  let made: u64 = 0;
  let done: u32 = 0;
  while (done < npage) {
    const page = first + done;
    const index = page >> LEAF_SHIFT;
    const place = <u32>page & 63;
    const n = min(npage - done, 64 - place);
    let leaf = leaf_of(iommu, index);
    let k: u32 = 0;
    if (leaf != 0) k = pin_entries(iommu, leaf + (<usize>place << 4), page, n, prot);
    if (k < n) {
      let failed = pin_slowly(iommu, page + k, n - k, prot);
      if (leaf == 0) {
        leaf = leaf_of(iommu, index);
        if (leaf != 0) made |= <u64>1 << min<u64>(63, index - (first >> LEAF_SHIFT));
      }
      if (failed != 0) {
        done += k;
        if (failed == PIN_SHORT && done != 0) {
          if (out != 0) fill_out(out, done - k, leaf, place, k);
          failed = -done;
        } else {
          unpin_page_run(iommu, iova, done);
          if (failed == PIN_SHORT) failed = EINVAL;
        }
        drop_unused(iommu, first >> LEAF_SHIFT, made);
        return -(<i32>failed);
      }
      k++;
    }
    if (out != 0) fill_out(out, done, leaf, place, k);
    done += k;
  }
  return <i32>npage;
}

function fill_out(out: usize, at: u32, leaf: usize, place: u32, n: u32): void {
  for (let i: u32 = 0; i < n; ++i) store<u32>(out + (<usize>(at + i) << 2), <u32>(leaf + (<usize>(place + i) << 4)));
}

/** Frees leaves that a failed call made and nobody uses. */
function drop_unused(iommu: usize, index: u64, made: u64): void {
  for (; made != 0; made >>= 1, index++) {
    if ((made & 1) == 0) continue;
    const leaf = leaf_of(iommu, index);
    if (leaf != 0 && !leaf_pinned(leaf)) leaf_remove(iommu, index);
  }
}

function leaf_pinned(leaf: usize): bool {
  let pins: u32 = 0;
  for (let e = leaf; e < leaf + LEAF_SIZE; e += 16) pins |= load<u32>(e, PTE_PINS);
  return pins != 0;
}

/**
 * The fast path: one pin more to n entries in a row, as long as all translate, permit `prot`, and the new pages may be charged in one go.
 * @returns n, or 0 with nothing changed.
 */
// @ts-expect-error: decorator
@inline
function pin_entries(iommu: usize, e: usize, page: u64, n: u32, prot: u32): u32 {
  const end = e + (<usize>n << 4);
  const before = pins_add(e, end, 1);
  const want = prot | PTE_VALID;
  const newly = i32x4.extract_lane(before, ANY_PINS) == 0 ? n : pins_equal(e, end, 1);
  if ((i32x4.extract_lane(before, ALL_FRAMES) & want) != want || (newly != 0 && !chargeable(iommu))) {
    pins_add(e, end, -1);
    return 0;
  }
  pins_count(iommu, n, newly);
  // Pages pinned before are in the bitmap already, so the whole piece may be marked.
  if (newly != 0) dirty_mark(iommu, page, n);
  return n;
}

// What pins_add found before it added, by lane.
const ALL_FRAMES: u8 = 0;
const ALL_PINS: u8 = 1;
const ANY_FRAMES: u8 = 2;
const ANY_PINS: u8 = 3;

/**
 * Adds `delta` to the pins of each entry in [e, end), four entries a turn. @returns lanes: the AND of all frame words and of all counts
 * before, the OR of all frame words and of all counts.
 */
function pins_add(e: usize, end: usize, delta: i32): v128 {
  const more = i32x4.replace_lane(i32x4.splat(0), 3, delta);
  let all = i32x4.splat(-1);
  let any = i32x4.splat(0);
  while (e < end) {
    const a = v128.load(e);
    v128.store(e, i32x4.add(a, more));
    all = v128.and(all, a);
    any = v128.or(any, a);
    e += 16;
    if (e + 48 > end) continue;
    const b = v128.load(e);
    const c = v128.load(e, 16);
    const d = v128.load(e, 32);
    v128.store(e, i32x4.add(b, more));
    v128.store(e, i32x4.add(c, more), 16);
    v128.store(e, i32x4.add(d, more), 32);
    all = v128.and(v128.and(all, b), v128.and(c, d));
    any = v128.or(v128.or(any, b), v128.or(c, d));
    e += 48;
  }
  return v128.shuffle<i32>(all, any, 2, 3, 6, 7);
}

/** How many entries in [e, end) have exactly this many pins. */
function pins_equal(e: usize, end: usize, pins: u32): u32 {
  let count: u32 = 0;
  for (let p = e; p < end; p += 16) count += u32(load<u32>(p, PTE_PINS) == pins);
  return count;
}

/** May any number of pages be charged to the only task of this iommu? Not with several tasks, a limit, a fault to inject. */
// @ts-expect-error: decorator
@inline
function chargeable(iommu: usize): bool {
  if ((load<u32>(iommu, IOMMU_PIN_NTH) | load<u32>(iommu, INJECT)) != 0) return false;
  return load<u32>(iommu, IOMMU_DOMAINS) != 0 || (load<u32>(iommu, MIXED) == 0 && load<u32>(<usize>load<u32>(iommu, MM), MM_LIMIT) == ANY);
}

/** Brings the sums up to date: pins that were made or (< 0) taken as counts, and how many more pages hold one. One task pays for all. */
export function pins_count(iommu: usize, pins: i32, pages: i32): void {
  store<u64>(iommu, load<u64>(iommu, IOMMU_PINS) + <i64>pins, IOMMU_PINS);
  if (pages == 0) return;
  add_u32(iommu + IOMMU_PINNED_PAGES, pages);
  if (load<u32>(iommu, IOMMU_DOMAINS) == 0) mm_lock(<usize>load<u32>(iommu, MM), pages);
}

/** The map of a page, or 0. Behind the last page there is none. */
function map_of(iommu: usize, page: u64): usize {
  return page >> 52 != 0 ? 0 : ranges_find(iommu + MAPS, page << 12);
}

/**
 * Pins one page the careful way, in the kernel's order of checks, and looks up to `n` pages ahead so that the fast path can go on.
 * @returns 0, a positive errno, or PIN_SHORT; on failure nothing changed but unpinned entries.
 */
function pin_slowly(iommu: usize, page: u64, n: u32, prot: u32): u32 {
  const map = map_of(iommu, page);
  if (map == 0) return unmapped_errno(iommu);
  const meta = slot_meta(map);
  if ((meta & prot) != prot) return EPERM;
  if (load<u32>(iommu, INJECT) != 0) {
    const fault = injected(iommu, page);
    if (fault != 0 && load<u32>(fault, PIN_ERRNO) != 0) return load<u32>(fault, PIN_ERRNO);
  }
  const index = page >> LEAF_SHIFT;
  let leaf = leaf_of(iommu, index);
  const offset = (<usize>page & 63) << 4;
  if (leaf == 0 || load<u32>(leaf + offset, PTE_PINS) == 0) {
    const nth = load<u32>(iommu, IOMMU_PIN_NTH);
    if (nth != 0) {
      store<u32>(iommu, nth - 1, IOMMU_PIN_NTH);
      if (nth == 1) return ENOMEM;
    }
    const failed = entries_fill(iommu, page, n);
    if (failed != 0) return -failed;
    if (load<u32>(iommu, IOMMU_DOMAINS) == 0) {
      const mm = map_mm(meta);
      if ((meta & MAP_LOCK_CAP) == 0 && !mm_may_lock(mm, 1)) return ENOMEM;
      mm_lock(mm, 1);
    }
    add_u32(iommu + IOMMU_PINNED_PAGES, 1);
    dirty_mark(iommu, page, 1);
    leaf = leaf_of(iommu, index);
  }
  const e = leaf + offset;
  add_u32(e + PTE_PINS, 1);
  pins_count(iommu, 1, 0);
  return 0;
}

/**
 * Takes one pin back from each of `npage` consecutive pages. Pages without a pin are passed over; the first page without a map ends the call.
 * A page whose last pin goes is uncharged, becomes dirty when its map is writable, and is freed when its address range is gone already.
 */
export function unpin_page_run(iommu: usize, iova: u64, npage: u32): void {
  const first = iova >> 12;
  for (let done: u32 = 0; done < npage; ) {
    const page = first + done;
    const place = <u32>page & 63;
    const n = min(npage - done, 64 - place);
    const leaf = leaf_of(iommu, page >> LEAF_SHIFT);
    if (leaf == 0 || !unpin_entries(iommu, leaf + (<usize>place << 4), page, n)) {
      for (let i: u32 = 0; i < n; ++i) {
        if (map_of(iommu, page + i) == 0) return;
        if (leaf != 0) unpin_entry(iommu, leaf + (<usize>(place + i) << 4), page + i);
      }
    }
    done += n;
  }
}

/** The fast path: n entries that are all pinned, of one task, and not orphaned. @returns false with nothing changed otherwise. */
function unpin_entries(iommu: usize, e: usize, page: u64, n: u32): bool {
  const end = e + (<usize>n << 4);
  const before = pins_add(e, end, -1);
  // One pin each is the common case; otherwise they are counted, -1 being a page that had none.
  const single = i32x4.extract_lane(before, ANY_PINS) == 1 && i32x4.extract_lane(before, ALL_PINS) == 1;
  const gone = single ? n : pins_equal(e, end, 0);
  const bad = !single && pins_equal(e, end, -1) != 0;
  if (bad || (i32x4.extract_lane(before, ANY_FRAMES) & PTE_ORPHAN) != 0 || (gone != 0 && load<u32>(iommu, MIXED) != 0)) {
    pins_add(e, end, 1);
    return false;
  }
  pins_count(iommu, -(<i32>n), -(<i32>gone));
  if (gone == 0 || load<u32>(iommu, IOMMU_DIRTY_ON) == 0) return true;
  for (let i: u32 = 0; i < n; ++i) {
    const p = e + (<usize>i << 4);
    if (load<u32>(p, PTE_PINS) == 0 && (load<u32>(p, PTE_FRAME) & PROT_WRITE) != 0) dirty_mark(iommu, page + i, 1);
  }
  return true;
}

/** One pin less to one page that has a map. */
function unpin_entry(iommu: usize, e: usize, page: u64): void {
  const pins = load<u32>(e, PTE_PINS);
  if (pins == 0) return;
  store<u32>(e, pins - 1, PTE_PINS);
  pins_count(iommu, -1, 0);
  if (pins == 1) entry_unpinned(iommu, e, page);
}

/** The last pin of a page is gone: uncharge it, mark it, give an orphaned page back. */
export function entry_unpinned(iommu: usize, e: usize, page: u64): void {
  const frame = load<u32>(e, PTE_FRAME);
  add_u32(iommu + IOMMU_PINNED_PAGES, -1);
  if (load<u32>(iommu, IOMMU_DOMAINS) == 0) {
    const map = ranges_find(iommu + MAPS, page << 12);
    if (map != 0) mm_lock(map_mm(slot_meta(map)), -1);
  }
  if (frame & PROT_WRITE) dirty_mark(iommu, page, 1);
  if (frame & PTE_ORPHAN) pages_put(<usize>load<u32>(iommu, PAGES), <usize>frame & ~4095, 1);
  if ((frame & PTE_VALID) == 0) entry_clear(e);
}

/** Takes every pin of the pages [first, last] at once: what is left when drivers did not let go. The pages still have their maps. */
export function unpin_force(iommu: usize, first: u64, last: u64): void {
  // Whoever keeps addresses of entries must look them up again.
  add_u32(iommu + IOMMU_FORCED, 1);
  for (let page = first; (page = entries_next(iommu, page, last)) != NO_INDEX; page++) {
    const e = entry_at(iommu, page);
    const pins = load<u32>(e, PTE_PINS);
    if (pins == 0) continue;
    store<u32>(e, 0, PTE_PINS);
    pins_count(iommu, -(<i32>pins), 0);
    entry_unpinned(iommu, e, page);
  }
}
