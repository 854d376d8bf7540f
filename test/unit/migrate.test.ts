// A guest moves: both sides of Migration over a link, a stream, a port, a file of bytes. Source: spec migration section C.
import { describe, expect, it } from 'vitest';
import { EIO } from '../../assembly/abi.ts';
import { ManualClock } from '../../host/clock.ts';
import { portLink, webStreamLink } from '../../host/migration/adapters.ts';
import { type Link, linkPair } from '../../host/migration/link.ts';
import { Migration } from '../../host/migration/migration.ts';
import { MigrationError, type MigrationOptions } from '../../host/migration/types.ts';
import { freshCore } from '../support/core.ts';
import { Random } from '../support/counts.ts';
import { PAGE, TinyGuest } from '../support/guest.ts';

const RUNNING = 2;
const STOP = 1;

async function pair(blocks = [8, 3], features = [7, 7]) {
  const make = async () => new TinyGuest(await freshCore({ length: 1 << 20 }), blocks, features);
  const source = await make();
  const target = await make();
  source.running = true;
  const random = new Random(5);
  for (let i = 0; i < 40; i++)
    source.poke(i % blocks.length, random.int(blocks[i % blocks.length]! * PAGE - 1), random.int(256));
  for (const bank of source.banks) for (let i = 0; i < bank.regs.length; i++) bank.regs[i] = random.int(256);
  return { source, target };
}

const OPTIONS: MigrationOptions = { frameSize: 16384 };

async function move(source: TinyGuest, target: TinyGuest, links: [Link, Link] = linkPair(), options = OPTIONS) {
  const there = new Migration(source.guest, options);
  const here = new Migration(target.guest, options);
  const results = await Promise.allSettled([there.send(links[0]), here.receive(links[1])]);
  return { there, here, sent: results[0], received: results[1] };
}

const reason = (result: PromiseSettledResult<unknown>) =>
  result.status === 'rejected' && result.reason instanceof MigrationError ? result.reason.reason : result.status;

