// `vfio-wasm ccw translate`: translates the channel programs of vector files and compares them with what the vectors expect.
import type { Command } from 'commander';
import { VfioError } from '../errno.ts';
import { createVfio } from '../node.ts';
import { parseLines, readText, UsageError } from './input.ts';
import { Lines } from './output.ts';
import { differences } from './translate_check.ts';
import { type VectorInput, vectorProblem } from './translate_format.ts';
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

interface Options {
  check?: boolean;
  json?: boolean;
}

export function addCcwTranslateCommand(ccw: Command): void {
  ccw
    .command('translate')
    .description('translate channel programs and show what a device would get')
    .argument('<files...>', 'translator vectors in JSON Lines')
    .option('--check', 'compare with what the vectors expect')
    .option('--json', 'print the JSON lines on a terminal too when checking')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: Options) => {
      if ((await translateFiles(files, options)) > 0) process.exitCode = 1;
    });
}

/** @returns how many vectors differ. @throws UsageError a file is malformed; nothing of it has been printed then. */
async function translateFiles(files: string[], { check = false, json = false }: Options): Promise<number> {
  const { core } = await createVfio();
  const runner = new VectorRunner(core);
  const output = new Lines(1);
  const quiet = check && !json && process.stdout.isTTY === true;
  let total = 0;
  let differing = 0;
  try {
    for (const file of files) {
      const lines = parseLines<VectorInput>(file, readText(file), (value) => vectorProblem(value, check));
      for (const { number, value: vector } of lines) {
        const result = translate(runner, vector, `${file}:${number}`);
        const found = check && vector.expect !== undefined ? differences(vector.expect, result) : [];
        if (!quiet)
          output.write(
            JSON.stringify({ name: vector.name, ...result, ...(check && json ? { differences: found } : {}) }),
          );
        total++;
        if (found.length === 0) continue;
        differing++;
        process.stderr.write(
          `${file}:${number}: ${vector.name}\n${found.map((difference) => `  ${difference}\n`).join('')}`,
        );
      }
    }
    if (check) process.stderr.write(`${total} vectors, ${differing === 0 ? 'all equal' : `${differing} differ`}\n`);
  } finally {
    output.flush();
    runner.destroy();
  }
  return differing;
}

function translate(runner: VectorRunner, vector: VectorInput, where: string): ReturnType<VectorRunner['run']> {
  try {
    return runner.run(vector);
  } catch (error) {
    if (error instanceof VfioError) throw new UsageError(`${where}: ${error.message}`);
    throw error;
  }
}
