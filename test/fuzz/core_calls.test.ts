// Random calls on every kind of descriptor of the default machine. Only invariants: no call throws or traps, and when everything is closed nothing is
// left - no descriptor, no page, no record of the core, no owner of a group.
import { describe, expect, it } from 'vitest';
import { ManualClock } from '../../host/clock.ts';
import { createVfio } from '../../host/inline.ts';
import { runScript } from '../../host/script/run.ts';
import { trace } from '../../host/script/trace.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { RandomCalls } from '../support/random_calls.ts';
import { describeMismatches } from '../support/scripts.ts';

const PROGRAMS = 40;
const CALLS = 400;

describe('random programs', () => {
  it(`leave nothing behind (${runs(PROGRAMS)} programs of ${CALLS} calls)`, async () => {
    const clock = new ManualClock();
    const vfio = await createVfio({ clock, length: 16 * 1024 * 1024 });
    const idle = vfio.core.liveBytes;
    for (let program = 0; program < runs(PROGRAMS); program++) {
      const random = new Random(seed + program);
      const calls = new RandomCalls(vfio, random);
      for (let i = 0; i < CALLS; i++) {
        calls.step();
        if (random.int(20) === 0) clock.advance(random.int(50));
      }
      vfio.exit();
      clock.advance(1000);
      const at = `program ${program}`;
      expect(vfio.task.openFiles, at).toBe(0);
      expect(vfio.core.usedPages, at).toBe(0);
      for (const group of vfio.kernel.groups.values())
        expect([group.file, group.attached, group.cdevOpenCount, group.containerUsers, group.dmaOwned], at).toEqual([
          null,
          false,
          0,
          0,
          false,
        ]);
      for (const device of vfio.kernel.nodes.values())
        expect([device.name, device.files, device.openCount, device.pins.size, device.iommufd, device.dma], at).toEqual(
          [device.name, 0, 0, 0, null, null],
        );
      expect(vfio.core.liveBytes, at).toBe(idle);
    }
  });

  it(`recorded, they replay to the same results (${runs(10)} programs)`, async () => {
    for (let program = 0; program < runs(10); program++) {
      const clock = new ManualClock();
      const lines: string[] = [];
      const vfio = trace(await createVfio({ clock }), (line) => lines.push(line));
      const random = new Random(seed ^ (program + 1000));
      const calls = new RandomCalls(vfio, random);
      for (let i = 0; i < 300; i++) {
        calls.step();
        if (random.int(20) === 0) clock.advance(random.int(50));
      }
      const { mismatches } = await runScript(lines.join('\n'), { create: createVfio });
      expect(describeMismatches(mismatches), `program ${program}`).toEqual([]);
    }
  });
});
