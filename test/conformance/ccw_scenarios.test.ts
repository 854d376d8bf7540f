// What the real state machine answered, step by step (test/data/ccw/fsm.jsonl): every scenario must come out equal in every normative field, and as
// it happens in the instructions issued too.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scenarioDifferences } from '../../host/cli/scenario_check.ts';
import { type ScenarioInput, scenarioProblem } from '../../host/cli/scenario_format.ts';
import { ScenarioRunner } from '../../host/cli/scenario_run.ts';
import type { Core } from '../../host/core.ts';
import { freshCore } from '../support/core.ts';
import { loadLines } from '../support/data.ts';

const scenarios = await loadLines<ScenarioInput>('ccw/fsm.jsonl');

let core: Core;
let runner: ScenarioRunner;
beforeAll(async () => {
  core = await freshCore();
  runner = new ScenarioRunner(core);
});
afterAll(() => {
  runner.destroy();
  expect(core.liveBytes).toBe(0);
});

describe('device scenarios answered by Linux', () => {
  it('there are 81', () => {
    expect(scenarios).toHaveLength(81);
  });

  it.each(scenarios.map((scenario) => [scenario.name, scenario] as const))('%s', (_name, scenario) => {
    expect(scenarioProblem(scenario, true)).toBeUndefined();
    const result = runner.run(scenario);
    expect(scenarioDifferences(scenario, result)).toEqual([]);
    expect(result.steps.map((step) => step.device_ops)).toEqual(scenario.steps.map((step) => step.expect?.device_ops));
  });
});

describe('a scenario that is not one', () => {
  const good = { name: 'n', memory: [], frames: [], steps: [{ op: 'open' }] };
  it.each([
    ['no name', { ...good, name: '' }, 'name: not a name'],
    ['no steps', { ...good, steps: undefined }, 'steps: not a list'],
    ['an unknown operation', { ...good, steps: [{ op: 'jump' }] }, 'steps[0].op: "jump" is none of'],
    ['an inherited name as operation', { ...good, steps: [{ op: 'toString' }] }, 'steps[0].op: "toString" is none of'],
    ['a short IRB', { ...good, steps: [{ op: 'irq', irb: '00' }] }, 'steps[0].irb: 1 bytes instead of 64'],
    [
      'odd hex',
      { ...good, steps: [{ op: 'write', region: 0, pos: 0, hex: '0' }] },
      'steps[0].hex: not pairs of hex digits',
    ],
    [
      'a condition code 4',
      { ...good, steps: [{ op: 'cc', ssch: 4, hsch: 0, csch: 0 }] },
      'steps[0].ssch: not an integer',
    ],
    ['a page twice', { ...good, frames: [1, 2].map(() => ({ iova: '0x1000', pfn: '0x1' })) }, 'frames: page 0x1000'],
  ])('%s', (_name, value, reason) => {
    expect(scenarioProblem(value, false)).toContain(reason);
  });

  it('without expectations cannot be checked', () => {
    expect(scenarioProblem(good, false)).toBeUndefined();
    expect(scenarioProblem(good, true)).toBe('steps[0].expect: missing, nothing to check against');
  });
});
