// Every translator vector that ships with the tests: the core against the Linux 6.12 translator.
import { describe, expect, it } from 'vitest';
import { differences } from '../../host/cli/translate_check.ts';
import { type Translation, type VectorInput, vectorProblem } from '../../host/cli/translate_format.ts';
import { VectorRunner } from '../../host/cli/translate_vector.ts';
import { freshCore } from '../support/core.ts';
import { loadLines } from '../support/data.ts';

type Vector = VectorInput & { expect: Translation };

const FILES: ReadonlyArray<[file: string, vectors: number]> = [
  ['hand', 400],
  ['random-1', 300],
  ['random-2', 300],
  ['perf-a-1x4k', 1],
  ['perf-b-dasd-8x4k', 1],
  ['perf-c-64x4k', 1],
  ['perf-d-8x60k-idal', 1],
  ['perf-e-256x64b', 1],
];

describe('translator vectors', () => {
  for (const [file, count] of FILES)
    it(`${file}: every normative field is equal, nothing stays pinned`, async () => {
      const vectors = await loadLines<Vector>(`ccw/${file}.jsonl`);
      expect(vectors).toHaveLength(count);
      const core = await freshCore();
      const runner = new VectorRunner(core);
      for (const vector of vectors) {
        expect(vectorProblem(vector, true), vector.name).toBeUndefined();
        const found = differences(vector.expect, runner.run(vector));
        if (found.length > 0) expect.soft(found, vector.name).toEqual([]);
      }
      runner.destroy();
      expect(core.liveBytes).toBe(0);
    });

  it('chains lie far apart for whoever asks: an offset leads out of its chain, never into the next', async () => {
    const frames = ['0x10000', '0x11000', '0x50000'].map((iova) => ({ iova, pfn: iova }));
    // A read, a TIC to the second chain; a read.
    const memory = [
      { iova: '0x10000', hex: '02400008000500000800000000011000' },
      { iova: '0x11000', hex: '0200000800050000' },
    ];
    const offsets = Array.from({ length: 600 }, (_, i) => i - 300);
    const scsw = [0, 1].flatMap((chain) =>
      offsets.map((offset) => {
        const inside = offset >= 0 && offset <= (chain === 0 ? 16 : 8);
        return { chain, offset, guest_cpa: inside ? `0x${(0x10000 + 0x1000 * chain + offset).toString(16)}` : null };
      }),
    );
    const runner = new VectorRunner(await freshCore());
    const vector = { name: 'two chains', orb: '0000000000c2ff0000010000', sch_lpm: '0xf0', memory, frames };
    expect(runner.run({ ...vector, expect: { scsw } }).scsw).toEqual(scsw);
  });

  it('a translation that differs anywhere is noticed', async () => {
    const [vector] = (await loadLines<Vector>('ccw/perf-d-8x60k-idal.jsonl')) as [Vector];
    const runner = new VectorRunner(await freshCore());
    const actual = runner.run(vector);
    const spoil = (change: (expected: Translation) => void): string[] => {
      const expected = structuredClone(vector.expect);
      change(expected);
      return differences(expected, actual);
    };
    expect(spoil(() => {})).toEqual([]);
    const idaws = (expected: Translation) => expected.chains[0]?.ccws[3]?.idaws as string[];
    expect(
      spoil((expected) => {
        idaws(expected)[2] = '0x1000';
      }),
    ).toEqual([`chains[0].ccws[3].idaws[2]: expected "0x1000", is "${idaws(vector.expect)[2]}"`]);
    expect(spoil((expected) => idaws(expected).pop())).toHaveLength(1);
    expect(spoil((expected) => expected.pinned.pop())).toHaveLength(1);
    expect(spoil((expected) => Object.assign(expected, { cp_prefetch: -22 }))).toHaveLength(1);
    expect(spoil((expected) => Object.assign(expected.orb_out as object, { lpm: '0x01' }))).toHaveLength(1);
    expect(spoil((expected) => Object.assign(expected.scsw?.[0] as object, { guest_cpa: null }))).toHaveLength(1);
    expect(spoil((expected) => Object.assign(expected.iova_pinned?.[0] as object, { result: false }))).toHaveLength(1);
    expect(spoil((expected) => delete expected.orb_out)).toHaveLength(1);
    runner.destroy();
  });
});
