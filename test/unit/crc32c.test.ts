// CRC32C against published values and a bit-by-bit model: every way through the code, split anywhere, beside other records.
import { describe, expect, it } from 'vitest';
import { freshCore } from '../support/core.ts';
import { Random, runs } from '../support/counts.ts';

function model(crc: number, bytes: Uint8Array): number {
  let state = ~crc;
  for (const byte of bytes) {
    state ^= byte;
    for (let bit = 0; bit < 8; bit++) state = (state >>> 1) ^ (0x82f63b78 & -(state & 1));
  }
  return ~state >>> 0;
}

async function table() {
  const core = await freshCore();
  const record = core.exports.crc32c_create(core.arena);
  const base = core.userBase;
  return {
    core,
    record,
    base,
    sum: (length: number, crc = 0, from = base) => core.exports.crc32c(record, crc, from, length) >>> 0,
  };
}

describe('crc32c', () => {
  it('gives the published sums', async () => {
    const { core, base, sum } = await table();
    const of = (bytes: Uint8Array) => {
      core.u8.set(bytes, base);
      return sum(bytes.length);
    };
    expect(of(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
    expect(of(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(of(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(of(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(of(Uint8Array.from({ length: 32 }, (_, i) => 31 - i))).toBe(0x113fdb5c);
    expect(sum(0)).toBe(0);
  });

  it('equals the model at every border of the code, aligned or not, with any start', async () => {
    const { core, base, sum } = await table();
    const random = new Random();
    for (let i = 0; i < 40000; i++) core.u8[base + i] = random.int(256);
    const lengths = [
      1, 7, 8, 9, 63, 3311, 3312, 3313, 3320, 6624, 6631, 13375, 13376, 13377, 13391, 16368, 16384, 16400, 19727, 19728,
      32767, 36112,
    ];
    for (const length of lengths)
      for (const offset of [0, 1, 5]) {
        const crc = random.int(2 ** 31);
        const expected = model(crc, core.u8.subarray(base + offset, base + offset + length));
        expect(sum(length, crc, base + offset), `${length} at ${offset}`).toBe(expected);
      }
  });

  it('can be continued at any place', async () => {
    const { core, base, sum } = await table();
    const random = new Random();
    for (let i = 0; i < 60000; i++) core.u8[base + i] = random.int(256);
    const whole = sum(60000);
    for (let i = 0; i < runs(200); i++) {
      const first = random.int(60001);
      expect(sum(60000 - first, sum(first), base + first)).toBe(whole);
    }
  });

  it('is one record of the arena, given back whole; a full heap answers 0', async () => {
    const { core, record } = await table();
    expect(core.liveBytes).toBeGreaterThan(8192);
    core.exports.crc32c_destroy(core.arena, record);
    expect(core.liveBytes).toBe(0);
    core.failAllocation(1);
    expect(core.exports.crc32c_create(core.arena)).toBe(0);
  });

  it('is_zero sees every byte', async () => {
    const { core, base } = await table();
    for (const at of [0, 15, 63, 64, 4095]) {
      expect(core.exports.is_zero(base, 4096)).toBe(1);
      core.u8[base + at] = 1;
      expect(core.exports.is_zero(base, 4096)).toBe(0);
      core.u8[base + at] = 0;
    }
  });
});
