// A link: the two directions of bytes between source and destination. Everything above works on this; adapters for streams, ports and sockets
// are in adapters.ts and node.ts.

/** One end of a connection. */
export interface Link {
  /** Chunks from the peer, of any size; ends when the peer closed. A chunk is the consumer's until it asks for the next. */
  readonly incoming: AsyncIterable<Uint8Array>;
  /**
   * Sends bytes. They are borrowed until the promise resolves, which happens when the link takes more: that is the back-pressure.
   * Rejects when the link is broken.
   */
  send(bytes: Uint8Array): Promise<void>;
  /** No more will be sent; with a reason the link is broken off. Never rejects. */
  close(reason?: unknown): Promise<void>;
}

/** The link is gone. */
export class LinkError extends Error {
  override readonly name: string = 'LinkError';
}

interface Slot {
  bytes: Uint8Array;
  taken: () => void;
  failed: (error: unknown) => void;
}

/** One direction in memory: a sender waits until its chunk was consumed, so nothing is copied and nothing piles up. */
export class Pipe implements AsyncIterable<Uint8Array> {
  #slots: Slot[] = [];
  #wake: (() => void) | null = null;
  #ended = false;
  #error: unknown = null;

  /** Gives a chunk to the reader; resolves when it was consumed. @throws LinkError closed. */
  send(bytes: Uint8Array): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#ended) return Promise.reject(new LinkError('the link is closed'));
    if (bytes.length === 0) return Promise.resolve();
    return new Promise((taken, failed) => {
      this.#slots.push({ bytes, taken, failed });
      this.#notify();
    });
  }

  /** The end, after what was sent; or, with a reason, at once for both sides. */
  close(reason?: unknown): void {
    if (reason !== undefined && this.#error === null) {
      this.#error = reason instanceof Error ? reason : new LinkError(String(reason));
      for (const slot of this.#slots.splice(0)) slot.failed(this.#error);
    }
    this.#ended = true;
    this.#notify();
  }

  /** The chunks, in order, until the end. */
  async *[Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    try {
      for (;;) {
        if (this.#error !== null) throw this.#error;
        const slot = this.#slots[0];
        if (slot !== undefined) {
          yield slot.bytes;
          if (this.#slots[0] === slot) this.#slots.shift();
          slot.taken();
        } else if (this.#ended) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      if (!this.#ended) this.close(new LinkError('the reader went away'));
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}

/** Two ends in one program. */
export function linkPair(): [Link, Link] {
  const there = new Pipe();
  const back = new Pipe();
  const end = (incoming: Pipe, outgoing: Pipe): Link => ({
    incoming,
    send: (bytes) => outgoing.send(bytes),
    async close(reason) {
      outgoing.close(reason);
      if (reason !== undefined) incoming.close(reason);
    },
  });
  return [end(back, there), end(there, back)];
}

/** A link from any two halves: an async iterable of bytes in, a function for bytes out. */
export function linkOf(
  incoming: AsyncIterable<Uint8Array>,
  send: (bytes: Uint8Array) => Promise<void>,
  close: (reason?: unknown) => Promise<void> | void = () => {},
): Link {
  return {
    incoming,
    send,
    async close(reason) {
      await close(reason);
    },
  };
}
