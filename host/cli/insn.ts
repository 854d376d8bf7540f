// `vfio-wasm insn`: runs recorded instruction sequences on a machine built from the description beside them.
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { ManualClock } from '../clock.ts';
import { VfioError } from '../errno.ts';
import { createVfio } from '../node.ts';
import { compareLine, type Difference } from '../vmm/recorded/check.ts';
import { parseMachine } from '../vmm/recorded/description.ts';
import type { Line } from '../vmm/recorded/lines.ts';
import { buildRecordedMachine } from '../vmm/recorded/machine.ts';
import { type RecordedMachine, runLine } from '../vmm/recorded/runner.ts';
import { parseLines, readText, UsageError } from './input.ts';
import { insnLine, insnMachine } from './insn_format.ts';
import { Lines } from './output.ts';
import { problem } from './shape.ts';

const HELP = `
FILE holds one sequence of steps per line as JSON (gzip is unpacked); machine.json beside it says which devices there are:

  {"id": "pcilg/one", "steps": [{"i": "PCILG", "op": "b9d20024", "in": {"r4": "0x80020000000f0004", "r5": "0x0"}, "cc": 3}]}

Every line runs on a fresh machine and gives one line of JSON: {"id", "steps": [{"cc" or "pgm", "out", "st"}]}. With --check the results are
compared with what the line records; differences go to standard error, those that a mark or a trait of the recording explains only as
a summary (--explain lists them). docs/uapi/insn.md tells which instructions there are and what the comparison allows.
Exit status: 0 done, 1 --check found a difference that nothing explains, 2 wrong input.`;

const HEAP = 16 * 1024 * 1024;

interface Options {
  check?: boolean;
  explain?: boolean;
  json?: boolean;
  machine?: string;
}

export function addInsnCommand(program: Command): void {
  program
    .command('insn')
    .description('execute recorded instruction sequences against VFIO devices')
    .argument('<files...>', 'sequences in JSON Lines; - for standard input')
    .option('--check', 'compare with what the lines record')
    .option('--explain', 'with --check: list the explained differences too')
    .option('--json', 'print the JSON lines on a terminal too when checking')
    .option('--machine <file>', 'description of the machine; default machine.json beside each file')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: Options) => {
      if (!(await runFiles(files, options))) process.exitCode = 1;
    });
}

/** @returns whether nothing differed without an explanation. @throws UsageError a file is malformed. */
async function runFiles(files: string[], options: Options): Promise<boolean> {
  const { check = false, explain = false, json = false } = options;
  const machines = new Map<string, Promise<RecordedMachine>>();
  const output = new Lines(1);
  const quiet = check && !json && process.stdout.isTTY === true;
  let total = 0;
  let differing = 0;
  const explained = new Map<string, number>();
  try {
    for (const file of files) {
      const description = options.machine ?? machineBeside(file);
      const lines = parseLines<Line>(file, readText(file), (value) => problem(insnLine, value));
      const machine = machines.get(description) ?? openMachine(description);
      machines.set(description, machine);
      for (const { number, value: line } of lines) {
        const where = `${file}:${number}: ${line.id}`;
        const result = await runOne(machine, line, where);
        if (!quiet) output.write(JSON.stringify({ id: result.id, steps: result.steps }));
        total++;
        if (!check) continue;
        const found = compareLine(line, result);
        for (const { reason } of found)
          if (reason !== undefined) explained.set(reason, (explained.get(reason) ?? 0) + 1);
        if (found.some(({ reason }) => reason === undefined)) differing++;
        const shown = explain ? found : found.filter(({ reason }) => reason === undefined);
        if (shown.length > 0) process.stderr.write(`${where}\n${shown.map((one) => `  ${describe(one)}\n`).join('')}`);
      }
    }
    if (check) {
      for (const [reason, count] of [...explained].sort((a, b) => b[1] - a[1]))
        process.stderr.write(`${count} differences explained: ${reason}\n`);
      process.stderr.write(`${total} lines, ${differing === 0 ? 'all as recorded' : `${differing} differ`}\n`);
    }
  } finally {
    output.flush();
  }
  return differing === 0;
}

const describe = ({ step, insn, field, expected, actual, reason }: Difference): string =>
  `step ${step} ${insn}: ${field} ${actual}, recorded ${expected}${reason === undefined ? '' : ` (${reason})`}`;

function machineBeside(file: string): string {
  if (file === '-') throw new UsageError('standard input has no machine.json beside it: use --machine');
  return join(dirname(file), 'machine.json');
}

async function openMachine(description: string): Promise<RecordedMachine> {
  try {
    const json = parseMachine(readText(description));
    const wrong = problem(insnMachine, json);
    if (wrong !== undefined) throw new UsageError(`${description}: ${wrong}`);
    const clock = new ManualClock();
    const storage = Math.ceil(Number(json.storage) / 65536) * 65536;
    const vfio = await createVfio({ length: storage + 2 * HEAP, heapSize: HEAP, clock, machine: { devices: [] } });
    return buildRecordedMachine(vfio, clock, json);
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError || error instanceof VfioError)
      throw new UsageError(`${description}: ${error.message}`);
    throw error;
  }
}

async function runOne(machine: Promise<RecordedMachine>, line: Line, where: string) {
  try {
    return runLine(await machine, line);
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    throw new UsageError(`${where}: ${error.message}`, { cause: error });
  }
}
