// The channel engine, rule by rule: small programs against a device of a few lines.
import { describe, expect, it } from 'vitest';
import {
  CCW_CC,
  CCW_CD,
  CCW_IDA,
  CCW_MIDA,
  CCW_PCI,
  CCW_SKIP,
  CCW_SLI,
  CCW_SUSPEND,
  CMD_NOP,
  CMD_TIC,
  ENDED,
  INCORRECT_LENGTH,
  ORB_FORMAT1,
  ORB_IDAW_2K,
  ORB_IDAW64,
  ORB_INITIAL_STATUS,
  ORB_LENGTH_SUPPRESSION,
  ORB_SUSPEND,
  PROGRAM_CHECK,
  PROTECTION_CHECK,
  STATUS_MODIFIER,
} from '../../../host/css/cio.ts';
import type { Transfer } from '../../../host/css/device.ts';
import { bench, type CcwSpec, type ChannelBench, device, makeOrb, putCcws } from '../../support/channel.ts';

const READ = 0x02;
const WRITE = 0x01;
const SEARCH = 0x31;
const BACKWARD = 0x0c;
const ended = { unitStatus: ENDED };
const counting = (n: number) => Uint8Array.from({ length: n }, (_, i) => i + 1);

/** Reads give `block` bytes 1, 2, 3 ...; writes take everything; a search is satisfied the third time. */
function drive(block: number) {
  const written: number[] = [];
  let searches = 0;
  return {
    written,
    device: device({
      [READ]: (transfer: Transfer) => {
        transfer.store(counting(block));
        return ended;
      },
      [BACKWARD]: (transfer: Transfer) => {
        transfer.store(counting(block));
        return ended;
      },
      [WRITE]: (transfer: Transfer) => {
        written.push(...transfer.fetch(block));
        return ended;
      },
      [SEARCH]: (transfer: Transfer) => {
        transfer.fetch(5);
        searches += 1;
        return { unitStatus: ENDED | (searches === 3 ? STATUS_MODIFIER : 0) };
      },
      [CMD_NOP]: () => ended,
    }),
  };
}

const place = (b: ChannelBench) => ({ program: b.base, data: b.base + 0x1000, idal: b.base + 0x800 });

describe('one command', () => {
  it('stores a block and ends with channel end, device end, residual 0 and the address behind the CCW', async () => {
    const b = await bench(drive(16).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, count: 16, address: data }]);
    const irb = b.run(program);
    expect(irb).toMatchObject({ unitStatus: ENDED, channelStatus: 0, residual: 0, ccwAddress: program + 8 });
    expect(irb.word0.toString(16)).toBe('804007');
    expect(b.bytes(data, 17)).toEqual([...counting(16), 0]);
  });

  it('reports a short block as incorrect length with the residual count, unless SLI is on', async () => {
    const b = await bench(drive(10).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, count: 16, address: data }]);
    expect(b.run(program)).toMatchObject({ channelStatus: INCORRECT_LENGTH, residual: 6 });
    putCcws(b.core, program, [{ command: READ, flags: CCW_SLI, count: 16, address: data }]);
    expect(b.run(program)).toMatchObject({ channelStatus: 0, residual: 6 });
  });

  it('reports a block longer than the count as incorrect length with residual 0 and stores no more than the count', async () => {
    const b = await bench(drive(20).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, count: 16, address: data }]);
    const irb = b.run(program);
    expect(irb).toMatchObject({ channelStatus: INCORRECT_LENGTH, residual: 0 });
    expect(irb.word0 & 0x1f).toBe(0x17);
    expect(b.bytes(data, 18)).toEqual([...counting(16), 0, 0]);
  });

  it('skips a read without storing, but moves the count; a write is not skipped', async () => {
    const behind = drive(8);
    const b = await bench(behind.device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, flags: CCW_SKIP, count: 8, address: data }]);
    expect(b.run(program)).toMatchObject({ channelStatus: 0, residual: 0 });
    expect(b.bytes(data, 8)).toEqual(new Array(8).fill(0));
    b.core.u8.fill(7, data, data + 8);
    putCcws(b.core, program, [{ command: WRITE, flags: CCW_SKIP, count: 8, address: data }]);
    b.run(program);
    expect(behind.written).toEqual(new Array(8).fill(7));
  });

  it('reads backward to descending addresses', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: BACKWARD, count: 4, address: data + 3 }]);
    expect(b.run(program).residual).toBe(0);
    expect(b.bytes(data, 4)).toEqual([4, 3, 2, 1]);
  });

  it('an immediate command with a count is an incorrect length in format 1 only, and not in suppression mode', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: CMD_NOP, count: 1, address: data }]);
    expect(b.run(program)).toMatchObject({ channelStatus: INCORRECT_LENGTH, residual: 1 });
    expect(b.run(program, ORB_FORMAT1 | ORB_LENGTH_SUPPRESSION).channelStatus).toBe(0);
    putCcws(b.core, program, [{ command: CMD_NOP, count: 1, address: data }], false);
    expect(b.run(program, 0)).toMatchObject({ channelStatus: 0, residual: 1 });
  });

  it('a unit check brings its sense bytes with it', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: 0x1b, flags: CCW_SLI, count: 4, address: data }]);
    const irb = b.run(program);
    expect(irb).toMatchObject({ unitStatus: 0x0e, erw: 0x01010000 });
    expect(irb.ecw[0]).toBe(0x80);
    expect(irb.word0 & 0x20000).toBe(0x20000);
  });
});

