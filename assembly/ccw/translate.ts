// One chain translated: TICs relocated, plain CCWs in a loop of their own, the rest by idal.ts. Source: spec ccw, section 5.2.
//
// Plain is what most CCWs are: direct data inside one block.
import {
  BLOCK_BRK, BLOCK_PINS, CCWCHAIN_HOST, CCWCHAIN_IOVA, CCWCHAIN_LEN, CCWCHAIN_SIZE, CCWCHAIN_TRANSLATED, CCW_CMD_NOOP,
  CCW_CMD_TIC, CCW_FLAG_IDA, CCW_FLAG_SKIP, CP_BLOCKS, CP_BLOCK_SIZE, CP_CHAINS, CP_CHAIN_COUNT, CP_IOMMU, CP_MODE, EFAULT, PIN_COUNT, PIN_ENTRY,
  PIN_PAGE, PIN_SIZE, PTE_FRAME, PTE_IDAW, PTE_PINS,
} from '../abi';
import { PIN_NEW, PTE_FRESH, PTE_PIN, leaf_pte, low_leaf, low_node, low_root } from '../iommu/direct';
import { ccw_cda, ccw_cmd, ccw_is_tic, ccw_moved, ccw_target, ccw_with_cda, count_at, in_chain } from './ccw';
import { IDAW_OFFSET, ccw_translate } from './idal';
import { pin_push, pins_note } from './page_array';
import { swap32 } from '../mem';

/** @returns the first chain, in list order, that holds this guest address, or 0. */
export function chain_find(cp: usize, address: u32): usize {
  const end = cp + CP_CHAINS + <usize>load<u32>(cp, CP_CHAIN_COUNT) * CCWCHAIN_SIZE;
  for (let chain = cp + CP_CHAINS; chain < end; chain += CCWCHAIN_SIZE) {
    if (in_chain(address, load<u32>(chain, CCWCHAIN_IOVA), load<u32>(chain, CCWCHAIN_LEN))) return chain;
  }
  return 0;
}

/** Points a TIC at our copy of its target, byte offset kept. A wrapping chain holds no address, not even its own. */
function tic_translate(cp: usize, at: usize, w: u64): i32 {
  const target = ccw_target(w);
  const chain = chain_find(cp, target);
  if (chain == 0) return -EFAULT;
  store<u64>(at, ccw_moved(w, load<u32>(chain, CCWCHAIN_HOST) + (target - load<u32>(chain, CCWCHAIN_IOVA)), 0));
  return 0;
}

/** Command and flags of a CCW that moves data to or from an address of its own: no list, no skipping, no command that means something else. */
// @ts-expect-error: decorator
@inline
function is_plain(w: u64): bool {
  const cmd = ccw_cmd(w);
  return (<u32>w & ((CCW_FLAG_IDA | CCW_FLAG_SKIP) << 8)) == 0 && cmd != CCW_CMD_TIC && cmd != CCW_CMD_NOOP;
}

/** The page of a CCW's data address, in place. */
const PAGE_BE: u64 = 0x00f0ffff00000000;
/** A number that no such page is, with or without command and flags. */
const NO_PAGE_BE: u64 = 0x10000;

/** A page number in that place. */
// @ts-expect-error: decorator
@inline
function page_be(page: u64): u64 {
  return page >> 20 != 0 ? NO_PAGE_BE : <u64>swap32(<u32>page << 12) << 32;
}

/**
 * Translates the CCWs of a chain in order, between pins_open and pins_close. @param chain its record.
 * @returns 0; EFAULT: a TIC whose target is in no chain; ccw_translate's errnos. The record says how many CCWs are translated.
 */
// @ts-expect-error: decorator
@inline
export function chain_translate(cp: usize, chain: usize): i32 {
  const head = <usize>load<u32>(chain, CCWCHAIN_HOST);
  const tail = head + (<usize>load<u32>(chain, CCWCHAIN_LEN) << 3);
  const fresh = load<u32>(cp, CP_MODE) == PIN_NEW;
  let result: i32 = 0;
  let at = head;
  while (at < tail) {
    const w = load<u64>(at);
    if (is_plain(w)) {
      const block = <usize>load<u32>(cp, CP_BLOCKS);
      // As many CCWs as the block has room for.
      const room = <usize>(load<u32>(block, BLOCK_PINS) - load<u32>(block, BLOCK_BRK)) / (8 + PIN_SIZE);
      const stop = min(tail, at + (room << 3));
      let to = at;
      if (fresh) {
        to = fresh_run(cp, block, at, stop);
        if (to != stop) to = same_run(cp, block, to, stop);
      } else to = same_run(cp, block, at, stop);
      if (to != at) {
        at = to;
        continue;
      }
    }
    result = ccw_is_tic(w) ? tic_translate(cp, at, w) : ccw_translate(cp, at, w, ccw_target(w), false);
    if (result < 0) break;
    at += 8;
  }
  store<u32>(chain, <u32>((at - head) >> 3), CCWCHAIN_TRANSLATED);
  return result;
}

