// Channel program: the guest's chains of CCWs copied (cp_init), translated into something a device can run (cp_prefetch), looked up
// while it runs, and let go (cp_free). Kernel counterpart: struct channel_program and vfio_ccw_cp.c. Source: spec ccw, section 5.
//
// Record (little-endian, except the ORB). One program at a time; the first chain area and the first block are part of the record,
// so that an ordinary program allocates nothing.
//   offset size field
//        0    4 arena
//        4    4 state         CP_STATE_*: none, copied, translated, failed (in translation; holds pins until released)
//        8    4 iommu         whose addresses the program uses; 0 without a program
//       12    4 chain_count
//       16   32 orb           what cp_get_orb made, big-endian
//       48    4 guest_cpa     result of cp_update_scsw
//       52    4 blocks        newest block of IDALs and pins (page_array.ts)
//       56    4 idaw_size     4 or 8: the guest's IDAWs
//       60    4 block_shift   11 or 12: block size of the guest's, hence also of our IDALs
//       64    8 word          a guest IDAW that crosses a page
//       72    4 word1         second word of the guest's ORB
//       76    4 chain_brk     where the next chain goes
//       80    4 chain_end     end of the current chain area
//       84    4 chain_blocks  list of further chain areas; the first word of each is the next
//       88    4 mode          how pins may be made (page_array.ts, pins_open), and
//       92    4 made          pins made by plain counting, which the iommu's sums do not know yet,
//       96    4 newly         those of them on pages that had none
//      100    4 forced        the iommu's count of pins taken by force when the translation began
//      104    4 block_size    1 << block_shift
//      108    4 hit_block     block and record of the pin that cp_page_pinned found last; 0: none
//      112    4 hit
//      128  256 chains        {u32 iova, u32 len, u32 host, u32 translated} each: guest address, CCWs, linear address of our copy,
//                             CCWs translated so far
//      384      first chain area, then the first block
import {
  CCW_CMD_TIC, CCW_FLAG_CC, CCW_FLAG_CD, CCWCHAIN_COUNT_MAX, CCWCHAIN_HOST, CCWCHAIN_IOVA, CCWCHAIN_LEN, CCWCHAIN_LEN_MAX, CCWCHAIN_SIZE, CCWCHAIN_TRANSLATED, CP_ARENA,
  CP_BLOCK_SHIFT, CP_BLOCK_SIZE, CP_CHAINS, CP_CHAIN_BLOCKS, CP_CHAIN_BRK, CP_CHAIN_COUNT, CP_CHAIN_END, CP_GUEST_CPA, CP_IDAW_SIZE, CP_IOMMU, CP_ORB, CP_STATE,
  CP_STATE_COPIED, CP_STATE_FAILED, CP_STATE_NONE, CP_STATE_TRANSLATED, CP_WORD1, EBUSY, EINVAL, ENOMEM, ORB_C64, ORB_FMT, ORB_I2K, ORB_LPM,
} from '../abi';
import { arena_alloc, arena_free } from '../arena';
import { iommu_read, iommu_window } from '../iommu/rw';
import { put_be32 } from '../mem';
import { ccw_from_format0, ccw_is_chain, ccw_is_tic, ccw_target, in_chain } from './ccw';
import { block_init, blocks_pin_frame, blocks_pin_iova, blocks_release, pins_close, pins_open } from './page_array';
import { chain_find, chain_translate } from './translate';

/** Bytes that a chain is read in, however long it is: 256 CCWs. */
const READ_SIZE: usize = CCWCHAIN_LEN_MAX << 3;
/**
 * Bytes between chains. The address behind a chain is its own (cp_update_scsw), so the next chain must not start there; a few CCWs
 * more keep an address that a device computes wrongly from being taken for one of another chain.
 */
const CHAIN_GAP: usize = 64;
/** Room that a chain may need while it is copied. */
const CHAIN_ROOM: usize = READ_SIZE + CHAIN_GAP;
const CHAIN_AREA: usize = 384;
const CHAIN_AREA_SIZE: usize = CHAIN_ROOM + 512;
const CHAIN_BLOCK_SIZE: usize = 4096;
const FIRST_BLOCK: usize = CHAIN_AREA + CHAIN_AREA_SIZE;
/** Record size; not a power of two less, because records at such strides share cache sets. */
const CP_SIZE: usize = 8192;

