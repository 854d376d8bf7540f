// Storage as a channel program sees it: which bytes of the core's memory a program may touch, and the walk over one data area (direct or
// through an IDAL). The channel asks before every access; what is not allowed is never touched, only counted.
import { BLOCK_SIZE_2K, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { CCW_IDA, type Ccw, ORB_IDAW_2K, ORB_IDAW64, PROGRAM_CHECK, PROTECTION_CHECK } from './cio.ts';

/** What a program may touch. Addresses are linear in the core's memory. */
export interface StorageRules {
  /** May CCWs and IDAWs be fetched from [address, address + size)? */
  program(address: number, size: number): boolean;
  /** May data be moved to or from [address, address + size)? Never asked across a 4 KiB boundary. */
  data(address: number, size: number): boolean;
}

/** Whether a page is pinned for the program that is running. Answered by the owner of the translated program. */
export interface PinLedger {
  /** @param address linear; its 4 KiB page is meant. */
  isPinned(address: number): boolean;
}

/** Everything inside the memory: for programs that were not translated (tests, hosts without a driver). */
export function openRules(core: Core): StorageRules {
  const inside = (address: number, size: number) => address + size <= core.u8.length;
  return { program: inside, data: inside };
}

/** A translated program: chains and IDALs lie in the core's heap, data in pages that the program pinned. */
export function pinnedRules(core: Core, ledger: PinLedger): StorageRules {
  return {
    program: (address, size) => address >= core.arena && address + size <= core.userBase,
    data: (address, size) => address + size <= core.userEnd && address >= core.userBase && ledger.isPinned(address),
  };
}

/** One piece of a data area: [address, address + size), or the bytes below `address` inclusive when moving backward. */
export interface Piece {
  readonly address: number;
  readonly size: number;
}

/** Walks the data area of one CCW. After a check `check` holds the channel-status bit, and nothing more is given out. */
export class DataArea {
  /** PROGRAM_CHECK or PROTECTION_CHECK after an address that is wrong or not the program's. */
  check = 0;
  /** Accesses refused because the page was not the program's. */
  violations = 0;
  readonly #core: Core;
  readonly #rules: StorageRules;
  readonly #indirect: boolean;
  readonly #wide: boolean;
  readonly #block: number;
  readonly #backward: boolean;
  #idaw: number;
  #first = true;
  /** Next byte, and how many bytes of the block are left; for a direct area the block is all of it. */
  #at = 0;
  #left = 0;

  constructor(core: Core, rules: StorageRules, ccw: Ccw, orbFlags: number, backward: boolean) {
    this.#core = core;
    this.#rules = rules;
    this.#indirect = (ccw.flags & CCW_IDA) !== 0;
    this.#wide = (orbFlags & ORB_IDAW64) !== 0;
    this.#block = this.#wide && (orbFlags & ORB_IDAW_2K) === 0 ? PAGE_SIZE_4K : BLOCK_SIZE_2K;
    this.#backward = backward;
    this.#idaw = ccw.address;
    if (!this.#indirect) {
      this.#at = ccw.address;
      this.#left = Number.POSITIVE_INFINITY;
    }
  }

  /** The next piece, at most `max` bytes and never across a page, or null after a check. */
  next(max: number): Piece | null {
    if (this.#left === 0 && !this.#nextBlock()) return null;
    const inPage = this.#backward ? (this.#at % PAGE_SIZE_4K) + 1 : PAGE_SIZE_4K - (this.#at % PAGE_SIZE_4K);
    const size = Math.min(max, this.#left, inPage);
    const lowest = this.#backward ? this.#at - size + 1 : this.#at;
    if (this.#at < 0 || lowest + size > this.#core.u8.length) return this.#fail(PROGRAM_CHECK);
    if (!this.#rules.data(lowest, size)) {
      this.violations += 1;
      return this.#fail(PROTECTION_CHECK);
    }
    const piece = { address: this.#at, size };
    this.#left -= size;
    this.#at += this.#backward ? -size : size;
    return piece;
  }

  /** Takes the next IDAW. The first may point anywhere; the others must begin a block (end one, moving backward). */
  #nextBlock(): boolean {
    if (!this.#indirect) return false;
    const size = this.#wide ? 8 : 4;
    if (this.#idaw % size !== 0 || this.#idaw + size > this.#core.u8.length) return this.#fail(PROGRAM_CHECK) !== null;
    if (!this.#rules.program(this.#idaw, size)) {
      this.violations += 1;
      return this.#fail(PROGRAM_CHECK) !== null;
    }
    const view = this.#core.view;
    const high = this.#wide ? view.getUint32(this.#idaw) : 0;
    const address = view.getUint32(this.#idaw + (this.#wide ? 4 : 0));
    const within = address % this.#block;
    const aligned = within === (this.#backward ? this.#block - 1 : 0);
    if (high !== 0 || (!this.#wide && address > 0x7fffffff) || !(this.#first || aligned))
      return this.#fail(PROGRAM_CHECK) !== null;
    this.#at = address;
    this.#left = this.#backward ? within + 1 : this.#block - within;
    this.#idaw += size;
    this.#first = false;
    return true;
  }

  #fail(check: number): null {
    this.check = check;
    this.#left = 0;
    return null;
  }
}
