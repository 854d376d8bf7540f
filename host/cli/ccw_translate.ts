// `vfio-wasm ccw translate`: translates the channel programs of vector files and compares them with what the vectors expect.
import type { Command } from 'commander';
import { createVfio } from '../node.ts';
import { addCheckCommand } from './check_files.ts';
import { differences } from './translate_check.ts';
import { type Translation, type VectorInput, vectorProblem } from './translate_format.ts';
import { VectorRunner } from './translate_vector.ts';

const HELP = `
FILE holds one guest per line as JSON (gzip is unpacked, - is standard input):

  {"name": "one read", "orb": "0000000000c2ff0000010000", "sch_lpm": "0xf0",
   "memory": [{"iova": "0x10000", "hex": "0200100000100000"}],
   "frames": [{"iova": "0x10000", "pfn": "0x57cc"}, {"iova": "0x100000", "pfn": "0xcf57"}]}

  orb       12 bytes: interruption parameter, flags, address of the first CCW
  memory    bytes of guest storage; what is not listed of a mapped page is zero
  frames    the mapped 4 KiB pages and the host frame of each; read_errno, pin_errno and pin_short make a page fail
  expect    what should come out (--check), and in scsw and iova_pinned the questions to ask

Each vector gives one line of JSON: the results of copying (cp_init) and translating (cp_prefetch), the chains with their IDAWs in the
vector's own frames, the pinned pages, the ORB for the device. With --check a terminal shows the differences only.
Exit status: 0 done, 1 --check found a difference, 2 wrong input.`;

export function addCcwTranslateCommand(ccw: Command): void {
  const command = ccw.command('translate').description('translate channel programs and show what a device would get');
  addCheckCommand<VectorInput, Translation>(command, { what: 'translator vectors', help: HELP }, async () => {
    const runner = new VectorRunner((await createVfio()).core);
    return {
      subject: 'vectors',
      problem: vectorProblem,
      run: (vector) => runner.run(vector),
      differences: ({ expect }, result) => (expect === undefined ? [] : differences(expect, result)),
      output: ({ name }, result, found) => ({
        name,
        ...result,
        ...(found === undefined ? {} : { differences: found }),
      }),
      destroy: () => runner.destroy(),
    };
  });
}
