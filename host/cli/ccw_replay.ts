// `vfio-wasm ccw replay`: replays recorded channel programs end to end and compares them with their recordings.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { checkRecording, type Recording } from '../devices/recording.ts';
import { VfioError } from '../errno.ts';
import { createVfio } from '../node.ts';
import { type ReplayReport, ReplayRunner } from '../replay/runner.ts';
import { parseLines, readText, UsageError } from './input.ts';
import { Lines } from './output.ts';
import { ReplaySummary } from './replay_summary.ts';

const HELP = `
FILE holds one recorded program per line as JSON (gzip is unpacked, - is standard input); without FILE the programs that ship with the
project's sources are replayed:

  {"name": "sense id", "devtype": "3390", "orb": "0000000000c2800002084028",
   "memory": [{"iova": "0x2084028", "hex": "e420002802084000"}], "data": [{"iova": "0x2084000", "len": 40, "dir": "read"}],
   "outcome": {"kind": "ended", "unit_status": "0c", "channel_status": "00", "residual_count": 33, "ccw_address": "0x2084030"},
   "executed": ["0x2084028"], "steps": [["0x2084028", "0c", "00", 33]],
   "result": [{"iova": "0x2084000", "len": 7, "hex": "ff210710339002"}]}

Each program runs in a guest of its own: container, group, device, I/O region, translation, pinning, channel, a device that answers as
recorded, and back to the IRB. Outcome, CCWs executed and data stored are compared. A program that changes itself, was resumed, or was
built by an emulator runs as far as it can, and counts neither as equal nor as different ("ok": null with the reason). One with a chain of
more than 256 CCWs must be refused.

A terminal gets a table by device type, and so does everybody for the programs that ship; otherwise, and with --json, there is one line of
JSON for each program.
Exit status: 0 nothing differs, 1 something does, 2 wrong input.`;

/** The programs that ship with the project; an installed package has none. */
const SAMPLES = fileURLToPath(new URL('../../../test/data/ccw-real/', import.meta.url));
/** A run that takes longer than this gets a progress bar. */
const PROGRESS_AFTER_MS = 1000;

interface Options {
  json?: boolean;
  table?: boolean;
}

export function addCcwReplayCommand(ccw: Command): void {
  ccw
    .command('replay')
    .description('replay recorded channel programs and compare them with what their machines did')
    .argument('[files...]', 'recordings in JSON Lines; without any, the ones that ship')
    .option('--json', 'print one line of JSON for each program')
    .option('--table', 'print the table even when the output is not a terminal')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: Options) => {
      const differing = await replayFiles(files.length === 0 ? samples() : files, options, files.length === 0);
      if (differing > 0) process.exitCode = 1;
    });
}

interface Source {
  readonly file: string;
  readonly number: number;
  readonly recording: Recording;
}

/** @returns how many programs differ. @throws UsageError a file is malformed; nothing has been replayed then. */
async function replayFiles(files: string[], options: Options, shipped: boolean): Promise<number> {
  const sources = files.flatMap((file): Source[] =>
    parseLines<Recording>(file, readText(file), checkRecording).map(({ number, value }) => ({
      file,
      number,
      recording: value,
    })),
  );
  const runner = await ReplayRunner.create(createVfio);
  const asTable = options.json !== true && (options.table === true || shipped || process.stdout.isTTY === true);
  const summary = new ReplaySummary();
  const output = new Lines(1);
  const progress = new Progress(sources.length);
  for (const { file, number, recording } of sources) {
    const report = replay(runner, recording, `${file}:${number}`);
    summary.add(recording.devtype ?? 'unknown', report);
    if (!asTable) output.write(JSON.stringify(report));
    progress.step();
  }
  progress.stop();
  if (asTable)
    output.write(summary.table({ color: process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined }));
  output.flush();
  if (!asTable) process.stderr.write(`${summary.sentence()}\n`);
  return summary.differing;
}

function replay(runner: ReplayRunner, recording: Recording, where: string): ReplayReport {
  try {
    return runner.run(recording);
  } catch (error) {
    if (error instanceof VfioError) throw new UsageError(`${where}: ${recording.name}: ${error.message}`);
    throw error;
  }
}

function samples(): string[] {
  try {
    const names = readdirSync(SAMPLES).filter((name) => name.endsWith('.jsonl.gz'));
    if (names.length > 0) return names.sort().map((name) => `${SAMPLES}${name}`);
  } catch {
    // an installed package
  }
  throw new UsageError('the package has no recordings of its own; name a file');
}

/** A bar on standard error, on a terminal, once the run has taken a second. */
class Progress {
  readonly #total: number;
  readonly #start = performance.now();
  #done = 0;
  #bar: SingleBar | null = null;

  constructor(total: number) {
    this.#total = total;
  }

  step(): void {
    this.#done += 1;
    if (this.#bar === null && process.stderr.isTTY === true && performance.now() - this.#start > PROGRESS_AFTER_MS) {
      this.#bar = new SingleBar({
        format: 'replay [{bar}] {value}/{total} programs',
        stream: process.stderr,
        clearOnComplete: true,
      });
      this.#bar.start(this.#total, this.#done);
    }
    this.#bar?.update(this.#done);
  }

  stop(): void {
    this.#bar?.stop();
  }
}
