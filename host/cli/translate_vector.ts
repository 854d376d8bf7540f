// Runs one translator vector through the core: its guest is built page by page, the program copied, translated, asked and released. Host
// addresses in the answer are turned back into the vector's own frame numbers.
import { CCW_CMD_TIC, CCW_FLAG_IDA, ORB_C64, ORB_I2K, ORB_PFCH } from '../../assembly/abi.ts';
import { type Ccw, type CcwChain, ChannelProgram } from '../ccw/channel_program.ts';
import type { Core } from '../core.ts';
import { type CcwOutput, type ChainOutput, hex, type Translation, type VectorInput } from './translate_format.ts';
import { TranslatorBug, VectorGuest } from './translate_guest.ts';

const ALL = 0xffffffffffffffffn;

/** Bytes of the first IDAW's block, and of an IDAW, that the ORB asks for. */
function geometry(word1: number): { block: bigint; word: number } {
  const c64 = (word1 & ORB_C64) !== 0;
  return { block: c64 && (word1 & ORB_I2K) === 0 ? 4096n : 2048n, word: c64 ? 8 : 4 };
}

export class VectorRunner {
  readonly #core: Core;
  readonly #guest: VectorGuest;
  readonly #cp: ChannelProgram;

  constructor(core: Core) {
    this.#core = core;
    this.#guest = new VectorGuest(core);
    this.#cp = new ChannelProgram(core);
  }

  /** Gives everything back. */
  destroy(): void {
    this.#cp.destroy();
    this.#guest.destroy();
  }

  /** @throws VfioError ENOMEM: the guest does not fit; TranslatorBug: something stayed pinned. */
  run(vector: VectorInput): Translation {
    try {
      this.#guest.load(vector);
      return this.#translate(vector);
    } finally {
      this.#cp.free();
      this.#guest.unload();
    }
  }

  #translate(vector: VectorInput): Translation {
    const cp = this.#cp;
    const word1 = Number.parseInt(vector.orb.slice(8, 16), 16);
    const cpa = Number.parseInt(vector.orb.slice(16, 24), 16);
    const cp_init = cp.init(this.#guest.iommu, word1, cpa);
    const result: Translation = {
      cp_init,
      pfch_warning: (word1 & ORB_PFCH) === 0,
      cp_prefetch: null,
      chains: [],
      pinned: [],
    };
    if (cp_init < 0) {
      this.#expectNothingPinned(vector, 'after a failed copy');
      return result;
    }
    this.#expectNothingPinned(vector, 'before translation');
    const guestView = cp.chains().map((chain) => cp.ccws(chain));
    result.cp_prefetch = cp.prefetch();
    result.pinned = cp.pinned().map(({ page, count }) => ({ iova: hex(page << 12n), count }));
    const chains = cp.chains();
    if (result.cp_prefetch < 0) {
      result.chains = chains.map(({ iova, len, translated }, index) => ({
        iova: hex(iova),
        len,
        translated,
        ccws: (guestView[index] ?? []).map(view),
      }));
    } else {
      result.chains = chains.map((chain, index) => this.#chain(chain, chains, guestView[index] ?? [], word1));
      result.orb_out = this.#orb(Number(vector.sch_lpm), chains);
      result.scsw = (vector.expect?.scsw ?? []).map(({ chain, offset }) => {
        const guest = this.#guestCpa(chains, chain, offset);
        return { chain, offset, guest_cpa: guest === null ? null : hex(guest) };
      });
      result.iova_pinned = (vector.expect?.iova_pinned ?? []).map(({ iova, length }) => {
        return { iova, length, result: cp.iovaPinned(BigInt(iova), BigInt(length)) };
      });
    }
    cp.free();
    this.#expectNothingPinned(vector, 'after release');
    return result;
  }

  /** Vectors take chains to lie far apart: an address that is out of the chain it counts from, and in another one of ours, is in none. */
  #guestCpa(chains: CcwChain[], chain: number, offset: number): number | null {
    const address = ((chains[chain]?.host ?? 0) + offset) >>> 0;
    const at = chains.findIndex(({ host, len }) => host <= address && address <= host + len * 8);
    return at === -1 || at === chain ? this.#cp.guestCpa(address) : null;
  }

  #expectNothingPinned(vector: VectorInput, when: string): void {
    const pages = this.#guest.pinnedPages;
    if (pages !== 0 || this.#cp.pinCount !== 0 || this.#cp.iovaPinned(0n, ALL))
      throw new TranslatorBug(`${vector.name}: ${pages} pages are pinned ${when}`);
  }

  #chain(chain: CcwChain, chains: CcwChain[], guestView: Ccw[], word1: number): ChainOutput {
    const ccws = this.#cp.ccws(chain).map((ccw, index) => {
      const guest = guestView[index] as Ccw;
      const output: CcwOutput = { ...view(ccw), cda: hex(guest.cda) };
      if (ccw.cmd === CCW_CMD_TIC) return { ...output, kind: 'tic' as const, tic: target(ccw.cda, chains) };
      return { ...output, ...this.#idal(ccw, guest, word1) };
    });
    return { iova: hex(chain.iova), len: chain.len, ccws };
  }

  /** The host IDAL in the vector's frames. One without a page anywhere belongs to a CCW that moves no data. */
  #idal(ccw: Ccw, guest: Ccw, word1: number): Pick<CcwOutput, 'kind' | 'idaws' | 'residual'> {
    const { block, word } = geometry(word1);
    const first = guest.flags & CCW_FLAG_IDA ? this.#guest.number(guest.cda, word) : BigInt(guest.cda);
    const n = Number(((first % block) + BigInt(Math.max(ccw.count, 1)) + block - 1n) / block);
    const words = Array.from({ length: n }, (_, index) => this.#core.view.getBigUint64(ccw.cda + index * 8));
    if (words.every((idaw) => idaw === 0n)) return { kind: 'nodata', residual: words.map((idaw) => hex(idaw)) };
    return { kind: 'idal', idaws: words.map((idaw) => hex(this.#guest.toFrame(idaw))) };
  }

  #orb(lpm: number, chains: CcwChain[]): NonNullable<Translation['orb_out']> {
    const { view } = this.#core;
    const orb = this.#cp.orb(0, lpm);
    const word1 = view.getUint32(orb + 4);
    const { chain, index } = target(view.getUint32(orb + 8), chains);
    return {
      word1: hex(word1, 8),
      fmt: (word1 >>> 23) & 1,
      pfch: (word1 >>> 22) & 1,
      c64: (word1 >>> 17) & 1,
      i2k: (word1 >>> 16) & 1,
      lpm: hex((word1 >>> 8) & 0xff, 2),
      cpa: { chain, index },
    };
  }
}

const view = (ccw: Ccw): CcwOutput => ({
  cmd: hex(ccw.cmd, 2),
  flags: hex(ccw.flags, 2),
  count: ccw.count,
  cda: hex(ccw.cda),
});

/** Which CCW of ours a host address names. */
function target(address: number, chains: CcwChain[]): { chain: number; index: number; byte: number } {
  const chain = chains.findIndex(({ host, len }) => host <= address && address < host + len * 8);
  const offset = address - (chains[chain]?.host ?? 0);
  return { chain, index: offset >>> 3, byte: offset & 7 };
}
