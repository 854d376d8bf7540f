// `vfio-wasm run`: executes a script, prints one result per operation.
import { writeSync } from 'node:fs';
import type { Command } from 'commander';
import { createVfio } from '../node.ts';
import { runScript } from '../script/run.ts';
import { ScriptError } from '../script/values.ts';
import { readText, UsageError } from './input.ts';

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
    .addHelpText('after', HELP)
    .action(async (file: string) => {
      const held = await runFile(file);
      if (!held) process.exitCode = 1;
    });
}

/** @returns whether every expectation held. @throws UsageError the script is malformed. */
async function runFile(file: string): Promise<boolean> {
  const output = new Lines();
  try {
    const { mismatches } = await runScript(readText(file), {
      create: createVfio,
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
  }
}

/** Standard output in large pieces; a script gives many short lines. */
class Lines {
  #pending = '';
  write(line: string): void {
    this.#pending += `${line}\n`;
    if (this.#pending.length > 1 << 16) this.flush();
  }
  flush(): void {
    let rest = Buffer.from(this.#pending, 'utf8');
    this.#pending = '';
    while (rest.length > 0) rest = rest.subarray(writeAll(rest));
  }
}

/** A pipe whose reader is slow answers EAGAIN: try again, it is the reader's turn. */
function writeAll(data: Buffer): number {
  try {
    return writeSync(1, data);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}
