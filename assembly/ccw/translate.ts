// One chain translated: TICs relocated, plain CCWs in a loop of their own, the rest by idal.ts. Source: spec ccw, section 5.2.
//
// Plain is what most CCWs are: direct data inside one block. Such a CCW costs one load and two stores when its page is that of the CCW before;
// pins of the same page are counted in a register until another page comes.
import {
  BLOCK_BRK, BLOCK_PINS, CCWCHAIN_HOST, CCWCHAIN_IOVA, CCWCHAIN_LEN, CCWCHAIN_SIZE, CCWCHAIN_TRANSLATED, CCW_CMD_NOOP,
  CCW_CMD_TIC, CCW_FLAG_IDA, CCW_FLAG_SKIP, CP_BLOCKS, CP_BLOCK_SHIFT, CP_CHAINS, CP_CHAIN_COUNT, CP_IOMMU, CP_MODE, EFAULT, PIN_COUNT, PIN_ENTRY,
  PIN_PAGE, PIN_SIZE, PTE_FRAME, PTE_IDAW, PTE_PINS,
} from '../abi';
import { PTE_PIN, entries_height, entries_root, pte_find_low, pte_pinnable } from '../iommu/direct';
import { ccw_cda, ccw_cmd, ccw_count, ccw_is_tic, ccw_with_cda, in_chain } from './ccw';
import { IDAW_OFFSET, ccw_translate } from './idal';
import { pin_push, pins_note } from './page_array';

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
  const target = ccw_cda(w);
  const chain = chain_find(cp, target);
  if (chain == 0) return -EFAULT;
  store<u64>(at, ccw_with_cda(w, load<u32>(chain, CCWCHAIN_HOST) + (target - load<u32>(chain, CCWCHAIN_IOVA)), 0));
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
/** A number that no such page is. */
const NO_PAGE_BE: u64 = 1;

/** A page number in that place. */
// @ts-expect-error: decorator
@inline
function page_be(page: u64): u64 {
  return page >> 20 != 0 ? NO_PAGE_BE : <u64>bswap<u32>(<u32>page << 12) << 32;
}

/** An IDAL's address where a CCW has it. */
// @ts-expect-error: decorator
@inline
function cda_be(idal: usize): u64 {
  return <u64>bswap<u32>(<u32>idal) << 32;
}

/**
 * Translates the CCWs of a chain in order, between pins_open and pins_close. @param chain its record.
 * @returns 0; EFAULT: a TIC whose target is in no chain; ccw_translate's errnos. The record says how many CCWs are translated.
 */
export function chain_translate(cp: usize, chain: usize): i32 {
  const iommu = <usize>load<u32>(cp, CP_IOMMU);
  const mode = load<u32>(cp, CP_MODE);
  const block_size: u32 = <u32>1 << load<u32>(cp, CP_BLOCK_SHIFT);
  const head = <usize>load<u32>(chain, CCWCHAIN_HOST);
  const tail = head + (<usize>load<u32>(chain, CCWCHAIN_LEN) << 3);
  let made: u32 = 0;
  let newly: u32 = 0;
  let result: i32 = 0;
  let at = head;
  /** Command and flags of the last plain CCW. */
  let plain: u32 = 0xffffffff;
  for (;;) {
    const block = <usize>load<u32>(cp, CP_BLOCKS);
    let brk = <usize>load<u32>(block, BLOCK_BRK);
    let pins = <usize>load<u32>(block, BLOCK_PINS);
    let entry = <usize>load<u32>(pins, PIN_ENTRY);
    let page = page_be(load<u64>(pins, PIN_PAGE));
    let idaw = load<u64>(entry, PTE_IDAW);
    let cda = cda_be(brk);
    const root = entries_root(iommu);
    const height = entries_height(iommu);
    /** Pins of the newest page that its entry and its record do not know yet. */
    let more: u32 = 0;
    // As many CCWs as the block has room for.
    const stop = min(tail, at + ((pins - brk) / (8 + PIN_SIZE) << 3));
    while (at < stop) {
      const w = load<u64>(at);
      if ((<u32>w & 0xffff) != plain) {
        if (!is_plain(w)) break;
        plain = <u32>w & 0xffff;
      }
      const within = (<u32>(w >> 56) | (<u32>(w >> 40) & 0xf00)) & (block_size - 1);
      // A count of 0 becomes the largest number.
      if (ccw_count(w) - 1 >= block_size - within) break;
      if ((w & PAGE_BE) != page) {
        const e = pte_find_low(root, height, ccw_cda(w) >> 12);
        if (e == 0) break;
        const pte = load<u64>(e, PTE_FRAME);
        if (!pte_pinnable(pte, mode)) break;
        if (more != 0) {
          pins_add(pins, entry, more);
          made += more;
          more = 0;
        }
        store<u64>(e, pte + PTE_PIN, PTE_FRAME);
        made++;
        newly += u32(pte < PTE_PIN);
        page = w & PAGE_BE;
        entry = e;
        idaw = load<u64>(e, PTE_IDAW);
        pins = pin_push(pins, ccw_cda(w) >> 12, e);
      } else more++;
      store<u64>(brk, idaw | (w & IDAW_OFFSET));
      store<u64>(at, <u64>(<u32>w | (CCW_FLAG_IDA << 8)) | cda);
      brk += 8;
      at += 8;
      // The low byte of the address is on top: it takes the step of 8 unless it overflows.
      cda += 0x0800000000000000;
      if (cda < 0x0100000000000000) cda = cda_be(brk);
    }
    if (more != 0) {
      pins_add(pins, entry, more);
      made += more;
    }
    store<u32>(block, <u32>brk, BLOCK_BRK);
    store<u32>(block, <u32>pins, BLOCK_PINS);
    if (at == tail) break;
    const w = load<u64>(at);
    result = ccw_is_tic(w) ? tic_translate(cp, at, w) : ccw_translate(cp, at, w);
    if (result < 0) break;
    at += 8;
    if (at == tail) break;
  }
  pins_note(cp, made, newly);
  store<u32>(chain, <u32>((at - head) >> 3), CCWCHAIN_TRANSLATED);
  return result;
}

/** Further pins of the newest record's page. */
// @ts-expect-error: decorator
@inline
function pins_add(pin: usize, entry: usize, more: u32): void {
  store<u32>(pin, load<u32>(pin, PIN_COUNT) + more, PIN_COUNT);
  store<u32>(entry, load<u32>(entry, PTE_PINS) + more, PTE_PINS);
}
