// Reads a script: JSON Lines into operations, each checked against the table of operations before anything runs.
import { type FieldKind, OPERATIONS, requestNumber } from './ops.ts';
import {
  bytesOf,
  integer,
  isInteger,
  type Json,
  type JsonObject,
  parseJson,
  referenceName,
  ScriptError,
} from './values.ts';

/** An operation of a script. */
export interface ScriptLine {
  /** 1-based. */
  readonly number: number;
  readonly op: string;
  /** All of the operation's fields, without `op`, `as`, `note` and `expect`. */
  readonly fields: JsonObject;
  readonly as: string | undefined;
  readonly expect: JsonObject | undefined;
}

/** @throws ScriptError with the line and the reason. */
export function parseScript(text: string): ScriptLine[] {
  const lines: ScriptLine[] = [];
  const names = new Set<string>();
  text.split(/\r?\n/).forEach((raw, index) => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    try {
      const parsed = parseLine(line, lines.length === 0);
      checkNames(references(parsed.fields, textFields(parsed.op)), names);
      if (parsed.as !== undefined) names.add(parsed.as);
      // What is expected may refer to the operation's own result.
      checkNames(references(parsed.expect ?? {}, EXPECTED_TEXTS), names);
      lines.push({ number: index + 1, ...parsed });
    } catch (error) {
      if (error instanceof ScriptError) throw new ScriptError(error.reason, index + 1);
      throw error;
    }
  });
  return lines;
}

function parseLine(line: string, first: boolean): Omit<ScriptLine, 'number'> {
  let value: Json;
  try {
    value = parseJson(line);
  } catch (error) {
    throw new ScriptError(`not JSON: ${(error as Error).message}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new ScriptError('not an object');
  const { op, as, note: _note, expect, ...fields } = value;
  if (typeof op !== 'string') throw new ScriptError('there is no "op"');
  if (as !== undefined && (typeof as !== 'string' || !/^[A-Za-z_]\w*$/.test(as)))
    throw new ScriptError(`as: ${JSON.stringify(as)} is not a name`);
  if (expect !== undefined && (expect === null || typeof expect !== 'object' || Array.isArray(expect)))
    throw new ScriptError('expect: an object is needed');
  if (op === 'machine') {
    if (!first) throw new ScriptError('"machine" must be the first operation');
    checkMachine(fields);
  } else checkFields(op, fields);
  return { op, fields, as, expect };
}

function checkFields(op: string, fields: JsonObject): void {
  const operation = Object.hasOwn(OPERATIONS, op) ? OPERATIONS[op] : undefined;
  if (operation === undefined) throw new ScriptError(`unknown operation "${op}"`);
  for (const name of operation.required) if (!(name in fields)) throw new ScriptError(`${op} needs "${name}"`);
  for (const [name, value] of Object.entries(fields)) {
    const kind = Object.hasOwn(operation.fields, name) ? operation.fields[name] : undefined;
    if (kind !== undefined) checkKind(name, kind, value);
    else if (operation.open !== true) throw new ScriptError(`${op} has no field "${name}"`);
  }
  operation.check?.(fields);
}

function checkKind(name: string, kind: FieldKind, value: Json): void {
  const shown = JSON.stringify(value);
  switch (kind) {
    case 'integer':
      if (isInteger(value)) integer(value, new Map(), name);
      else if (referenceName(value) === null)
        throw new ScriptError(`${name}: ${shown} is neither a number, "0x…" nor "$name+offset"`);
      return;
    case 'bytes':
      bytesOf(value, name);
      return;
    case 'text':
      if (typeof value !== 'string') throw new ScriptError(`${name}: a text is needed, not ${shown}`);
      return;
    case 'boolean':
      if (typeof value !== 'boolean') throw new ScriptError(`${name}: true or false is needed, not ${shown}`);
      return;
    case 'object':
      if (value === null || typeof value !== 'object' || Array.isArray(value))
        throw new ScriptError(`${name}: an object is needed, not ${shown}`);
      return;
    case 'list':
      if (!Array.isArray(value)) throw new ScriptError(`${name}: a list is needed, not ${shown}`);
      return;
    case 'request':
      requestNumber(value);
      return;
    case 'limit':
      if (value !== 'unlimited' && !isInteger(value))
        throw new ScriptError(`${name}: bytes or "unlimited" is needed, not ${shown}`);
      return;
    case 'any':
      return;
  }
}

const MACHINE_FIELDS: Readonly<Record<string, FieldKind>> = {
  devices: 'list',
  memory: 'integer',
  dma_entry_limit: 'integer',
  seed: 'integer',
};

function checkMachine(fields: JsonObject): void {
  for (const [name, value] of Object.entries(fields)) {
    const kind = Object.hasOwn(MACHINE_FIELDS, name) ? MACHINE_FIELDS[name] : undefined;
    if (kind === undefined) throw new ScriptError(`machine has no field "${name}"`);
    checkKind(name, kind, value);
  }
  for (const name of ['dma_entry_limit', 'seed']) {
    const value = name in fields ? integer(fields[name], new Map(), name) : 0n;
    if (value < 0n || value > 0xffffffffn) throw new ScriptError(`${name}: ${value} is no 32-bit number`);
  }
  ((fields['devices'] as Json[] | undefined) ?? []).forEach((device, index) => {
    checkKind(`devices[${index}]`, 'object', device);
    for (const name of ['bus', 'model', 'name'])
      checkKind(`devices[${index}].${name}`, 'text', (device as JsonObject)[name] ?? null);
  });
}

/** Results that are compared as they stand. */
const EXPECTED_TEXTS: ReadonlySet<string> = new Set(['errno', 'text', 'data', 'arg']);

/** Fields of an operation that are text, in which a `$` means nothing. */
function textFields(op: string): ReadonlySet<string> {
  const fields = Object.entries(OPERATIONS[op]?.fields ?? {});
  return new Set(fields.filter(([, kind]) => kind === 'text').map(([name]) => name));
}

function checkNames(referred: readonly string[], saved: ReadonlySet<string>): void {
  const unknown = referred.find((name) => !saved.has(name));
  if (unknown !== undefined) throw new ScriptError(`nothing was saved as "${unknown}" before`);
}

/** Names that are referred to anywhere in the fields but those of these names. */
function references(fields: JsonObject, except: ReadonlySet<string>): string[] {
  return Object.entries(fields).flatMap(([name, value]) => (except.has(name) ? [] : referredBy(value)));
}

function referredBy(value: Json): string[] {
  if (typeof value === 'string') {
    const name = referenceName(value);
    return name === null ? [] : [name];
  }
  if (value === null || typeof value !== 'object') return [];
  return Object.values(value).flatMap(referredBy);
}
