// Compares what a line gave here with its recording. Steps and lines whose mark says that the recording shows no architecture are judged as
// the mark says (vectors/insn, FORMAT.md "Marks"); everything else must be equal.
import { decodeInsn } from '../cpu.ts';
import { type Expected, type Line, type LineResult, parseBytes, type Step, type StepResult } from './lines.ts';
import { explainStorage, storedTheSame } from './traits.ts';

/** Response code of a service-processor call that was done. */
const SCLP_DONE = 0x20n;

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

/** Lines whose programs say nothing about the architecture, from their first SSCH on. */
const PROGRAM_MARKS: readonly string[] = ['ida31', 'tic-first', 'suspend'];
/** What still counts in a line with mark suspend. */
const VALID_WHILE_SUSPENDED: readonly string[] = ['RSCH', 'XSCH', 'SSCH', 'MSCH', 'HSCH', 'CSCH', 'STSCH'];
/** Instructions that reach a function by the handle it kept (mark standby-ls). */
const BY_KEPT_HANDLE: readonly string[] = ['PCILG', 'PCISTG', 'PCISTB', 'CLP'];

/** @returns every difference of the line, failures and explained ones. */
export function compareLine(line: Line, result: LineResult): Difference[] {
  const marks = line.quirk ?? [];
  return line.steps.flatMap((step, index) => {
    const actual = result.steps[index] as StepResult;
    const fields = differences(step, step, actual);
    if (fields.length === 0) return [];
    if (step.v72 !== undefined && marks.includes('rpcit-clip') && differences(step, step.v72, actual).length === 0)
      return [];
    return fields
      .filter(([field]) => !excused(step, field))
      .filter(([field]) => !(isChannel(line) && field === 'st' && storedTheSame(line, result, index)))
      .map(([field, expected, got]) => {
        const reason = reasonFor(line, result, index, field);
        const difference = { id: line.id, step: index, insn: step.i ?? step.sclp ?? step.dma ?? 'cr6', field };
        return { ...difference, expected: text(expected), actual: text(got), ...(reason === null ? {} : { reason }) };
      });
  });
}

/** A sequence of channel I/O, by its group or by what it executes. */
const isChannel = (line: Line): boolean =>
  line.id.startsWith('c-') || line.steps.some(({ i }) => i === 'SSCH' || i === 'TSCH' || i === 'STSCH');

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

/** NVMe: a load of one byte whose recorded value is two bytes, and of whose value the low byte came. */
function isWideByte(line: Line, step: Step, actual: StepResult): boolean {
  if (!line.id.startsWith('nvme/') || step.i !== 'PCILG') return false;
  const insn = decodeInsn(parseBytes(step.op ?? ''));
  if (insn === null || (BigInt(step.in?.[`r${insn.r2}`] ?? 0) & 15n) !== 1n) return false;
  const recorded = BigInt(step.out?.[`r${insn.r1}`] ?? 0);
  return recorded > 0xffn && recorded <= 0xffffn && BigInt(actual.out?.[`r${insn.r1}`] ?? -1) === (recorded & 0xffn);
}

/** Is a function deconfigured with its enable bit kept, and the kept handle not yet given up by disabling the function? */
function hasKeptHandle(line: Line, index: number): boolean {
  const before = line.steps.slice(0, index);
  const taken = before.findLastIndex(({ sclp, rc }) => sclp === 'deconfigure' && BigInt(rc ?? 0) === SCLP_DONE);
  return taken >= 0 && !before.slice(taken).some((step) => step.i === 'CLP' && isDisable(step));
}

/** CLP set function, disable, and recorded as done. */
function isDisable(step: Step): boolean {
  const request = step.set?.at(-1)?.[1] ?? '';
  const done = step.st?.some(([, bytes]) => bytes.startsWith('10')) ?? false;
  return request.slice(4, 8) === '0005' && request.slice(44, 46) === '01' && done;
}

/** Are the places in which the recording and this machine stored the same? */
function samePlaces(expected: Step, actual: StepResult): boolean {
  const places = (st: StepResult['st'] | Step['st'] = []): string =>
    st.map(([address, bytes]) => `${address}:${bytes.length}`).join();
  return places(expected.st) === places(actual.st);
}

/** Why a field may differ; null: nothing explains it. */
function reasonFor(line: Line, result: LineResult, index: number, field: string): string | null {
  const step = line.steps[index] as Step;
  const actual = result.steps[index] as StepResult;
  const marks = line.quirk ?? [];
  const code = field === 'cc' || field === 'pgm';
  if (step.quirk === 'stale-irq') return 'mark stale-irq';
  if (!isChannel(line)) {
    if (marks.includes('standby-ls') && BY_KEPT_HANDLE.includes(step.i ?? '') && hasKeptHandle(line, index))
      return 'mark standby-ls';
    if (field !== 'out') return null;
    if (isWideByte(line, step, actual)) return 'emulator: a load of one byte gave two; read() of one byte gives one';
    return isReversedBlock(line, index, actual) ? 'mark stb-order, which the step lacks' : null;
  }
  const program = marks.find((mark) => PROGRAM_MARKS.includes(mark));
  const started = line.steps.findIndex(({ i }) => i === 'SSCH');
  if (program !== undefined && index >= started && started >= 0) {
    const resumed = line.steps.slice(0, index).some(({ i, cc }) => i === 'RSCH' && cc === 0);
    const valid = marks.every((mark) => mark === 'suspend') && !resumed && VALID_WHILE_SUSPENDED.includes(step.i ?? '');
    if (!(code && valid)) return `mark ${program}`;
  }
  if (code) return null;
  if (marks.includes('ida-restart') && step.i === 'SSCH' && samePlaces(step, actual)) return 'mark ida-restart';
  return field === 'st' ? explainStorage(line, result, index) : null;
}
