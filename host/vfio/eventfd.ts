// Eventfds: how a driver tells its user that something happened. A 64-bit counter with three faces: read it, await it, or have a function
// called. Kernel counterpart: fs/eventfd.c.
import { EAGAIN, EFAULT, EINVAL, ESPIPE } from '../../assembly/abi.ts';
import { VfioFile } from './file.ts';
import type { Task } from './task.ts';
import { type UserBuffer, viewOf } from './user.ts';

/** The largest count that a user's write may reach; a driver's signal may go one further. */
const MAX = 0xfffffffffffffffen;
const OVERFLOW = 0xffffffffffffffffn;

/** Signals whose hooks run now, in their order; null: none do. A signal is one synchronous call, so there is one such run at a time. */
let running: EventFd[] | null = null;
/** Signals that hooks may cause in one run. An eventfd that a device signals and that writes to this device goes round that often and no longer. */
const MAX_RUN = 1000;

/** A 64-bit counter that drivers signal: read it, await it, or have a function called. */
export class EventFd extends VfioFile implements AsyncIterable<bigint> {
  readonly kind = 'eventfd';
  /** Semaphore semantics: each read takes 1 instead of all. */
  readonly semaphore: boolean;
  #count: bigint;
  #listeners = new Set<(count: bigint) => void>();
  #hooks = new Set<() => void>();
  #closeListeners = new Set<() => void>();
  #waiters: Array<() => void> = [];

  constructor(initval = 0n, semaphore = false) {
    super();
    this.#count = initval;
    this.semaphore = semaphore;
  }

  get count(): bigint {
    return this.#count;
  }

  /** Adds `n` and wakes whoever waits; a counter that would overflow stays at 2^64 - 1 (eventfd(2), "overflow"). */
  signal(n = 1n): void {
    this.#count = this.#count + n > OVERFLOW ? OVERFLOW : this.#count + n;
    if (this.#hooks.size > 0) this.#runHooks();
    for (const listener of [...this.#listeners]) listener(this.#count);
    if (this.#count > 0n) for (const wake of this.#waiters.splice(0)) wake();
  }

  /**
   * What hangs on this eventfd inside the kernel: the last that was hung up comes first, as in a wait queue. A signal that a hook causes has its hooks run
   * after that one.
   */
  #runHooks(): void {
    if (running !== null) {
      if (running.length <= MAX_RUN) running.push(this);
      return;
    }
    running = [this];
    try {
      // The list is walked with what is added meanwhile.
      for (const eventfd of running) for (const hook of [...eventfd.#hooks].reverse()) hook();
    } finally {
      running = null;
    }
  }

  /** Takes the counter (or 1 of it with semaphore semantics); null when it is 0. */
  take(): bigint | null {
    if (this.#count === 0n) return null;
    const taken = this.semaphore ? 1n : this.#count;
    this.#count -= taken;
    return taken;
  }

  /** Calls back on every signal, at once and synchronously, with the counter's value. Returns a function that stops it. */
  onSignal(listener: (count: bigint) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * For drivers: an action that every signal triggers, and so does a write of 0. Returns a function that stops it.
   * @internal
   */
  hook(action: () => void): () => void {
    this.#hooks.add(action);
    return () => this.#hooks.delete(action);
  }

  /** Calls back when the last descriptor is closed: nobody can signal through one any more. Returns a function that stops it. */
  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  /** @internal */
  protected override release(): void {
    for (const listener of [...this.#closeListeners]) listener();
  }

  /** Resolves with what was taken as soon as the counter is not 0. */
  async next(): Promise<bigint> {
    for (;;) {
      const taken = this.take();
      if (taken !== null) return taken;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** What was taken, each time the counter is not 0; never ends. */
  async *[Symbol.asyncIterator](): AsyncIterator<bigint> {
    for (;;) yield await this.next();
  }

  /** @returns 8. -ESPIPE with an offset; -EINVAL fewer than 8 bytes; -EAGAIN the counter is 0; -EFAULT. @internal */
  override read(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (offset !== null) return task.fail(ESPIPE, 'an eventfd has no positions');
    if (buffer.length < 8) return task.fail(EINVAL, 'an eventfd is read in 8 bytes');
    const taken = this.take();
    if (taken === null) return task.fail(EAGAIN, 'the counter is 0');
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, taken, true);
    return buffer.copyOut(0, bytes) ? 8 : task.fail(EFAULT, 'the buffer is not writable');
  }

  /** @returns 8. -ESPIPE with an offset; -EINVAL fewer than 8 bytes, or 2^64 - 1; -EFAULT; -EAGAIN the counter would overflow. @internal */
  override write(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (offset !== null) return task.fail(ESPIPE, 'an eventfd has no positions');
    if (buffer.length < 8) return task.fail(EINVAL, 'an eventfd is written in 8 bytes');
    const bytes = buffer.copyIn(0, 8);
    if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
    const n = viewOf(bytes).getBigUint64(0, true);
    if (n > MAX) return task.fail(EINVAL, 'the value is larger than 2^64 - 2');
    if (this.#count + n > MAX) return task.fail(EAGAIN, 'the counter would overflow');
    // A write of 0 leaves the counter alone, but wakes.
    this.signal(n);
    return 8;
  }
}
