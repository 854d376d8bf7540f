// The address rules of an iommufd address space against a plain set of pages.
import { describe, expect, it } from 'vitest';
import { IovaSpace, type Range } from '../../host/vfio/iova_space.ts';
import { Random, runs } from '../support/counts.ts';

const PAGE = 4096n;
const PAGES = 64;
const iova = (page: number) => BigInt(page) * PAGE;

describe('IovaSpace', () => {
  it('agrees with a set of pages over random placements, removals and units', () => {
    const random = new Random();
    for (let round = 0; round < runs(300); round++) {
      const space = new IovaSpace<null>();
      const owner = new Map<number, number>();
      const reserved = new Set<number>();
      let unit: Range[] | null = null;
      for (let step = 0; step < 60; step++) {
        const start = random.int(PAGES);
        const count = 1 + random.int(8);
        const pages = Array.from({ length: count }, (_, i) => start + i);
        const last = iova(start + count) - 1n;
        switch (random.int(4)) {
          case 0: {
            const wanted = pages.some((page) => reserved.has(page))
              ? -22
              : pages.some((page) => owner.has(page))
                ? -17
                : 0;
            expect(space.checkFree(iova(start), last)).toBe(wanted);
            if (wanted === 0) {
              space.insert({ start: iova(start), last, data: null });
              for (const page of pages) owner.set(page, step);
            }
            break;
          }
          case 1: {
            const area = space.first(iova(start), last);
            const first = pages.find((page) => owner.has(page));
            expect(area === undefined).toBe(first === undefined);
            if (area === undefined || first === undefined) break;
            expect(area.start <= iova(first) && iova(first) <= area.last).toBe(true);
            space.remove(area);
            for (const [page, id] of owner) if (id === owner.get(first) && page !== first) owner.delete(page);
            owner.delete(first);
            break;
          }
          case 2: {
            const covered = space.covering(iova(start), last);
            expect(typeof covered !== 'number').toBe(pages.every((page) => owner.has(page)));
            break;
          }
          default: {
            if (unit !== null) {
              space.removeUnit(unit);
              reserved.clear();
              unit = null;
              break;
            }
            const hole = { start: iova(start), last };
            const ranges = [
              ...(start > 0 ? [{ start: 0n, last: hole.start - 1n }] : []),
              { start: last + 1n, last: (1n << 48n) - 1n },
            ];
            const free = pages.every((page) => !owner.has(page));
            expect(space.addUnit(ranges)).toBe(free ? 0 : -98);
            if (!free) break;
            unit = ranges;
            for (const page of pages) reserved.add(page);
          }
        }
      }
    }
  });

  it('places first fit: never page 0, aligned as the address is, never over an area or a hole', () => {
    const random = new Random();
    for (let round = 0; round < runs(200); round++) {
      const space = new IovaSpace<null>();
      const taken: Range[] = [];
      for (let step = 0; step < 20; step++) {
        const length = iova(1 + random.int(8));
        const address = iova(1 + random.int(64));
        const placed = space.place(length, address);
        let round2 = 1n;
        while (round2 < length) round2 <<= 1n;
        const low = address & -address;
        const alignment = low < round2 ? low : round2;
        let expected = alignment;
        const hits = (at: bigint) => taken.some((range) => range.start <= at + length - 1n && at <= range.last);
        while (hits(expected)) expected += alignment;
        expect(placed).toBe(expected);
        space.insert({ start: placed, last: placed + length - 1n, data: null });
        taken.push({ start: placed, last: placed + length - 1n });
      }
    }
  });

  it('refuses lengths that cannot be, unaligned addresses, and a full space', () => {
    const space = new IovaSpace<null>();
    expect(space.place(0n, 4096n)).toBe(-75n);
    expect(space.place(1n << 63n, 4096n)).toBe(-75n);
    expect(space.place(4096n, 4097n)).toBe(-22n);
    space.addUnit([{ start: 0n, last: 0xffffn }]);
    expect(space.place(0x10000n, 0x10000n)).toBe(-28n);
    expect(IovaSpace.checkRange(0xfffffffffffff000n, 0x1000n)).toBe(0);
    expect(IovaSpace.checkRange(0xfffffffffffff000n, 0x2000n)).toBe(-75);
    expect(IovaSpace.checkRange(0n, 0n)).toBe(-22);
    expect(IovaSpace.checkRange(1n, 4096n)).toBe(-22);
  });
});
