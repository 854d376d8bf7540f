// Indirect data addressing: how many IDAWs a CCW needs and of which size, the guest's list read and checked, the host's list
// (always 8-byte, format-2 words) built from pinned pages. Kernel counterpart: the ccwchain_fetch_ccw half of vfio_ccw_cp.c.
// Source: spec ccw, section 5.2.
import {
  BLOCK_BRK, BLOCK_PINS, CCW_FLAG_IDA, CP_BLOCK_SHIFT, CP_IDAW_SIZE, CP_IOMMU, CP_MODE, CP_WORD, EINVAL, ENOMEM, PIN_COUNT, PIN_PAGE,
  PIN_SIZE, PROT_READ, PROT_WRITE, PTE_FRAME, PTE_IDAW,
} from '../abi';
import { PIN_NEW, PTE_FRESH, PTE_FRESH_MASK, PTE_PIN, leaf_pte, low_leaf, low_node, low_root, pte_find, pte_pinnable } from '../iommu/direct';
import { pin_page_run } from '../iommu/pfn';
import { iommu_read, iommu_window } from '../iommu/rw';
import { swap32 } from '../mem';
import { ccw_count, ccw_does_data_transfer, ccw_is_idal, ccw_with_cda } from './ccw';
import { block_undo, block_with_room, pin_push, pins_note } from './page_array';

/**
 * The low 12 bits of an address inside eight big-endian bytes that end with it: a format-2 IDAW, or a CCW, which ends with its data
 * address. What is kept is where a host IDAW wants it.
 */
export const IDAW_OFFSET: u64 = 0xff0f000000000000;

/** The low 12 bits of an address at that place. */
// @ts-expect-error: decorator
@inline
function idaw_offset(address: u64): u64 {
  return (<u64>swap32(<u32>address) << 32) & IDAW_OFFSET;
}

/** The guest's IDAW of 4 or 8 bytes at `p`. */
function idaw_at(p: usize, size: usize): u64 {
  const high = swap32(load<u32>(p));
  return size == 4 ? <u64>high : (<u64>high << 32) | swap32(load<u32>(p, 4));
}

/**
 * Gives one CCW (not a TIC) at `at` a host IDAL, its pages pinned when it moves data, and stores it with the IDAL's address and the
 * IDA flag. Every guest word is read once, or compared with what was read first. Stands between pins_open and pins_close.
 * @param w the CCW, format-1. @param cda its data address. @param flat the CCW is of a flat program: every one moves data, and only the first
 * word of a list has an offset inside its block.
 * @returns 0; the reader's errno for an unreadable guest IDAL; EINVAL for one whose first word changed; the provider's errno for a page that
 * cannot be pinned; ENOMEM when the heap is full. After a failure the CCW is unchanged and holds no pins.
 */
export function ccw_translate(cp: usize, at: usize, w: u64, cda: u64, flat: bool): i32 {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  const shift = load<u32>(cp, CP_BLOCK_SHIFT);
  const size = <usize>load<u32>(cp, CP_IDAW_SIZE);
  const block_size: u32 = <u32>1 << shift;
  const indirect = ccw_is_idal(w);

  // The first data address decides how long the list is.
  let first = cda;
  let list: usize = 0;
  if (indirect) {
    list = iommu_window(iommu, cda, <u32>size);
    let word = list;
    if (word == 0) {
      word = cp + CP_WORD;
      const result = iommu_read(iommu, cda, word, <u32>size);
      if (result < 0) return result;
    }
    first = idaw_at(word, size);
  }
  const n = <usize>(((<u32>first & (block_size - 1)) + max<u32>(ccw_count(w), 1) + block_size - 1) >> shift);

  const block = block_with_room(cp, n * (8 + PIN_SIZE));
  if (block == 0) return -ENOMEM;
  const idal = <usize>load<u32>(block, BLOCK_BRK);
  if (indirect && (flat || list == 0 || (<usize>cda & 4095) + n * size > 4096)) {
    // The list crosses a page, or is changed: it is read in one piece to the end of the room that its translation will fill from the front.
    list = idal + n * (8 - size);
    const result = iommu_read(iommu, cda, list, <u32>(n * size));
    if (result < 0) return result;
    if (idaw_at(list, size) != first) return -EINVAL;
    if (flat) for (let p = list + 8; p < list + (n << 3); p += 8) store<u64>(p, load<u64>(p) & ~IDAW_OFFSET);
  }

  if (flat || ccw_does_data_transfer(w)) {
    const result = idal_fill(cp, block, idal, n, list, first);
    if (result < 0) return result;
  } else {
    memory.fill(idal, 0, n << 3);
  }
  store<u32>(block, <u32>(idal + (n << 3)), BLOCK_BRK);
  store<u64>(at, ccw_with_cda(w, <u32>idal, CCW_FLAG_IDA));
  return 0;
}

