// Two values of a check, part by part, with the differences in words.
import { isRecord } from './shape.ts';

/** Hex strings are numbers without a padding rule. */
const isHex = (value: unknown): value is string => typeof value === 'string' && /^0x[0-9a-f]+$/i.test(value);
const same = (a: unknown, b: unknown): boolean => (isHex(a) && isHex(b) ? BigInt(a) === BigInt(b) : a === b);

const show = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

/** @param into receives lines like `chains[0].ccws[2].idaws[1]: expected "0x1000", is "0x2000"`. */
export function compare(path: string, expected: unknown, actual: unknown, into: string[]): void {
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
