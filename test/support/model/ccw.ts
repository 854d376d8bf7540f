// Slow, obvious twin of assembly/ccw: the rules of spec ccw section 5 one after the other, on objects, byte by byte, with bigint
// addresses. Shares no code with the core.

export interface ModelPage {
  readonly bytes: Uint8Array;
  /** Frame that the host gave the page. */
  readonly frame: number;
  readErrno?: number;
  pinErrno?: number;
  pinShort?: boolean;
}

/** Guest storage by page number (iova / 4096). */
export type ModelGuest = Map<bigint, ModelPage>;

export interface ModelCcw {
  cmd: number;
  flags: number;
  count: number;
  cda: number;
  /** After translation. */
  tic?: { chain: number; offset: number };
  idaws?: bigint[];
  /** Words in the IDAL of a CCW that moves no data. */
  empty?: number;
}

export interface ModelChain {
  iova: number;
  ccws: ModelCcw[];
  translated: number;
}

class Failure extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

const U32 = 0x100000000;
const EINVAL = -22;
const EFAULT = -14;

export class ModelProgram {
  readonly chains: ModelChain[] = [];
  readonly pins = new Map<bigint, number>();
  readonly #guest: ModelGuest;
  readonly #fmt1: boolean;
  readonly #idawSize: number;
  readonly #block: bigint;

  constructor(guest: ModelGuest, word1: number) {
    const bit = (n: number) => Math.floor((word1 >>> 0) / 2 ** (31 - n)) % 2 === 1;
    this.#guest = guest;
    this.#fmt1 = bit(8);
    this.#idawSize = bit(14) ? 8 : 4;
    this.#block = bit(14) && !bit(15) ? 4096n : 2048n;
  }

  init(cpa: number): number {
    try {
      this.#build(cpa);
      return 0;
    } catch (error) {
      this.chains.length = 0;
      return errnoOf(error);
    }
  }

  prefetch(): number {
    try {
      for (const chain of this.chains)
        for (const ccw of chain.ccws) {
          if (ccw.cmd === 8) this.#tic(ccw);
          else this.#data(ccw);
          chain.translated++;
        }
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  /** Guest address for byte `offset` of our copy of a chain; chains are taken to lie far apart. */
  guestCpa(chain: number, offset: number): number | null {
    const { iova, ccws } = this.chains[chain] as ModelChain;
    return offset >= 0 && offset <= ccws.length * 8 ? (iova + offset) % U32 : null;
  }

  iovaPinned(iova: bigint, length: bigint): boolean {
    const first = iova / 4096n;
    const last = BigInt.asUintN(64, iova + length - 1n) / 4096n;
    return [...this.pins.keys()].some((page) => page >= first && page <= last);
  }

  #read(address: bigint, size: number): number[] {
    const bytes: number[] = [];
    while (bytes.length < size) {
      const at = BigInt.asUintN(64, address + BigInt(bytes.length));
      const page = this.#guest.get(at / 4096n);
      if (page === undefined) throw new Failure(EINVAL);
      if (page.readErrno !== undefined) throw new Failure(page.readErrno);
      const offset = Number(at % 4096n);
      bytes.push(...page.bytes.subarray(offset, offset + size - bytes.length));
    }
    return bytes;
  }

  #build(address: number): void {
    const bytes = this.#read(BigInt(address), 2048);
    const ccws: ModelCcw[] = [];
    for (let n = 1; ; n++) {
      if (n > 256) throw new Failure(EINVAL);
      const ccw = parse(bytes.slice(8 * n - 8, 8 * n), this.#fmt1);
      ccws.push(ccw);
      const chaining = (ccw.flags & 0x80) !== 0 || (ccw.flags & 0x40) !== 0;
      const loop = ccw.cmd === 8 && inside(ccw.cda, address, n);
      if (!chaining && !loop) break;
    }
    if (this.chains.length === 16) throw new Failure(EINVAL);
    this.chains.push({ iova: address, ccws, translated: 0 });
    for (const ccw of ccws) {
      if (ccw.cmd !== 8) continue;
      if (!this.chains.some((chain) => inside(ccw.cda, chain.iova, chain.ccws.length))) this.#build(ccw.cda);
    }
  }

  #tic(ccw: ModelCcw): void {
    const index = this.chains.findIndex((chain) => inside(ccw.cda, chain.iova, chain.ccws.length));
    if (index === -1) throw new Failure(EFAULT);
    ccw.tic = { chain: index, offset: ccw.cda - (this.chains[index] as ModelChain).iova };
  }

  #data(ccw: ModelCcw): void {
    const indirect = (ccw.flags & 4) !== 0;
    const first = indirect ? number(this.#read(BigInt(ccw.cda), this.#idawSize)) : BigInt(ccw.cda);
    const n = Number(
      ((first % this.#block) + BigInt(ccw.count === 0 ? 1 : ccw.count) + this.#block - 1n) / this.#block,
    );
    const addresses: bigint[] = [first];
    if (indirect) {
      const list = this.#read(BigInt(ccw.cda), n * this.#idawSize);
      for (let i = 1; i < n; i++) addresses.push(number(list.slice(i * this.#idawSize, (i + 1) * this.#idawSize)));
    } else {
      for (let i = 1; i < n; i++) {
        const next = ((addresses[i - 1] as bigint) / this.#block + 1n) * this.#block;
        addresses.push(BigInt.asUintN(this.#idawSize * 8, next));
      }
    }
    if (!movesData(ccw)) {
      ccw.empty = n;
      return;
    }
    // A request that fails or falls short gives up this CCW's pins: nothing is counted before all are had.
    for (const address of addresses) {
      const page = this.#guest.get(address / 4096n);
      if (page === undefined || page.pinShort === true) throw new Failure(EINVAL);
      if (page.pinErrno !== undefined) throw new Failure(page.pinErrno);
    }
    ccw.idaws = addresses.map((address) => {
      const page = address / 4096n;
      this.pins.set(page, (this.pins.get(page) ?? 0) + 1);
      return BigInt((this.#guest.get(page) as ModelPage).frame) * 4096n + (address % 4096n);
    });
  }
}

function errnoOf(error: unknown): number {
  if (error instanceof Failure) return error.errno;
  throw error;
}

/** An address lies in a chain from the first CCW's address to the last CCW's; the end may wrap at 32 bits, and then nothing does. */
function inside(address: number, head: number, len: number): boolean {
  const tail = (head + 8 * (len - 1)) % U32;
  return address >= head && address <= tail;
}

function number(bytes: number[]): bigint {
  return bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

function parse(b: number[], fmt1: boolean): ModelCcw {
  const at = (from: number, to: number) => Number(number(b.slice(from, to)));
  if (fmt1) return { cmd: at(0, 1), flags: at(1, 2), count: at(2, 4), cda: at(4, 8) };
  if (at(0, 1) % 16 === 8) return { cmd: 8, flags: 0, count: 0, cda: at(1, 4) };
  return { cmd: at(0, 1), flags: at(4, 5), count: at(6, 8), cda: at(1, 4) };
}

function movesData({ cmd, flags, count }: ModelCcw): boolean {
  if (count === 0 || cmd === 0x03) return false;
  const skip = (flags & 0x10) !== 0;
  if (!skip) return true;
  const read = cmd % 4 === 2;
  const readBackward = cmd % 16 === 12;
  const sense = cmd % 16 === 4;
  return !read && !readBackward && !sense;
}
