// What the rows about mapping tables share: a core with loops, an address space with memory, page numbers in random order.
import SortedBTree from 'sorted-btree';
import type { Core } from '../host/core.ts';
import { benchCore } from './core_build.ts';
import { median } from './harness.ts';
import { buildNative, runNative } from './native.ts';

const { default: BTree } = SortedBTree as unknown as { default: typeof SortedBTree };
/** npm sorted-btree with numbers, as the benches use it. */
export const Tree = (BTree ?? SortedBTree) as unknown as new () => {
  set(key: number, value: number): boolean;
  get(key: number): number | undefined;
  delete(key: number): boolean;
  clear(): void;
  nextLowerPair(key: number): [number, number] | undefined;
  deleteRange(low: number, high: number, include: boolean): number;
};

export interface IommuLoops {
  bench_map(iommu: number, mm: number, iovas: number, n: number, vaddr: bigint): number;
  bench_unmap(iommu: number, iovas: number, n: number): number;
  bench_find(iommu: number, iovas: number, n: number): number;
  bench_translate(iommu: number, iovas: number, n: number): number;
  bench_translate_many(iommu: number, iovas: number, n: number, out: number): number;
  bench_pin_run(iommu: number, iova: bigint, npage: number, runs: number): number;
  bench_pin_random(iommu: number, iovas: number, n: number, out: number): number;
}

export const VADDR = 0x7f0000000000n;
/** Pages of RAM behind VADDR. */
export const RAM_PAGES = 4096;
export const ENTRIES = [1024, 65536, 1_048_576] as const;
export const label = (n: number): string => (n >= 1_048_576 ? '1M' : `${n / 1024}k`);

export type LoopCore = Core & { exports: IommuLoops };

/** A core with one address space and one iommu that may hold any number of maps. */
export async function table(): Promise<{ core: LoopCore; mm: number; iommu: number }> {
  const core = await benchCore<IommuLoops>('iommu', { length: 0x20000000, heapSize: 0x1c000000 });
  const x = core.exports;
  const mm = x.mm_create(core.arena, core.pages) >>> 0;
  const ram = x.pages_alloc(core.pages, RAM_PAGES) >>> 0;
  x.mm_map(mm, VADDR, VADDR + BigInt(RAM_PAGES) * 4096n - 1n, BigInt(ram), 7);
  const iommu = x.iommu_create(core.arena, core.pages, 0) >>> 0;
  core.view.setUint32(iommu + 40, 0x7fffffff, true);
  return { core, mm, iommu };
}

/** Every second page from 256 MiB on, in random order. */
export function shuffledPages(n: number): number[] {
  const pages = Array.from({ length: n }, (_, i) => 0x10000 + 2 * i);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const k = state % (i + 1);
    const page = pages[i]!;
    pages[i] = pages[k]!;
    pages[k] = page;
  }
  return pages;
}

/** Puts iovas (page numbers x 4096) into the heap. @returns their address. */
export function placeIovas(core: Core, pages: readonly number[]): number {
  const at = core.exports.arena_alloc(core.arena, pages.length * 8) >>> 0;
  if (at === 0) throw new Error('the heap is full');
  pages.forEach((page, i) => {
    core.view.setBigUint64(at + 8 * i, BigInt(page) * 4096n, true);
  });
  return at;
}

const figures = new Map<number, Record<string, number>>();

/** The C twin's figures for n entries, the medians of its runs; empty without a compiler. */
export function native(n: number): Record<string, number> {
  let known = figures.get(n);
  if (known === undefined) {
    const program = buildNative('iommu');
    const runs =
      program === null ? [] : Array.from({ length: n > 100_000 ? 1 : 5 }, () => runNative(program, [String(n)]));
    known = Object.fromEntries(
      Object.keys(runs[0] ?? {}).map((name) => [name, median(runs.map((run) => run[name] as number))]),
    );
    figures.set(n, known);
  }
  return known;
}

/** Our time and the peers', with the C twin's when there is one. */
export function withC(ns: Record<string, number>, figure: number | undefined, name = 'C'): Record<string, number> {
  return figure === undefined ? ns : { ...ns, [name]: figure };
}