/**
 * Makes an empty channel program in the heap.
 * @returns its address, or 0 when the heap is full.
 */
export function cp_create(arena: usize): usize {
  const cp = arena_alloc(arena, CP_SIZE);
  if (cp == 0) return 0;
  memory.fill(cp, 0, CHAIN_AREA);
  store<u32>(cp, <u32>arena, CP_ARENA);
  block_init(cp, cp + FIRST_BLOCK, CP_SIZE - FIRST_BLOCK);
  chains_drop(cp);
  return cp;
}

/** Releases the program, if one is held, and gives the record back. */
export function cp_destroy(cp: usize): void {
  cp_free(cp);
  arena_free(load<u32>(cp, CP_ARENA), cp, CP_SIZE);
}

// @ts-expect-error: decorator
@inline
export function chain_at(cp: usize, index: u32): usize {
  return cp + CP_CHAINS + <usize>index * CCWCHAIN_SIZE;
}

/** Forgets all chains and gives their areas back. */
function chains_drop(cp: usize): void {
  let block = <usize>load<u32>(cp, CP_CHAIN_BLOCKS);
  while (block != 0) {
    const next = <usize>load<u32>(block);
    arena_free(load<u32>(cp, CP_ARENA), block, CHAIN_BLOCK_SIZE);
    block = next;
  }
  store<u32>(cp, 0, CP_CHAIN_BLOCKS);
  store<u32>(cp, 0, CP_CHAIN_COUNT);
  store<u32>(cp, <u32>(cp + CHAIN_AREA), CP_CHAIN_BRK);
  store<u32>(cp, <u32>(cp + CHAIN_AREA + CHAIN_AREA_SIZE), CP_CHAIN_END);
}

/** @returns where a chain of up to 256 CCWs may be written, or 0 when the heap is full. */
export function chain_room(cp: usize): usize {
  const brk = <usize>load<u32>(cp, CP_CHAIN_BRK);
  if (brk + CHAIN_ROOM <= <usize>load<u32>(cp, CP_CHAIN_END)) return brk;
  const block = arena_alloc(load<u32>(cp, CP_ARENA), CHAIN_BLOCK_SIZE);
  if (block == 0) return 0;
  store<u32>(block, load<u32>(cp, CP_CHAIN_BLOCKS));
  store<u32>(cp, <u32>block, CP_CHAIN_BLOCKS);
  store<u32>(cp, <u32>(block + 8), CP_CHAIN_BRK);
  store<u32>(cp, <u32>(block + CHAIN_BLOCK_SIZE), CP_CHAIN_END);
  return block + 8;
}

/**
 * Copy phase (section 5.1): reads the chain at the ORB's CPA and every chain that TICs lead to. Nothing is pinned yet.
 * @param iommu the container's mapping table; kept until cp_free. @param word1 @param cpa second and third word of the guest's ORB.
 * @returns 0; EBUSY: a program is held (it stays untouched); the reader's errno when any of the 2048 bytes at the head of a chain is
 * unreadable; EINVAL: a chain of more than 256 CCWs, or more than 16 chains; ENOMEM: the heap is full. After a failure no program is
 * held, except with EBUSY.
 */
export function cp_init(cp: usize, iommu: usize, word1: u32, cpa: u32): i32 {
  if (load<u32>(cp, CP_STATE) != CP_STATE_NONE) return -EBUSY;
  store<u32>(cp, <u32>iommu, CP_IOMMU);
  store<u32>(cp, word1, CP_WORD1);
  const c64 = (word1 & ORB_C64) != 0;
  cp_set_geometry(cp, c64 ? 8 : 4, c64 && (word1 & ORB_I2K) == 0 ? 12 : 11);
  const result = chain_build(cp, iommu, cpa);
  if (result < 0) {
    chains_drop(cp);
    store<u32>(cp, 0, CP_IOMMU);
  } else store<u32>(cp, CP_STATE_COPIED, CP_STATE);
  return result;
}

