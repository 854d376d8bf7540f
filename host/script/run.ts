// Executes a script against a fresh instance (spec script). No file system, no output of its own: works wherever the package does.
import { ManualClock } from '../clock.ts';
import type { MachineDescription } from '../devices/model.ts';
import type { VfioInstance, VfioOptions } from '../source.ts';
import { differences, type Result } from './expect.ts';
import { OPERATIONS } from './ops.ts';
import { parseScript, type ScriptLine } from './parse.ts';
import { hexInteger, integer, type Json, type JsonObject, printed, type Saved, ScriptError } from './values.ts';

/** A result as it is printed: `op`, `ret`, on failure `errno`, and what the operation adds. */
export type ResultLine = { op: string; ret: number | string } & JsonObject;

/** An `expect` that did not hold. */
export interface Mismatch {
  /** 1-based line of the script. */
  readonly line: number;
  /** The operation. */
  readonly op: string;
  /** What differs, in words. */
  readonly reasons: readonly string[];
}

/** How a script is run. */
export interface ScriptOptions {
  /** Makes the instance: `createVfio` of the entry in use. */
  readonly create: (options: VfioOptions) => Promise<VfioInstance>;
  /** Called with each result as soon as its operation is done. */
  readonly onResult?: (result: ResultLine, line: ScriptLine) => void;
  /** Hears of every expectation that did not hold, as it happens. */
  readonly onMismatch?: (mismatch: Mismatch) => void;
  /** Called with the instance before the first operation; what it returns executes the script (a traced instance). */
  readonly prepare?: (vfio: VfioInstance) => VfioInstance;
}

/** What came of a script. */
export interface ScriptOutcome {
  /** One for each operation. */
  readonly results: ResultLine[];
  /** Empty: every `expect` held. */
  readonly mismatches: Mismatch[];
  /** The instance after the last operation, nothing closed. */
  readonly vfio: VfioInstance;
}

/**
 * Runs a script from its first to its last line. A failing call is a normal result; an `expect` that does not hold is noted and the run goes on.
 * @throws ScriptError the script is malformed: before the first operation when the text shows it, else at the line concerned.
 */
export async function runScript(text: string, options: ScriptOptions): Promise<ScriptOutcome> {
  const lines = parseScript(text);
  const clock = new ManualClock();
  const first = lines[0];
  const created = await atLine(first, () => makeInstance(options, clock, first));
  const vfio = options.prepare?.(created) ?? created;
  const context = { vfio, clock, saved: new Map<string, Saved>(), guests: new Map() };
  const results: ResultLine[] = [];
  const mismatches: Mismatch[] = [];
  for (const line of lines) {
    const result = await atLine(line, () =>
      line.op === 'machine' ? { ret: 0n } : (OPERATIONS[line.op]?.run(context, line.fields) ?? { ret: 0n }),
    );
    if (line.as !== undefined)
      context.saved.set(line.as, { ret: result['ret'] as bigint, fields: result['struct'] ?? result['out'] });
    const shown = print(line.op, result);
    results.push(shown);
    options.onResult?.(shown, line);
    const reasons = await atLine(line, () => differences(line.expect ?? {}, result, context.saved));
    if (reasons.length > 0) {
      const mismatch = { line: line.number, op: line.op, reasons };
      mismatches.push(mismatch);
      options.onMismatch?.(mismatch);
    }
  }
  return { results, mismatches, vfio };
}

async function makeInstance(
  options: ScriptOptions,
  clock: ManualClock,
  first: ScriptLine | undefined,
): Promise<VfioInstance> {
  if (first?.op !== 'machine') return options.create({ clock });
  try {
    return await options.create({ clock, ...machineOptions(first.fields) });
  } catch (error) {
    // A machine that cannot be built is the script's mistake.
    if (error instanceof TypeError || error instanceof RangeError) throw new ScriptError(`machine: ${error.message}`);
    throw error;
  }
}

function print(op: string, result: Result): ResultLine {
  const { ret, ...rest } = result as Result & { ret: bigint };
  const address = op === 'mmap' && ret >= 0n;
  return { op, ret: address ? hexInteger(ret) : printed(ret), ...(printed(rest) as JsonObject) } as ResultLine;
}

async function atLine<T>(line: ScriptLine | undefined, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof ScriptError && line !== undefined) throw new ScriptError(error.reason, line.number);
    throw error;
  }
}

function machineOptions(fields: JsonObject): Pick<VfioOptions, 'machine'> {
  const number = (name: string) =>
    fields[name] === undefined ? {} : { [name]: Number(integer(fields[name] as Json, new Map(), name)) };
  const machine = {
    ...(fields['devices'] === undefined
      ? {}
      : { devices: fields['devices'] as unknown as NonNullable<MachineDescription['devices']> }),
    ...number('memory'),
    ...number('dma_entry_limit'),
    ...number('seed'),
  };
  return { machine };
}
