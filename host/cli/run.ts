// `vfio-wasm run`: executes a script, prints one result per operation.
import type { Command } from 'commander';
import { createVfio } from '../node.ts';
import { runScript } from '../script/run.ts';
import { trace } from '../script/trace.ts';
import { ScriptError } from '../script/values.ts';
import { readText, UsageError } from './input.ts';
import { Lines, openForWriting } from './output.ts';

const HELP = `
FILE holds one operation per line as JSON, - is standard input:

  {"op": "open", "as": "c", "path": "/dev/vfio/vfio"}
  {"op": "ioctl", "fd": "$c", "request": "VFIO_CHECK_EXTENSION", "value": 3, "expect": {"ret": 1}}

Each operation gives one line of JSON on standard output. docs/script.md lists operations, values and the devices of the machine.
Exit status: 0 everything ran and every "expect" held, 1 one did not hold, 2 the script is malformed.`;

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .description('execute a script of VFIO calls and check its expectations')
    .argument('<file>', 'script in JSON Lines; - for standard input')
    .option('--trace <out>', 'write the calls and their results as a script that replays them')
    .addHelpText('after', HELP)
    .action(async (file: string, options: { trace?: string }) => {
      const held = await runFile(file, options.trace);
      if (!held) process.exitCode = 1;
    });
}

/** @returns whether every expectation held. @throws UsageError the script is malformed. */
async function runFile(file: string, out: string | undefined): Promise<boolean> {
  const text = readText(file);
  const output = new Lines(1);
  const recording = out === undefined ? null : new Lines(openForWriting(out));
  try {
    const { mismatches } = await runScript(text, {
      create: createVfio,
      ...(recording === null ? {} : { prepare: (vfio) => trace(vfio, (line) => recording.write(line)) }),
      onResult: (result) => output.write(JSON.stringify(result)),
      onMismatch({ line, op, reasons }) {
        for (const reason of reasons) process.stderr.write(`${file}:${line}: ${op}: ${reason}\n`);
      },
    });
    return mismatches.length === 0;
  } catch (error) {
    if (error instanceof ScriptError) throw new UsageError(`${file}:${error.line}: ${error.reason}`);
    throw error;
  } finally {
    output.flush();
    recording?.close();
  }
}