/** Sets size of an IDAW and of a block. */
export function cp_set_geometry(cp: usize, idaw_size: u32, block_shift: u32): void {
  store<u32>(cp, idaw_size, CP_IDAW_SIZE);
  store<u32>(cp, block_shift, CP_BLOCK_SHIFT);
  store<u32>(cp, <u32>1 << block_shift, CP_BLOCK_SIZE);
}

/** Copies the chain at `address`, then, depth first, those that its TICs lead to. At most 16 deep: each level adds a chain. */
function chain_build(cp: usize, iommu: usize, address: u32): i32 {
  const host = chain_room(cp);
  if (host == 0) return -ENOMEM;

  let from = iommu_window(iommu, address, <u32>READ_SIZE);
  if (from == 0) {
    const result = iommu_read(iommu, address, host, <u32>READ_SIZE);
    if (result < 0) return result;
    from = host;
  }
  const format0 = (load<u32>(cp, CP_WORD1) & ORB_FMT) == 0;
  let tics: u32 = 0;
  let len: u32 = format0 ? 0 : copy_chained(host, from);
  if (len == CCWCHAIN_LEN_MAX) return -EINVAL;
  for (;;) {
    const offset = <usize>len << 3;
    let w = load<u64>(from + offset);
    if (format0) w = ccw_from_format0(w);
    store<u64>(host + offset, w);
    len++;
    if (ccw_is_tic(w)) {
      tics++;
      if (!ccw_is_chain(w) && !in_chain(ccw_target(w), address, len)) break;
    } else if (!ccw_is_chain(w)) break;
    if (len == CCWCHAIN_LEN_MAX) return -EINVAL;
  }
  // A status modifier of the last CCW but one leads here: no CCW is, least of all one of the guest's that nobody has translated.
  store<u64>(host + (<usize>len << 3), 0);

  if (load<u32>(cp, CP_CHAIN_COUNT) == CCWCHAIN_COUNT_MAX) return -EINVAL;
  chain_add(cp, address, len, host, 0);

  for (let at = host; tics != 0; at += 8) {
    const w = load<u64>(at);
    if (!ccw_is_tic(w)) continue;
    tics--;
    const target = ccw_target(w);
    if (chain_find(cp, target) != 0) continue;
    const result = chain_build(cp, iommu, target);
    if (result < 0) return result;
  }
  return 0;
}

/** Notes the chain of `len` CCWs at `host`, `translated` of them done; the next one goes behind it. There must be fewer than 16. */
// @ts-expect-error: decorator
@inline
export function chain_add(cp: usize, address: u32, len: u32, host: usize, translated: u32): void {
  const count = load<u32>(cp, CP_CHAIN_COUNT);
  const chain = chain_at(cp, count);
  store<u32>(chain, address, CCWCHAIN_IOVA);
  store<u32>(chain, len, CCWCHAIN_LEN);
  store<u32>(chain, <u32>host, CCWCHAIN_HOST);
  store<u32>(chain, translated, CCWCHAIN_TRANSLATED);
  store<u32>(cp, count + 1, CP_CHAIN_COUNT);
  store<u32>(cp, <u32>(host + (<usize>len << 3) + CHAIN_GAP), CP_CHAIN_BRK);
}

/**
 * Copies format-1 CCWs two at a time as long as both chain on and are no TICs, up to 256.
 * @returns how many; the chain goes on behind them.
 */
// @ts-expect-error: decorator
@inline
function copy_chained(host: usize, from: usize): u32 {
  const chain = i64x2.splat((CCW_FLAG_CC | CCW_FLAG_CD) << 8);
  const cmd = i64x2.splat(0xff);
  const tic = i64x2.splat(CCW_CMD_TIC);
  const zero = i64x2.splat(0);
  let offset: usize = 0;
  while (offset < READ_SIZE) {
    const pair = v128.load(from + offset);
    const ends = i64x2.eq(v128.and(pair, chain), zero);
    const tics = i64x2.eq(v128.and(pair, cmd), tic);
    if (v128.any_true(v128.or(ends, tics))) break;
    v128.store(host + offset, pair);
    offset += 16;
  }
  return <u32>(offset >> 3);
}

