// The instructions of a subchannel and its interruptions: condition codes, halt, clear, cancel, paths, what a script can ask of it.
import { describe, expect, it } from 'vitest';
import {
  CCW_CC,
  CCW_SUSPEND,
  CMD_NOP,
  CMD_TIC,
  ENDED,
  ORB_FORMAT1,
  ORB_SUPPRESS_SUSPENDED,
  ORB_SUSPEND,
} from '../../../host/css/cio.ts';
import type { DevicePort } from '../../../host/css/device.ts';
import { EngineSubchannel } from '../../../host/css/engine.ts';
import { bench, type ChannelBench, device, irbFields, makeOrb, putCcws } from '../../support/channel.ts';
import { freshCore } from '../../support/core.ts';

const idle = device({ [CMD_NOP]: () => ({ unitStatus: ENDED }), 2: () => null });
const READ = 0x02;

/** A program that waits for its device, started but not begun. */
async function waiting(begin = false): Promise<ChannelBench> {
  const b = await bench(idle);
  putCcws(b.core, b.base, [{ command: READ, count: 1, address: b.base + 0x100 }]);
  expect(b.subchannel.ssch(makeOrb(b.base))).toBe(0);
  if (begin) b.clock.advance(0);
  return b;
}
const schib = (b: ChannelBench) => {
  const bytes = new Uint8Array(52);
  expect(b.subchannel.stsch(bytes)).toBe(0);
  return new DataView(bytes.buffer);
};

describe('start subchannel', () => {
  it('answers 3 when it is disabled, 2 while a program runs, 1 while status waits for an owner', async () => {
    const b = await waiting();
    expect(b.subchannel.ssch(makeOrb(b.base))).toBe(2);
    const { subchannel } = await bench(idle);
    expect(subchannel.disable()).toBe(0);
    expect(subchannel.ssch(makeOrb(b.base))).toBe(3);
    b.subchannel.listener = null;
    b.subchannel.csch();
    b.clock.advance(0);
    expect(b.subchannel.ssch(makeOrb(b.base))).toBe(1);
    expect(b.subchannel.disable()).toBeLessThan(0);
  });

  it('takes a path that the ORB, the subchannel and the hardware agree on, else answers 3', async () => {
    const b = await bench(idle, [0x10, 0x11]);
    putCcws(b.core, b.base, [{ command: CMD_NOP }]);
    const start = (lpm: number) => b.subchannel.ssch(makeOrb(b.base, ORB_FORMAT1 | (lpm << 8)));
    expect(start(0x20)).toBe(3);
    expect(start(0x40)).toBe(0);
    b.clock.advance(0);
    expect(schib(b).getUint8(10)).toBe(0x40);
    b.subchannel.channelPath('offline', 0x11);
    expect(start(0x40)).toBe(3);
    expect(start(0x00)).toBe(0);
    b.clock.advance(0);
    expect(schib(b).getUint8(10)).toBe(0x80);
    expect([schib(b).getUint8(11), schib(b).getUint8(15), schib(b).getUint16(16)]).toEqual([0xc0, 0x80, 0x1011]);
  });

  it('shows start pending, then subchannel and device active', async () => {
    const b = await waiting();
    expect(schib(b).getUint32(28) & 0xffe0).toBe(0x4400);
    b.clock.advance(0);
    expect(schib(b).getUint32(28) & 0xffe0).toBe(0x40c0);
    expect([schib(b).getUint32(0), schib(b).getUint16(4)]).toEqual([1, 0x0081]);
  });
});

describe('ending from outside', () => {
  it('cancel takes back what has not begun, silently; afterwards it answers 2', async () => {
    const b = await waiting();
    expect(b.subchannel.xsch()).toBe(0);
    b.clock.advance(10);
    expect(b.irbs).toEqual([]);
    expect(b.subchannel.xsch()).toBe(2);
    expect((await waiting(true)).subchannel.xsch()).toBe(2);
  });

  it('halt of an active program ends it with primary and secondary status', async () => {
    const b = await waiting(true);
    expect(b.subchannel.hsch()).toBe(0);
    expect(b.irbs).toEqual([]);
    b.clock.advance(0);
    expect(b.irbs.map(({ word0, unitStatus }) => [word0 & 0xffff, unitStatus])).toEqual([[0x6007, ENDED]]);
    expect(b.subchannel.disable()).toBe(0);
  });

  it('halt and clear of an idle subchannel end with status pending alone', async () => {
    const b = await bench(idle);
    b.subchannel.hsch();
    b.clock.advance(0);
    b.subchannel.csch();
    b.clock.advance(0);
    expect(b.irbs.map(({ word0 }) => word0 & 0xffff)).toEqual([0x2001, 0x1001]);
  });

  it('a device that ends its command after the clear is not heard', async () => {
    let end = () => {};
    const b = await bench(
      device({
        [READ]: (transfer) => {
          end = () => transfer.end({ unitStatus: ENDED });
          return null;
        },
      }),
    );
    putCcws(b.core, b.base, [{ command: READ, count: 1, address: b.base }]);
    b.subchannel.ssch(makeOrb(b.base));
    b.clock.advance(0);
    b.subchannel.csch();
    end();
    b.clock.advance(10);
    expect(b.irbs.map(({ word0 }) => word0 & 0xffff)).toEqual([0x1001]);
  });

  it('elapse does at once what the hardware would do in that time', async () => {
    const b = await waiting(true);
    b.subchannel.csch();
    b.subchannel.elapse(3000);
    expect(b.irbs).toHaveLength(1);
  });

  it('revoke drops the program without a word', async () => {
    const b = await waiting();
    b.subchannel.revoke();
    b.clock.advance(10);
    expect([b.irbs, b.fetched]).toEqual([[], []]);
    expect(b.subchannel.disable()).toBe(0);
  });

  it('settle runs a program at once, and says when it does not end', async () => {
    const b = await bench(idle);
    putCcws(b.core, b.base, [
      { command: CMD_NOP, flags: CCW_CC },
      { command: CMD_TIC, address: b.base },
    ]);
    putCcws(b.core, b.base + 64, [{ command: CMD_NOP }]);
    expect(b.subchannel.immediate).toBe(true);
    b.subchannel.ssch(makeOrb(b.base + 64));
    expect(b.subchannel.settle()).toBe(true);
    expect(b.irbs).toHaveLength(1);
    b.subchannel.ssch(makeOrb(b.base));
    expect(b.subchannel.settle()).toBe(false);
  });
});

