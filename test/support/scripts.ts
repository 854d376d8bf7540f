// Scripts as tests: runs one against a fresh instance and says which expectations did not hold.
import { createVfio } from '../../host/inline.ts';
import { type Mismatch, runScript, type ScriptOutcome } from '../../host/script/run.ts';
import { loadText } from './data.ts';

export const run = (text: string): Promise<ScriptOutcome> => runScript(text, { create: createVfio });

/** Runs a script of test/data/abi. @returns one line per expectation that did not hold. */
export async function failures(name: string): Promise<string[]> {
  const { mismatches } = await run(await loadText(`abi/${name}.jsonl`));
  return describeMismatches(mismatches);
}

export const describeMismatches = (mismatches: readonly Mismatch[]): string[] =>
  mismatches.flatMap(({ line, op, reasons }) => reasons.map((reason) => `${line}: ${op}: ${reason}`));
