// What a recorder knows of a process's memory: which mappings there are, by the name of the call that made them, and what the process wrote
// into the pages it looks at directly.
import type { VfioProcess } from '../process.ts';

interface Mapped {
  readonly start: bigint;
  readonly end: bigint;
  readonly name: string;
}
interface Watched {
  readonly address: bigint;
  readonly view: Uint8Array;
  readonly copy: Uint8Array;
}

const CHUNK = 4096;

export class Memory {
  readonly #process: VfioProcess;
  #mapped: Mapped[] = [];
  #watched: Watched[] = [];

  constructor(process: VfioProcess) {
    this.#process = process;
  }

  mapped(start: bigint, length: bigint, name: string): void {
    this.#mapped.push({ start, end: start + ((length + 4095n) & ~4095n), name });
  }

  unmapped(start: bigint, length: bigint): void {
    const end = start + length;
    const outside = (from: bigint, to: bigint) => to <= start || from >= end;
    this.#mapped = this.#mapped.filter((range) => outside(range.start, range.end));
    this.#watched = this.#watched.filter(({ address, view }) => outside(address, address + BigInt(view.length)));
  }

  /** `$name+offset` of an address inside a mapping. */
  reference(address: bigint): string | undefined {
    const range = this.#mapped.find(({ start, end }) => start <= address && address < end);
    if (range === undefined) return undefined;
    return address === range.start ? `$${range.name}` : `$${range.name}+0x${(address - range.start).toString(16)}`;
  }

  /** From now on changes inside this view are found by `changes`. What it holds now counts as written unless it is zero or known already. */
  watch(address: bigint, view: Uint8Array): void {
    const last = address + BigInt(view.length);
    const known = this.#watched.some(
      (other) => other.address <= address && last <= other.address + BigInt(other.view.length),
    );
    if (!known) this.#watched.push({ address, view: this.#process.view(address, view.length), copy: view.slice() });
  }

  /** What changed since the last call, in pieces. */
  changes(): Array<{ address: bigint; data: Uint8Array }> {
    const found: Array<{ address: bigint; data: Uint8Array }> = [];
    for (const { address, view, copy } of this.#watched)
      for (let from = 0; from < view.length; from += CHUNK) {
        let end = Math.min(view.length, from + CHUNK);
        let start = from;
        while (start < end && view[start] === copy[start]) start++;
        while (end > start && view[end - 1] === copy[end - 1]) end--;
        if (start < end) found.push({ address: address + BigInt(start), data: view.slice(start, end) });
        copy.set(view.subarray(start, end), start);
      }
    return found;
  }

  /** Forgets changes that a call made. */
  settle(): void {
    for (const { view, copy } of this.#watched) copy.set(view);
  }
}