describe('what a script asks', () => {
  it('condition codes as told, and 0 again as the hardware', async () => {
    const b = await bench(idle);
    putCcws(b.core, b.base, [{ command: CMD_NOP }]);
    for (const cc of [1, 2, 3] as const) {
      for (const name of ['ssch', 'hsch', 'csch'] as const) b.subchannel.answer(name, cc);
      expect([b.subchannel.ssch(makeOrb(b.base)), b.subchannel.hsch(), b.subchannel.csch()]).toEqual([cc, cc, cc]);
    }
    b.subchannel.answer('ssch', 0);
    expect(b.run(b.base).unitStatus).toBe(ENDED);
  });

  it('hold keeps a program start-pending until it is released', async () => {
    const b = await bench(idle);
    putCcws(b.core, b.base, [{ command: CMD_NOP }]);
    b.subchannel.hold(true);
    b.subchannel.ssch(makeOrb(b.base));
    b.clock.advance(100);
    expect([b.irbs, b.subchannel.immediate]).toEqual([[], false]);
    b.subchannel.hold(false);
    b.clock.advance(0);
    expect(b.irbs).toHaveLength(1);
  });

  it('an interruption as given ends a held program, unless it is unsolicited', async () => {
    const b = await bench(idle);
    b.subchannel.hold(true);
    b.subchannel.ssch(makeOrb(b.base));
    const irb = (control: number) => {
      const bytes = new Uint8Array(64);
      new DataView(bytes.buffer).setUint32(0, control);
      return bytes;
    };
    b.subchannel.interrupt(irb(0x11));
    expect(b.subchannel.ssch(makeOrb(b.base))).toBe(2);
    b.subchannel.interrupt(irb(0x4007));
    expect(b.irbs.map(({ word0 }) => word0)).toEqual([0x11, 0x4007]);
    expect(b.subchannel.ssch(makeOrb(b.base))).toBe(0);
  });
});

describe('the device on its own', () => {
  it('attention is an unsolicited interruption; nobody hears it on a disabled subchannel', async () => {
    let port: DevicePort | undefined;
    const b = await bench({ ...idle, connect: (given) => (port = given) });
    port!.present(0x80);
    expect(b.irbs.map(({ word0, unitStatus }) => [word0, unitStatus])).toEqual([[0x11, 0x80]]);
    b.subchannel.disable();
    port!.present(0x80);
    expect(b.irbs).toHaveLength(1);
  });

  it('status without a listener waits for one', async () => {
    let port: DevicePort | undefined;
    const b = await bench({ ...idle, connect: (given) => (port = given) });
    b.subchannel.listener = null;
    port!.present(0x80);
    const heard: number[] = [];
    b.subchannel.listener = {
      interrupt: (irb) => heard.push(irbFields(irb).unitStatus),
      channelPath: () => {},
      examine: () => {},
    };
    expect(heard).toEqual([0x80]);
  });

  it('a subchannel whose device is gone answers 3 to everything and asks its owner to look', async () => {
    const b = await bench(idle);
    let examined = 0;
    b.subchannel.listener = { interrupt: () => {}, channelPath: () => {}, examine: () => (examined += 1) };
    b.subchannel.detach();
    const { subchannel } = b;
    expect([
      subchannel.ssch(makeOrb(b.base)),
      subchannel.hsch(),
      subchannel.csch(),
      subchannel.xsch(),
      subchannel.rsch(),
      subchannel.stsch(new Uint8Array(52)),
    ]).toEqual([3, 3, 3, 3, 3, 3]);
    expect([subchannel.enable(1), subchannel.disable(), examined]).toEqual([-19, -19, 1]);
  });

  it('a suspension is silent when the ORB suppresses it', async () => {
    const b = await bench(idle);
    putCcws(b.core, b.base, [{ command: CMD_NOP, flags: CCW_SUSPEND }]);
    b.subchannel.ssch(makeOrb(b.base, ORB_FORMAT1 | ORB_SUSPEND | ORB_SUPPRESS_SUSPENDED));
    b.clock.advance(0);
    expect(b.irbs).toEqual([]);
    expect(schib(b).getUint32(28) & 0xffe0).toBe(0x4020);
  });

  it('a subchannel with eight paths has them all in its masks', async () => {
    const core = await freshCore({ length: 1 << 20 });
    const clock = { now: () => 0, after: () => () => {} };
    const subchannel = new EngineSubchannel({
      busId: '0.0.0001',
      core,
      clock,
      device: idle,
      chpids: [0, 1, 2, 3, 4, 5, 6, 7],
    });
    expect(subchannel.pmcw.pim).toBe(0xff);
  });
});