describe('chaining', () => {
  it('command chaining goes on after a normal end and stops at incorrect length', async () => {
    const b = await bench(drive(8).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: READ, flags: CCW_CC, count: 8, address: data },
      { command: READ, flags: CCW_CC, count: 9, address: data + 8 },
      { command: CMD_NOP },
    ]);
    expect(b.run(program)).toMatchObject({ channelStatus: INCORRECT_LENGTH, residual: 1, ccwAddress: program + 16 });
    expect(b.fetched).toEqual([program, program + 8]);
  });

  it('data chaining spreads a block over areas; only the first command counts', async () => {
    const b = await bench(drive(10).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: READ, flags: CCW_CD, count: 4, address: data },
      { command: 0, flags: CCW_CD | CCW_SKIP, count: 2, address: data },
      { command: 0xff, flags: CCW_SLI, count: 8, address: data + 0x100 },
    ]);
    expect(b.run(program)).toMatchObject({ channelStatus: 0, residual: 4, ccwAddress: program + 24 });
    expect(b.bytes(data, 5)).toEqual([1, 2, 3, 4, 0]);
    expect(b.bytes(data + 0x100, 4)).toEqual([7, 8, 9, 10]);
    expect(b.commands[0]?.ccws.map((ccw) => ccw.moved)).toEqual([4, 2, 4]);
  });

  it('a data chain that is not used up is an incorrect length whatever SLI says', async () => {
    const b = await bench(drive(3).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: READ, flags: CCW_CD | CCW_SLI, count: 4, address: data },
      { command: 0, count: 2, address: data },
    ]);
    expect(b.run(program)).toMatchObject({ channelStatus: INCORRECT_LENGTH, residual: 1, ccwAddress: program + 8 });
  });

  it('a search loop runs until status modifier skips its TIC', async () => {
    const b = await bench(drive(8).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: SEARCH, flags: CCW_CC, count: 5, address: data },
      { command: CMD_TIC, address: program },
      { command: READ, count: 8, address: data + 64 },
    ]);
    expect(b.run(program)).toMatchObject({ unitStatus: ENDED, channelStatus: 0, ccwAddress: program + 24 });
    const [search, tic] = [program, program + 8];
    expect(b.fetched).toEqual([search, tic, search, tic, search, program + 16]);
  });

  it.each([
    ['2 KiB format-1 IDAWs', ORB_FORMAT1, 4, 2048],
    ['4 KiB format-2 IDAWs', ORB_FORMAT1 | ORB_IDAW64, 8, 4096],
    ['2 KiB format-2 IDAWs', ORB_FORMAT1 | ORB_IDAW64 | ORB_IDAW_2K, 8, 2048],
  ])('%s: the first may begin anywhere, the others at a block', async (_name, flags, size, block) => {
    const b = await bench(drive(block + 20).device);
    const { program, data, idal } = place(b);
    const put = (index: number, address: number) => {
      if (size === 8) b.core.view.setUint32(idal + index * 8, 0);
      b.core.view.setUint32(idal + index * size + size - 4, address);
    };
    put(0, data + block - 10);
    put(1, data + 4 * 4096);
    put(2, data + 2 * 4096);
    putCcws(b.core, program, [{ command: READ, flags: CCW_IDA, count: block + 20, address: idal }]);
    expect(b.run(program, flags)).toMatchObject({ channelStatus: 0, residual: 0 });
    const expected = [...counting(block + 20)];
    expect(b.bytes(data + block - 10, 10)).toEqual(expected.slice(0, 10));
    expect(b.bytes(data + 4 * 4096, block)).toEqual(expected.slice(10, 10 + block));
    expect(b.bytes(data + 2 * 4096, 10)).toEqual(expected.slice(10 + block));
    put(1, data + 4 * 4096 + 1);
    expect(b.run(program, flags)).toMatchObject({ channelStatus: PROGRAM_CHECK, residual: block + 10 });
  });
});

