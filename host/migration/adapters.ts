// Links over what a platform offers: WebStreams, message ports, web sockets. All respect back-pressure. Node's streams and sockets are in node.ts.
import { type Link, LinkError, linkOf, Pipe } from './link.ts';

/** Bytes of a readable stream, cancelled when the consumer stops early. */
export async function* readableBytes(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        ended = true;
        return;
      }
      yield value;
    }
  } finally {
    if (!ended) await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}

/** A pair of WebStreams, as WebTransport, fetch with a streaming body, or a TransformStream give them. */
export function webStreamLink(readable: ReadableStream<Uint8Array>, writable: WritableStream<Uint8Array>): Link {
  const writer = writable.getWriter();
  let closed = false;
  return linkOf(
    readableBytes(readable),
    async (bytes) => {
      await writer.ready;
      // The stream may keep what it is given.
      await writer.write(bytes.slice());
    },
    async (reason) => {
      if (closed) return;
      closed = true;
      await (reason === undefined ? writer.close() : writer.abort(reason)).catch(() => {});
    },
  );
}

/** What a MessagePort, a Worker and their counterparts in Node share. */
export interface PortLike {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
  start?(): void;
  close?(): void;
}

/** Chunks that may be on their way before the other side has taken one: keeps a window open without piling up. */
const PORT_WINDOW = 4;

/**
 * A message port; both ends must be wrapped. Messages are `{vfioMigration: 'bytes', bytes}`, `{vfioMigration: 'taken'}` and `{vfioMigration: 'close',
 * reason}`; others are left alone.
 */
export function portLink(port: PortLike): Link {
  const pipe = new Pipe();
  let credit = PORT_WINDOW;
  let waiting: Array<{ resolve: () => void; reject: (error: unknown) => void }> = [];
  let broken: Error | null = null;
  let closed = false;
  const fail = (error: Error) => {
    broken ??= error;
    for (const waiter of waiting.splice(0)) waiter.reject(broken);
  };
  port.addEventListener('message', ({ data }) => {
    if (typeof data !== 'object' || data === null || !('vfioMigration' in data)) return;
    const message = data as { vfioMigration: string; bytes?: Uint8Array; reason?: string };
    if (message.vfioMigration === 'taken') {
      credit++;
      waiting.shift()?.resolve();
    } else if (message.vfioMigration === 'bytes' && message.bytes instanceof Uint8Array) {
      pipe.send(message.bytes).then(
        () => port.postMessage({ vfioMigration: 'taken' }),
        () => {},
      );
    } else if (message.vfioMigration === 'close') {
      const error = message.reason === undefined ? undefined : new LinkError(message.reason);
      pipe.close(error);
      fail(error ?? new LinkError('the peer closed the port'));
    }
  });
  port.start?.();
  return linkOf(
    pipe,
    async (bytes) => {
      if (broken !== null) throw broken;
      if (closed) throw new LinkError('the link is closed');
      const copy = bytes.slice();
      credit--;
      if (credit < 0) await new Promise<void>((resolve, reject) => waiting.push({ resolve, reject }));
      port.postMessage({ vfioMigration: 'bytes', bytes: copy }, [copy.buffer]);
    },
    (reason) => {
      if (closed) return;
      closed = true;
      const text = reason === undefined ? {} : { reason: reason instanceof Error ? reason.message : String(reason) };
      port.postMessage({ vfioMigration: 'close', ...text });
      if (reason !== undefined) {
        pipe.close(reason);
        fail(reason instanceof Error ? reason : new LinkError(String(reason)));
      }
      waiting = [];
    },
  );
}

/** The part of a WebSocket that a link needs. `binaryType` is set to `arraybuffer`. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly readyState: number;
  send(data: Uint8Array): void;
  close(): void;
  addEventListener(type: string, listener: (event: { data?: unknown }) => void): void;
}

/** A web socket. It has no sign for "take more", so its buffer is watched; `poll` is the pause between looks. */
export function webSocketLink(
  socket: WebSocketLike,
  poll: () => Promise<void> = () => new Promise((resolve) => setTimeout(resolve, 4)),
  highWater = 1 << 20,
): Link {
  const pipe = new Pipe();
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('message', ({ data }) => {
    if (data instanceof ArrayBuffer) pipe.send(new Uint8Array(data)).catch(() => {});
  });
  socket.addEventListener('close', () => pipe.close());
  socket.addEventListener('error', () => pipe.close(new LinkError('the web socket failed')));
  const opened = new Promise<void>((resolve, reject) => {
    if (socket.readyState === 1) resolve();
    socket.addEventListener('open', () => resolve());
    socket.addEventListener('close', () => reject(new LinkError('the web socket is closed')));
  });
  opened.catch(() => {});
  return linkOf(
    pipe,
    async (bytes) => {
      await opened;
      if (socket.readyState !== 1) throw new LinkError('the web socket is closed');
      socket.send(bytes.slice());
      while (socket.bufferedAmount > highWater && socket.readyState === 1) await poll();
    },
    () => socket.close(),
  );
}