// Two loops, each with few enough values that they stay in registers.

/**
 * Plain CCWs each of which has a page below 4 GiB to itself. Ends at the first that is different.
 * @param at first CCW. @param stop end of the CCWs for which `block` has room. @returns the first CCW that is not translated.
 */
function fresh_run(cp: usize, block: usize, at: usize, stop: usize): usize {
  const head = at;
  const block_size = load<u32>(cp, CP_BLOCK_SIZE);
  // IDAWs go as many bytes behind the CCWs all the way: each takes 8.
  const away = <usize>load<u32>(block, BLOCK_BRK) - at;
  let pins = <usize>load<u32>(block, BLOCK_PINS);
  /** CCWs whose page had a pin already. */
  let again: u32 = 0;
  const root = low_root(load<u32>(cp, CP_IOMMU));
  if (root == 0) return at;
  while (at < stop) {
    const w = load<u64>(at);
    const cda = ccw_cda(w);
    const page = cda >> 12;
    if (!is_plain(w)) break;
    // A count of 0 becomes the largest number.
    if (count_at(at) - 1 >= block_size - (cda & (block_size - 1))) break;
    const node = low_node(root, page);
    if (node == 0) break;
    const leaf = low_leaf(node, page);
    if (leaf == 0) break;
    const entry = leaf_pte(leaf, page);
    const pte = load<u64>(entry, PTE_FRAME);
    if ((pte & PTE_FRESH) != PTE_FRESH) break;
    if (pte >= PTE_PIN) {
      if (load<u64>(pins, PIN_PAGE) == page) break;
      again++;
    }
    store<u64>(entry, pte + PTE_PIN, PTE_FRAME);
    pins = pin_push(pins, page, entry);
    store<u64>(at + away, load<u64>(entry, PTE_IDAW) | (w & IDAW_OFFSET));
    store<u64>(at, ccw_with_cda(w, <u32>(at + away), CCW_FLAG_IDA));
    at += 8;
  }
  const count = <u32>((at - head) >> 3);
  store<u32>(block, <u32>(at + away), BLOCK_BRK);
  store<u32>(block, <u32>pins, BLOCK_PINS);
  pins_note(cp, count, count - again);
  return at;
}

/**
 * Plain CCWs of one command and the same flags that all lie in the page of the newest pin: one load and two stores each. Parameters and
 * result as of fresh_run.
 */
function same_run(cp: usize, block: usize, at: usize, stop: usize): usize {
  const head = at;
  const block_size = load<u32>(cp, CP_BLOCK_SIZE);
  const away = <usize>load<u32>(block, BLOCK_BRK) - at;
  const pin = <usize>load<u32>(block, BLOCK_PINS);
  const entry = <usize>load<u32>(pin, PIN_ENTRY);
  const idaw = load<u64>(entry, PTE_IDAW);
  const first = load<u64>(at);
  if (!is_plain(first)) return at;
  const alike = page_be(load<u64>(pin, PIN_PAGE)) | (first & 0xffff);
  while (at < stop) {
    const w = load<u64>(at);
    if ((w & (PAGE_BE | 0xffff)) != alike) break;
    const within = (<u32>(w >> 56) | (<u32>(w >> 40) & 0xf00)) & (block_size - 1);
    if (count_at(at) - 1 >= block_size - within) break;
    store<u64>(at + away, idaw | (w & IDAW_OFFSET));
    store<u64>(at, ccw_with_cda(w, <u32>(at + away), CCW_FLAG_IDA));
    at += 8;
  }
  const count = <u32>((at - head) >> 3);
  if (count != 0) {
    store<u32>(block, <u32>(at + away), BLOCK_BRK);
    store<u32>(pin, load<u32>(pin, PIN_COUNT) + count, PIN_COUNT);
    store<u32>(entry, load<u32>(entry, PTE_PINS) + count, PTE_PINS);
    pins_note(cp, count, 0);
  }
  return at;
}
