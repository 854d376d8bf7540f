// The pages of the user windows: who still needs each one. A page is free when nobody does, so that a window that is unmapped while a device
// holds pins lives on until the last unpin. Kernel counterpart: the page allocator and struct page's reference count.
//
// Record at the start of the region it is made in:       Page word: 0 = free, else
//   offset size field                                     bits 0-30  references: one of its mapping, one of each run of a
//        0    4 base    linear address of the first page              translation domain, one of each orphaned page entry
//        4    4 npage                                     bit 31     some page entry may name it (it was translated since it
//        8    4 used    pages that are not free                       was handed out)
//       12    4 hint    no page below this one is free
//       16    4 fresh   pages from this one on were never handed out
//       20    4 zeroed  1: fresh pages are zero already
//       24    4 iommus  first iommu object over these pages
//       32  4*npage     page words

import { add_u32 } from '../mem';
import { EEXIST, EINVAL, PAGES_USED, PAGES_WORDS } from '../abi';

const BASE = 0;
const NPAGE = 4;
const HINT = 12;
const FRESH = 16;
const ZEROED = 20;
/** First iommu object over these pages; each names the next (iommu.ts). */
export const PAGES_IOMMUS = 24;
const SEEN: u32 = 0x80000000;

/**
 * Makes the record of the pages [base, base + npage * 4096) at `p` (PAGES_WORDS + 4 npage bytes, 16-byte aligned).
 * @param zeroed 1: the pages are known to be zero. @returns p.
 */
export function pages_create(p: usize, base: usize, npage: u32, zeroed: u32): usize {
  memory.fill(p, 0, (<usize>npage << 2) + PAGES_WORDS);
  store<u32>(p, <u32>base, BASE);
  store<u32>(p, npage, NPAGE);
  store<u32>(p, zeroed, ZEROED);
  return p;
}

// @ts-expect-error: decorator
@inline
function word_of(p: usize, linear: usize): usize {
  return p + PAGES_WORDS + (((linear - load<u32>(p, BASE)) >> 12) << 2);
}

/** Hands out `npage` consecutive zeroed pages with one reference each. @returns their linear address, or 0: no run is long enough. */
export function pages_alloc(p: usize, npage: u32): usize {
  const end = load<u32>(p, NPAGE);
  const first = p + PAGES_WORDS;
  if (npage == 0 || npage > end) return 0;
  let at = load<u32>(p, HINT);
  while (at < end && load<u32>(first + (<usize>at << 2)) != 0) at++;
  store<u32>(p, at, HINT);
  for (let n: u32 = 0; n < npage; ) {
    if (at + npage > end) return 0;
    if (load<u32>(first + (<usize>(at + n) << 2)) == 0) n++;
    else {
      at += n + 1;
      n = 0;
    }
  }
  const linear = <usize>load<u32>(p, BASE) + (<usize>at << 12);
  const used_before = load<u32>(p, ZEROED) == 0 ? at + npage : max(min(load<u32>(p, FRESH), at + npage), at);
  memory.fill(linear, 0, <usize>(used_before - at) << 12);
  take(p, at, npage);
  return linear;
}

/** Gives `npage` free pages from number `at` on one reference each. */
function take(p: usize, at: u32, npage: u32): void {
  words_change(p + PAGES_WORDS + (<usize>at << 2), npage, 1, 0);
  add_u32(p + PAGES_USED, npage);
  store<u32>(p, max(load<u32>(p, FRESH), at + npage), FRESH);
}

/**
 * Takes `npage` given pages as they are, with one reference each: an embedder's RAM. @param linear page aligned.
 * @returns 0; -EINVAL: not all of them are pages of this record; -EEXIST: some are not free. Nothing changes then.
 */
export function pages_claim(p: usize, linear: usize, npage: u32): i32 {
  const base = load<u32>(p, BASE);
  const end = load<u32>(p, NPAGE);
  const at = (<u32>linear - base) >> 12;
  if (<u32>linear < base || npage > end || at > end - npage) return -EINVAL;
  const first = word_of(p, linear);
  const last = first + (<usize>npage << 2);
  for (let w = first; w < last; w += 4) if (load<u32>(w) != 0) return -EEXIST;
  take(p, at, npage);
  return 0;
}

/** Changes `n` words from `w` on. */
function words_change(w: usize, n: u32, references: u32, bits: u32): void {
  for (const end = w + (<usize>n << 2); w < end; w += 4) store<u32>(w, (load<u32>(w) + references) | bits);
}

/** One reference more to each of `npage` pages. */
export function pages_get(p: usize, linear: usize, npage: u32): void {
  words_change(word_of(p, linear), npage, 1, 0);
}

/** One reference less to each of `npage` pages; those that nobody needs are free. */
export function pages_put(p: usize, linear: usize, npage: u32): void {
  const first = word_of(p, linear);
  let freed: u32 = 0;
  let lowest: usize = 0;
  for (let w = first; w < first + (<usize>npage << 2); w += 4) {
    const left = load<u32>(w) - 1;
    if ((left & ~SEEN) == 0) {
      store<u32>(w, 0);
      if (freed == 0) lowest = w;
      freed++;
    } else store<u32>(w, left);
  }
  if (freed == 0) return;
  add_u32(p + PAGES_USED, 0 - freed);
  store<u32>(p, min(load<u32>(p, HINT), <u32>((lowest - (p + PAGES_WORDS)) >> 2)), HINT);
}

/** Notes that page entries name these pages. */
export function pages_see(p: usize, linear: usize, npage: u32): void {
  words_change(word_of(p, linear), npage, 0, SEEN);
}

/** May a page entry name one of these pages? */
export function pages_seen(p: usize, linear: usize, npage: u32): bool {
  let w = word_of(p, linear);
  for (const end = w + (<usize>npage << 2); w < end; w += 4) if (load<u32>(w) & SEEN) return true;
  return false;
}
