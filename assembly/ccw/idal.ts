// Indirect data addressing: how many IDAWs a CCW needs and of which size, the guest's list read and checked, the host's list
// (always 8-byte, format-2 words) built from pinned pages. Kernel counterpart: the ccwchain_fetch_ccw half of vfio_ccw_cp.c.
// Source: spec ccw, section 5.2.
import {
  BLOCK_BRK,
  BLOCK_PINS,
  CCW_FLAG_IDA,
  CP_BLOCK_SHIFT,
  CP_IDAW_SIZE,
  CP_IOMMU,
  CP_NEWLY,
  CP_WORD,
  EINVAL,
  ENOMEM,
  PIN_COUNT,
  PIN_FRAME,
  PIN_PAGE,
  PIN_SIZE,
  PROT_READ,
  PROT_WRITE,
  PTE_FRAME,
  PTE_IDAW,
  PTE_PINS,
} from '../abi';
import { iommu_read } from '../iommu/rw';
import { pin_page_run } from '../iommu/pfn';
import { iommu_window, pin_fast, pins_made } from '../iommu/direct';
import { get_be32, get_be64 } from '../mem';
import { ccw_cda, ccw_count, ccw_does_data_transfer, ccw_is_idal, ccw_with_cda } from './ccw';
import { block_undo, block_with_room } from './page_array';

/** The low 12 bits of an address at the place where they stand in a big-endian IDAW. */
// @ts-expect-error: decorator
@inline
function idaw_offset(address: u64): u64 {
  return ((address & 0xff) << 56) | ((address & 0xf00) << 40);
}

/**
 * Gives one CCW (not a TIC) at `at` a host IDAL, its pages pinned when it moves data, and stores it with the IDAL's address and the
 * IDA flag. Every guest word is read once, or compared with what was read first.
 * @param w the CCW, format-1.
 * @param mode what pin_fast may do (pin_mode).
 * @returns >= 0: pins that pins_made must hear of; the reader's errno for an unreadable guest IDAL; EINVAL for one whose first word changed; the provider's errno for a
 * page that cannot be pinned; ENOMEM when the heap is full. After a failure the CCW is unchanged and holds no pins.
 */
export function ccw_translate(cp: usize, at: usize, w: u64, mode: u32): i32 {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  const shift = load<u32>(cp, CP_BLOCK_SHIFT);
  const size = <usize>load<u32>(cp, CP_IDAW_SIZE);
  const block_size: u64 = <u64>1 << shift;
  const cda = ccw_cda(w);
  const indirect = ccw_is_idal(w);

  // The first data address decides how long the list is.
  let first: u64 = cda;
  let list: usize = 0;
  if (indirect) {
    list = iommu_window(iommu, cda, <u32>size);
    let word = list;
    if (word == 0) {
      word = cp + CP_WORD;
      const result = iommu_read(iommu, cda, word, <u32>size);
      if (result < 0) return result;
    }
    first = size == 8 ? get_be64(word) : get_be32(word);
  }
  const n = <usize>((<u32>(first & (block_size - 1)) + max<u32>(ccw_count(w), 1) + <u32>block_size - 1) >> shift);

  const block = block_with_room(cp, n * (8 + PIN_SIZE));
  if (block == 0) return -ENOMEM;
  const idal = <usize>load<u32>(block, BLOCK_BRK);
  if (indirect && (list == 0 || (<usize>cda & 4095) + n * size > 4096)) {
    // The list crosses a page: it is read in one piece to the end of the room that its translation will fill from the front.
    list = idal + n * (8 - size);
    const result = iommu_read(iommu, cda, list, <u32>(n * size));
    if (result < 0) return result;
    if ((size == 8 ? get_be64(list) : <u64>get_be32(list)) != first) return -EINVAL;
  }

  let pinned: i32 = 0;
  if (ccw_does_data_transfer(w)) {
    pinned = idal_fill(cp, iommu, block, idal, n, list, first, mode);
    if (pinned < 0) return pinned;
  } else {
    memory.fill(idal, 0, n << 3);
  }
  store<u32>(block, <u32>(idal + (n << 3)), BLOCK_BRK);
  store<u64>(at, ccw_with_cda(w, <u32>idal, CCW_FLAG_IDA));
  return pinned;
}

/**
 * Pins the page of each of the n data addresses and stores the host IDAWs.
 * @param list the guest's IDAL, or 0: consecutive blocks from `first` on, with 4-byte words wrapping at 4 GiB.
 * @returns how many pins pins_made must hear of, their new pages noted in the record; or -errno with everything undone.
 */
export function idal_fill(
  cp: usize,
  iommu: usize,
  block: usize,
  idal: usize,
  n: usize,
  list: usize,
  first: u64,
  mode: u32,
): i32 {
  const wide = load<u32>(cp, CP_IDAW_SIZE) == 8;
  const block_size: u64 = <u64>1 << load<u32>(cp, CP_BLOCK_SHIFT);
  const wrap: u64 = wide ? 0xffffffffffffffff : 0xffffffff;
  const top = <usize>load<u32>(block, BLOCK_PINS);
  const top_count = load<u32>(top, PIN_COUNT);
  let pins = top;
  let page = load<u64>(top, PIN_PAGE);
  let fast: i32 = 0;
  let newly: u32 = 0;
  let address = first;
  for (let i: usize = 0; ; ) {
    let entry = pin_fast(iommu, address, mode);
    if (entry != 0) {
      fast++;
      newly += u32(load<u32>(entry, PTE_PINS) == 1);
    } else {
      const result = pin_page_run(iommu, address, 1, PROT_READ | PROT_WRITE, cp + CP_WORD);
      if (result != 1) {
        pins_made(iommu, fast, newly);
        block_undo(iommu, pins, top, top_count);
        return result < 0 ? result : -EINVAL;
      }
      entry = load<u32>(cp, CP_WORD);
    }
    if (address >> 12 != page) {
      page = address >> 12;
      pins -= PIN_SIZE;
      store<u64>(pins, page, PIN_PAGE);
      store<u32>(pins, load<u32>(entry, PTE_FRAME) & ~4095, PIN_FRAME);
      store<u32>(pins, 1, PIN_COUNT);
    } else {
      store<u32>(pins, load<u32>(pins, PIN_COUNT) + 1, PIN_COUNT);
    }
    store<u64>(idal + (i << 3), load<u64>(entry, PTE_IDAW) | idaw_offset(address));
    if (++i == n) break;
    if (list == 0) address = ((address + block_size) & ~(block_size - 1)) & wrap;
    else if (wide) address = get_be64(list + (i << 3));
    else address = get_be32(list + (i << 2));
  }
  store<u32>(block, <u32>pins, BLOCK_PINS);
  if (newly != 0) store<u32>(cp, load<u32>(cp, CP_NEWLY) + newly, CP_NEWLY);
  return fast;
}
