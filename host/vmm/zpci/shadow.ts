// The translations of one function as its last RPCITs left them, mirrored into the device's DMA mappings, one mapping a page. The guest's
// tables are looked at only here and only for the range it named (spec zdev section 3.5).
import type { FunctionBackend } from './backend.ts';
import { type ReadEntry, walkTables } from './tables.ts';

const PAGE = 4096n;
/** Entries looked at in one pass; bounds a guest whose tables point at themselves. */
const MAX_VISITS = 1 << 21;

interface ShadowPage {
  readonly address: bigint;
  readonly write: boolean;
  /** False: the page lies outside storage, so there is nothing to map; DMA to it fails. */
  readonly mapped: boolean;
}

/** How a refresh ended: done; out of mappings (the guest must free some and retry); or a table error at an address. */
export type Refresh =
  | { readonly kind: 'done' }
  | { readonly kind: 'exhausted' }
  | { readonly kind: 'error'; readonly event: number; readonly address: bigint };

export class DmaShadow {
  readonly #backend: FunctionBackend;
  readonly #hasPage: (address: bigint) => boolean;
  readonly #pages = new Map<bigint, ShadowPage>();
  /** Mappings that may still be made; asked for at the start of a refresh, counted from there. */
  #budget = 0;
  /** Pages known without a mapping. They count against the budget like the others, so that a guest cannot make us remember without bound. */
  #unbacked = 0;

  /** @param hasPage is there storage for a page at this absolute address? */
  constructor(backend: FunctionBackend, hasPage: (address: bigint) => boolean) {
    this.#backend = backend;
    this.#hasPage = hasPage;
  }

  /** Pages translated. */
  get size(): number {
    return this.#pages.size;
  }

  /** The translation of a page as of the last refresh. */
  find(iova: bigint): { address: bigint; write: boolean } | undefined {
    return this.#pages.get(iova & ~(PAGE - 1n));
  }

  /** Forgets every translation and unmaps it. */
  clear(): void {
    this.#unmap([...this.#pages.keys()]);
  }

  /**
   * Refreshes [first, last] (inclusive), already cut to the registered range. The walk goes page by page and stops at a table error; what was
   * refreshed before it stays. A page that found no free mapping is tried again when the pass freed some behind it.
   */
  refresh(read: ReadEntry, iota: bigint, first: bigint, last: bigint): Refresh {
    for (;;) {
      this.#budget = Math.max(0, this.#backend.available() - this.#unbacked);
      const result = this.#pass(read, iota, first, last);
      if (result.kind !== 'exhausted' || this.#budget === 0) return result;
      if (!this.#progress) return result;
    }
  }

  /** Did the last pass map or unmap anything? Without it another one would end the same. */
  #progress = false;

  #pass(read: ReadEntry, iota: bigint, first: bigint, last: bigint): Refresh {
    const gone: bigint[] = [];
    let exhausted = false;
    let visits = 0;
    this.#progress = false;
    const finish = (result: Refresh): Refresh => {
      this.#unmap(gone);
      return result;
    };
    for (let at = first; at <= last; ) {
      const iova = at & ~(PAGE - 1n);
      if (++visits > MAX_VISITS) {
        this.#unmap(gone);
        this.#progress = false;
        return { kind: 'exhausted' };
      }
      const walk = walkTables(read, iota, iova);
      if (walk.kind === 'error') return finish({ kind: 'error', event: walk.event, address: at });
      if (walk.kind === 'invalid') {
        const end = (iova & ~(walk.size - 1n)) + walk.size;
        this.#collect(iova, end <= last ? end : last + 1n, gone);
        at = walk.size === PAGE ? at + PAGE : end;
        continue;
      }
      const known = this.#pages.get(iova);
      if (known === undefined || known.address !== walk.address || known.write !== walk.write) {
        if (known !== undefined) this.#unmap([iova]);
        if (this.#budget === 0 && gone.length > 0) this.#unmap(gone.splice(0));
        if (!this.#map(iova, walk.address, walk.write)) exhausted = true;
      }
      at += PAGE;
    }
    return finish({ kind: exhausted ? 'exhausted' : 'done' });
  }

  /** Known pages in [start, end). */
  #collect(start: bigint, end: bigint, into: bigint[]): void {
    if ((end - start) / PAGE <= BigInt(this.#pages.size)) {
      for (let iova = start; iova < end; iova += PAGE) if (this.#pages.has(iova)) into.push(iova);
    } else for (const iova of this.#pages.keys()) if (iova >= start && iova < end) into.push(iova);
  }

  #map(iova: bigint, address: bigint, write: boolean): boolean {
    if (this.#budget === 0) return false;
    const mapped = this.#hasPage(address);
    if (mapped && this.#backend.map(iova, address, write) < 0) return false;
    this.#budget--;
    if (!mapped) this.#unbacked++;
    this.#progress = true;
    this.#pages.set(iova, { address, write, mapped });
    return true;
  }

  /** Unmaps these pages: runs of neighbours, each cut into naturally aligned powers of two. */
  #unmap(pages: readonly bigint[]): void {
    const known = pages.filter((iova) => this.#pages.has(iova));
    const sorted = known.filter((iova) => this.#pages.get(iova)?.mapped === true).sort((a, b) => (a < b ? -1 : 1));
    this.#unbacked -= known.length - sorted.length;
    for (const iova of known) this.#pages.delete(iova);
    if (known.length > 0) this.#progress = true;
    this.#budget += known.length;
    for (let i = 0; i < sorted.length; ) {
      let start = sorted[i] as bigint;
      let end = start + PAGE;
      while (++i < sorted.length && sorted[i] === end) end += PAGE;
      while (start < end) {
        let size = start === 0n ? 1n << 63n : start & -start;
        while (size > end - start) size >>= 1n;
        this.#backend.unmap(start, size);
        start += size;
      }
    }
  }
}
