// Compares what a line gave here with its recording. Steps and lines whose mark says that the recording shows no architecture are judged as
// the mark says (vectors/insn, FORMAT.md "Marks"); everything else must be equal.
import type { Expected, Line, LineResult, Step, StepResult } from './lines.ts';
import { explainStorage } from './traits.ts';

export interface Difference {
  readonly id: string;
  readonly step: number;
  readonly insn: string;
  /** What is compared: cc, pgm, out, st, rc. */
  readonly field: string;
  readonly expected: string;
  readonly actual: string;
  /** Why a difference is no failure: a mark, a trait of the emulator, a reason of architecture. Absent: a failure. */
  readonly reason?: string;
}

const text = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

/** Lines whose results say nothing about the architecture. */
const SKIPPED_LINES: ReadonlySet<string> = new Set(['ida31', 'tic-first', 'suspend']);

/** @returns every difference of the line, failures and explained ones. */
export function compareLine(line: Line, result: LineResult): Difference[] {
  const marks = line.quirk ?? [];
  const skipped = marks.find((mark) => SKIPPED_LINES.has(mark));
  const channel = line.id.startsWith('c-');
  return line.steps.flatMap((step, index) => {
    const actual = result.steps[index] as StepResult;
    const fields = differences(step, step, actual);
    if (fields.length === 0) return [];
    if (step.v72 !== undefined && marks.includes('rpcit-clip') && differences(step, step.v72, actual).length === 0)
      return [];
    return fields
      .filter(([field]) => !excused(step, field))
      .map(([field, expected, got]) => {
        const reason =
          reasonFor(step, field, marks, skipped, channel, actual) ??
          (field === 'out' && isReversedBlock(line, index, actual) ? 'mark stb-order, which the step lacks' : null) ??
          (channel && field === 'st' ? explainStorage(line, result, index) : null);
        const difference = { id: line.id, step: index, insn: step.i ?? step.sclp ?? step.dma ?? 'cr6', field };
        return { ...difference, expected: text(expected), actual: text(got), ...(reason === null ? {} : { reason }) };
      });
  });
}

function differences(step: Step, expected: Expected, actual: StepResult): Array<[string, unknown, unknown]> {
  if (step.i === undefined) {
    const found: Array<[string, unknown, unknown]> = [];
    if (step.rc !== undefined && BigInt(step.rc) !== BigInt(actual.rc ?? '0')) found.push(['rc', step.rc, actual.rc]);
    if (step.completed !== undefined && step.completed !== actual.completed)
      found.push(['completed', step.completed, actual.completed]);
    return found;
  }
  const out = step.quirk === 'stb-order' && step.storage_order !== undefined ? replaced(step) : expected.out;
  return (
    [
      ['cc', expected.cc, actual.cc],
      ['pgm', expected.pgm, actual.pgm],
      ['out', sorted(out), sorted(actual.out)],
      ['st', expected.st ?? [], actual.st ?? []],
    ] as Array<[string, unknown, unknown]>
  ).filter(([, wanted, got]) => text(wanted) !== text(got));
}

/** The register of a load behind a block store, as it is when the block is stored in storage order. */
function replaced(step: Step): Record<string, string> | undefined {
  const [name] = Object.keys(step.out ?? {});
  const register = name ?? 'r2';
  const value = `0x${BigInt(step.storage_order as string).toString(16)}`;
  return BigInt(step.in?.[register] ?? '0') === BigInt(value) ? undefined : { [register]: value };
}

function sorted(out: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const entries = Object.entries(out ?? {}).map(([name, value]): [string, string] => [
    name,
    `0x${BigInt(value).toString(16)}`,
  ]);
  return Object.fromEntries(entries.sort(([a], [b]) => a.localeCompare(b)));
}

/** Differences that the step's own mark allows without a word. */
function excused(step: Step, field: string): boolean {
  return step.quirk === 'odd-len' && field === 'out';
}

/** NVMe: a doubleword that a block store wrote, in the emulator's order: the same bytes backwards. */
function isReversedBlock(line: Line, index: number, actual: StepResult): boolean {
  const step = line.steps[index] as Step;
  const [register, value] = Object.entries(step.out ?? {})[0] ?? [];
  if (!line.id.startsWith('nvme/') || step.i !== 'PCILG' || register === undefined || value === undefined) return false;
  if (!line.steps.slice(0, index).some(({ i }) => i === 'PCISTB')) return false;
  const hex = (number: bigint): string[] => number.toString(16).padStart(16, '0').match(/../g) ?? [];
  const got = BigInt(actual.out?.[register] ?? 0);
  return hex(got).join('') === hex(BigInt(value)).reverse().join('');
}

/** A load of one byte whose recorded value is wider, and of whose value the low byte came. */
function isWideByte(step: Step, actual: StepResult): boolean {
  const [register, value] = Object.entries(step.out ?? {})[0] ?? [];
  const byte = Object.values(step.in ?? {}).some((text) => BigInt(text) >> 63n === 1n && (BigInt(text) & 15n) === 1n);
  if (step.i !== 'PCILG' || !byte || register === undefined || BigInt(value ?? 0) <= 0xffn) return false;
  return BigInt(actual.out?.[register] ?? -1) === (BigInt(value ?? 0) & 0xffn);
}

function reasonFor(
  step: Step,
  field: string,
  marks: readonly string[],
  skipped: string | undefined,
  channel: boolean,
  actual: StepResult,
): string | null {
  if (skipped !== undefined) return `mark ${skipped}`;
  if (step.quirk === 'stale-irq') return 'mark stale-irq';
  if (marks.includes('standby-ls') && (step.i === 'PCILG' || step.i === 'CLP')) return 'mark standby-ls';
  if (field === 'out' && isWideByte(step, actual))
    return 'emulator: a load of one byte gave two; read() of one byte gives one';
  if (marks.includes('dma-blocked') || marks.includes('dma-above-range')) return 'mark dma: project decision';
  if (!channel || field === 'cc' || field === 'pgm') return null;
  if (marks.includes('ida-restart')) return 'mark ida-restart';
  return null;
}
