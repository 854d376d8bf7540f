// Checks a result against an operation's `expect`: every field named there must be equal; null says that the field must be absent.
import {
  bytesOf,
  type Decoded,
  integer,
  isInteger,
  type Json,
  type JsonObject,
  printed,
  referenceName,
  type Saved,
} from './values.ts';

/** A result before it is printed. */
export type Result = { [name: string]: Decoded };

/** Differences in words, none when the expectation holds. */
export function differences(expect: JsonObject, result: Result, saved: ReadonlyMap<string, Saved>): string[] {
  return Object.entries(expect).flatMap(([name, wanted]) => compare(name, wanted, result[name], saved));
}

function compare(path: string, wanted: Json, got: Decoded | undefined, saved: ReadonlyMap<string, Saved>): string[] {
  if (wanted !== null && typeof wanted === 'object' && typeof got === 'object') {
    const lists = Array.isArray(wanted) && Array.isArray(got) && wanted.length === got.length;
    const objects = !Array.isArray(wanted) && !Array.isArray(got);
    if (lists || objects)
      return Object.entries(wanted).flatMap(([name, value]) =>
        compare(`${path}.${name}`, value, (got as Record<string, Decoded>)[name], saved),
      );
  } else if (equal(path, wanted, got, saved)) return [];
  const is = got === undefined ? 'absent' : show(printed(got));
  return [`${path} is ${is}, expected ${wanted === null ? 'none' : show(wanted)}`];
}

function equal(path: string, wanted: Json, got: Decoded | undefined, saved: ReadonlyMap<string, Saved>): boolean {
  if (wanted === null || got === undefined) return wanted === null && got === undefined;
  if (typeof got === 'bigint') {
    if (!isInteger(wanted) && referenceName(wanted) === null) return false;
    // The same 64 bits: a pointer-sized value may be written with or without its sign.
    return BigInt.asUintN(64, integer(wanted, saved, path)) === BigInt.asUintN(64, got);
  }
  if (typeof got !== 'string' || typeof wanted !== 'string') return false;
  return got === wanted || (isBytes(path) && sameBytes(got, wanted, path));
}

const isBytes = (path: string): boolean => path === 'data' || path === 'arg';

function sameBytes(got: string, wanted: string, path: string): boolean {
  const expected = bytesOf(wanted, path);
  const actual = bytesOf(got, path);
  return actual.length === expected.length && actual.every((byte, index) => byte === expected[index]);
}

function show(value: Json): string {
  const text = JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}… (${text.length} characters)` : text;
}
