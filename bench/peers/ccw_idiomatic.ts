// The translator as one would write it first: a Map of pages, bigint addresses, an object per CCW, exceptions for errors. Full semantics
// of spec ccw section 5.
import type { PeerCcw, PeerPage, PeerSnapshot, Translator } from './ccw_types.ts';

class TranslateError extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

interface Page extends PeerPage {
  pins: number;
}

interface Ccw {
  readonly cmd: number;
  readonly flags: number;
  readonly count: number;
  readonly cda: bigint;
  idaws: bigint[];
  pinned: Page[];
  target: { chain: number; offset: number } | null;
}

interface Chain {
  readonly iova: bigint;
  readonly ccws: Ccw[];
}

const EFAULT = 14;
const EINVAL = 22;
const EBUSY = 16;
const U32 = 0xffffffffn;

export class IdiomaticTranslator implements Translator {
  readonly #pages = new Map<bigint, Page>();
  #chains: Chain[] = [];
  #word1 = 0;
  #held = false;
  /** Pages with a pin: what the task is charged for. */
  #locked = 0;

  constructor(pages: Iterable<PeerPage>) {
    for (const page of pages) this.#pages.set(page.page, { ...page, pins: 0 });
  }

  get totalPins(): number {
    let sum = 0;
    for (const page of this.#pages.values()) sum += page.pins;
    return sum;
  }

  get lockedPages(): number {
    return this.#locked;
  }

  init(word1: number, cpa: number): number {
    if (this.#held) return -EBUSY;
    this.#word1 = word1;
    this.#chains = [];
    try {
      this.#build(BigInt(cpa));
      this.#held = true;
      return 0;
    } catch (error) {
      this.#chains = [];
      if (error instanceof TranslateError) return -error.errno;
      throw error;
    }
  }

  prefetch(): number {
    if (!this.#held) return -EINVAL;
    try {
      for (const chain of this.#chains)
        for (const ccw of chain.ccws) {
          if (ccw.cmd === 0x08) this.#relocate(ccw);
          else this.#translate(ccw);
        }
      return 0;
    } catch (error) {
      if (error instanceof TranslateError) return -error.errno;
      throw error;
    }
  }

  free(): void {
    for (const chain of this.#chains)
      for (const ccw of chain.ccws) {
        for (const page of ccw.pinned) this.#unpin(page);
        ccw.pinned = [];
      }
    this.#chains = [];
    this.#held = false;
  }

  #unpin(page: Page): void {
    if (--page.pins === 0) this.#locked--;
  }

  snapshot(): PeerSnapshot {
    const pins = [...this.#pages.values()].filter((page) => page.pins > 0);
    return {
      chains: this.#chains.map(({ iova, ccws }) => ({ iova: Number(iova), len: ccws.length, ccws: ccws.map(show) })),
      pins: pins.map(({ page, pins }): [bigint, number] => [page, pins]).sort(([a], [b]) => (a < b ? -1 : 1)),
    };
  }

  #read(address: bigint, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    for (let done = 0; done < size; ) {
      const at = address + BigInt(done);
      const page = this.#pages.get(at >> 12n);
      if (page === undefined) throw new TranslateError(EINVAL);
      if (page.readErrno !== undefined) throw new TranslateError(page.readErrno);
      const offset = Number(at & 0xfffn);
      const n = Math.min(size - done, 4096 - offset);
      bytes.set(page.bytes.subarray(offset, offset + n), done);
      done += n;
    }
    return bytes;
  }

  #parse(bytes: Uint8Array, offset: number): Ccw {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, 8);
    const fresh = { idaws: [], pinned: [], target: null };
    const cmd = view.getUint8(0);
    if ((this.#word1 & 0x00800000) !== 0)
      return { cmd, flags: view.getUint8(1), count: view.getUint16(2), cda: BigInt(view.getUint32(4)), ...fresh };
    const cda = BigInt(view.getUint32(0) & 0xffffff);
    if ((cmd & 0x0f) === 8) return { cmd: 8, flags: 0, count: 0, cda, ...fresh };
    return { cmd, flags: view.getUint8(4), count: view.getUint16(6), cda, ...fresh };
  }

  #build(address: bigint): void {
    const bytes = this.#read(address, 2048);
    const all = Array.from({ length: 256 }, (_, index) => this.#parse(bytes, index * 8));
    const last = all.findIndex((ccw, index) => {
      const loops = ccw.cmd === 8 && contains(address, index + 1, ccw.cda);
      return (ccw.flags & 0xc0) === 0 && !loops;
    });
    if (last === -1 || this.#chains.length === 16) throw new TranslateError(EINVAL);
    const ccws = all.slice(0, last + 1);
    this.#chains.push({ iova: address, ccws });
    for (const ccw of ccws) if (ccw.cmd === 8 && this.#find(ccw.cda) === -1) this.#build(ccw.cda);
  }

  #find(address: bigint): number {
    return this.#chains.findIndex((chain) => contains(chain.iova, chain.ccws.length, address));
  }

  #relocate(ccw: Ccw): void {
    const chain = this.#find(ccw.cda);
    if (chain === -1) throw new TranslateError(EFAULT);
    ccw.target = { chain, offset: Number(ccw.cda - (this.#chains[chain] as Chain).iova) };
  }

  #translate(ccw: Ccw): void {
    const c64 = (this.#word1 & 0x00020000) !== 0;
    const block = c64 && (this.#word1 & 0x00010000) === 0 ? 4096n : 2048n;
    const size = c64 ? 8 : 4;
    const word = (bytes: Uint8Array, index: number) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return c64 ? view.getBigUint64(index * 8) : BigInt(view.getUint32(index * 4));
    };
    const indirect = (ccw.flags & 0x04) !== 0;
    const first = indirect ? word(this.#read(ccw.cda, size), 0) : ccw.cda;
    const n = Number(((first % block) + BigInt(Math.max(ccw.count, 1)) + block - 1n) / block);
    const addresses = [first];
    if (indirect) {
      const list = this.#read(ccw.cda, n * size);
      if (word(list, 0) !== first) throw new TranslateError(EINVAL);
      for (let i = 1; i < n; i++) addresses.push(word(list, i));
    } else
      for (let i = 1; i < n; i++) {
        const next = (((addresses[i - 1] as bigint) + block) / block) * block;
        addresses.push(c64 ? next : next & U32);
      }
    if (!movesData(ccw)) {
      ccw.idaws = addresses.map(() => 0n);
      return;
    }
    const pinned: Page[] = [];
    try {
      for (const address of addresses) {
        const page = this.#pages.get(address >> 12n);
        if (page === undefined) throw new TranslateError(EINVAL);
        if (page.pinErrno !== undefined) throw new TranslateError(page.pinErrno);
        if (page.pins++ === 0) this.#locked++;
        pinned.push(page);
      }
    } catch (error) {
      for (const page of pinned) this.#unpin(page);
      throw error;
    }
    ccw.pinned = pinned;
    ccw.idaws = addresses.map((address, index) => {
      return (BigInt((pinned[index] as Page).frame) << 12n) | (address & 0xfffn);
    });
  }
}

function contains(head: bigint, len: number, address: bigint): boolean {
  return head <= address && address <= ((head + BigInt(len - 1) * 8n) & U32);
}

function movesData({ cmd, flags, count }: Ccw): boolean {
  if (count === 0 || cmd === 0x03) return false;
  if ((flags & 0x10) === 0) return true;
  return (cmd & 3) !== 2 && (cmd & 15) !== 12 && (cmd & 15) !== 4;
}

function show(ccw: Ccw): PeerCcw {
  const { cmd, flags, count, target, idaws, pinned } = ccw;
  if (target !== null) return { cmd, flags, count, tic: target };
  return { cmd, flags: flags | 4, count, idaws: pinned.length === 0 ? [] : idaws };
}