/**
 * Translate phase (section 5.2): every TIC is relocated, every other CCW gets a host IDAL and its pages pinned.
 * @returns 0; EINVAL: no copied program; EFAULT: a TIC whose target is in no chain; ccw_translate's errnos. A failure keeps what was
 * translated so far, with its pins, until cp_free; chains say how much that is.
 */
export function cp_prefetch(cp: usize): i32 {
  if (load<u32>(cp, CP_STATE) != CP_STATE_COPIED) return -EINVAL;
  const end = chain_at(cp, load<u32>(cp, CP_CHAIN_COUNT));
  let result: i32 = 0;
  pins_open(cp);
  for (let chain = chain_at(cp, 0); chain < end && result == 0; chain += CCWCHAIN_SIZE) result = chain_translate(cp, chain);
  pins_close(cp);
  store<u32>(cp, result < 0 ? CP_STATE_FAILED : CP_STATE_TRANSLATED, CP_STATE);
  return result;
}

/**
 * The ORB for the device (section 5.3): format-1 CCWs, 64-bit IDAWs, our own first chain; everything else as the guest wrote it.
 * @param intparm word 0. @param lpm the subchannel's path mask, used when the guest's is 0.
 * @returns linear address of 32 bytes, big-endian (words 3 to 7 are 0), valid until the next call; 0 without a program.
 */
export function cp_get_orb(cp: usize, intparm: u32, lpm: u32): usize {
  if (load<u32>(cp, CP_STATE) == CP_STATE_NONE) return 0;
  let word1 = load<u32>(cp, CP_WORD1);
  if ((word1 & ORB_C64) == 0) word1 |= ORB_I2K;
  word1 |= ORB_FMT | ORB_C64;
  if ((word1 & ORB_LPM) == 0) word1 |= (lpm & 0xff) << 8;
  put_be32(cp + CP_ORB, intparm);
  put_be32(cp + CP_ORB + 4, word1);
  put_be32(cp + CP_ORB + 8, load<u32>(chain_at(cp, 0), CCWCHAIN_HOST));
  return cp + CP_ORB;
}

/**
 * Turns the CPA of an interrupt's SCSW back into the guest's (section 5.4). The address one CCW behind a chain belongs to it: that is
 * what a device leaves after the last CCW.
 * @returns 1 and the guest's CPA in the record at CP_GUEST_CPA, or 0: no chain holds the address, or no program is held.
 */
export function cp_update_scsw(cp: usize, cpa: u32): i32 {
  if (load<u32>(cp, CP_STATE) == CP_STATE_NONE) return 0;
  const end = chain_at(cp, load<u32>(cp, CP_CHAIN_COUNT));
  for (let chain = chain_at(cp, 0); chain < end; chain += CCWCHAIN_SIZE) {
    const offset = cpa - load<u32>(chain, CCWCHAIN_HOST);
    // Unsigned: an address in front of the chain gives a large offset. Our chains lie below 2 GiB, so nothing wraps.
    if (offset <= load<u32>(chain, CCWCHAIN_LEN) << 3) {
      store<u32>(cp, load<u32>(chain, CCWCHAIN_IOVA) + offset, CP_GUEST_CPA);
      return 1;
    }
  }
  return 0;
}

/**
 * Does the program have a page pinned in [iova, iova + length)? Section 5.5: 64-bit arithmetic wraps, so length 0 asks about nothing,
 * or about its page when iova is inside one, or at iova 0 about everything.
 * @returns 1 or 0; 0 before cp_prefetch and without a program.
 */
export function cp_iova_pinned(cp: usize, iova: u64, length: u64): i32 {
  return <i32>blocks_pin_iova(cp, iova >> 12, (iova + length - 1) >> 12);
}

/** Is the linear page (linear address >> 12) pinned by this program? What a channel must ask before it touches data. @returns 1 or 0. */
export function cp_page_pinned(cp: usize, page: u32): i32 {
  return <i32>blocks_pin_frame(cp, page << 12);
}

/** Release: unpins everything, drops the chains. Without a program nothing happens. */
export function cp_free(cp: usize): void {
  if (load<u32>(cp, CP_STATE) == CP_STATE_NONE) return;
  blocks_release(cp);
  chains_drop(cp);
  store<u32>(cp, 0, CP_IOMMU);
  store<u32>(cp, CP_STATE_NONE, CP_STATE);
}
