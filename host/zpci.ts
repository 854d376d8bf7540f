// PCI stores as instructions, typed: the rules of a device, the plan of a transfer, the copy. A thin face of assembly/zpci/store.ts.
import {
  ZPCI_FORM_BLOCK,
  ZPCI_PIECE_SIZE,
  ZPCI_RULE_AWARE,
  ZPCI_RULE_RELAXED,
  ZPCI_RULE_SPLIT,
} from '../assembly/abi.ts';
import type { Core } from './core.ts';

/** How one device takes stores (spec zdev, sections 3.2 and 4). */
export interface StoreRules {
  /** Longest store block in bytes, a multiple of 8 up to 4096; 0: the device takes no blocks. Default 128. */
  maxBlock?: number;
  /** Blocks of any alignment and of any length from 1 (ISM). */
  relaxed?: boolean;
  /** Rounds a length down to a multiple of 8 before the alignment test; changes the bus pattern, hence a choice. */
  blockAware?: boolean;
  /** The back end has no block store: pieces of 8, 4, 2, 1 at natural alignment. */
  split?: boolean;
}

/** One instruction of a plan. */
export interface StorePiece {
  /** Bytes from the start of the transfer. */
  at: number;
  length: number;
  /** PCISTB; otherwise PCISTG (or PCILG for a load). */
  block: boolean;
}

/** Rules of a load: PCILG only. */
export const LOAD_RULES: StoreRules = Object.freeze({ maxBlock: 0 });

/** The rules as the core takes them. @throws RangeError for a maximum that no device has. */
export function packStoreRules(rules: StoreRules): number {
  const max = rules.maxBlock ?? 128;
  if (!Number.isInteger(max) || max < 0 || max > 4096 || max % 8 !== 0)
    throw new RangeError(`store block ${max} is not a multiple of 8 up to 4096`);
  return (
    max |
    (rules.relaxed === true ? ZPCI_RULE_RELAXED : 0) |
    (rules.blockAware === true ? ZPCI_RULE_AWARE : 0) |
    (rules.split === true ? ZPCI_RULE_SPLIT : 0)
  );
}

const BATCH = 128;

/**
 * The instructions that move `length` bytes between offset `io` of PCI memory and memory at `mem` (only its low 3 bits matter).
 * @returns the pieces in order; they cover the transfer exactly. @throws RangeError when the core's heap is full.
 */
export function planStore(core: Core, io: number, mem: number, length: number, rules: StoreRules = {}): StorePiece[] {
  const packed = packStoreRules(rules);
  const size = BATCH * ZPCI_PIECE_SIZE;
  const plan = core.exports.arena_alloc(core.arena, size) >>> 0;
  if (plan === 0) throw new RangeError('the heap of the core is full');
  const pieces: StorePiece[] = [];
  for (let done = 0; done < length; ) {
    const count = core.exports.zpci_plan(plan, BATCH, io + done, mem + done, length - done, packed) >>> 0;
    const { view } = core;
    let covered = 0;
    for (let i = 0; i < count; i++) {
      const piece = plan + i * ZPCI_PIECE_SIZE;
      const bytes = view.getUint16(piece + 4, true);
      pieces.push({
        at: done + view.getUint32(piece, true),
        length: bytes,
        block: view.getUint16(piece + 6, true) === ZPCI_FORM_BLOCK,
      });
      covered += bytes;
    }
    done += covered;
  }
  core.exports.arena_free(core.arena, plan, size);
  return pieces;
}

/** Would a device with these rules take the PCISTB, or give a specification exception? (spec zdev section 3.2, steps 5-8) */
export function blockStoreAllowed(core: Core, io: number, length: number, gaddr: number, rules: StoreRules): boolean {
  return core.exports.zpci_block_check(io, length, gaddr, packStoreRules(rules)) === 0;
}
