// Random walks of a vfio-ccw device against its slow twin: calls, hardware and time in any order, also on a device that is not open.
import { describe, expect, it } from 'vitest';
import { scenarioDifferences } from '../../host/cli/scenario_check.ts';
import type { ScenarioInput, Step } from '../../host/cli/scenario_format.ts';
import { ScenarioRunner } from '../../host/cli/scenario_run.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { CcwTwin, FRAMES, MEMORY, PROGRAMS } from '../support/model/ccw_device.ts';

const STEPS = 40;
const WALKS = runs(2500);

const word = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');

/** Mostly what a guest does, sometimes what a machine does to it. */
function randomStep(random: Random): Step {
  const kind = random.int(100);
  if (kind < 28) {
    const word1 = 0x00820000 | random.pick([0xff00, 0xff00, 0x8000, 0x4000, 0]) | (random.int(20) === 0 ? 0x40000 : 0);
    const functions = random.pick([0x4000, 0x4000, 0x4000, 0x4000, 0x7000, 0x2000, 0x1000, 0]);
    const cpa = random.pick([0x10000, 0x10000, ...PROGRAMS.keys()]);
    return { op: 'write', region: 0, pos: 0, hex: word(0) + word(word1) + word(cpa) + word(functions) };
  }
  if (kind < 36) return { op: 'cmd', command: random.pick([1, 2, 1, 2, 0, 3]) };
  if (kind < 50) {
    const scsw = random.pick([0x00004007, 0x00004007, 0x000040c9, 0x00004045, 0x00000011, 0x03004011, 0x00001001]);
    return { op: 'irq', irb: word(scsw).padEnd(128, '0') };
  }
  if (kind < 64) return { op: 'work' };
  if (kind < 70) return { op: 'open' };
  if (kind < 74) return { op: 'close' };
  if (kind < 77) return { op: 'reset' };
  if (kind < 80) return { op: 'unmap', iova: random.pick(['0x50fff', '0x4f000', '0x90000', '0x0']), length: '0x1001' };
  if (kind < 84) return { op: 'read', region: 3, pos: 0, count: 8 };
  if (kind < 88) {
    const event = random.pick(['offline', 'online', 'vary_off', 'vary_on'] as const);
    return { op: 'chp', chpid: random.int(256), mask: random.pick(['0x40', '0x20', '0x10', '0x0']), event };
  }
  if (kind < 91) {
    const arg = { argsz: 24, flags: 36, index: random.int(3), start: 0, count: 1, data: 0 };
    return { op: 'ioctl', cmd: '0x3b6e', arg: { ...arg, data: random.int(4) === 0 ? -1 : arg.index + 1 }, size: 24 };
  }
  if (kind < 94) return { op: 'cc', ssch: random.int(4) && random.int(4), hsch: random.int(4), csch: random.int(4) };
  if (kind < 95) return { op: 'disable', results: random.pick([[-16], [-16, -16], [-5], [-16, -5], []]) };
  if (kind < 96) return { op: 'waitirq', value: random.int(2) };
  if (kind < 97) return { op: 'request', value: 0 };
  if (kind < 98) return { op: 'notoper' };
  const rare = random.int(6);
  if (rare === 0) return { op: 'shutdown' };
  if (rare === 1) return { op: 'enable', value: random.pick([0, 0, -19]) };
  if (rare < 4) return { op: 'dnv', value: random.int(2) };
  return { op: 'stsch', value: random.pick([0, 0, 3]) };
}

describe('a vfio-ccw device against its twin', () => {
  it(`${WALKS} walks of ${STEPS} steps, seed ${seed}`, async () => {
    const core = await freshCore();
    const runner = new ScenarioRunner(core);
    const random = new Random();
    const reached: Record<string, number> = {};
    for (let walk = 0; walk < WALKS; walk++) {
      const twin = new CcwTwin();
      // Interrupts 1, 2, 3 are bound, then the device opens; from there anything goes.
      const start: Step[] = [0, 1, 2].map((index) => ({
        op: 'ioctl' as const,
        cmd: '0x3b6e',
        arg: { argsz: 24, flags: 36, index, start: 0, count: 1, data: index + 1 },
        size: 24,
      }));
      const bare: Step[] = [...start, { op: 'open' }, ...Array.from({ length: STEPS }, () => randomStep(random))];
      const steps = bare.map((step): Step => ({ ...step, expect: twin.step(step) }));
      const scenario: ScenarioInput = { name: `walk ${walk}`, memory: MEMORY, frames: FRAMES, steps };
      const result = runner.run(scenario);
      const wrong = scenarioDifferences(scenario, result);
      if (wrong.length > 0)
        expect.fail(
          `${wrong[0]} after\n${steps.map((step) => JSON.stringify({ ...step, expect: undefined })).join('\n')}`,
        );
      for (const { state } of result.steps) reached[state] = (reached[state] ?? 0) + 1;
    }
    runner.destroy();
    expect(core.liveBytes).toBe(0);
    // The walk must not sit in a corner.
    for (const state of ['NOT_OPER', 'STANDBY', 'IDLE', 'CP_PENDING'])
      expect(reached[state] ?? 0, state).toBeGreaterThan((WALKS * STEPS) / 50);
  });
});
