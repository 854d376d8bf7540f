import { describe, expect, it } from 'vitest';
import { planStore, type StoreRules } from '../../host/zpci.ts';
import { freshCore } from '../support/core.ts';

// Sheet zdev section 4, the table of vectors. A letter B marks a PCISTB.
const TABLE: ReadonlyArray<
  [title: string, io: number, mem: number, length: number, pieces: string, rules?: StoreRules]
> = [
  ['a block and a doubleword', 0, 0, 136, '128B 8'],
  ['a block and a word', 0, 0, 132, '128B 4'],
  ['a length that is not a multiple of 8 has no block', 0, 0, 100, `${'8 '.repeat(12)}4`],
  ['no block crosses 4 KiB', 0xfc0, 0, 128, '64B 64B'],
  ['8 bytes before the edge are a single store', 0xff8, 0, 16, '8 8'],
  ['a store at 4 goes through 8', 4, 0, 16, '4 8 4'],
  ['a store stays inside its doubleword', 3, 0, 5, '4 1'],
  ['unaligned memory has no block', 0, 4, 32, '8 8 8 8'],
  ['the block-aware planner rounds down first', 0, 0, 100, '96B 4', { blockAware: true }],
  ['a relaxed device takes it whole', 3, 1, 100, '100B', { relaxed: true, maxBlock: 4096 }],
  ['a relaxed device stops at the page too', 4095, 0, 3, '1B 2B', { relaxed: true, maxBlock: 4096 }],
  ['without block store pieces are naturally aligned', 2, 0, 16, '2 4 8 2', { split: true }],
  ['a load moves at most 8', 0, 0, 20, '8 8 4', { maxBlock: 0 }],
];

describe('chunking of stores (zdev section 4)', () => {
  for (const [title, io, mem, length, pieces, rules] of TABLE)
    it(title, async () => {
      const core = await freshCore({ length: 0x40000 });
      const plan = planStore(core, io, mem, length, rules);
      expect(plan.map((piece) => `${piece.length}${piece.block ? 'B' : ''}`).join(' ')).toBe(pieces);
    });
});