describe('checks', () => {
  const programs: Array<[string, CcwSpec[], number?]> = [
    ['a program that begins with a TIC', [{ command: CMD_TIC, address: 0x10000 }, { command: CMD_NOP }]],
    ['a misaligned program', [{ command: CMD_NOP }, { command: CMD_NOP }], 4],
    ['a program outside the storage', [], 1 << 20],
    ['a command that ends in 0', [{ command: 0x10, count: 1 }]],
    ['a format-1 command x8 that is no TIC', [{ command: 0x18, count: 1 }]],
    ['the suspend flag without suspend control', [{ command: CMD_NOP, flags: CCW_SUSPEND }]],
    ['modified IDAWs', [{ command: READ, flags: CCW_MIDA, count: 1, address: 0x10000 }]],
    ['data chaining with a count of zero', [{ command: READ, flags: CCW_CD }]],
    ['a data address above 2 GiB', [{ command: READ, count: 1, address: 0x80000000 }]],
  ];
  it.each(programs)('%s is a program check, and the device sees nothing', async (_name, ccws, offset = 0) => {
    let executed = 0;
    const b = await bench({
      execute: () => {
        executed += 1;
        return ended;
      },
    });
    putCcws(b.core, b.base, ccws);
    const irb = b.run(b.base + offset);
    expect(irb).toMatchObject({ unitStatus: 0, channelStatus: PROGRAM_CHECK });
    expect(irb.word0 & 0x1f).toBe(0x17);
    expect(executed).toBe(0);
  });

  it('a TIC to a TIC is a program check', async () => {
    const b = await bench(drive(1).device);
    const tic = { command: CMD_TIC, address: b.base + 8 };
    putCcws(b.core, b.base, [{ command: CMD_NOP, flags: CCW_CC | CCW_SLI, count: 1 }, tic]);
    expect(b.run(b.base)).toMatchObject({ channelStatus: PROGRAM_CHECK, ccwAddress: b.base + 16 });
  });

  it('format 0: a count of zero is a program check, and any x8 is a TIC', async () => {
    const b = await bench(drive(1).device);
    putCcws(b.core, b.base, [{ command: READ, address: b.base }], false);
    expect(b.run(b.base, 0).channelStatus).toBe(PROGRAM_CHECK);
    putCcws(
      b.core,
      b.base,
      [
        { command: CMD_NOP, flags: CCW_CC, count: 1 },
        { command: 0x98, flags: 0xff, count: 9, address: b.base + 24 },
        { command: 0x10, count: 1 },
        { command: CMD_NOP, count: 1 },
      ],
      false,
    );
    expect(b.run(b.base, 0)).toMatchObject({ channelStatus: 0, ccwAddress: b.base + 32 });
  });

  it('a page that the program did not pin is never touched: protection check, counted', async () => {
    const b = await bench(drive(4096).device);
    const pinned = b.base + 0x1000;
    b.subchannel.ledger = { isPinned: (address) => address >>> 12 === pinned >>> 12 };
    const program = b.core.exports.arena_alloc(b.core.arena, 64);
    putCcws(b.core, program, [{ command: READ, count: 4096, address: pinned + 4000 }]);
    expect(b.run(program)).toMatchObject({ channelStatus: PROTECTION_CHECK, residual: 4000 });
    expect(b.bytes(pinned + 4000, 96)).toEqual([...counting(96)]);
    expect(b.bytes(pinned + 4096, 4)).toEqual([0, 0, 0, 0]);
    expect(b.subchannel.violations).toBe(1);
  });

  it('CCWs outside the heap are not a translated program: program check, counted', async () => {
    const b = await bench(drive(1).device);
    b.subchannel.ledger = { isPinned: () => true };
    putCcws(b.core, b.base, [{ command: CMD_NOP }]);
    expect(b.run(b.base).channelStatus).toBe(PROGRAM_CHECK);
    expect(b.subchannel.violations).toBe(1);
    expect(b.fetched).toEqual([]);
  });
});

