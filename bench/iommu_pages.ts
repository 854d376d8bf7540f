// Page entries: translation one by one and many at once, pins in a row and anywhere; and whole calls through the public API.

import { createVfio } from '../host/node.ts';
import { VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../host/uapi/ioctl.ts';
import { VfioIommuType1DmaMap, VfioIommuType1DmaUnmap } from '../host/uapi/structs.ts';
import { measure, type Row, rowOf } from './harness.ts';
import {
  ENTRIES,
  label,
  native,
  placeIovas,
  RAM_PAGES,
  shuffledPages,
  Tree,
  table,
  VADDR,
  withC,
} from './iommu_support.ts';
import { TypedPageTable } from './peers/iommu_optimised.ts';

export async function rows(): Promise<Row[]> {
  const result: Row[] = [];
  for (const n of ENTRIES) result.push(...(await translation(n)));
  result.push(...(await pins()), ...(await calls()));
  return result;
}

// biome-ignore lint/correctness/noUnusedVariables: takes the results, so that no call is optimised away
let sink = 0;

async function translation(n: number): Promise<Row[]> {
  const { core, mm, iommu } = await table();
  const x = core.exports;
  const pages = shuffledPages(n);
  const iovas = placeIovas(core, pages);
  const out = core.exports.arena_alloc(core.arena, n * 4) >>> 0;
  x.bench_map(iommu, mm, iovas, n, VADDR);
  const before = core.liveBytes;
  for (const page of pages) {
    x.pin_page_run(iommu, BigInt(page) * 4096n, 1, 3, 0);
    x.unpin_page_run(iommu, BigInt(page) * 4096n, 1);
  }
  const bytes = (core.liveBytes - before) / n;
  const order = placeIovas(core, [...pages].reverse());
  const map = new Map(pages.map((page, i) => [page, i]));
  const iovaList = pages.map((page) => BigInt(page) * 4096n);
  const bigMap = new Map(iovaList.map((iova, i) => [iova, i]));
  const btree = new Tree();
  pages.forEach((page, i) => void btree.set(page, i));
  const typed = new TypedPageTable();
  pages.forEach((page, i) => {
    typed.set(page, i + 1);
  });
  const c = native(n);
  const sum = (value: (page: number) => number) => (runs: number) => {
    for (let i = 0; i < runs; i++) for (const page of pages) sink += value(page);
  };
  const sumBig = (value: (iova: bigint) => number) => (runs: number) => {
    for (let i = 0; i < runs; i++) for (const iova of iovaList) sink += value(iova);
  };
  const loop = (call: () => number) => (runs: number) => {
    for (let i = 0; i < runs; i++) sink += call();
  };
  const options = n > 100_000 ? { rounds: 3, turn: 1 } : { rounds: 7, turn: 15 };
  const single = await measure(
    {
      table: 'page translation',
      row: `single, ${label(n)}`,
      unit: 'page',
      candidates: [
        { name: 'core', run: loop(() => x.bench_translate(iommu, order, n)) },
        { name: 'core, many at once', run: loop(() => x.bench_translate_many(iommu, order, n, out)) },
        { name: 'Map', run: sum((page) => map.get(page) ?? 0) },
        { name: 'Map of bigint', run: sumBig((iova) => bigMap.get(iova) ?? 0) },
        { name: 'sorted-btree', run: sum((page) => btree.get(page) ?? 0) },
        { name: 'optimised TS', run: sum((page) => typed.get(page)) },
      ],
      per: n,
    },
    options,
  );
  const { core: one = 0, 'core, many at once': many = 0, ...others } = single.ns;
  const peers = withC(others, c['translate']);
  const common = { table: 'page translation', unit: 'page', note: `${bytes.toFixed(1)} bytes an entry` };
  return [
    rowOf({ ...common, row: `single, ${label(n)}`, goal: '<= 6 ns, >= 10x Map' }, { core: one, ...peers }),
    rowOf({ ...common, row: `many at once, ${label(n)}`, goal: '<= 3.5 ns' }, { core: many, ...peers }),
  ];
}

async function pins(): Promise<Row[]> {
  const { core, mm, iommu } = await table();
  const x = core.exports;
  const base = 1n << 34n;
  x.iommu_map(iommu, mm, base, base + BigInt(RAM_PAGES) * 4096n - 1n, VADDR, 3, 0n);
  x.pin_page_run(iommu, base, RAM_PAGES, 3, 0);
  x.unpin_page_run(iommu, base, RAM_PAGES);
  const n = 65536;
  const pages = shuffledPages(n);
  const iovas = placeIovas(core, pages);
  x.bench_map(iommu, mm, iovas, n, VADDR);
  for (const page of pages) {
    x.pin_page_run(iommu, BigInt(page) * 4096n, 1, 3, 0);
    x.unpin_page_run(iommu, BigInt(page) * 4096n, 1);
  }
  const entries = x.arena_alloc(core.arena, n * 4) >>> 0;
  if (x.bench_pin_random(iommu, iovas, n, entries) !== 0) throw new Error('the fast path refused');
  const order = placeIovas(core, [...pages].reverse());
  const typed = new TypedPageTable();
  for (let i = 0; i < RAM_PAGES; i++) typed.set(2 ** 30 + i, i + 1);
  for (const page of pages) typed.set(page, page);
  const c = native(n);
  const contiguous = await measure({
    table: 'pin + unpin',
    row: 'contiguous',
    unit: 'page',
    candidates: [
      { name: 'core', run: (runs) => void x.bench_pin_run(iommu, base, RAM_PAGES, runs) },
      {
        name: 'optimised TS',
        run(runs) {
          for (let i = 0; i < runs; i++) {
            typed.pin(2 ** 30, RAM_PAGES);
            typed.unpin(2 ** 30, RAM_PAGES);
          }
        },
      },
    ],
    per: RAM_PAGES,
  });
  const random = await measure({
    table: 'pin + unpin',
    row: 'random, 65k',
    unit: 'page',
    candidates: [
      {
        name: 'core',
        run(runs) {
          for (let i = 0; i < runs; i++) sink += x.bench_pin_random(iommu, order, n, entries);
        },
      },
      {
        name: 'optimised TS',
        run(runs) {
          for (let i = 0; i < runs; i++) {
            for (const page of pages) typed.pin(page, 1);
            for (const page of pages) typed.unpin(page, 1);
          }
        },
      },
    ],
    per: n,
  });
  return [
    rowOf({ ...contiguous, goal: '<= 0.7 ns, >= 1.8x C' }, withC(contiguous.ns, c['pin contiguous'])),
    rowOf({ ...random, goal: '<= 1.3x C time' }, withC(random.ns, c['pin random'])),
  ];
}

/** MAP_DMA and UNMAP_DMA with typed structures, from the caller's to the core's table and back. */
async function calls(): Promise<Row[]> {
  const vfio = await createVfio();
  const container = vfio.open('/dev/vfio/vfio');
  const group = vfio.open('/dev/vfio/6');
  const fd = new Uint8Array(Int32Array.of(container).buffer);
  vfio.ioctl(group, 0x3b68, fd);
  vfio.ioctl(container, 0x3b66, 3);
  const map = new VfioIommuType1DmaMap({ flags: 3, vaddr: 0x10000n, iova: 0x100000n, size: 0x1000n });
  const unmap = new VfioIommuType1DmaUnmap({ iova: 0x100000n, size: 0x1000n });
  const reused = {
    name: 'core',
    run(runs: number) {
      for (let i = 0; i < runs; i++) {
        vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, map);
        unmap['size'] = 0x1000n;
        vfio.ioctl(container, VFIO_IOMMU_UNMAP_DMA, unmap);
      }
    },
  };
  const fresh = {
    name: 'with new structures',
    run(runs: number) {
      for (let i = 0; i < runs; i++) {
        const iova = BigInt(i & 0xffff) * 4096n;
        vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap({ flags: 3, vaddr: 0n, iova, size: 4096n }));
        vfio.ioctl(container, VFIO_IOMMU_UNMAP_DMA, new VfioIommuType1DmaUnmap({ iova, size: 4096n }));
      }
    },
  };
  return [
    await measure({
      table: 'whole calls',
      row: 'MAP_DMA, UNMAP_DMA',
      unit: 'ioctl',
      goal: '<= 400 ns',
      candidates: [reused, fresh],
      per: 2,
    }),
  ];
}