/**
 * Pins the page of each of the n data addresses and stores the host IDAWs at `idal`, the brk of a block with room for n IDAWs and n pins.
 * @param list the guest's IDAL (words of the program's size), or 0: consecutive blocks from `first` on, with 4-byte words wrapping at
 * 4 GiB. It may lie where the IDAWs go, as long as no word is overwritten before its turn.
 * @returns 0, or -errno with everything undone.
 */
export function idal_fill(cp: usize, block: usize, idal: usize, n: usize, list: usize, first: u64): i32 {
  const top = <usize>load<u32>(block, BLOCK_PINS);
  const count = load<u32>(top, PIN_COUNT);
  let done: usize = 0;
  if (list != 0 && load<u32>(cp, CP_IDAW_SIZE) == 8 && load<u32>(cp, CP_MODE) == PIN_NEW) {
    done = fill_fresh(cp, block, idal, n, list, first);
    if (done == n) return 0;
  }
  return fill(cp, block, idal, n, list, first, done, top, count);
}

/**
 * The common case of idal_fill: 8-byte words, every page below 4 GiB and without a pin. Ends at the first word that is different.
 * @returns how many words are done; their pins are the block's newest.
 */
// @ts-expect-error: decorator
@inline
function fill_fresh(cp: usize, block: usize, idal: usize, n: usize, list: usize, first: u64): usize {
  const end = list + (n << 3);
  // The host's list lies as far from the guest's all the way.
  const away = idal - list;
  let pins = <usize>load<u32>(block, BLOCK_PINS);
  const root = low_root(load<u32>(cp, CP_IOMMU));
  let word: u64 = root != 0 && first >> 32 == 0 ? <u64>swap32(<u32>first) << 32 : 1;
  let at = list;
  while (<u32>word == 0) {
    const page = swap32(<u32>(word >> 32)) >> 12;
    const node = low_node(root, page);
    if (node == 0) break;
    const leaf = low_leaf(node, page);
    if (leaf == 0) break;
    const entry = leaf_pte(leaf, page);
    const pte = load<u64>(entry, PTE_FRAME);
    if ((pte & PTE_FRESH_MASK) != PTE_FRESH) break;
    store<u64>(entry, pte + PTE_PIN, PTE_FRAME);
    pins = pin_push(pins, page, entry);
    store<u64>(at + away, load<u64>(entry, PTE_IDAW) | (word & IDAW_OFFSET));
    at += 8;
    if (at == end) break;
    word = load<u64>(at);
  }
  const done = (at - list) >> 3;
  store<u32>(block, <u32>pins, BLOCK_PINS);
  pins_note(cp, <u32>done, <u32>done);
  return done;
}

/**
 * idal_fill from word `done` on, for every case.
 * @param top, count the block's newest pin and its count before this CCW: what a failure goes back to.
 */
function fill(cp: usize, block: usize, idal: usize, n: usize, list: usize, first: u64, done: usize, top: usize, count: u32): i32 {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  const mode = load<u32>(cp, CP_MODE);
  const size = <usize>load<u32>(cp, CP_IDAW_SIZE);
  const block_size: u64 = <u64>1 << load<u32>(cp, CP_BLOCK_SHIFT);
  const wrap: u64 = size == 8 ? 0xffffffffffffffff : 0xffffffff;
  let pins = <usize>load<u32>(block, BLOCK_PINS);
  let last = load<u64>(pins, PIN_PAGE);
  let made: u32 = 0;
  let newly: u32 = 0;
  let address = done == 0 ? first : idaw_at(list + (done << 3), size);
  for (let i = done; ; ) {
    const page = address >> 12;
    let entry = pte_find(iommu, page);
    const pte = entry == 0 ? 0 : load<u64>(entry, PTE_FRAME);
    if (pte_pinnable(pte, mode)) {
      store<u64>(entry, pte + PTE_PIN, PTE_FRAME);
      made++;
      newly += u32(pte < PTE_PIN);
    } else {
      const result = pin_page_run(iommu, address, 1, PROT_READ | PROT_WRITE, cp + CP_WORD);
      if (result != 1) {
        pins_note(cp, made, newly);
        block_undo(cp, pins, top, count);
        store<u32>(block, <u32>top, BLOCK_PINS);
        return result < 0 ? result : -EINVAL;
      }
      entry = load<u32>(cp, CP_WORD);
    }
    if (page != last) {
      pins = pin_push(pins, page, entry);
      last = page;
    } else store<u32>(pins, load<u32>(pins, PIN_COUNT) + 1, PIN_COUNT);
    store<u64>(idal + (i << 3), load<u64>(entry, PTE_IDAW) | idaw_offset(address));
    if (++i == n) break;
    if (list == 0) address = ((address + block_size) & ~(block_size - 1)) & wrap;
    else address = idaw_at(list + i * size, size);
  }
  store<u32>(block, <u32>pins, BLOCK_PINS);
  pins_note(cp, made, newly);
  return 0;
}
