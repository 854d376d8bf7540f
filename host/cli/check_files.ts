// Commands that run every line of their files, print what came out, and with --check compare it with what the line expects.
import type { Command } from 'commander';
import { VfioError } from '../errno.ts';
import { parseLines, readText, UsageError } from './input.ts';
import { Lines } from './output.ts';

/** What such a command is about. */
export interface LineRunner<Input extends { readonly name: string }, Result> {
  /** Plural, for the summary. */
  readonly subject: string;
  /** What is wrong with a line, or nothing. `check`: it must say what it expects. */
  problem(value: unknown, check: boolean): string | undefined;
  /** @throws VfioError the input cannot be set up. */
  run(input: Input): Result;
  /** What is not as the input expects; empty when all is. */
  differences(input: Input, result: Result): string[];
  /** The line that is printed. `found` is there when a program reads it, not a person. */
  output(input: Input, result: Result, found: readonly string[] | undefined): object;
  destroy(): void;
}

interface Options {
  check?: boolean;
  json?: boolean;
}

/** Gives a command its files, its options and what it does. `help` describes the files. */
export function addCheckCommand<Input extends { readonly name: string }, Result>(
  command: Command,
  files: { readonly what: string; readonly help: string },
  create: () => Promise<LineRunner<Input, Result>>,
): void {
  command
    .argument('<files...>', `${files.what} in JSON Lines`)
    .option('--check', 'compare with what they expect')
    .option('--json', 'print the JSON lines on a terminal too when checking')
    .addHelpText('after', files.help)
    .action(async (paths: string[], options: Options) => {
      if (runFiles(paths, options, await create()) > 0) process.exitCode = 1;
    });
}

/** @returns how many lines differ. @throws UsageError a file is malformed; nothing of it has been printed then. */
function runFiles<Input extends { readonly name: string }, Result>(
  files: readonly string[],
  { check = false, json = false }: Options,
  runner: LineRunner<Input, Result>,
): number {
  const output = new Lines(1);
  const quiet = check && !json && process.stdout.isTTY === true;
  let total = 0;
  let differing = 0;
  try {
    for (const file of files)
      for (const { number, value } of parseLines<Input>(file, readText(file), (line) => runner.problem(line, check))) {
        const where = `${file}:${number}`;
        const result = runAt(runner, value, where);
        const found = check ? runner.differences(value, result) : [];
        if (!quiet) output.write(JSON.stringify(runner.output(value, result, check && json ? found : undefined)));
        total++;
        if (found.length === 0) continue;
        differing++;
        output.flush();
        process.stderr.write(`${where}: ${value.name}\n${found.map((difference) => `  ${difference}\n`).join('')}`);
      }
    output.flush();
    if (check)
      process.stderr.write(`${total} ${runner.subject}, ${differing === 0 ? 'all equal' : `${differing} differ`}\n`);
  } finally {
    output.flush();
    runner.destroy();
  }
  return differing;
}

function runAt<Input extends { readonly name: string }, Result>(
  runner: LineRunner<Input, Result>,
  input: Input,
  where: string,
): Result {
  try {
    return runner.run(input);
  } catch (error) {
    if (error instanceof VfioError) throw new UsageError(`${where}: ${error.message}`);
    throw error;
  }
}
