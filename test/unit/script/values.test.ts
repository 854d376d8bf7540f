import { describe, expect, it } from 'vitest';
import { toHex } from '../../../host/hex.ts';
import { bytesOf, integer, parseJson, printed, type Saved, ScriptError } from '../../../host/script/values.ts';

const saved = new Map<string, Saved>([
  ['fd', { ret: 5n, fields: undefined }],
  ['ram', { ret: 0x7f0000000000n, fields: undefined }],
  ['bad', { ret: -22n, fields: undefined }],
  ['d', { ret: 0n, fields: { flags: 3n, data: { data_fd: 9n }, list: [1n, 2n] } }],
  ['top', { ret: 0xffff_ffff_ffff_f000n, fields: undefined }],
]);
const value = (json: Parameters<typeof integer>[0]) => integer(json, saved, 'x');

describe('integers of a script', () => {
  it.each([
    [7, 7n],
    [-1, -1n],
    ['0xffffffffffffffff', 0xffff_ffff_ffff_ffffn],
    ['-0x8000000000000000', -(1n << 63n)],
    ['$fd', 5n],
    ['$ram+0x1000', 0x7f0000001000n],
    ['$ram+0', 0x7f0000000000n],
    ['$ram-8', 0x7efffffffff8n],
    ['$bad', -22n],
    ['$d.flags', 3n],
    ['$d.data.data_fd', 9n],
    ['$d.data.data_fd+1', 10n],
    ['$d.list.1', 2n],
  ])('%j is %s', (json, expected) => {
    expect(value(json)).toBe(expected);
  });

  it('addresses wrap at 64 bits, as in C', () => {
    expect(value('$top+0x1000')).toBe(0n);
  });

  it.each([
    [1.5, /not an integer/],
    [true, /integer is needed/],
    ['12', /neither a number/],
    ['$nosuch', /nothing was saved as "nosuch"/],
    ['$d.nosuch', /has no field "nosuch"/],
    ['$d.data', /is not an integer/],
    ['$fd.flags', /has no field "flags"/],
    ['0x10000000000000000', /does not fit into 64 bits/],
    ['$', /neither a number/],
    ['$fd+', /neither a number/],
  ])('%j is refused', (json, reason) => {
    expect(() => value(json)).toThrow(ScriptError);
    expect(() => value(json)).toThrow(reason);
  });

  it('literals beyond 2^53 keep all their bits; strings are left alone', () => {
    expect(
      parseJson('{"a": 18446744073709551615, "b": [-9223372036854775808], "c": "12345678901234567890", "d": 1.5}'),
    ).toEqual({ a: '0xffffffffffffffff', b: ['-0x8000000000000000'], c: '12345678901234567890', d: 1.5 });
  });

  it('prints numbers up to 2^53 and hex strings above', () => {
    expect(printed(1n << 53n)).toBe(9007199254740992);
    expect(printed((1n << 53n) + 1n)).toBe('0x20000000000001');
    expect(printed({ a: [0xffff_ffff_ffff_ffffn], b: -1n })).toEqual({ a: ['0xffffffffffffffff'], b: -1 });
  });

  it('bytes are pairs of hex digits in either case', () => {
    expect(toHex(bytesOf('00fFA5', 'x'))).toBe('00ffa5');
    for (const bad of ['0', 'zz', 5, null]) expect(() => bytesOf(bad, 'x')).toThrow(/bytes in hex/);
  });
});
