// Integers in bytes: the same as a DataView's, at any place, for the edges of every width.
import { describe, expect, it } from 'vitest';
import { getS32, getU16, getU32, getU64, setU16, setU32, setU64, setViewU64, viewU64 } from '../../host/uapi/words.ts';

const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfedcba98, 0xffffffff];
const WIDE = [
  0n,
  1n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  1n << 32n,
  0xfedcba9876543210n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

describe('integers in bytes', () => {
  it('are read and written as a DataView does', () => {
    for (let at = 0; at < 9; at++) {
      const bytes = new Uint8Array(24);
      const view = new DataView(bytes.buffer);
      for (const value of NUMBERS) {
        bytes.fill(0xa5);
        setU16(bytes, at, value);
        expect(view.getUint16(at, true)).toBe(value & 0xffff);
        expect([bytes[at + 2], bytes[at - 1] ?? 0xa5]).toEqual([0xa5, 0xa5]);
        expect(getU16(bytes, at)).toBe(value & 0xffff);
        setU32(bytes, at, value | 0);
        expect(view.getUint32(at, true)).toBe(value);
        expect(getU32(bytes, at)).toBe(value);
        expect(getS32(bytes, at)).toBe(value | 0);
      }
      for (const value of WIDE) {
        setU64(bytes, at, value);
        expect([view.getBigUint64(at, true), getU64(bytes, at), viewU64(view, at)]).toEqual([value, value, value]);
        bytes.fill(0xa5);
        setViewU64(view, at, value);
        expect(view.getBigUint64(at, true)).toBe(value);
        expect(bytes[at + 8]).toBe(0xa5);
      }
      setU64(bytes, at, -2n);
      expect(getU64(bytes, at)).toBe((1n << 64n) - 2n);
    }
  });
});
