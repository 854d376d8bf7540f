// A guest for channel-program tests that the core and the slow twin share: the same pages, the same bytes, the same faults.
import { EFAULT, ENOMEM, EPERM, MM_LIMIT } from '../../assembly/abi.ts';
import type { ChannelProgram } from '../../host/ccw/channel_program.ts';
import { GuestPages } from '../../host/ccw/guest_pages.ts';
import type { Core } from '../../host/core.ts';
import type { Program } from './ccw_programs.ts';
import type { Random } from './counts.ts';
import type { ModelGuest, ModelProgram } from './model/ccw.ts';

export class CcwGuest {
  readonly #core: Core;
  readonly #real: GuestPages;
  readonly #iovas: readonly bigint[];
  /** The same pages for the slow twin; their bytes are views of the real ones. */
  readonly pages: ModelGuest = new Map();

  constructor(core: Core, iovas: readonly bigint[]) {
    this.#core = core;
    this.#iovas = iovas;
    this.#real = new GuestPages(core);
    this.#build();
  }

  get iommu(): number {
    return this.#real.iommu;
  }

  get pins(): number {
    return Number(this.#real.pins);
  }

  get pinnedPages(): number {
    return this.#real.pinnedPages;
  }

  get core(): Core {
    return this.#core;
  }

  #build(end = 1n << 64n): void {
    const iovas = this.#iovas.filter((iova) => iova < end);
    this.#real.clear();
    this.#real.add(iovas);
    this.pages.clear();
    for (const iova of iovas)
      this.pages.set(iova >> 12n, {
        bytes: this.#real.page(iova) as Uint8Array,
        frame: (this.#real.linear(iova) as number) >>> 12,
      });
  }

  /**
   * Fresh pages, some of them with faults. How high the guest reaches decides how high the page table is, and a limit of locked pages
   * that is never reached whether pins are counted one by one.
   */
  inject(random: Random): void {
    this.#build(1n << random.pick([28n, 28n, 32n, 64n]));
    const limit = random.int(4) === 0 ? 1_000_000 : 0xffffffff;
    this.#core.view.setUint32(this.#real.mm + MM_LIMIT, limit, true);
    for (const [number, page] of this.pages) {
      const iova = number << 12n;
      if (random.int(14) !== 0) continue;
      const kind = random.int(4);
      if (kind === 0) page.readErrno = -EFAULT;
      else if (kind === 1) page.pinShort = true;
      else page.pinErrno = -random.pick([EFAULT, EPERM, ENOMEM]);
      const { readErrno, pinErrno, pinShort } = page;
      this.#real.inject(iova, { read: -(readErrno ?? 0), pin: -(pinErrno ?? 0), pinShort });
    }
  }

  write(writes: Program['writes']): void {
    for (const { iova, bytes } of writes) this.#real.write(iova, bytes);
  }

  /** Zeroes what `write` wrote. */
  erase(writes: Program['writes']): void {
    for (const { iova, bytes } of writes) this.#real.write(iova, new Uint8Array(bytes.length));
  }

  destroy(): void {
    this.#real.destroy();
  }
}

/** What can be seen of a program after copying and translating it. */
export interface Observed {
  init: number;
  prefetch: number | null;
  chains: Array<{ iova: number; len: number; translated: number }>;
  /** By chain and CCW: command, flags, count, and target, IDAWs, or the words of an IDAL without data. */
  ccws: Array<Array<[cmd: number, flags: number, count: number, ...rest: unknown[]]>>;
  pins: Array<[page: bigint, count: number]>;
}

/** Copies and translates; the program stays held. */
export function observe(cp: ChannelProgram, guest: CcwGuest, word1: number, cpa: number): Observed {
  const init = cp.init(guest.iommu, word1, cpa);
  const prefetch = init < 0 ? null : cp.prefetch();
  const chains = cp.chains();
  const { view } = guest.core;
  const block = (word1 & 0x30000) === 0x20000 ? 4096 : 2048;
  const hosts = chains.map(({ host, len }) => ({ host, end: host + len * 8 }));
  const ccws = chains.map((chain) =>
    cp.ccws(chain).map(({ cmd, flags, count, cda }): [number, number, number, ...unknown[]] => {
      if (prefetch !== 0) return [cmd, 0, count];
      if (cmd === 8) {
        const target = hosts.findIndex(({ host, end }) => host <= cda && cda < end);
        return [cmd, flags, count, target, cda - (hosts[target]?.host ?? 0)];
      }
      const first = view.getBigUint64(cda);
      if (first === 0n) return [cmd, flags, count, 'empty'];
      const n = Math.floor((Number(first % BigInt(block)) + Math.max(count, 1) + block - 1) / block);
      return [cmd, flags, count, Array.from({ length: n }, (_, index) => view.getBigUint64(cda + index * 8))];
    }),
  );
  return {
    init,
    prefetch,
    chains: chains.map(({ iova, len, translated }) => ({ iova, len, translated })),
    ccws,
    pins: cp.pinned().map(({ page, count }) => [page, count]),
  };
}

/** The same of the slow twin. */
export function observeModel(model: ModelProgram, cpa: number): Observed {
  const init = model.init(cpa);
  const prefetch = init < 0 ? null : model.prefetch();
  const done = prefetch === 0;
  return {
    init,
    prefetch,
    chains: model.chains.map(({ iova, ccws, translated }) => ({ iova, len: ccws.length, translated })),
    ccws: model.chains.map(({ ccws }) =>
      ccws.map(({ cmd, flags, count, tic, idaws }): [number, number, number, ...unknown[]] => {
        if (!done) return [cmd, 0, count];
        if (tic !== undefined) return [cmd, flags, count, tic.chain, tic.offset];
        return [cmd, flags | 4, count, idaws ?? 'empty'];
      }),
    ),
    pins: [...model.pins].sort(([a], [b]) => (a < b ? -1 : 1)),
  };
}