describe('interruptions on the way', () => {
  it('PCI: an intermediate interruption when its CCW takes control, then the final one without it', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: READ, flags: CCW_CC, count: 4, address: data },
      { command: READ, flags: CCW_PCI, count: 4, address: data },
    ]);
    b.run(program);
    expect(b.irbs.map((irb) => [irb.word0 & 0xfff, irb.channelStatus])).toEqual([
      [0x0c9, 0x80],
      [0x007, 0],
    ]);
  });

  it('PCI in a CCW that suspends: its interruption comes when it takes control, once', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, flags: CCW_SUSPEND | CCW_PCI, count: 4, address: data }]);
    b.run(program, ORB_FORMAT1 | ORB_SUSPEND);
    expect(b.irbs.map((irb) => [irb.word0 & 0xfff, irb.channelStatus])).toEqual([[0x029, 0]]);
    expect(b.subchannel.rsch()).toBe(0);
    b.core.u8[program + 1] = CCW_PCI;
    b.clock.advance(0);
    expect(b.irbs.slice(1).map((irb) => irb.channelStatus)).toEqual([0x80, 0]);
  });

  it('initial status: with the ORB bit, an intermediate interruption with the zero condition code', async () => {
    const b = await bench(drive(4).device);
    putCcws(b.core, b.base, [{ command: CMD_NOP }]);
    b.run(b.base, ORB_FORMAT1 | ORB_INITIAL_STATUS);
    expect(b.irbs.map((irb) => irb.word0 & 0x4001f)).toEqual([0x40009, 0x7]);
  });

  it('suspend: the program stops before its CCW and resumes with it once the flag is off', async () => {
    const b = await bench(drive(4).device);
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: CMD_NOP, flags: CCW_CC },
      { command: READ, flags: CCW_SUSPEND, count: 4, address: data },
    ]);
    const suspended = b.run(program, ORB_FORMAT1 | ORB_SUSPEND);
    expect(suspended.word0 & 0xfff).toBe(0x029);
    expect(suspended.ccwAddress).toBe(program + 16);
    expect(b.bytes(data, 4)).toEqual([0, 0, 0, 0]);
    b.core.u8[program + 9] = 0;
    expect(b.subchannel.rsch()).toBe(0);
    b.clock.advance(0);
    expect(b.irbs.at(-1)).toMatchObject({ unitStatus: ENDED, channelStatus: 0, ccwAddress: program + 16 });
    expect(b.bytes(data, 4)).toEqual([1, 2, 3, 4]);
  });

  it('resume of a program that is not suspended is remembered for its next suspension; without suspend control it is refused', async () => {
    const b = await bench(drive(4).device);
    putCcws(b.core, b.base, [{ command: CMD_NOP, flags: CCW_SUSPEND }]);
    expect(b.subchannel.rsch()).toBe(2);
    b.subchannel.ssch(makeOrb(b.base, ORB_FORMAT1 | ORB_SUSPEND));
    expect(b.subchannel.rsch()).toBe(0);
    b.clock.advance(0);
    expect(b.irbs.map((irb) => irb.word0 & 0x3f)).toEqual([0x07]);
  });

  it('channel end first: primary status, then device end as secondary status', async () => {
    const rewind = device({
      [0x07]: (transfer: Transfer) => {
        late = transfer;
        return { unitStatus: 0x08 };
      },
    });
    let late: Transfer | undefined;
    const b = await bench(rewind);
    putCcws(b.core, b.base, [{ command: 0x07 }]);
    expect(b.run(b.base)).toMatchObject({ unitStatus: 0x08 });
    expect(b.irbs[0]!.word0 & 0xfff).toBe(0x045);
    expect(b.subchannel.ssch(makeOrb(b.base))).toBe(2);
    late!.deviceEnd(0x04);
    expect(b.irbs[1]!).toMatchObject({ unitStatus: 0x04 });
    expect(b.irbs[1]!.word0 & 0xfff).toBe(0x003);
    expect(b.subchannel.disable()).toBe(0);
  });

  it('chaining waits for device end, and a status modifier that comes with it skips', async () => {
    let late: Transfer | undefined;
    const b = await bench(
      device({
        [0x07]: (transfer: Transfer) => {
          late = transfer;
          return { unitStatus: 0x08 };
        },
        [CMD_NOP]: () => ended,
      }),
    );
    putCcws(b.core, b.base, [{ command: 0x07, flags: CCW_CC }, { command: 0x10 }, { command: CMD_NOP }]);
    b.subchannel.ssch(makeOrb(b.base));
    b.clock.advance(0);
    expect(b.irbs).toEqual([]);
    late!.deviceEnd(0x44);
    b.clock.advance(0);
    expect(b.irbs[0]).toMatchObject({ unitStatus: ENDED, channelStatus: 0, ccwAddress: b.base + 24 });
  });
});

