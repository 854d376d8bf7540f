// Pages of the core's user windows: the RAM of every task of an instance. The core counts who needs each page (assembly/iommu/pages.ts), so a
// page that a device pins outlives its mapping; this class is its face.
import { EINVAL, PAGE_SIZE_4K } from '../assembly/abi.ts';
import type { Core } from './core.ts';

export class PageAllocator {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Bytes that somebody needs: mapped, or pinned after their mapping went. */
  get usedBytes(): number {
    return this.#core.usedPages * PAGE_SIZE_4K;
  }

  /** @param size bytes, a multiple of 4096. @returns the linear address of zeroed pages, or 0 when no run is long enough. */
  allocate(size: number): number {
    if (size <= 0 || size % PAGE_SIZE_4K !== 0) return 0;
    return this.#core.exports.pages_alloc(this.#core.pages, size / PAGE_SIZE_4K) >>> 0;
  }

  /**
   * Takes these pages as they are, content and all: RAM that an embedder has filled. @param size bytes, a multiple of 4096.
   * @returns 0, or -errno: EINVAL not page aligned or not all between the core's userBase and userEnd; EEXIST some are in use.
   */
  claim(linear: number, size: number): number {
    if (!Number.isInteger(linear) || linear < 0 || linear > 0xffffffff || linear % PAGE_SIZE_4K !== 0) return -EINVAL;
    return this.#core.exports.pages_claim(this.#core.pages, linear, size / PAGE_SIZE_4K);
  }

  /** Gives a run (or part of one) back. */
  free(start: number, size: number): void {
    this.#core.exports.pages_put(this.#core.pages, start, size / PAGE_SIZE_4K);
  }
}
