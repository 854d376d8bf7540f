// The table of maps: overlap test and insertion, lookup, exact and range unmap, at 1k, 65k and 1M one-page maps in random order.
import bintrees from 'bintrees';
import { measure, median, type Row, rowOf } from './harness.ts';
import { ENTRIES, label, native, placeIovas, shuffledPages, Tree, table, VADDR, withC } from './iommu_support.ts';
import { SortedColumns } from './peers/iommu_optimised.ts';

const TABLE = 'range table';
const ALL = (1n << 64n) - 1n;
export async function rows(): Promise<Row[]> {
  const result: Row[] = [];
  for (const n of ENTRIES) result.push(...(await ofSize(n)));
  return result;
}

async function ofSize(n: number): Promise<Row[]> {
  const { core, mm, iommu } = await table();
  const x = core.exports;
  const pages = shuffledPages(n);
  const iovas = placeIovas(core, pages);
  const out = x.arena_alloc(core.arena, n * 4) >>> 0;
  const c = native(n);
  const options = n > 100_000 ? { rounds: 3, turn: 1 } : { rounds: 5, turn: 10 };
  const clear = () => void x.iommu_unmap(iommu, 0n, ALL, 2);

  // One run maps everything once, timed apart from the clearing between the rounds.
  const fill = async (clearIt: () => void, run: () => void): Promise<number> => {
    const once = (): number => {
      clearIt();
      const start = performance.now();
      run();
      return ((performance.now() - start) * 1e6) / n;
    };
    // The first 200,000 operations run before the optimising tiers.
    for (let done = 0; done < 200_000; done += n) once();
    return median(Array.from({ length: n > 100_000 ? 3 : 9 }, once));
  };
  const btree = new Tree();
  const rb = new bintrees.RBTree<{ first: number; last: number }>((a, b) => a.first - b.first);
  const columns = new SortedColumns(n);
  const map = new Map<number, number>();
  const fillCore = () => void x.bench_map(iommu, mm, iovas, n, VADDR);
  const fillBTree = () => {
    for (const page of pages) {
      const below = btree.nextLowerPair(page + 1);
      if (below !== undefined && below[0] + below[1] > page) throw new Error('overlap');
      btree.set(page, 1);
    }
  };
  const fillRb = () => {
    for (const page of pages) if (!rb.insert({ first: page, last: page })) throw new Error('overlap');
  };
  const fillColumns = () => {
    for (const page of pages) columns.insert(page, page, 0);
  };
  const clearColumns = () => {
    columns.length = 0;
  };

  const before = core.liveBytes;
  const mapNs: Record<string, number> = { core: await fill(clear, fillCore) };
  const bytes = (core.liveBytes - before) / n;
  mapNs['sorted-btree'] = await fill(() => btree.clear(), fillBTree);
  mapNs['bintrees'] = await fill(() => rb.clear(), fillRb);
  if (n <= 65536) mapNs['optimised TS'] = await fill(clearColumns, fillColumns);
  const note = `${bytes.toFixed(1)} bytes an entry${c['bytes'] === undefined ? '' : `, C ${c['bytes']}`}`;
  for (const page of pages) map.set(page, 1);

  const find = await measure(
    {
      table: TABLE,
      row: `lookup, ${label(n)}`,
      unit: 'lookup',
      candidates: [
        { name: 'core', run: (runs) => repeat(runs, () => x.bench_find(iommu, iovas, n)) },
        {
          name: 'core, many at once',
          run(runs) {
            for (let i = 0; i < runs; i++) x.iommu_prot_many(iommu, iovas, n, out);
          },
        },
        {
          name: 'sorted-btree',
          run: (runs) => repeat(runs, () => sumOf(pages, (page) => btree.nextLowerPair(page + 1)?.[1] ?? 0)),
        },
        {
          name: 'bintrees',
          run: (runs) => repeat(runs, () => sumOf(pages, (page) => rb.find({ first: page, last: page })?.last ?? 0)),
        },
        { name: 'Map (exact page)', run: (runs) => repeat(runs, () => sumOf(pages, (page) => map.get(page) ?? 0)) },
        ...(n > 65536
          ? []
          : [
              { name: 'optimised TS', run: (runs: number) => repeat(runs, () => sumOf(pages, (p) => columns.from(p))) },
            ]),
      ],
      per: n,
    },
    options,
  );

  const unmapNs: Record<string, number> = {
    core: await fill(
      () => {
        clear();
        fillCore();
      },
      () => x.bench_unmap(iommu, iovas, n),
    ),
    'sorted-btree': await fill(
      () => {
        btree.clear();
        fillBTree();
      },
      () => {
        for (const page of pages) btree.delete(page);
      },
    ),
    bintrees: await fill(
      () => {
        rb.clear();
        fillRb();
      },
      () => {
        for (const page of pages) rb.remove({ first: page, last: page });
      },
    ),
  };
  const rangeNs: Record<string, number> = {
    core: await fill(() => {
      clear();
      fillCore();
    }, clear),
    'sorted-btree': await fill(
      () => {
        btree.clear();
        fillBTree();
      },
      () => void btree.deleteRange(0, 1e12, true),
    ),
  };
  const { core: one = 0, 'core, many at once': many = 0, ...others } = find.ns;
  const finders = withC(others, c['find']);
  const subject = (row: string, goal: string) => ({ table: TABLE, row: `${row}, ${label(n)}`, unit: 'map', goal });
  return [
    rowOf({ ...subject('map', '>= 1.6x C, >= 6x npm trees, <= 42 bytes'), note }, withC(mapNs, c['map'])),
    rowOf({ ...subject('lookup', '>= 2.5x C, >= 6x npm trees'), unit: 'lookup' }, { core: one, ...finders }),
    rowOf(
      { ...subject('lookup, many at once', '>= 6x C, >= 6x npm trees'), unit: 'lookup' },
      { core: many, ...finders },
    ),
    rowOf(subject('unmap', '>= 1.6x C'), withC(unmapNs, c['unmap'])),
    rowOf(subject('unmap all', '>= 6x C'), withC(rangeNs, c['unmap range'])),
  ];
}

let sink = 0;
function repeat(runs: number, call: () => number): void {
  for (let i = 0; i < runs; i++) sink += call();
  if (Number.isNaN(sink)) throw new Error('not a number');
}
function sumOf(pages: readonly number[], value: (page: number) => number): number {
  let sum = 0;
  for (const page of pages) sum += value(page);
  return sum;
}
