// Stage one of the 2016 request, in the caller's hands: a guest's channel program, which lies anywhere in guest storage and jumps, becomes one flat
// buffer of user virtual addresses, and the buffer offset that comes back becomes the guest's address again. Source: spec ccw section 11.
//
//   buffer   CCW i at 8 i, format-1. A CCW that moves data holds the offset of its slot, a TIC the offset of the CCW it goes to.
//            Slot i at 2048 + 8 i, little-endian: user virtual address of the data, or with the IDA flag of a list of such addresses.
//   lists    IDALs of user virtual addresses: 8-byte words, big-endian as IDAWs are, 4 KiB blocks
//
// Differs from what a channel reads: a data-chained CCW whose own command moves no data takes the one that began the chain, since stage two judges
// every CCW by its own (others keep theirs: a TIC or a status modifier may lead into the middle of a chain); direct data that is not contiguous in the
// caller's address space becomes a list; and a CCW that moves nothing gets a list of its own.
import { EFAULT, EINVAL, EOPNOTSUPP, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { VfioError } from '../errno.ts';
import { CCW_BUFFER_MAX, CCW_BUFFER_SIZE, CCW_BUFFER_SLOTS } from '../uapi/ccw_request.ts';

const CMD_TIC = 0x08;
const CMD_NOOP = 0x03;
const FLAG_CD = 0x80;
const FLAG_CC = 0x40;
const FLAG_SKIP = 0x10;
const FLAG_IDA = 0x04;
const CCW_SIZE = 8;
/** Most blocks of one CCW: 64 KiB less one, not aligned. */
const BLOCKS_MAX = 17;
/** Bytes of lists that any program can need. */
export const CCW_LISTS_SIZE = CCW_BUFFER_MAX * BLOCKS_MAX * 8;

/** ORB word 1: what stage two demands, and what it refuses. */
const ORB_FORMAT1 = 0x00800000;
const ORB_PREFETCH = 0x00400000;
const ORB_TRANSPORT = 0x00040000;
const ORB_IDAW64 = 0x00020000;
const ORB_BLOCK_2K = 0x00010000;

/** The guest's storage as the caller has it. */
export interface GuestStorage {
  /** User virtual address of a guest-physical one, or null when the guest has nothing there. */
  vaddr(address: bigint): bigint | null;
  /** Copies `into.length` bytes of guest storage; false when some of it is not there. */
  read(address: bigint, into: Uint8Array): boolean;
}

/** Where the flat program goes: two pieces of the caller's memory. */
export interface FlatArea {
  /** 4096 bytes. */
  readonly buffer: Uint8Array;
  /** CCW_LISTS_SIZE bytes, and their user virtual address. */
  readonly lists: Uint8Array;
  readonly listsAddress: bigint;
}

/** A flattened program: how many CCWs, and the way back. */
export interface FlatProgram {
  /** CCWs in the buffer, with those between chains: `ccwchain_nr`. */
  readonly count: number;
  /** The guest's address for an offset into the buffer, as an IRB's CPA has it; offsets outside the program come back unchanged. */
  guestCpa(offset: number): number;
}

interface Chain {
  readonly address: number;
  /** Index of its first CCW in the buffer. */
  readonly first: number;
  readonly ccws: readonly RawCcw[];
}
interface RawCcw {
  readonly command: number;
  readonly flags: number;
  readonly count: number;
  readonly cda: number;
}

const refuse = (errno: number, why: string): never => {
  throw new VfioError('flattenProgram', errno, why);
};

/**
 * Flattens the program of an ORB (12 bytes, big-endian) into `area`.
 * @throws VfioError EOPNOTSUPP transport mode, format-0 CCWs, no prefetch, no 64-bit IDAWs, 2 KiB blocks; EFAULT the program, a list or data lie
 * where the guest has no storage; EINVAL more than 256 CCWs, counting one between chains. What `area` holds is then undefined.
 */
export function flattenProgram(storage: GuestStorage, orb: Uint8Array, area: FlatArea): FlatProgram {
  const view = new DataView(orb.buffer, orb.byteOffset, 12);
  checkOrb(view.getUint32(4));
  const chains: Chain[] = [];
  collect(storage, view.getUint32(8), chains);
  const writer = new FlatWriter(storage, area);
  const begun = dataChains(chains);
  for (const { first, ccws } of chains)
    ccws.forEach((ccw, i) => {
      if (ccw.command === CMD_TIC) writer.tic(first + i, ccw, chains);
      else writer.data(first + i, ccw, begun.get(first + i) ?? ccw.command);
    });
  return { count: total(chains), guestCpa: (offset) => guestCpa(chains, offset) };
}

function checkOrb(word1: number): void {
  if ((word1 & ORB_TRANSPORT) !== 0) refuse(EOPNOTSUPP, 'transport mode');
  if ((word1 & ORB_FORMAT1) === 0) refuse(EOPNOTSUPP, 'format-0 CCWs');
  if ((word1 & ORB_PREFETCH) === 0) refuse(EOPNOTSUPP, 'the program must not be prefetched');
  if ((word1 & ORB_IDAW64) === 0) refuse(EOPNOTSUPP, 'IDAWs of 31 bits');
  if ((word1 & ORB_BLOCK_2K) !== 0) refuse(EOPNOTSUPP, 'IDAW blocks of 2 KiB');
}

/** CCWs in the buffer so far. */
const total = (chains: readonly Chain[]): number => {
  const last = chains.at(-1);
  return last === undefined ? 0 : last.first + last.ccws.length;
};
const holds = (chain: Chain, address: number): boolean =>
  address >= chain.address && address <= chain.address + CCW_SIZE * (chain.ccws.length - 1);

/**
 * Reads the chain at `address`, then those that its TICs lead to, depth first; a chain is read once. Between two chains is a place without a CCW:
 * a status modifier may lead behind a chain, and must not lead into another.
 */
function collect(storage: GuestStorage, address: number, chains: Chain[]): void {
  const first = chains.length === 0 ? 0 : total(chains) + 1;
  const ccws: RawCcw[] = [];
  for (;;) {
    if (first + ccws.length >= CCW_BUFFER_MAX) refuse(EINVAL, `the program does not fit into ${CCW_BUFFER_MAX} CCWs`);
    const ccw = readCcw(storage, address + CCW_SIZE * ccws.length);
    const last = address + CCW_SIZE * ccws.length;
    ccws.push(ccw);
    const loops = ccw.command === CMD_TIC && ccw.cda >= address && ccw.cda <= last;
    if (!loops && (ccw.flags & (FLAG_CC | FLAG_CD)) === 0) break;
  }
  chains.push({ address, first, ccws });
  for (const ccw of ccws)
    if (ccw.command === CMD_TIC && !chains.some((chain) => holds(chain, ccw.cda))) collect(storage, ccw.cda, chains);
}

/** By index in the buffer, the command that began the data chain which a CCW continues; a TIC in between changes nothing. */
function dataChains(chains: readonly Chain[]): ReadonlyMap<number, number> {
  const begun = new Map<number, number>();
  const follow = ({ first, ccws }: Chain, from: number, command: number): void => {
    for (let i = from; i < ccws.length && !begun.has(first + i); i++) {
      const ccw = ccws[i]!;
      if (ccw.command === CMD_TIC) {
        const target = chains.find((chain) => holds(chain, ccw.cda));
        const at = target === undefined ? 0 : (ccw.cda - target.address) / CCW_SIZE;
        // A TIC to a TIC is a program check.
        if (target?.ccws[at] !== undefined && target.ccws[at].command !== CMD_TIC) follow(target, at, command);
        return;
      }
      begun.set(first + i, command);
      if ((ccw.flags & FLAG_CD) === 0) return;
    }
  };
  for (const chain of chains)
    chain.ccws.forEach((ccw, i) => {
      const begins = ccw.command !== CMD_TIC && (ccw.flags & FLAG_CD) !== 0 && !begun.has(chain.first + i);
      if (begins) follow(chain, i + 1, ccw.command);
    });
  return begun;
}

function readCcw(storage: GuestStorage, address: number): RawCcw {
  const bytes = new Uint8Array(CCW_SIZE);
  if (!storage.read(BigInt(address), bytes)) refuse(EFAULT, `no storage at 0x${address.toString(16)} (CCW)`);
  const view = new DataView(bytes.buffer);
  return { command: bytes[0]!, flags: bytes[1]!, count: view.getUint16(2), cda: view.getUint32(4) };
}

/** A CPA is 8 bytes past a CCW that was fetched: the CCW before it says which chain is meant. */
function guestCpa(chains: readonly Chain[], offset: number): number {
  const fetched = Math.max(0, offset - CCW_SIZE);
  const chain = chains.find(({ first, ccws }) => fetched >= first * 8 && fetched < (first + ccws.length) * CCW_SIZE);
  return chain === undefined ? offset : (chain.address + offset - chain.first * CCW_SIZE) >>> 0;
}

class FlatWriter {
  readonly #storage: GuestStorage;
  readonly #area: FlatArea;
  readonly #buffer: DataView;
  readonly #lists: DataView;
  #listEnd = 0;

  constructor(storage: GuestStorage, area: FlatArea) {
    this.#storage = storage;
    this.#area = area;
    area.buffer.fill(0, 0, CCW_BUFFER_SIZE);
    this.#buffer = new DataView(area.buffer.buffer, area.buffer.byteOffset, CCW_BUFFER_SIZE);
    this.#lists = new DataView(area.lists.buffer, area.lists.byteOffset, area.lists.byteLength);
  }

  tic(index: number, ccw: RawCcw, chains: readonly Chain[]): void {
    const chain = chains.find((candidate) => holds(candidate, ccw.cda));
    if (chain === undefined) throw new VfioError('flattenProgram', EFAULT, 'a TIC leads nowhere');
    this.#ccw(index, ccw, chain.first * CCW_SIZE + ccw.cda - chain.address);
  }

  /** @param chained the command that began the data chain; the CCW's own where there is none. */
  data(index: number, own: RawCcw, chained: number): void {
    const slot = CCW_BUFFER_SLOTS + 8 * index;
    const ccw = leftAlone(own.command) ? { ...own, command: chained } : own;
    if (leftAlone(ccw.command)) {
      this.#ccw(index, ccw, slot);
      return;
    }
    if (movesNothing(ccw) && movesNothing({ ...ccw, command: chained })) {
      // Stage two pins what is named all the same, and refuses a direct CCW of count 0: a list that names itself stands in.
      const { length } = blocks(0n, ccw.count);
      this.#list(
        index,
        ccw,
        Array.from({ length }, () => this.#area.listsAddress),
      );
      return;
    }
    const addresses = (ccw.flags & FLAG_IDA) !== 0 ? this.#idal(ccw) : blocks(BigInt(ccw.cda), ccw.count);
    const vaddrs = addresses.map((address, i) => this.#vaddr(i === 0 ? address : address & ~0xfffn));
    const contiguous = vaddrs.every(
      (vaddr, i) => i === 0 || vaddr === (vaddrs[0]! & ~0xfffn) + BigInt(i * PAGE_SIZE_4K),
    );
    if ((ccw.flags & FLAG_IDA) === 0 && contiguous) {
      this.#buffer.setBigUint64(slot, vaddrs[0]!, true);
      this.#ccw(index, ccw, slot);
      return;
    }
    this.#list(index, ccw, vaddrs);
  }

  /** Gives a CCW a list of user virtual addresses. */
  #list(index: number, ccw: RawCcw, vaddrs: readonly bigint[]): void {
    const slot = CCW_BUFFER_SLOTS + 8 * index;
    this.#buffer.setBigUint64(slot, this.#area.listsAddress + BigInt(this.#listEnd), true);
    for (const vaddr of vaddrs) {
      this.#lists.setBigUint64(this.#listEnd, vaddr);
      this.#listEnd += 8;
    }
    this.#ccw(index, { ...ccw, flags: ccw.flags | FLAG_IDA }, slot);
  }

  /** The guest's IDAWs of a CCW. */
  #idal(ccw: RawCcw): bigint[] {
    const word = (at: number): bigint => {
      const bytes = new Uint8Array(8);
      if (!this.#storage.read(BigInt(at), bytes)) refuse(EFAULT, `no storage at 0x${at.toString(16)} (IDAL)`);
      return new DataView(bytes.buffer).getBigUint64(0);
    };
    const count = blocks(word(ccw.cda), ccw.count).length;
    return Array.from({ length: count }, (_, i) => word(ccw.cda + 8 * i));
  }

  #vaddr(address: bigint): bigint {
    const vaddr = this.#storage.vaddr(address);
    if (vaddr === null) throw new VfioError('flattenProgram', EFAULT, `no storage at 0x${address.toString(16)} (data)`);
    return vaddr;
  }

  #ccw(index: number, ccw: RawCcw, cda: number): void {
    const at = index * CCW_SIZE;
    this.#buffer.setUint8(at, ccw.command);
    this.#buffer.setUint8(at + 1, ccw.flags);
    this.#buffer.setUint16(at + 2, ccw.count);
    this.#buffer.setUint32(at + 4, cda);
  }
}

/** Commands that stage two leaves as they are, without data: the no-operation and the test commands. */
const leftAlone = (command: number): boolean => command === CMD_NOOP || (command & 0x0f) === 0;

/** No bytes, or bytes that a read skips: what is at the address does not matter, it need not even be there. */
function movesNothing({ command, flags, count }: RawCcw): boolean {
  const reads = (command & 0x03) === 0x02 || (command & 0x0f) === 0x0c || (command & 0x0f) === 0x04;
  return count === 0 || ((flags & FLAG_SKIP) !== 0 && reads);
}

/** The 4 KiB blocks that `count` bytes from `address` touch: the address itself, then block starts. A count of 0 touches one. */
function blocks(address: bigint, count: number): bigint[] {
  const n = Math.floor((Number(address & 0xfffn) + Math.max(count, 1) + PAGE_SIZE_4K - 1) / PAGE_SIZE_4K);
  return Array.from({ length: n }, (_, i) => (i === 0 ? address : (address & ~0xfffn) + BigInt(i * PAGE_SIZE_4K)));
}
