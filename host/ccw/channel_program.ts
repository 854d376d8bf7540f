// A channel program of the core as an object: copy, translate, look up, release. Thin: every rule is in assembly/ccw; this file
// only makes results unsigned and decodes the record for tools. Kernel counterpart: vfio_ccw_cp.h.
import {
  BLOCK_END,
  BLOCK_NEXT,
  BLOCK_PINS,
  CCW_SIZE,
  CCWCHAIN_HOST,
  CCWCHAIN_IOVA,
  CCWCHAIN_LEN,
  CCWCHAIN_SIZE,
  CCWCHAIN_TRANSLATED,
  CP_BLOCKS,
  CP_CHAIN_COUNT,
  CP_CHAINS,
  CP_GUEST_CPA,
  CP_STATE,
  CP_STATE_NONE,
  ENOMEM,
  ORB_SIZE,
  PIN_COUNT,
  PIN_ENTRY,
  PIN_PAGE,
  PIN_SIZE,
  PTE_FRAME,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { VfioError } from '../errno.ts';
import { CCW_BUFFER_SIZE } from '../uapi/ccw_request.ts';

/** One chain of CCWs of the program. */
export interface CcwChain {
  /** Guest address of its first CCW. */
  readonly iova: number;
  /** CCWs. */
  readonly len: number;
  /** Linear address of our copy, `len` format-1 CCWs. */
  readonly host: number;
  /** CCWs translated so far; less than `len` only after a failed `prefetch`. */
  readonly translated: number;
}

/** A format-1 CCW as numbers. */
export interface Ccw {
  readonly cmd: number;
  readonly flags: number;
  readonly count: number;
  readonly cda: number;
}

/** A page that the program has pinned. */
export interface PinnedPage {
  /** iova >> 12. */
  readonly page: bigint;
  /** Linear address >> 12. */
  readonly linear: number;
  readonly count: number;
}

export class ChannelProgram {
  readonly #core: Core;
  readonly #cp: number;

  /** @throws VfioError ENOMEM when the core's heap is full. */
  constructor(core: Core) {
    this.#core = core;
    this.#cp = core.exports.cp_create(core.arena) >>> 0;
    if (this.#cp === 0) throw new VfioError('cp_create', ENOMEM, 'the heap is full');
  }

  /** Linear address of the record, for callers that work on many programs at once. */
  get address(): number {
    return this.#cp;
  }

  /** Releases what is held and gives the record back; the object is of no use afterwards. */
  destroy(): void {
    this.#core.exports.cp_destroy(this.#cp);
  }

  /** Is a program held (copied, translated, or failed in translation)? */
  get held(): boolean {
    return this.#u32(this.#cp + CP_STATE) !== CP_STATE_NONE;
  }

  /**
   * Copy phase. @param iommu the mapping table. @param word1 @param cpa second and third word of the guest's ORB.
   * @returns 0; -EBUSY: a program is held; -EINVAL: a chain of more than 256 CCWs, more than 16 chains, or unmapped storage;
   * -EPERM, -EFAULT, -ENOENT from reading; -ENOMEM. Except with EBUSY, nothing is held after a failure.
   */
  init(iommu: number, word1: number, cpa: number): number {
    return this.#core.exports.cp_init(this.#cp, iommu, word1, cpa);
  }

  /**
   * Translate phase. @returns 0; -EINVAL: nothing copied, a changed IDAL, unmapped storage or a short pin; -EFAULT: a TIC to nowhere or
   * unreadable storage; -EPERM, -ENOENT, -ENOMEM. After a failure the program and the pins made so far stay until `free`.
   */
  prefetch(): number {
    return this.#core.exports.cp_prefetch(this.#cp);
  }

  /**
   * Copies and translates a flat program of the 2016 request in one step. @param iommu the caller's address space (userSpaceOf).
   * @param buffer 4096 bytes: CCWs, then slots. @param len CCWs.
   * @returns 0; -EBUSY: a program is held; -EINVAL: len, a TIC or slot outside its half, a direct CCW of count 0; -EFAULT: no memory of
   * the caller's; -EPERM; -ENOMEM. After a failure nothing is held, except with EBUSY.
   */
  initFlat(iommu: number, word1: number, buffer: Uint8Array, len: number): number {
    const { exports, arena, u8 } = this.#core;
    const copy = exports.arena_alloc(arena, CCW_BUFFER_SIZE) >>> 0;
    if (copy === 0) return -ENOMEM;
    u8.set(buffer.subarray(0, CCW_BUFFER_SIZE), copy);
    const result = exports.cp_init_flat(this.#cp, iommu, word1, copy, len);
    exports.arena_free(arena, copy, CCW_BUFFER_SIZE);
    return result;
  }

  /** The ORB for the device: linear address of 32 big-endian bytes, valid until the next call; 0 without a program. */
  orb(intparm: number, lpm: number): number {
    return this.#core.exports.cp_get_orb(this.#cp, intparm, lpm) >>> 0;
  }

  /** The same as bytes (a view). */
  orbBytes(intparm: number, lpm: number): Uint8Array | null {
    const orb = this.orb(intparm, lpm);
    return orb === 0 ? null : this.#core.u8.subarray(orb, orb + ORB_SIZE);
  }

  /** The guest's address for a host CPA, or null when no chain holds it and the CPA stays as it is. */
  guestCpa(cpa: number): number | null {
    return this.#core.exports.cp_update_scsw(this.#cp, cpa) === 1 ? this.#u32(this.#cp + CP_GUEST_CPA) : null;
  }

  /** Does the program have a page pinned in the range? 64-bit arithmetic that wraps, see the sheet for length 0. */
  iovaPinned(iova: bigint, length: bigint): boolean {
    return this.#core.exports.cp_iova_pinned(this.#cp, iova, length) === 1;
  }

  /** Is the page of this linear address pinned by the program? */
  linearPinned(linear: number): boolean {
    return this.#core.exports.cp_page_pinned(this.#cp, linear >>> 12) === 1;
  }

  /** Release: unpins everything, drops the chains. Without a program nothing happens. */
  free(): void {
    this.#core.exports.cp_free(this.#cp);
  }

  /** The chains, in the order they were found (depth first). */
  chains(): CcwChain[] {
    const chains: CcwChain[] = [];
    for (let i = 0; i < this.#u32(this.#cp + CP_CHAIN_COUNT); i++) {
      const at = this.#cp + CP_CHAINS + i * CCWCHAIN_SIZE;
      chains.push({
        iova: this.#u32(at + CCWCHAIN_IOVA),
        len: this.#u32(at + CCWCHAIN_LEN),
        host: this.#u32(at + CCWCHAIN_HOST),
        translated: this.#u32(at + CCWCHAIN_TRANSLATED),
      });
    }
    return chains;
  }

  /** The CCWs of a chain as they stand now: the guest's after `init`, ours after `prefetch`. */
  ccws(chain: CcwChain): Ccw[] {
    const { view } = this.#core;
    return Array.from({ length: chain.len }, (_, index) => {
      const at = chain.host + index * CCW_SIZE;
      return {
        cmd: view.getUint8(at),
        flags: view.getUint8(at + 1),
        count: view.getUint16(at + 2),
        cda: view.getUint32(at + 4),
      };
    });
  }

  /** The pinned pages with the number of pins of each, by iova. */
  pinned(): PinnedPage[] {
    const { view } = this.#core;
    const pages = new Map<bigint, PinnedPage>();
    for (let block = this.#u32(this.#cp + CP_BLOCKS); block !== 0; block = this.#u32(block + BLOCK_NEXT)) {
      const end = this.#u32(block + BLOCK_END);
      for (let pin = this.#u32(block + BLOCK_PINS); pin < end; pin += PIN_SIZE) {
        const page = view.getBigUint64(pin + PIN_PAGE, true);
        const count = this.#u32(pin + PIN_COUNT) + (pages.get(page)?.count ?? 0);
        pages.set(page, { page, linear: this.#u32(this.#u32(pin + PIN_ENTRY) + PTE_FRAME) >>> 12, count });
      }
    }
    return [...pages.values()].sort((a, b) => (a.page < b.page ? -1 : 1));
  }

  /** Pins held, each CCW's own counted. */
  get pinCount(): number {
    return this.pinned().reduce((sum, page) => sum + page.count, 0);
  }

  #u32(at: number): number {
    return this.#core.view.getUint32(at, true);
  }
}
