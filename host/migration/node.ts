// Links over Node's streams: sockets, pipes, standard input and output, files.
import { type Link, LinkError, linkOf } from './link.ts';

// The streams by their shape, so that the declarations of this package need none of Node's and the entries for browsers offer the same names.

/** What is used of a readable Node stream of bytes. */
export interface NodeReadable {
  // biome-ignore lint/suspicious/noExplicitAny: as Node declares its listeners
  on(event: string, listener: (...args: any[]) => void): unknown;
  destroy(error?: Error): unknown;
  [Symbol.asyncIterator](): AsyncIterator<unknown>;
}

/** What is used of a writable Node stream of bytes. */
export interface NodeWritable {
  readonly destroyed: boolean;
  readonly errored: Error | null;
  write(chunk: Uint8Array, done: (error?: Error | null) => void): boolean;
  end(done?: () => void): unknown;
  destroy(error?: Error): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: as Node declares its listeners
  on(event: string, listener: (...args: any[]) => void): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: as Node declares its listeners
  once(event: string, listener: (...args: any[]) => void): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: as Node declares its listeners
  removeListener(event: string, listener: (...args: any[]) => void): unknown;
}

/** Writes one chunk and waits until the stream has done with it. */
function write(stream: NodeWritable, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stream.destroyed) {
      reject(stream.errored ?? new LinkError('the stream is closed'));
      return;
    }
    // A stream that dies with a chunk in its buffer may never call back for it.
    const gone = () => reject(stream.errored ?? new LinkError('the stream was closed'));
    stream.once('close', gone);
    stream.write(bytes, (error) => {
      stream.removeListener('close', gone);
      if (error) reject(error);
      else resolve();
    });
  });
}

/** A pair of Node streams, or the two halves of one. */
export function nodeLink(readable: NodeReadable, writable: NodeWritable): Link {
  // Errors come out of the iterator and the writes; an emitter without listener would end the process.
  readable.on('error', () => {});
  writable.on('error', () => {});
  let closed = false;
  return linkOf(
    readable as AsyncIterable<unknown> as AsyncIterable<Uint8Array>,
    (bytes) => write(writable, bytes),
    async (reason) => {
      if (closed) return;
      closed = true;
      if (reason !== undefined) {
        const error = reason instanceof Error ? reason : new LinkError(String(reason));
        writable.destroy(error);
        readable.destroy(error);
      } else if (!writable.destroyed) await new Promise<void>((resolve) => writable.end(resolve));
    },
  );
}

/** A socket (TCP, UNIX domain) or any other duplex stream. */
export const socketLink = (socket: NodeReadable & NodeWritable): Link => nodeLink(socket, socket);

/** Bytes into a writable stream, for `Migration.save`. Resolves when the stream has ended and taken everything. */
export async function writeAll(bytes: AsyncIterable<Uint8Array>, stream: NodeWritable): Promise<void> {
  let failed: unknown = null;
  stream.on('error', (error) => {
    failed = error;
  });
  for await (const chunk of bytes) await write(stream, chunk);
  await new Promise<void>((resolve, reject) => {
    stream.once('close', () => (failed === null ? resolve() : reject(failed)));
    stream.end();
  });
}
