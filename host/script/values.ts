// Values of a script (spec script, "Values"): integers up to 64 bits, bytes in hex, and references to what an earlier operation saved.
import { fromHex } from '../hex.ts';

/** A script that cannot be executed as written: wrong JSON, an unknown word, a value of the wrong kind. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  /** 1-based line, 0 until the reader of lines knows it. */
  readonly line: number;
  readonly reason: string;
  constructor(reason: string, line = 0) {
    super(line === 0 ? reason : `line ${line}: ${reason}`);
    this.line = line;
    this.reason = reason;
  }
}

/** A value as JSON gives it. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
/** An object as JSON has it. */
export type JsonObject = { [name: string]: Json };

/** A decoded structure or result: integers are bigint inside, numbers or hex strings when printed. */
export type Decoded = bigint | string | Decoded[] | { [name: string]: Decoded };

/** What an operation saved under its `as`. */
export interface Saved {
  readonly ret: bigint;
  /** Decoded fields of its structure, when it had one. */
  readonly fields: Decoded | undefined;
}

const MIN = -(1n << 63n);
const MAX = (1n << 64n) - 1n;
const LITERAL = /^-?0x[0-9a-f]+$/i;
const REFERENCE = /^\$([A-Za-z_]\w*)((?:\.\w+)*)(?:([+-])(0x[0-9a-f]+|\d+))?$/i;

const magnitude = (text: string): bigint => BigInt(text.replace(/^-/, '')) * (text.startsWith('-') ? -1n : 1n);

/** True for the forms of an integer that need no earlier operation. */
export function isInteger(value: Json | undefined): boolean {
  return typeof value === 'number' || (typeof value === 'string' && LITERAL.test(value));
}

/** The name that a reference mentions, or null when the text is no reference. */
export function referenceName(value: Json | undefined): string | null {
  return typeof value === 'string' ? (REFERENCE.exec(value)?.[1] ?? null) : null;
}

/**
 * An integer: a JSON number, `"0x…"`, or `"$name"`, `"$name.field"`, each with an optional `+n` or `-n`.
 * @throws ScriptError not an integer of at most 64 bits, nothing saved under that name, no such field.
 */
export function integer(value: Json | undefined, saved: ReadonlyMap<string, Saved>, what: string): bigint {
  const result = evaluate(value, saved, what);
  if (result < MIN || result > MAX) throw new ScriptError(`${what}: ${String(value)} does not fit into 64 bits`);
  return result;
}

function evaluate(value: Json | undefined, saved: ReadonlyMap<string, Saved>, what: string): bigint {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new ScriptError(`${what}: ${value} is not an integer`);
    return BigInt(value);
  }
  if (typeof value !== 'string') throw new ScriptError(`${what}: an integer is needed, not ${JSON.stringify(value)}`);
  if (LITERAL.test(value)) return magnitude(value);
  const match = REFERENCE.exec(value);
  if (match === null)
    throw new ScriptError(`${what}: ${JSON.stringify(value)} is neither a number, "0x…" nor "$name+offset"`);
  const [, name, path, sign, offset] = match;
  const base = lookup(name as string, path as string, saved, what);
  // Addresses are 64-bit: an offset may wrap, as it does in C.
  if (sign === undefined || offset === undefined) return base;
  const sum = sign === '+' ? base + BigInt(offset) : base - BigInt(offset);
  return base < 0n ? sum : BigInt.asUintN(64, sum);
}

function lookup(name: string, path: string, saved: ReadonlyMap<string, Saved>, what: string): bigint {
  const entry = saved.get(name);
  if (entry === undefined) throw new ScriptError(`${what}: nothing was saved as "${name}"`);
  if (path === '') return entry.ret;
  let at: Decoded | undefined = entry.fields;
  for (const field of path.slice(1).split('.')) {
    at = typeof at === 'object' ? (at as Record<string, Decoded>)[field] : undefined;
    if (at === undefined) throw new ScriptError(`${what}: the result of "${name}" has no field "${field}"`);
  }
  if (typeof at !== 'bigint') throw new ScriptError(`${what}: "$${name}${path}" is not an integer`);
  return at;
}

/** Bytes from hex digits. @throws ScriptError an odd number of digits or something else between them. */
export function bytesOf(value: Json | undefined, what: string): Uint8Array {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(value))
    throw new ScriptError(`${what}: bytes in hex are needed, not ${JSON.stringify(value)}`);
  return fromHex(value);
}

/** `"0x…"` of an address, `"-0x…"` of a negative number. */
export function hexInteger(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

/** As a result prints it: a number up to 2^53, a hex string above. */
export function printed(value: Decoded): Json {
  if (typeof value === 'bigint') {
    const size = value < 0n ? -value : value;
    return size > 1n << 53n ? hexInteger(value) : Number(value);
  }
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return value.map(printed);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, printed(field)]));
}

/**
 * JSON in which integer literals of 16 and more digits keep all of their bits: they become hex strings, which every integer of a script may
 * be. @throws SyntaxError.
 */
export function parseJson(text: string): Json {
  if (!/[\d.eE]{16}/.test(text)) return JSON.parse(text) as Json;
  const exact = text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (token) =>
    /^-?\d{16,}$/.test(token) ? `"${hexInteger(BigInt(token))}"` : token,
  );
  return JSON.parse(exact) as Json;
}
