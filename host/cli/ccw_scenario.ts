// `vfio-wasm ccw scenario`: drives a vfio-ccw device through scenarios and compares what it does with what they expect.
import type { Command } from 'commander';
import { VfioError } from '../errno.ts';
import { createVfio } from '../node.ts';
import { parseLines, readText, UsageError } from './input.ts';
import { Lines } from './output.ts';
import { scenarioDifferences } from './scenario_check.ts';
import { type ScenarioInput, type ScenarioResult, scenarioProblem } from './scenario_format.ts';
import { ScenarioRunner } from './scenario_run.ts';

const HELP = `
FILE holds one scenario per line as JSON (gzip is unpacked, - is standard input):

  {"name": "open and start",
   "memory": [{"iova": "0x10000", "hex": "0220001000050010"}], "frames": [{"iova": "0x10000", "pfn": "0x111"},
              {"iova": "0x50000", "pfn": "0x222"}],
   "steps": [{"op": "open"}, {"op": "write", "region": 0, "pos": 0, "hex": "0000000000c2ff000001000000004000"},
             {"op": "irq", "irb": "00004007…"}, {"op": "work"}, {"op": "close"}]}

  memory, frames   the guest's storage, as in "ccw translate"
  steps            what is done to the device and to the subchannel under it; docs/uapi/ccw.md lists the operations
  expect           in a step: what is seen after it (--check)

Each scenario gives one line of JSON: its name and what was seen after each step. With --check a terminal shows the differences only.
Exit status: 0 done, 1 --check found a difference, 2 wrong input.`;

interface Options {
  check?: boolean;
  json?: boolean;
}

export function addCcwScenarioCommand(ccw: Command): void {
  ccw
    .command('scenario')
    .description('drive the state machine of a vfio-ccw device through scenarios')
    .argument('<files...>', 'device scenarios in JSON Lines')
    .option('--check', 'compare with what the scenarios expect')
    .option('--json', 'print the JSON lines on a terminal too when checking')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: Options) => {
      if ((await runScenarios(files, options)) > 0) process.exitCode = 1;
    });
}

/** @returns how many scenarios differ. @throws UsageError a file is malformed; nothing of it has been printed then. */
async function runScenarios(files: string[], { check = false, json = false }: Options): Promise<number> {
  const { core } = await createVfio();
  const runner = new ScenarioRunner(core);
  const output = new Lines(1);
  const quiet = check && !json && process.stdout.isTTY === true;
  let total = 0;
  let differing = 0;
  try {
    for (const file of files) {
      const lines = parseLines<ScenarioInput>(file, readText(file), (value) => scenarioProblem(value, check));
      for (const { number, value: scenario } of lines) {
        const result = run(runner, scenario, `${file}:${number}`);
        if (!quiet) output.write(JSON.stringify({ name: scenario.name, steps: result.steps }));
        total++;
        const found = check ? scenarioDifferences(scenario, result) : [];
        if (found.length === 0) continue;
        differing++;
        output.flush();
        process.stderr.write(
          `${file}:${number}: ${scenario.name}\n${found.map((difference) => `  ${difference}\n`).join('')}`,
        );
      }
    }
    output.flush();
    if (check) process.stderr.write(`${total} scenarios, ${differing === 0 ? 'all equal' : `${differing} differ`}\n`);
  } finally {
    output.flush();
    runner.destroy();
  }
  return differing;
}

function run(runner: ScenarioRunner, scenario: ScenarioInput, where: string): ScenarioResult {
  try {
    return runner.run(scenario);
  } catch (error) {
    if (error instanceof VfioError) throw new UsageError(`${where}: ${error.message}`);
    throw error;
  }
}