describe('Migration', () => {
  it('moves memory and device state, stops the source, runs the destination', async () => {
    const { source, target } = await pair();
    const before = source.picture();
    const { sent, received } = await move(source, target);
    expect(sent).toMatchObject({ status: 'fulfilled', value: { outcome: 'committed', acknowledged: true } });
    expect(received).toMatchObject({ status: 'fulfilled', value: { outcome: 'committed' } });
    expect(target.picture()).toEqual(before);
    expect(source.picture()).toEqual(before);
    expect([source.running, target.running]).toEqual([false, true]);
    expect(source.states()).toEqual([STOP, STOP]);
    expect(target.states()).toEqual([RUNNING, RUNNING]);
    expect(target.setups).toBe(1);
  });

  it('leaves nothing behind in either core', async () => {
    const { source, target } = await pair();
    const live = [source, target].map((side) => side.process.core.liveBytes);
    const files = [source, target].map((side) => side.process.task.openFiles);
    await move(source, target);
    expect([source, target].map((side) => side.process.core.liveBytes)).toEqual(live);
    expect([source, target].map((side) => side.process.task.openFiles)).toEqual(files);
  });

  it('pages written while copying are sent again, by processors and by devices', async () => {
    const { source, target } = await pair();
    const events: string[] = [];
    const { sent } = await move(source, target, linkPair(), {
      ...OPTIONS,
      policy: { downtimeLimit: 0, maxRounds: 5 },
      clock: { now: () => events.length, after: () => () => {} },
      onEvent(event) {
        events.push(event);
        if (/round 0/.test(event)) {
          source.poke(0, 3 * PAGE, 7, 7, 7);
          source.dma(0, 1, 2 * PAGE + 5, 9, 9);
          source.banks[1]!.regs[5] = 99;
        }
      },
    });
    expect(sent.status).toBe('fulfilled');
    expect(target.picture()).toEqual(source.picture());
    expect(target.process.view(target.ram[1]!.address + BigInt(2 * PAGE + 5), 2)).toEqual(new Uint8Array([9, 9]));
  });

  it('walks all devices past the quiet point together, on both sides', async () => {
    const { source, target } = await pair();
    const trace: string[] = [];
    for (const [side, guest] of [
      ['source', source],
      ['target', target],
    ] as const)
      for (const bank of guest.banks)
        bank.inArc = (from, to) => {
          if (side === 'source' && to === 3) {
            // Nobody copies before everybody is quiet.
            for (const other of guest.banks) expect([7, 3]).toContain(other.migration!.state);
          }
          if (side === 'target' && from === 5 && to === 2)
            for (const other of guest.banks) expect([5, 2]).toContain(other.migration!.state);
          trace.push(`${side} ${bank.name} ${from}>${to}`);
        };
    await move(source, target);
    expect(trace.filter((line) => line.startsWith('source'))).toEqual([
      'source bank0 2>6',
      'source bank1 2>6',
      'source bank0 6>7',
      'source bank1 6>7',
      'source bank0 7>3',
      'source bank1 7>3',
      'source bank0 3>1',
      'source bank1 3>1',
    ]);
    expect(trace.filter((line) => line.startsWith('target')).slice(-4)).toEqual([
      'target bank0 1>5',
      'target bank1 1>5',
      'target bank0 5>2',
      'target bank1 5>2',
    ]);
  });

  it('refuses devices that cannot be quiet together', async () => {
    const { source } = await pair([2], [7, 1]);
    const [quick, slow] = source.guest.devices;
    const peers = [{ target: slow!.name, initiator: quick!.name }];
    await expect(new Migration({ ...source.guest, peers }).send(linkPair()[0])).rejects.toThrow(/bank1 cannot quiesce/);
    expect(source.running).toBe(true);
    expect(source.states()).toEqual([RUNNING, RUNNING]);
    // A mapped BAR that nobody accounts for counts as reachable.
    source.process.mmap(4096, { fd: slow!.fd, offset: 0 });
    await expect(new Migration(source.guest).send(linkPair()[0])).rejects.toThrow(/bank1 cannot quiesce/);
    const { source: other, target } = await pair([2], [7, 1]);
    expect((await move(other, target)).sent.status).toBe('fulfilled');
  });

  it('refuses a device that does not migrate', async () => {
    const { source } = await pair([2], [7, 0]);
    await expect(new Migration(source.guest).send(linkPair()[0])).rejects.toMatchObject({ reason: 'refused' });
  });

  it('a destination that differs says how, and both sides stay as they were', async () => {
    const { source } = await pair([8, 3]);
    const { target } = await pair([8, 4]);
    const { sent, received } = await move(source, target);
    expect(reason(sent)).toBe('refused');
    expect(reason(received)).toBe('refused');
    expect(String((sent as PromiseRejectedResult).reason)).toMatch(/RAM differs/);
    expect([source.running, target.running]).toEqual([true, false]);
    expect([...source.states(), ...target.states()]).toEqual([RUNNING, RUNNING, RUNNING, RUNNING]);
  });

  it('a failing setup at the destination refuses the guest and puts everything back', async () => {
    const { source, target } = await pair();
    target.poke(0, 100, 1, 2, 3);
    target.banks[0]!.regs.fill(0x11);
    const before = target.picture();
    target.failSetup = new Error('no vector left');
    const { sent, received } = await move(source, target);
    expect(reason(sent)).toBe('refused');
    expect(String((sent as PromiseRejectedResult).reason)).toMatch(/no vector left/);
    expect(received.status).toBe('rejected');
    expect(target.picture()).toEqual(before);
    expect(source.running).toBe(true);
    expect([...source.states(), ...target.states()]).toEqual([RUNNING, RUNNING, RUNNING, RUNNING]);
    target.failSetup = null;
    expect((await move(source, target)).sent.status).toBe('fulfilled');
    expect(target.picture()).toEqual(source.picture());
  });

  it.each([
    [2, 6],
    [6, 7],
    [7, 3],
  ])('a source device that fails the arc %i > %i keeps the guest', async (from, to) => {
    const { source, target } = await pair();
    source.banks[1]!.failArc = { from, to, errno: EIO };
    const before = target.picture();
    const { sent, received } = await move(source, target);
    expect(reason(sent)).toBe('device');
    expect(received.status).toBe('rejected');
    expect([source.running, target.running]).toEqual([true, false]);
    expect(source.states()).toEqual([RUNNING, RUNNING]);
    expect(target.picture()).toEqual(before);
  });

  it('abort at any step returns the guest to the source', async () => {
    const { source, target } = await pair();
    const { source: dry, target: dryTarget } = await pair();
    const steps: string[] = [];
    await move(dry, dryTarget, linkPair(), { ...OPTIONS, onEvent: (event) => steps.push(event) });
    const decision = steps.indexOf('decision: committed');
    expect(decision).toBeGreaterThan(8);
    for (let at = 0; at < decision; at++) {
      let seen = 0;
      const [left, right] = linkPair();
      const there: Migration = new Migration(source.guest, {
        ...OPTIONS,
        onEvent: () => {
          if (seen++ === at) there.abort();
        },
      });
      const here = new Migration(target.guest, OPTIONS);
      const [sent, received] = await Promise.allSettled([there.send(left), here.receive(right)]);
      if (sent.status === 'fulfilled') break;
      expect(reason(sent), `step ${at}`).toBe('aborted');
      if (received.status === 'fulfilled') {
        // The link broke under READY: the source tells how it ended.
        const [question, answer] = linkPair();
        const [outcome] = await Promise.all([here.query(question), there.answer(answer)]);
        expect(outcome).toBe('aborted');
        await expect(here.resolve('aborted')).rejects.toThrow();
      }
      expect(source.running, `step ${at}`).toBe(true);
      expect(target.running).toBe(false);
      expect([...source.states(), ...target.states()]).toEqual([RUNNING, RUNNING, RUNNING, RUNNING]);
    }
  });

  it('goes through bytes: saved, restored, and cancelled on the way', async () => {
    const { source, target } = await pair();
    const first = new Migration(source.guest, OPTIONS);
    for await (const chunk of first.save()) if (chunk.length > 0) break;
    expect(source.running).toBe(true);
    expect(source.states()).toEqual([RUNNING, RUNNING]);
    const second = new Migration(source.guest, { ...OPTIONS, compress: true });
    const chunks: Uint8Array[] = [];
    for await (const chunk of second.save()) chunks.push(chunk.slice());
    expect(second.commit().outcome).toBe('committed');
    async function* file() {
      yield* chunks;
    }
    const report = await new Migration(target.guest, OPTIONS).restore(file());
    expect(report.outcome).toBe('committed');
    expect(target.picture()).toEqual(source.picture());
    expect([source.running, target.running]).toEqual([false, true]);
  });

  it('goes over message ports and WebStreams', async () => {
    const ports = await pair();
    const { port1, port2 } = new MessageChannel();
    const over = await move(ports.source, ports.target, [portLink(port1), portLink(port2)]);
    expect(over.sent.status).toBe('fulfilled');
    expect(ports.target.picture()).toEqual(ports.source.picture());
    port1.close();
    const streams = await pair();
    const up = new TransformStream<Uint8Array, Uint8Array>();
    const down = new TransformStream<Uint8Array, Uint8Array>();
    const through = await move(streams.source, streams.target, [
      webStreamLink(down.readable, up.writable),
      webStreamLink(up.readable, down.writable),
    ]);
    expect(through.sent.status).toBe('fulfilled');
    expect(streams.target.picture()).toEqual(streams.source.picture());
  });

  it('gives up, or stops anyway, when the guest writes faster than the link carries', async () => {
    for (const otherwise of ['abort', 'stop'] as const) {
      const { source, target } = await pair();
      const clock = new ManualClock();
      const { sent } = await move(source, target, linkPair(), {
        ...OPTIONS,
        clock,
        policy: { downtimeLimit: 1, patience: 2, otherwise },
        onProgress({ phase }) {
          clock.advance(10);
          if (phase !== 'pre-copy') return;
          for (const [block, pages] of [8, 3].entries())
            for (let page = 0; page < pages; page++) source.poke(block, page * PAGE, page + 1);
        },
      });
      expect(reason(sent)).toBe(otherwise === 'abort' ? 'policy' : 'fulfilled');
      expect(source.running).toBe(otherwise === 'abort');
      if (otherwise === 'stop') expect(target.picture()).toEqual(source.picture());
    }
  });

  it('a peer that falls silent after the decision holds nobody up', async () => {
    const { source, target } = await pair();
    const clock = new ManualClock();
    const live = source.process.core.liveBytes;
    const [left, right] = linkPair();
    // The destination's last word never arrives.
    const mute: Link = {
      ...right,
      incoming: right.incoming,
      send: (bytes) => (bytes[4] === 19 ? new Promise(() => {}) : right.send(bytes)),
      close: async () => {},
    };
    const sent = new Migration(source.guest, { ...OPTIONS, clock }).send(left);
    void new Migration(target.guest, OPTIONS).receive(mute);
    while (!target.running) await new Promise((resolve) => setTimeout(resolve, 1));
    clock.advance(20_000);
    expect(await sent).toMatchObject({ outcome: 'committed', acknowledged: false });
    expect(source.running).toBe(false);
    expect(source.process.core.liveBytes).toBe(live);
    await right.send(new Uint8Array(24)).catch(() => {});
    expect(source.process.core.liveBytes).toBe(live);
  });
});
