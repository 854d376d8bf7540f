// Deferred work of a device: queued once however often it is scheduled, run by the clock, cancelled or run to the end by whoever must know.
// Kernel counterpart: struct work_struct.
import type { Vfio } from '../../vfio/vfio.ts';

export class Work {
  readonly #vfio: Vfio;
  readonly #run: () => void;
  #cancel: (() => void) | null = null;

  constructor(vfio: Vfio, run: () => void) {
    this.#vfio = vfio;
    this.#run = run;
  }

  get pending(): boolean {
    return this.#cancel !== null;
  }

  /** Queues the work; nothing changes when it is queued already. */
  schedule(): void {
    this.#cancel ??= this.#vfio.clock.after(0, () => {
      this.#cancel = null;
      try {
        this.#run();
      } catch (error) {
        this.#vfio.core.fault(error);
      }
    });
  }

  /** Takes the work off the queue. */
  cancel(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  /** Runs the work now if it is queued. */
  flush(): void {
    if (!this.pending) return;
    this.cancel();
    this.#run();
  }
}
