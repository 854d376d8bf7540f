// `vfio-wasm ccw scenario`: drives a vfio-ccw device through scenarios and compares what it does with what they expect.
import type { Command } from 'commander';
import { createVfio } from '../node.ts';
import { addCheckCommand } from './check_files.ts';
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

export function addCcwScenarioCommand(ccw: Command): void {
  const command = ccw.command('scenario').description('drive the state machine of a vfio-ccw device through scenarios');
  addCheckCommand<ScenarioInput, ScenarioResult>(command, { what: 'device scenarios', help: HELP }, async () => {
    const runner = new ScenarioRunner((await createVfio()).core);
    return {
      subject: 'scenarios',
      problem: scenarioProblem,
      run: (scenario) => runner.run(scenario),
      differences: scenarioDifferences,
      output: ({ name }, { steps }) => ({ name, steps }),
      destroy: () => runner.destroy(),
    };
  });
}
