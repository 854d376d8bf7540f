// An eventfd that another thread can wait for: every signal adds one to a shared word and wakes whoever sleeps on it. For workers, which may block
// where the main thread of a page may not.
import type { EventFd } from './eventfd.ts';

/** Counts an eventfd's signals in shared memory from now on. @returns the word to post to a worker, and a function that ends the sharing. */
export function shareEventfd(eventfd: EventFd): { readonly word: Int32Array; stop(): void } {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const stop = eventfd.onSignal(() => {
    Atomics.add(word, 0, 1);
    Atomics.notify(word, 0);
  });
  return { word, stop };
}

/**
 * Sleeps until the shared eventfd was signalled since `seen` signals. Blocks the thread: for workers and Node.
 * @param seen what the last call returned; 0 at first. @returns signals so far, or `seen` when `timeout` ms passed without one.
 */
export function waitForSignal(word: Int32Array, seen = 0, timeout = Number.POSITIVE_INFINITY): number {
  Atomics.wait(word, 0, seen, timeout);
  return Atomics.load(word, 0);
}
