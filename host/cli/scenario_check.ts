// A scenario's observations against what it expects.
import { compare } from './compare.ts';
import type { Observed, ScenarioInput, ScenarioResult } from './scenario_format.ts';

/** The instructions that a step issued are informative: how the kernel did it, not what the user sees. */
function normative({ device_ops, ...rest }: Partial<Observed>): Partial<Observed> {
  return rest;
}

/** @returns the differences, empty when everything is as expected. */
export function scenarioDifferences(scenario: ScenarioInput, result: ScenarioResult): string[] {
  const into: string[] = [];
  if (scenario.initial !== undefined) compare('initial', normative(scenario.initial), normative(result.initial), into);
  scenario.steps.forEach((step, index) => {
    const { op, expect = {} } = step;
    compare(`steps[${index}] ${op}`, normative(expect), normative(result.steps[index] as Observed), into);
  });
  return into;
}
