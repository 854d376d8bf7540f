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
  CP_WORD,
  EINVAL,
  ENOMEM,
  PIN_COUNT,
  PIN_ENTRY,
  PIN_PAGE,
  PIN_SIZE,
} from '../abi';
import { page_idaw, page_readable, pin_page } from '../iommu/direct';
import { iommu_read } from '../iommu/rw';
import { get_be32, get_be64 } from '../mem';
import { ccw_cda, ccw_count, ccw_does_data_transfer, ccw_is_idal, ccw_with_cda } from './ccw';
import { block_undo, block_with_room } from './page_array';

/** The low 12 bits of an address at the place where they stand in a big-endian IDAW. */
// @ts-expect-error: decorator
@inline
function idaw_offset(address: u64): u64 {
  return ((address & 0xff) << 56) | ((address & 0xf00) << 40);
}

/** Linear address of guest storage that is readable and does not cross a page, else 0. */
// @ts-expect-error: decorator
@inline
function window(iommu: usize, iova: u64, size: usize): usize {
  if ((<usize>iova & 4095) + size > 4096) return 0;
  return page_readable(iommu, iova);
}

/**
 * Gives one CCW (not a TIC) at `at` a host IDAL, its pages pinned when it moves data, and stores it with the IDAL's address and the
 * IDA flag. Every guest word is read once, or compared with what was read first.
 * @param w the CCW, format-1.
 * @returns 0; the reader's errno for an unreadable guest IDAL; EINVAL for one whose first word changed; the provider's errno for a
 * page that cannot be pinned; ENOMEM when the heap is full. After a failure the CCW is unchanged and holds no pins.
 */
export function ccw_translate(cp: usize, at: usize, w: u64): i32 {
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
    list = window(iommu, cda, size);
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

  if (ccw_does_data_transfer(w)) {
    const result = idal_fill(iommu, block, idal, n, list, size, first, block_size);
    if (result < 0) return result;
  } else {
    memory.fill(idal, 0, n << 3);
  }
  store<u32>(block, <u32>(idal + (n << 3)), BLOCK_BRK);
  store<u64>(at, ccw_with_cda(w, <u32>idal, CCW_FLAG_IDA));
  return 0;
}

/**
 * Pins the page of each of the n data addresses and stores the host IDAWs.
 * @param list the guest's IDAL (words of `size` bytes), or 0: consecutive blocks from `first` on, with 4-byte words wrapping at 4 GiB.
 */
function idal_fill(
  iommu: usize,
  block: usize,
  idal: usize,
  n: usize,
  list: usize,
  size: usize,
  first: u64,
  block_size: u64,
): i32 {
  const top = <usize>load<u32>(block, BLOCK_PINS);
  const top_count = load<u32>(top, PIN_COUNT);
  const wrap: u64 = size == 8 ? 0xffffffffffffffff : 0xffffffff;
  let pins = top;
  let page = load<u64>(top, PIN_PAGE);
  let entry = <usize>load<u32>(top, PIN_ENTRY);
  let address = first;
  for (let i: usize = 0; ; ) {
    if (address >> 12 != page) {
      page = address >> 12;
      entry = pin_page(iommu, page, 1);
      if (entry > <usize>-4096) {
        block_undo(iommu, pins, top, top_count);
        return <i32>entry;
      }
      pins -= PIN_SIZE;
      store<u64>(pins, page, PIN_PAGE);
      store<u32>(pins, <u32>entry, PIN_ENTRY);
      store<u32>(pins, 1, PIN_COUNT);
    } else {
      pin_page(iommu, page, 1);
      store<u32>(pins, load<u32>(pins, PIN_COUNT) + 1, PIN_COUNT);
    }
    store<u64>(idal + (i << 3), page_idaw(entry) | idaw_offset(address));
    if (++i == n) break;
    if (list == 0) address = ((address + block_size) & ~(block_size - 1)) & wrap;
    else if (size == 8) address = get_be64(list + (i << 3));
    else address = get_be32(list + (i << 2));
  }
  store<u32>(block, <u32>pins, BLOCK_PINS);
  return 0;
}
