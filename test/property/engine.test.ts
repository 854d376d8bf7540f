// Random channel programs and random 3390 commands: whatever lies in storage, the engine ends or can be cleared, touches nothing that the ledger
// does not name, and a disk never breaks.
import { describe, expect, it } from 'vitest';
import { CMD_TIC, ENDED, PROGRAM_CHECK } from '../../host/css/cio.ts';
import type { Transfer } from '../../host/css/device.ts';
import { fits } from '../../host/devices/dasd/track.ts';
import { Volume } from '../../host/devices/dasd/volume.ts';
import { bench, makeOrb, putCcws } from '../support/channel.ts';
import { Random, runs } from '../support/counts.ts';
import { diskBench, extentArgument, locateExtendedArgument, type Step } from '../support/dasd.ts';

const COMMANDS = [0x01, 0x02, 0x03, 0x04, 0x0c, CMD_TIC, 0x00, 0x18, 0x31, 0xe4];
const FLAGS = [0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01];

describe('random programs', () => {
  it('end or can be cleared, and change only pages of the ledger', async () => {
    const random = new Random();
    const behind = {
      execute(command: number, transfer: Transfer) {
        const size = random.int(6000);
        if ((command & 3) === 2 || (command & 15) === 4 || (command & 15) === 12)
          transfer.store(new Uint8Array(size).fill(0xaa));
        else transfer.fetch(size);
        return { unitStatus: random.int(10) === 0 ? 0x4c : ENDED };
      },
    };
    const b = await bench(behind);
    const pages = [1, 3, 4].map((n) => b.base + n * 4096);
    const own = new Set(pages.map((page) => page >>> 12));
    b.subchannel.ledger = { isPinned: (address) => own.has(address >>> 12) };
    const heap = b.core.exports.arena_alloc(b.core.arena, 4096) >>> 0;
    const end = b.base + 6 * 4096;
    for (let run = 0; run < runs(3000); run++) {
      const address = () =>
        random.pick([...pages, heap, b.base, end, 0x7fffffff, 0xffffffff]) + random.pick([0, 8, 2040, 4095]);
      putCcws(
        b.core,
        heap,
        Array.from({ length: 16 }, () => ({
          command: random.pick(COMMANDS),
          flags: FLAGS.reduce((flags, flag) => flags | (random.int(4) === 0 ? flag : 0), 0),
          count: random.pick([0, 1, 8, 100, 5000, 0xffff]),
          address: random.int(2) === 0 ? heap + 8 * random.int(20) : address() >>> 0,
        })),
      );
      for (let i = 16; i < 64; i++) b.core.view.setUint32(heap + 8 * i + 4, address() >>> 0);
      for (let i = 16; i < 64; i++) b.core.view.setUint32(heap + 8 * i, random.int(20) === 0 ? 1 : 0);
      b.core.u8.fill(0x11, b.base, end);
      const flags = (0x00800000 | (random.int(4) << 16) | (random.int(2) << 27)) >>> 0;
      expect(b.subchannel.ssch(makeOrb(heap, flags))).toBe(0);
      b.clock.advance(2);
      if (b.subchannel.disable() !== 0) {
        b.subchannel.csch();
        b.clock.advance(0);
        expect(b.subchannel.disable()).toBe(0);
      }
      b.subchannel.enable(1);
      for (let page = b.base; page < end; page += 4096)
        if (!own.has(page >>> 12))
          expect(b.core.u8.subarray(page, page + 4096).every((byte) => byte === 0x11)).toBe(true);
    }
    b.fetched.length = 0;
  });
});

/** Those of the commands below that search: key, ID, home address, ID over several tracks. */
const SEARCHES = new Set([0x29, 0x31, 0x39, 0xb1]);

describe('random commands of a 3390', () => {
  const codes = [
    0x03, 0x04, 0x07, 0x06, 0x86, 0x0e, 0x12, 0x92, 0x1e, 0x05, 0x85, 0x0d, 0x1d, 0x9d, 0x11, 0x15, 0x16, 0x19, 0x1a,
    0x1f, 0x23, 0x27, 0x29, 0x31, 0x39, 0x3e, 0x47, 0x4b, 0x63, 0x64, 0x95, 0xa5, 0xa6, 0xb1, 0xde, 0xe4, 0xe7, 0xfa,
  ];

  it('always end with a status, and every track stays one that fits', async () => {
    const random = new Random();
    const volume = Volume.empty(2, { blockSize: 512 });
    const disk = await diskBench(volume);
    const track = () => [random.int(3), random.int(16)] as const;
    const bytes = (n: number) => Array.from({ length: n }, () => (random.int(3) === 0 ? random.int(256) : 0));
    const argument = (command: number): number[] => {
      if (random.int(8) === 0) return bytes(random.int(40));
      if (command === 0x63)
        return extentArgument(random.pick([0, 0x40, 0x80, 0xc0]), [0, 0], random.pick([[1, 14], track()]));
      const locate = {
        operation: random.pick([0, 1, 3, 6, 0x0b, 0x0c, 0x16, 0x3f, 0x4c, 0xd6]),
        count: random.int(5),
        track: track(),
        record: random.int(4),
        length: random.pick([0, 512]),
      };
      if (command === 0x47 || command === 0x4b)
        return locateExtendedArgument(locate, random.pick([0, 0x0a, 0x11, 0x23]));
      if (command === 0x1d || command === 0x9d)
        return [
          0,
          0,
          0,
          random.int(15),
          random.int(50),
          random.pick([0, 4]),
          random.int(64),
          0,
          ...bytes(random.int(20)),
        ];
      return bytes(random.int(600));
    };
    let normal = 0;
    for (let run = 0; run < runs(3000); run++) {
      const steps = Array.from({ length: 1 + random.int(6) }, (_, index): Step => {
        const command = index === 0 && random.int(2) === 0 ? 0x63 : random.pick(codes);
        const reads = (command & 3) === 2 || (command & 15) === 4;
        return { command, flags: 0x20, ...(reads ? { read: random.int(2000) } : { write: argument(command) }) };
      });
      const { unitStatus, channelStatus } = disk.run(steps);
      // A search that finds on the last command but one skips the last: what lies behind is no command.
      const skipped = SEARCHES.has(steps.at(-2)?.command ?? 0) && channelStatus === PROGRAM_CHECK;
      if (!skipped) expect([0x0c, 0x0d, 0x0e]).toContain(unitStatus & 0x0f);
      if (unitStatus === ENDED) normal += 1;
      disk.bench.irbs.length = 0;
      disk.bench.fetched.length = 0;
      disk.bench.commands.length = 0;
    }
    expect(normal).toBeGreaterThan(100);
    for (let cylinder = 0; cylinder < 2; cylinder++)
      for (let head = 0; head < 15; head++) {
        const { records } = volume.track(cylinder, head);
        expect(records[0]?.record).toBe(0);
        expect(fits(records.slice(1))).toBe(true);
      }
  });
});
