// A translation against what a vector expects: every normative field, differences in words.
import type { CcwOutput, Translation } from './translate_format.ts';

/** Hex strings are numbers without a padding rule. */
function same(a: unknown, b: unknown): boolean {
  if (typeof a === 'string' && typeof b === 'string' && a.startsWith('0x') && b.startsWith('0x'))
    return BigInt(a) === BigInt(b);
  return a === b;
}

const show = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

/**
 * Two values, part by part. @param into receives lines like `chains[0].ccws[2].idaws[1]: expected "0x1000", is "0x2000"`.
 */
function compare(path: string, expected: unknown, actual: unknown, into: string[]): void {
  if (Array.isArray(expected) && Array.isArray(actual)) {
    if (expected.length !== actual.length)
      into.push(`${path}: expected ${expected.length} entries, are ${actual.length}`);
    for (let i = 0; i < Math.min(expected.length, actual.length); i++)
      compare(`${path}[${i}]`, expected[i], actual[i], into);
  } else if (isRecord(expected) && isRecord(actual)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(actual)]))
      compare(path === '' ? key : `${path}.${key}`, expected[key], actual[key], into);
  } else if (!same(expected, actual)) into.push(`${path}: expected ${show(expected)}, is ${show(actual)}`);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What is compared of a CCW: the values that the kernel leaves in the IDAL of a CCW without data are of no meaning, their number is. */
function normative(ccw: CcwOutput): unknown {
  const { residual, ...rest } = ccw;
  return residual === undefined ? rest : { ...rest, residual: residual.length };
}

function chains(translation: Partial<Translation>): unknown {
  return translation.chains?.map((chain) => ({ ...chain, ccws: chain.ccws.map(normative) }));
}

/** @returns the differences, empty when the translation is as expected. `calls` of a vector says how, not what: not compared. */
export function differences(expected: Partial<Translation>, actual: Translation): string[] {
  const into: string[] = [];
  const { cp_init, pfch_warning, cp_prefetch, pinned, orb_out, scsw, iova_pinned } = expected;
  compare(
    '',
    { cp_init, pfch_warning, cp_prefetch, chains: chains(expected), pinned, orb_out, scsw, iova_pinned },
    { ...actual, chains: chains(actual) },
    into,
  );
  return into;
}
