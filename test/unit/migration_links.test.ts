// Links: order, ends, errors and back-pressure of every adapter that runs in both environments.
import { describe, expect, it } from 'vitest';
import {
  portLink,
  readableBytes,
  type WebSocketLike,
  webSocketLink,
  webStreamLink,
} from '../../host/migration/adapters.ts';
import { type Link, LinkError, linkPair, Pipe } from '../../host/migration/link.ts';

/** Two web sockets joined by a wire; what is sent is counted as buffered until the wire is pumped. */
function socketPair() {
  class FakeSocket implements WebSocketLike {
    binaryType = 'blob';
    bufferedAmount = 0;
    readyState = 1;
    peer!: FakeSocket;
    readonly queue: Uint8Array[] = [];
    readonly #listeners = new Map<string, Array<(event: { data?: unknown }) => void>>();
    send(data: Uint8Array): void {
      this.queue.push(data.slice());
      this.bufferedAmount += data.length;
    }
    /** What was sent before still arrives. */
    close(): void {
      this.pump();
      for (const socket of [this, this.peer]) {
        socket.readyState = 3;
        socket.emit('close', {});
      }
    }
    addEventListener(type: string, listener: (event: { data?: unknown }) => void): void {
      this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
    }
    emit(type: string, event: { data?: unknown }): void {
      for (const listener of this.#listeners.get(type) ?? []) listener(event);
    }
    pump(): void {
      for (const data of this.queue.splice(0)) this.peer.emit('message', { data: data.buffer });
      this.bufferedAmount = 0;
    }
  }
  const left = new FakeSocket();
  const right = new FakeSocket();
  left.peer = right;
  right.peer = left;
  return [left, right] as const;
}

const KINDS: ReadonlyArray<[string, () => [Link, Link]]> = [
  ['a pair in memory', linkPair],
  [
    'message ports',
    () => {
      const { port1, port2 } = new MessageChannel();
      return [portLink(port1), portLink(port2)];
    },
  ],
  [
    'WebStreams',
    () => {
      const up = new TransformStream<Uint8Array, Uint8Array>();
      const down = new TransformStream<Uint8Array, Uint8Array>();
      return [webStreamLink(down.readable, up.writable), webStreamLink(up.readable, down.writable)];
    },
  ],
  [
    'web sockets',
    () => {
      const [left, right] = socketPair();
      const pump = async () => {
        left.pump();
        right.pump();
      };
      const timer = setInterval(pump, 1);
      left.addEventListener('close', () => clearInterval(timer));
      return [webSocketLink(left, pump), webSocketLink(right, pump)];
    },
  ],
];

describe.each(KINDS)('a link over %s', (_name, make) => {
  it('carries bytes both ways, in order, to a clean end', async () => {
    const [left, right] = make();
    const sent = Array.from({ length: 50 }, (_, i) => new Uint8Array(1 + ((i * 37) % 200)).fill(i));
    const shared = new Uint8Array(256);
    const sending = (async () => {
      for (const bytes of sent) {
        // One buffer for all: it is borrowed only until the promise resolves.
        shared.set(bytes);
        await left.send(shared.subarray(0, bytes.length));
      }
      await left.close();
    })();
    const received: number[] = [];
    for await (const chunk of right.incoming) received.push(...chunk);
    await sending;
    expect(received).toEqual(sent.flatMap((bytes) => [...bytes]));
    await right.close();
  });

  it('refuses to send after its close', async () => {
    const [left, right] = make();
    const drain = (async () => {
      for await (const _ of right.incoming) {
        // Nothing comes.
      }
    })().catch(() => {});
    await left.close();
    await expect(left.send(new Uint8Array(1))).rejects.toThrow();
    await right.close();
    await drain;
  });
});

describe('back-pressure', () => {
  it('a pipe holds its sender until the chunk was used', async () => {
    const pipe = new Pipe();
    let sent = 0;
    void (async () => {
      for (; sent < 10; sent++) await pipe.send(new Uint8Array(1));
    })();
    const iterator = pipe[Symbol.asyncIterator]();
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(sent).toBe(0);
    await iterator.next();
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(sent).toBe(0);
    await iterator.next();
    expect(sent).toBeLessThanOrEqual(2);
  });

  it('a port lets a few chunks ahead and no more', async () => {
    const { port1, port2 } = new MessageChannel();
    const [left, right] = [portLink(port1), portLink(port2)];
    let sent = 0;
    const sending = (async () => {
      for (; sent < 20; sent++) await left.send(new Uint8Array(8));
      await left.close();
    })();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(sent).toBe(4);
    let bytes = 0;
    for await (const chunk of right.incoming) bytes += chunk.length;
    await sending;
    expect(bytes).toBe(160);
    await right.close();
  });

  it('a web socket waits while its buffer is full', async () => {
    const [left] = socketPair();
    let polls = 0;
    const link = webSocketLink(
      left,
      async () => {
        if (++polls === 3) left.pump();
      },
      10,
    );
    await link.send(new Uint8Array(8));
    expect(polls).toBe(0);
    await link.send(new Uint8Array(8));
    expect(polls).toBe(3);
    await link.close();
  });
});

describe('broken links', () => {
  it('a reason reaches both ends at once', async () => {
    const [left, right] = linkPair();
    const waiting = left.send(new Uint8Array(3));
    await left.close(new LinkError('cut'));
    await expect(waiting).rejects.toThrow('cut');
    await expect(right.incoming[Symbol.asyncIterator]().next()).rejects.toThrow('cut');
    await expect(right.send(new Uint8Array(1))).rejects.toThrow();
  });

  it('a port tells its peer why', async () => {
    const { port1, port2 } = new MessageChannel();
    const [left, right] = [portLink(port1), portLink(port2)];
    await left.close(new Error('no more'));
    await expect(right.incoming[Symbol.asyncIterator]().next()).rejects.toThrow('no more');
    await expect(right.send(new Uint8Array(1))).rejects.toThrow('no more');
  });

  it('leaving a stream early cancels it', async () => {
    let cancelled = false;
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(1)),
      cancel() {
        cancelled = true;
      },
    });
    for await (const _ of readableBytes(stream)) break;
    expect(cancelled).toBe(true);
  });
});
