// Time of a device that can be frozen: its timers stop where they are and go on later with what was left. A migrating device's own activity
// hangs on it, so that freezing the clock quiesces the device.
import type { Clock } from '../clock.ts';

interface Timer {
  left: number;
  callback: () => void;
  /** While running: when it was armed, and how to stop it. */
  since: number;
  cancel: (() => void) | null;
}

export class FreezableClock implements Clock {
  readonly #base: Clock;
  readonly #timers = new Set<Timer>();
  #frozen = false;

  constructor(base: Clock) {
    this.#base = base;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  now(): number {
    return this.#base.now();
  }

  after(ms: number, callback: () => void): () => void {
    const timer: Timer = { left: Math.max(0, ms), callback, since: 0, cancel: null };
    this.#timers.add(timer);
    if (!this.#frozen) this.#arm(timer);
    return () => {
      timer.cancel?.();
      this.#timers.delete(timer);
    };
  }

  freeze(): void {
    if (this.#frozen) return;
    this.#frozen = true;
    for (const timer of this.#timers) {
      timer.cancel?.();
      timer.cancel = null;
      timer.left = Math.max(0, timer.left - (this.#base.now() - timer.since));
    }
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    for (const timer of this.#timers) this.#arm(timer);
  }

  /** Forgets every timer: the device's state is about to be replaced. */
  clear(): void {
    for (const timer of this.#timers) timer.cancel?.();
    this.#timers.clear();
  }

  #arm(timer: Timer): void {
    timer.since = this.#base.now();
    timer.cancel = this.#base.after(timer.left, () => {
      this.#timers.delete(timer);
      timer.callback();
    });
  }
}
