// What a line of an input file must look like: small rules that say what is wrong with a value, and where, or nothing.

/** @returns what is wrong, beginning with the path inside the value, or undefined. */
export type Rule = (value: unknown) => string | undefined;

export const U64_MAX = 0xffffffffffffffffn;

/** A hex string with 0x, at most `last`, a multiple of `unit`. */
export const hexNumber =
  (last: bigint = U64_MAX, unit = 1n): Rule =>
  (value) => {
    if (typeof value !== 'string' || !/^0x[0-9a-f]{1,32}$/i.test(value)) return 'not a hex string with 0x';
    if (BigInt(value) > last) return `above 0x${last.toString(16)}`;
    return BigInt(value) % unit === 0n ? undefined : `not a multiple of 0x${unit.toString(16)}`;
  };

/** Pairs of hex digits; exactly `size` bytes when given. */
export const hexBytes =
  (size?: number): Rule =>
  (value) => {
    if (typeof value !== 'string' || !/^([0-9a-f]{2})*$/i.test(value)) return 'not pairs of hex digits';
    return size === undefined || value.length === size * 2 ? undefined : `${value.length / 2} bytes instead of ${size}`;
  };

export const integer: Rule = (value) => (Number.isSafeInteger(value) ? undefined : 'not an integer');

/** An integer with both ends. */
export const within =
  (first: number, last: number): Rule =>
  (value) =>
    Number.isSafeInteger(value) && (value as number) >= first && (value as number) <= last
      ? undefined
      : `not an integer from ${first} to ${last}`;

export const errno: Rule = (value) =>
  Number.isSafeInteger(value) && (value as number) < 0 && (value as number) > -4096
    ? undefined
    : 'not a negative errno';

export const boolean: Rule = (value) => (typeof value === 'boolean' ? undefined : 'not true or false');

export const text: Rule = (value) => (typeof value === 'string' && value !== '' ? undefined : 'not a name');

export const oneOf =
  (...names: readonly string[]): Rule =>
  (value) =>
    names.includes(value as string) ? undefined : `not one of ${names.join(', ')}`;

export const optional =
  (rule: Rule): Rule =>
  (value) =>
    value === undefined ? undefined : rule(value);

export const list =
  (rule: Rule): Rule =>
  (value) => {
    if (!Array.isArray(value)) return 'not a list';
    for (const [index, item] of value.entries()) {
      const wrong = rule(item);
      if (wrong !== undefined) return at(`[${index}]`, wrong);
    }
    return undefined;
  };

export const object =
  (fields: Readonly<Record<string, Rule>>): Rule =>
  (value) => {
    if (!isRecord(value)) return 'not an object';
    for (const [name, rule] of Object.entries(fields)) {
      const wrong = rule(value[name]);
      if (wrong !== undefined) return at(`.${name}`, wrong);
    }
    return undefined;
  };

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Puts a path in front of what is wrong. */
export const at = (path: string, wrong: string): string => `${path}${/^[.[]/.test(wrong) ? '' : ': '}${wrong}`;

/** What is wrong with a whole line, as a sentence. */
export const problem = (rule: Rule, value: unknown): string | undefined => rule(value)?.replace(/^\./, '');
