// Addresses of the migrate command: `HOST:PORT`, `unix:PATH` or a path of a socket, `file:PATH`.
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { UsageError } from './input.ts';

export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string };

/** @throws UsageError what is none of the forms. */
export function parseAddress(text: string): Address {
  const file = /^file:(.+)$/.exec(text);
  if (file !== null) return { kind: 'file', path: file[1]! };
  const unix = /^unix:(.+)$/.exec(text) ?? /^([./].*)$/.exec(text);
  if (unix !== null) return { kind: 'unix', path: unix[1]! };
  const tcp = /^(?:tcp:)?\[?([^\]]*?)\]?:(\d{1,5})$/.exec(text);
  const port = Number(tcp?.[2] ?? Number.NaN);
  if (tcp === null || !(port <= 65535)) throw new UsageError(`${text}: not HOST:PORT, unix:PATH or file:PATH`);
  return { kind: 'tcp', host: tcp[1] === '' ? '127.0.0.1' : tcp[1]!, port };
}

type SocketAddress = Exclude<Address, { kind: 'file' }>;
const target = (address: SocketAddress) =>
  address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };

/** Connects; tries again every 100 ms for `patience` ms while nobody listens. */
export async function connect(address: SocketAddress, patience: number): Promise<Socket> {
  const end = Date.now() + patience;
  for (;;) {
    const socket = createConnection(target(address));
    const error = await new Promise<Error | null>((resolve) => {
      socket.once('connect', () => resolve(null));
      socket.once('error', resolve);
    });
    if (error === null) return socket;
    if (Date.now() >= end) throw new UsageError(`${error.message}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Listens. `accept` waits for the next connection. */
export async function listen(address: SocketAddress): Promise<{ server: Server; accept(): Promise<Socket> }> {
  const waiting: Socket[] = [];
  let wanted: ((socket: Socket) => void) | null = null;
  const server = createServer((socket) => {
    if (wanted === null) waiting.push(socket);
    else wanted(socket);
    wanted = null;
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new UsageError(error.message)));
    server.listen(target(address), resolve);
  });
  return {
    server,
    accept: () =>
      new Promise((resolve) => {
        const socket = waiting.shift();
        if (socket === undefined) wanted = resolve;
        else resolve(socket);
      }),
  };
}
