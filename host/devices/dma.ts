// How a device reaches memory: one interface for every model. Behind it lies a container's translation (which checks the permission of the
// mapping and marks written pages dirty) or memory in another process, which answers later. A device therefore treats a transfer as
// something that may still be open: it goes on answering register accesses meanwhile and finishes in `whenDone`.
import { EFAULT, PAGE_SIZE_4K } from '../../assembly/abi.ts';

/** 0 or -errno, now or later. */
export type DmaResult = number | Promise<number>;

/** Memory as a bus master sees it. Addresses are I/O virtual addresses. */
export interface DeviceMemory {
  /** Fills `into`. @returns 0, or -EFAULT (nothing moved) when part of the range is not mapped for reading by the device. */
  read(iova: bigint, into: Uint8Array): DmaResult;
  /** Stores `from` and marks the pages dirty. @returns 0, or -EFAULT (nothing moved) when part is not mapped for writing. */
  write(iova: bigint, from: Uint8Array): DmaResult;
  /**
   * The memory itself, without a copy: a live view for use at once (it ends with the next unmap), or null when the range is not one piece
   * of memory in the core with that permission. With `write` the pages count as written.
   */
  view?(iova: bigint, length: number, write: boolean): Uint8Array | null;
}

/** Calls `next` with the result: at once when it is there, later when it is not. A rejected transfer counts as -EFAULT. */
export function whenDone(result: DmaResult, next: (result: number) => void): void {
  if (typeof result === 'number') next(result);
  else
    result.then(next, () => {
      next(-EFAULT);
    });
}

/** What a model holds as `this.dma`: the same calls, behind the bus master switch, with a bus's behaviour on holes. */
export class DmaPort implements Required<DeviceMemory> {
  readonly #memory: () => DeviceMemory | null;
  #open = 0;

  /** @param memory where transfers go now; null while the device may not be a bus master or nobody is behind it. */
  constructor(memory: () => DeviceMemory | null) {
    this.#memory = memory;
  }

  /** Transfers that wait for memory in another process. */
  get open(): number {
    return this.#open;
  }

  /**
   * Reads. As on a bus each page stands for itself: what cannot be read is zeros.
   * @returns 0, or -EFAULT when some page could not be read.
   */
  read(iova: bigint, into: Uint8Array): DmaResult {
    const memory = this.#memory();
    if (memory === null) {
      into.fill(0);
      return -EFAULT;
    }
    if (into.length === 0) return 0;
    const whole = memory.read(iova, into);
    return whole === 0 ? 0 : this.#settle(whole, iova, into, (at, part) => memory.read(at, part), true);
  }

  /** Writes; pages that cannot be written are left out. @returns 0, or -EFAULT when some page could not be written. */
  write(iova: bigint, from: Uint8Array): DmaResult {
    const memory = this.#memory();
    if (memory === null) return -EFAULT;
    if (from.length === 0) return 0;
    const whole = memory.write(iova, from);
    return whole === 0 ? 0 : this.#settle(whole, iova, from, (at, part) => memory.write(at, part), false);
  }

  /** See DeviceMemory.view; null also when the device may not be a bus master. */
  view(iova: bigint, length: number, write: boolean): Uint8Array | null {
    return this.#memory()?.view?.(iova, length, write) ?? null;
  }

  /** What the transfer in one piece gave is not simply success: it failed, and goes page by page, or it is not there yet. */
  #settle(
    whole: DmaResult,
    iova: bigint,
    bytes: Uint8Array,
    move: (at: bigint, part: Uint8Array) => DmaResult,
    read: boolean,
  ): DmaResult {
    const onePage = Number(iova & BigInt(PAGE_SIZE_4K - 1)) + bytes.length <= PAGE_SIZE_4K;
    const retry = (result: number): DmaResult => {
      if (result >= 0) return 0;
      if (!onePage) return this.#byPage(iova, bytes, move, read);
      if (read) bytes.fill(0);
      return -EFAULT;
    };
    if (typeof whole === 'number') return retry(whole);
    this.#open++;
    return whole
      .catch(() => -EFAULT)
      .then(retry)
      .finally(() => {
        this.#open--;
      });
  }

  #byPage(
    iova: bigint,
    bytes: Uint8Array,
    move: (at: bigint, part: Uint8Array) => DmaResult,
    read: boolean,
  ): DmaResult {
    let failed = 0;
    const step = (done: number): DmaResult => {
      for (let at = done; at < bytes.length; ) {
        const address = BigInt.asUintN(64, iova + BigInt(at));
        const size = Math.min(bytes.length - at, PAGE_SIZE_4K - Number(address & BigInt(PAGE_SIZE_4K - 1)));
        const part = bytes.subarray(at, at + size);
        const settle = (result: number) => {
          if (result >= 0) return;
          failed = -EFAULT;
          if (read) part.fill(0);
        };
        const result = move(address, part);
        at += size;
        if (typeof result !== 'number') {
          const next = at;
          return result
            .catch(() => -EFAULT)
            .then(settle)
            .then(() => step(next));
        }
        settle(result);
      }
      return failed;
    };
    return step(0);
  }
}
