// `vfio-wasm migrate` between two processes and through a file, as a user runs it.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const MAIN = new URL('../../dist/host/cli/main.js', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'vfio-wasm-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function start(...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [MAIN, 'migrate', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout?.on('data', (data) => {
    out += data;
  });
  child.stderr?.on('data', (data) => {
    err += data;
  });
  return { child, ended: new Promise((resolve) => child.on('close', (status) => resolve({ status, out, err }))) };
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('vfio-wasm migrate', () => {
  it('moves the guest over a UNIX socket; both reports agree and nothing is damaged', async () => {
    const address = `unix:${join(folder, 'vm.sock')}`;
    const listener = start('listen', address, '--ram', '4', '--json');
    const sender = start('send', address, '--ram', '4', '--json', '--warm-up', '50');
    const [there, here] = await Promise.all([sender.ended, listener.ended]);
    expect(there).toMatchObject({ status: 0, err: '' });
    expect(here).toMatchObject({ status: 0, err: '' });
    const sent = JSON.parse(there.out);
    const received = JSON.parse(here.out);
    expect(sent).toMatchObject({ side: 'source', outcome: 'committed', acknowledged: true });
    expect(received).toMatchObject({ side: 'destination', outcome: 'committed', pages: sent.pages, id: sent.id });
    expect(received.guest.damage).toEqual([]);
    // The guest went on where it stopped.
    expect(received.guest.steps).toBeGreaterThan(sent.guest.steps);
  });

  it('over TCP, with words and a table', async () => {
    const port = 20000 + (process.pid % 20000);
    const listener = start('listen', `127.0.0.1:${port}`, '--ram', '4');
    const { status, out } = await start('send', `:${port}`, '--ram', '4', '--warm-up', '20').ended;
    expect(status).toBe(0);
    expect(out).toMatch(/round.*pages.*bytes/);
    expect(out).toMatch(/The guest runs at the destination/);
    expect(await listener.ended).toMatchObject({ status: 0, out: expect.stringMatching(/everything fits together/) });
  });

  it('a destination that dies leaves the guest running at the source', async () => {
    const address = join(folder, 'dying.sock');
    const listener = start('listen', address, '--ram', '16', '--json');
    await until(() => existsSync(address));
    // Between the two, to know when the guest is half way.
    let bytes = 0;
    const relay = createServer((from) => {
      const to = createConnection(address);
      from.pipe(to).pipe(from);
      from.on('data', (data) => {
        bytes += data.length;
        if (bytes > 1 << 20) listener.child.kill('SIGKILL');
      });
      for (const socket of [from, to]) socket.on('error', () => {}).on('close', () => from.destroy());
    });
    const between = join(folder, 'relay.sock');
    relay.listen(between);
    try {
      const sender = start('send', between, '--ram', '16', '--dirty-rate', '20000', '--bandwidth', '1', '--json');
      await listener.ended;
      const { status, out } = await sender.ended;
      expect(status).toBe(1);
      expect(JSON.parse(out)).toMatchObject({ error: 'link' });
    } finally {
      relay.close();
    }
  });

  it('through a file; a damaged or shortened file is refused', async () => {
    const path = join(folder, 'vm.img');
    expect(await start('send', `file:${path}`, '--ram', '4', '--warm-up', '50', '--compress').ended).toMatchObject({
      status: 0,
    });
    expect(await start('listen', `file:${path}`, '--ram', '4').ended).toMatchObject({ status: 0 });
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.subarray(0, bytes.length - 1));
    const short = await start('listen', `file:${path}`, '--ram', '4').ended;
    expect(short.status).toBe(1);
    expect(short.err).toMatch(/ends 55 bytes into|ends \d+ bytes into/);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    expect(await start('listen', `file:${path}`, '--ram', '4', '--json').ended).toMatchObject({
      status: 1,
      out: expect.stringContaining('"error":"stream"'),
    });
  });

  it('wrong usage ends with 2', async () => {
    expect((await start('send', 'nowhere').ended).status).toBe(2);
    expect((await start('listen', 'file:/does/not/exist').ended).status).toBe(2);
    expect((await start('send', join(folder, 'nobody.sock'), '--ram', '0').ended).status).toBe(2);
  });
});