describe('long programs', () => {
  it('an endless loop runs in slices and can be cleared', async () => {
    const b = await bench(drive(1).device);
    putCcws(b.core, b.base, [
      { command: CMD_NOP, flags: CCW_CC },
      { command: CMD_TIC, address: b.base },
    ]);
    b.subchannel.ssch(makeOrb(b.base));
    b.clock.advance(0);
    const first = b.fetched.length;
    expect(first).toBeGreaterThan(1000);
    b.clock.advance(1);
    const second = b.fetched.length;
    expect(second).toBeGreaterThan(first);
    expect(b.irbs).toEqual([]);
    expect(b.subchannel.csch()).toBe(0);
    b.clock.advance(10);
    expect(b.fetched.length).toBe(second);
    expect(b.irbs.map((irb) => irb.word0 & 0xffff)).toEqual([0x1001]);
  });

  it('a command that ends later keeps the subchannel busy until then', async () => {
    let late: Transfer | undefined;
    const b = await bench(
      device({
        [READ]: (transfer: Transfer) => {
          late = transfer;
          return null;
        },
      }),
    );
    const { program, data } = place(b);
    putCcws(b.core, program, [{ command: READ, count: 4, address: data }]);
    b.subchannel.ssch(makeOrb(program));
    b.clock.advance(0);
    expect(b.subchannel.ssch(makeOrb(program))).toBe(2);
    expect(b.subchannel.disable()).toBeLessThan(0);
    late!.store(Uint8Array.of(9, 9, 9, 9));
    late!.end(ended);
    expect(b.irbs[0]).toMatchObject({ unitStatus: ENDED, residual: 0 });
    expect(b.bytes(data, 4)).toEqual([9, 9, 9, 9]);
  });

  it.each(['ended', 'cleared'])('a command that has %s reaches no storage any more', async (how) => {
    let late: Transfer | undefined;
    const b = await bench(
      device({
        [READ]: (transfer: Transfer) => {
          late ??= transfer;
          return null;
        },
      }),
    );
    const { program, data } = place(b);
    putCcws(b.core, program, [
      { command: READ, flags: CCW_CD, count: 4, address: data },
      { command: READ, count: 4, address: data },
    ]);
    b.subchannel.ssch(makeOrb(program));
    b.clock.advance(0);
    if (how === 'ended') late!.end(ended);
    else b.subchannel.csch();
    b.clock.advance(0);
    b.subchannel.ssch(makeOrb(program));
    b.clock.advance(0);
    expect([late!.more, late!.store(Uint8Array.of(9, 9, 9, 9))]).toEqual([false, 0]);
    expect(b.bytes(data, 4)).toEqual([0, 0, 0, 0]);
  });
});
