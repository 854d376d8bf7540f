// Dirty bits: reported as ranges, set, and an empty guest of 64 GiB scanned.
import { measure, type Row, rowOf } from './harness.ts';
import { native, table, withC } from './iommu_support.ts';
import { harvest } from './peers/iommu_optimised.ts';

const PAGES = 1 << 24;
const GUEST = BigInt(PAGES) * 4096n;

export async function rows(): Promise<Row[]> {
  const { core, mm, iommu } = await table();
  const x = core.exports;
  const c = native(1024);
  x.iommu_map(iommu, mm, 0n, GUEST - 1n, 0n, 3, 0n);
  x.iommu_dirty_start(iommu);
  const room = 1 << 18;
  const out = x.arena_alloc(core.arena, room * 16) >>> 0;
  const words = new Uint32Array(PAGES / 32);
  const ranges = new Float64Array(room * 2);

  const empty = await measure({
    table: 'dirty bitmaps',
    row: 'empty 64 GiB, as ranges',
    unit: 'scan',
    goal: '<= 30 us',
    candidates: [
      { name: 'core', run: (runs) => repeat(runs, () => x.iommu_dirty_ranges(iommu, 0n, GUEST - 1n, out, room)) },
      { name: 'optimised TS', run: (runs) => repeat(runs, () => harvest(words, ranges)) },
    ],
  });

  const runLength = 512n;
  const set = await measure({
    table: 'dirty bitmaps',
    row: 'set runs of 512 pages',
    unit: 'page',
    goal: '>= 20x JS bit loop',
    candidates: [
      {
        name: 'core',
        run(runs) {
          for (let i = 0; i < runs; i++) x.iommu_dirty_mark(iommu, BigInt((i * 5) & 0xffff) << 12n, runLength << 12n);
        },
      },
      {
        name: 'JS bit loop',
        run(runs) {
          for (let i = 0; i < runs; i++) {
            const first = (i * 5) & 0xffff;
            for (let page = first; page < first + 512; page++)
              words[page >> 5] = words[page >> 5]! | (1 << (page & 31));
          }
        },
      },
    ],
    per: Number(runLength),
  });

  x.iommu_dirty_stop(iommu);
  x.iommu_dirty_start(iommu);
  words.fill(0);
  let state = 1;
  for (let i = 0; i < PAGES / 100; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const page = state % PAGES;
    x.iommu_dirty_mark(iommu, BigInt(page) << 12n, 4096n);
    words[page >> 5] = words[page >> 5]! | (1 << (page & 31));
  }
  const found = x.iommu_dirty_ranges(iommu, 0n, GUEST - 1n, out, room);
  const report = await measure({
    table: 'dirty bitmaps',
    row: '1 % dirty, as ranges',
    unit: 'range',
    goal: '<= 1.05x C time',
    candidates: [
      { name: 'core', run: (runs) => repeat(runs, () => x.iommu_dirty_ranges(iommu, 0n, GUEST - 1n, out, room)) },
      { name: 'optimised TS', run: (runs) => repeat(runs, () => harvest(words, ranges)) },
    ],
    per: found,
  });
  return [
    rowOf(empty, withC(empty.ns, c['dirty empty'])),
    set,
    rowOf({ ...report, note: `${found} ranges` }, withC(report.ns, c['dirty harvest'])),
  ];
}

// biome-ignore lint/correctness/noUnusedVariables: takes the results, so that no call is optimised away
let sink = 0;
function repeat(runs: number, call: () => number): void {
  for (let i = 0; i < runs; i++) sink += call();
}
