import { describe, expect, it } from 'vitest';
import { blockStoreAllowed, LOAD_RULES, packStoreRules, planStore, type StoreRules } from '../../host/zpci.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs } from '../support/counts.ts';
import { blockAllowed, slowPlan } from '../support/model/zpci_store.ts';

const RULES: readonly StoreRules[] = [
  {},
  { blockAware: true },
  { split: true },
  { relaxed: true, maxBlock: 4096 },
  { relaxed: true, maxBlock: 128 },
  { maxBlock: 64 },
  { maxBlock: 8 },
  LOAD_RULES,
];

describe('the plan of a store', () => {
  it('equals the slow model for every offset around the page edges, every length to 264, every alignment', async () => {
    const core = await freshCore({ length: 0x40000 });
    const offsets = [...Array(17).keys(), ...Array.from({ length: 140 }, (_, i) => 4096 - 140 + i)];
    for (const rules of RULES.slice(0, 4))
      for (const io of offsets)
        for (let mem = 0; mem < 8; mem += rules === RULES[0] ? 1 : 3)
          for (let length = 0; length <= 264; length += length < 40 ? 1 : 7) {
            const plan = planStore(core, io, mem, length, rules);
            const slow = slowPlan(io, mem, length, rules);
            if (JSON.stringify(plan) !== JSON.stringify(slow)) expect({ io, mem, length, rules, plan }).toEqual(slow);
          }
    expect(core.liveBytes).toBe(0);
  });

  it('equals the slow model anywhere (offset 0..8191, length 0..4096, any alignment, all rules)', async () => {
    const core = await freshCore({ length: 0x40000 });
    const random = new Random();
    for (let run = 0; run < runs(6000); run++) {
      const io = random.int(8192);
      const mem = random.int(8);
      const length = random.int(4) === 0 ? random.int(4097) : random.int(512);
      const rules = random.pick(RULES);
      const plan = planStore(core, io, mem, length, rules);
      expect(JSON.stringify(plan), `io ${io} mem ${mem} length ${length} ${JSON.stringify(rules)}`).toBe(
        JSON.stringify(slowPlan(io, mem, length, rules)),
      );
    }
  });

  it('covers the transfer, stays in pages and blocks, and keeps singles inside doublewords', async () => {
    const core = await freshCore({ length: 0x40000 });
    const random = new Random();
    for (let run = 0; run < runs(4000); run++) {
      const [io, mem, length] = [random.int(8192), random.int(8), random.int(4097)];
      const rules = random.pick(RULES);
      let at = 0;
      const wrong = planStore(core, io, mem, length, rules).filter((piece) => {
        const start = io + at;
        const last = start + piece.length - 1;
        const gap = piece.at !== at || start >> 12 !== last >> 12;
        at += piece.length;
        if (piece.block) return gap || !blockStoreAllowed(core, start, piece.length, mem + piece.at, rules);
        return gap || start >> 3 !== last >> 3;
      });
      expect({ wrong, at }, `io ${io} mem ${mem} length ${length} ${JSON.stringify(rules)}`).toEqual({
        wrong: [],
        at: length,
      });
    }
  });
});

describe('the copy of a store', () => {
  it('moves exactly the bytes and counts the instructions of the plan', async () => {
    const core = await freshCore({ length: 0x80000 });
    const random = new Random();
    const bar = core.userBase;
    const source = core.userBase + 0x8000;
    for (let run = 0; run < runs(4000); run++) {
      const [io, skew] = [random.int(4200), random.int(16)];
      const length = random.int(3) === 0 ? random.int(9000) : random.int(400);
      const rules = random.pick(RULES);
      const { u8 } = core;
      u8.fill(0xee, bar, bar + 0x4000);
      for (let i = 0; i < length; i++) u8[source + skew + i] = random.int(256);
      const count = core.exports.zpci_store(bar, io, source + skew, length, packStoreRules(rules));
      const message = `io ${io} skew ${skew} length ${length} ${JSON.stringify(rules)}`;
      expect(count, message).toBe(slowPlan(io, skew, length, rules).length);
      const wanted = new Uint8Array(0x4000).fill(0xee);
      wanted.set(u8.subarray(source + skew, source + skew + length), io);
      expect(same(u8.subarray(bar, bar + 0x4000), wanted), message).toBe(true);
    }
  });
});

describe('PCISTB checks', () => {
  it('every rule of steps 5 to 8, strict and relaxed, against the sheet', async () => {
    const core = await freshCore({ length: 0x40000 });
    const lengths = [0, 1, 7, 8, 9, 12, 15, 16, 17, 24, 120, 128, 129, 136, 4088, 4096, 4097, 8191];
    const offsets = [0, 1, 4, 8, 16, 0xf80, 0xf88, 0xff0, 0xff8, 0xfff, 0x1000, 0x1ff8];
    for (const rules of RULES)
      for (const io of offsets)
        for (const length of lengths)
          for (const gaddr of [0, 1, 4, 8])
            expect(blockStoreAllowed(core, io, length, gaddr, rules), `${io} ${length} ${gaddr}`).toBe(
              blockAllowed(io, length, gaddr, rules),
            );
  });

  it('refuses rules that no device has', () => {
    expect(() => packStoreRules({ maxBlock: 4104 })).toThrow(RangeError);
    expect(() => packStoreRules({ maxBlock: 12 })).toThrow(RangeError);
  });
});

const same = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return false;
  return true;
};
