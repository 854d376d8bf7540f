// Compares what a replay showed with what was recorded.
import { EXECUTED_KEPT, type RecordedArea, type RecordedOutcome, type Recording } from '../devices/recording.ts';

export type ResultEntry = RecordedArea & { hex: string };

/** What a replay showed, in the recording's own form. */
export interface Observed {
  readonly outcome: RecordedOutcome;
  readonly executed: readonly string[];
  readonly result: readonly ResultEntry[];
}

/** Differences in words; none: everything is equal. `result` is compared on the recorded prefix. */
export function compare(recording: Recording, observed: Observed): string[] {
  const found: string[] = [];
  for (const [field, expected] of Object.entries(recording.outcome)) {
    // After a clear function nothing but the function itself means anything in an SCSW.
    if (recording.outcome.kind === 'clear' && field !== 'kind') continue;
    const actual = (observed.outcome as unknown as Record<string, unknown>)[field];
    if (!equal(expected, actual)) found.push(`outcome.${field}: ${show(actual)}, recorded ${show(expected)}`);
  }
  const { executed } = recording;
  if (executed !== undefined) {
    const kept = executed.length < EXECUTED_KEPT ? observed.executed : observed.executed.slice(0, EXECUTED_KEPT);
    const at = executed.findIndex((address, index) => !equal(address, kept[index]));
    if (at !== -1) found.push(`executed[${at}]: ${show(kept[at])}, recorded ${show(executed[at])}`);
    else if (kept.length !== executed.length) found.push(`executed: ${kept.length} CCWs, recorded ${executed.length}`);
  }
  (recording.result ?? []).forEach((expected, index) => {
    const actual = observed.result[index];
    if (actual === undefined) found.push(`result[${index}]: nothing, recorded ${expected.iova}`);
    else if (!equal(expected.iova, actual.iova) || expected.len !== actual.len)
      found.push(
        `result[${index}]: ${actual.iova} length ${actual.len}, recorded ${expected.iova} length ${expected.len}`,
      );
    else if (!equal(expected.hex, actual.hex))
      found.push(`result[${index}]: ${actual.iova}: other bytes than recorded`);
  });
  return found;
}

/** Hex and addresses are equal whatever their case and leading zeros. */
function equal(expected: unknown, actual: unknown): boolean {
  if (typeof expected !== 'string' || typeof actual !== 'string') return expected === actual;
  if (expected.startsWith('0x') && actual.startsWith('0x')) return BigInt(expected) === BigInt(actual);
  return expected.toLowerCase() === actual.toLowerCase();
}

const show = (value: unknown): string => (value === undefined ? 'nothing' : String(value));
