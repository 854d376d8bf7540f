// Pages of the core's user windows: the RAM of every task of an instance. Runs of pages, first fit, zeroed when handed out.
import { PAGE_SIZE_4K } from '../assembly/abi.ts';
import type { Core } from './core.ts';

interface Run {
  start: number;
  end: number;
}

export class PageAllocator {
  readonly #core: Core;
  #free: Run[];
  #used = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#free = [{ start: core.userBase, end: core.userEnd }];
  }

  /** Bytes handed out and not yet given back. */
  get usedBytes(): number {
    return this.#used;
  }

  /** @param size bytes, a multiple of 4096. @returns the linear address of zeroed pages, or 0 when no run is long enough. */
  allocate(size: number): number {
    const run = this.#free.find((candidate) => candidate.end - candidate.start >= size);
    if (run === undefined || size <= 0 || size % PAGE_SIZE_4K !== 0) return 0;
    const { start } = run;
    run.start += size;
    if (run.start === run.end) this.#free = this.#free.filter((other) => other !== run);
    this.#used += size;
    this.#core.u8.fill(0, start, start + size);
    return start;
  }

  /** Gives a run (or part of one) back. */
  free(start: number, size: number): void {
    const end = start + size;
    this.#used -= size;
    const at = this.#free.findIndex((run) => run.start >= end);
    const index = at === -1 ? this.#free.length : at;
    const before = this.#free[index - 1];
    const after = this.#free[index];
    if (before?.end === start) {
      before.end = end;
      if (after?.start === end) {
        before.end = after.end;
        this.#free.splice(index, 1);
      }
    } else if (after?.start === end) after.start = start;
    else this.#free.splice(index, 0, { start, end });
  }
}
