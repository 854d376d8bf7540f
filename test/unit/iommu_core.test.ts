// The core's tables through their exports: many maps against a sorted list, page entries at the ends of the address space, dirty ranges against a
// bit list, injected errors, address spaces that are cut, pages that outlive their mapping.
import { beforeEach, describe, expect, it } from 'vitest';
import {
  EACCES,
  EINVAL,
  EIO,
  ENOENT,
  EPERM,
  FLAVOUR_IOAS,
  IOMMU_AVAIL,
  IOMMU_MAPS,
  IOMMU_PIN_ERRNO,
  IOMMU_PINNED_PAGES,
  IOMMU_UNMAPPED,
  MM_LOCKED,
  PIN_SHORT,
  PROT_READ,
  PROT_WRITE,
  PTE_FRAME,
  VMA_RAM,
} from '../../assembly/abi.ts';
import type { Core } from '../../host/core.ts';
import { freshCore } from '../support/core.ts';
import { Random } from '../support/counts.ts';

const PAGE = 4096n;
const VADDR = 0x10000000n;
const ALL = (1n << 64n) - 1n;
const RW = PROT_READ | PROT_WRITE;

let core: Core;
let mm: number;
let iommu: number;
let ram: number;

beforeEach(async () => {
  core = await freshCore({ length: 0x4000000, heapSize: 0x3000000 });
  const x = core.exports;
  mm = x.mm_create(core.arena, core.pages);
  ram = x.pages_alloc(core.pages, 1024) >>> 0;
  expect(x.mm_map(mm, VADDR, VADDR + 1024n * PAGE - 1n, BigInt(ram), VMA_RAM | RW)).toBe(0);
  iommu = x.iommu_create(core.arena, core.pages, 0);
  core.view.setUint32(iommu + IOMMU_AVAIL, 1 << 30, true);
});

const map = (iova: bigint, npage: bigint, vaddr = VADDR, prot = RW): number =>
  core.exports.iommu_map(iommu, mm, iova, iova + npage * PAGE - 1n, vaddr, prot, 0n);
const unmap = (iova: bigint, npage: bigint): number =>
  core.exports.iommu_unmap(iommu, iova, iova + npage * PAGE - 1n, 0);
const pin = (iova: bigint, npage: number, prot = RW): number => core.exports.pin_page_run(iommu, iova, npage, prot, 0);

describe('the table of maps', () => {
  it.each(['ascending', 'descending', 'random'])(
    '100,000 maps made in %s order are all found, at most 42 bytes each',
    (order) => {
      const n = 100_000;
      const pages = Array.from({ length: n }, (_, i) => BigInt(2 * i));
      if (order === 'descending') pages.reverse();
      if (order === 'random') {
        const random = new Random();
        for (let i = n - 1; i > 0; i--) {
          const k = random.int(i + 1);
          [pages[i], pages[k]] = [pages[k]!, pages[i]!];
        }
      }
      const before = core.liveBytes;
      for (const page of pages) if (map(page * PAGE, 1n) !== 0) throw new Error(`map of page ${page}`);
      expect((core.liveBytes - before) / n).toBeLessThanOrEqual(42);
      for (const page of pages)
        if (core.exports.iommu_map_check(iommu, page * PAGE, page * PAGE) === 0) throw new Error(`${page}`);
      for (const page of pages)
        if (core.exports.iommu_map_check(iommu, (page + 1n) * PAGE, (page + 1n) * PAGE) !== 0)
          throw new Error(`${page}`);
      for (const page of pages.slice(0, n / 2)) if (unmap(page * PAGE, 1n) !== 0) throw new Error(`unmap of ${page}`);
      expect(core.view.getUint32(iommu + IOMMU_MAPS, true)).toBe(n / 2);
      expect(core.exports.iommu_unmap(iommu, 0n, ALL, 0)).toBe(0);
      expect(core.liveBytes).toBe(before);
    },
  );
});

describe('permissions at many addresses', () => {
  /** PROT_* at each of these addresses, in one call. */
  function protMany(iovas: readonly bigint[]): number[] {
    const x = core.exports;
    const list = x.arena_alloc(core.arena, 8 * iovas.length) >>> 0;
    const out = x.arena_alloc(core.arena, 4 * iovas.length + 4) >>> 0;
    iovas.forEach((iova, i) => {
      core.view.setBigUint64(list + 8 * i, iova, true);
    });
    core.view.setUint32(out + 4 * iovas.length, 0xdeadbeef, true);
    x.iommu_prot_many(iommu, list, iovas.length, out);
    expect(core.view.getUint32(out + 4 * iovas.length, true)).toBe(0xdeadbeef);
    const found = iovas.map((_, i) => core.view.getUint32(out + 4 * i, true) & RW);
    x.arena_free(core.arena, list, 8 * iovas.length);
    x.arena_free(core.arena, out, 4 * iovas.length + 4);
    return found;
  }

  it('an empty table permits nothing, and no address is a fine question', () => {
    expect(protMany([0n, PAGE, ALL])).toEqual([0, 0, 0]);
    expect(protMany([])).toEqual([]);
  });

  it('ends of maps, both ends of the address space', () => {
    expect(map(0n, 1n, VADDR, PROT_READ)).toBe(0);
    expect(map(4n * PAGE, 4n, VADDR, PROT_WRITE)).toBe(0);
    expect(map(ALL - PAGE + 1n, 1n)).toBe(0);
    const asked = [
      0n,
      PAGE - 1n,
      PAGE,
      4n * PAGE - 1n,
      4n * PAGE,
      8n * PAGE - 1n,
      8n * PAGE,
      ALL - PAGE,
      ALL - PAGE + 1n,
      ALL,
    ];
    expect(protMany(asked)).toEqual([1, 1, 0, 0, 2, 2, 0, 0, 3, 3]);
  });

  it('answers as one search at a time while 30,000 maps come and go', () => {
    const random = new Random();
    const there = new Map<bigint, { npage: bigint; prot: number }>();
    // Slots of four pages, so that maps of one to four pages never overlap.
    const slot = () => BigInt(random.int(30_000)) * 4n * PAGE;
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 6000; i++) {
        const iova = slot();
        const old = there.get(iova);
        const shrinking = round % 3 === 2;
        if (old !== undefined && (shrinking || random.int(3) === 0)) {
          if (unmap(iova, old.npage) !== 0) throw new Error(`unmap ${iova}`);
          there.delete(iova);
        } else if (old === undefined && !shrinking) {
          const npage = BigInt(1 + random.int(4));
          const prot = 1 + random.int(3);
          if (map(iova, npage, VADDR, prot) !== 0) throw new Error(`map ${iova}`);
          there.set(iova, { npage, prot });
        }
      }
      const asked = Array.from(
        { length: 5000 },
        () => slot() + BigInt(random.int(4)) * PAGE + BigInt(random.int(4096)),
      );
      const expected = asked.map((iova) => {
        const start = iova - (iova % (4n * PAGE));
        const one = there.get(start);
        return one !== undefined && iova < start + one.npage * PAGE ? one.prot : 0;
      });
      expect(protMany(asked)).toEqual(expected);
      expect(core.view.getUint32(iommu + IOMMU_MAPS, true)).toBe(there.size);
    }
    expect(core.exports.iommu_unmap(iommu, 0n, ALL, 2)).toBe(0);
    expect(core.view.getUint32(iommu + IOMMU_MAPS, true)).toBe(0);
  });

  it('a part of many maps goes in one call, leaf by leaf, and the rest stays', () => {
    const before = core.liveBytes;
    for (let i = 0n; i < 5000n; i++) if (map(i * 2n * PAGE, 1n) !== 0) throw new Error(`map ${i}`);
    for (const [from, to] of [
      [37n, 4000n],
      [4100n, 4101n],
      [0n, 36n],
      [4102n, 4999n],
    ] as const) {
      expect(core.exports.iommu_unmap(iommu, from * 2n * PAGE, (to * 2n + 1n) * PAGE - 1n, 0)).toBe(0);
      expect(core.view.getBigUint64(iommu + IOMMU_UNMAPPED, true)).toBe((to - from + 1n) * PAGE);
      expect(protMany([from * 2n * PAGE, to * 2n * PAGE])).toEqual([0, 0]);
    }
    const left = [...Array(5000).keys()].filter((i) => protMany([BigInt(i) * 2n * PAGE])[0] === RW);
    expect(left).toEqual([...Array(99).keys()].map((i) => 4001 + i));
    expect(core.exports.iommu_unmap(iommu, 0n, ALL, 0)).toBe(0);
    expect(core.liveBytes).toBe(before);
  });
});

describe('page entries', () => {
  const places = [0n, 63n, 64n, 1n << 16n, 1n << 26n, 1n << 36n, 1n << 46n, (1n << 52n) - 2n].map(
    (page) => page * PAGE,
  );

  it('translate at every height of the table, one by one and many at once', () => {
    const x = core.exports;
    places.forEach((iova, i) => {
      expect(map(iova, 1n, VADDR + BigInt(i) * PAGE)).toBe(0);
      expect(pin(iova, 1)).toBe(1);
    });
    const out = x.arena_alloc(core.arena, 4 * 11) >>> 0;
    const list = x.arena_alloc(core.arena, 8 * 11) >>> 0;
    // Eleven: a group of eight, and three one by one; three are not mapped.
    const asked = [...places, 5n * PAGE, 1n << 50n, ALL];
    asked.forEach((iova, i) => {
      core.view.setBigUint64(list + 8 * i, iova, true);
    });
    x.page_lookup_many(iommu, list, asked.length, out);
    asked.forEach((iova, i) => {
      const entry = x.page_lookup(iommu, iova) >>> 0;
      expect(core.view.getUint32(out + 4 * i, true), String(iova)).toBe(entry);
      if (i >= places.length) {
        expect(entry).toBe(0);
        return;
      }
      const linear = ram + i * 4096;
      expect(core.view.getUint32(entry + PTE_FRAME, true) & ~4095).toBe(linear | 0);
      // The first word is the address as an IDAW: big-endian.
      expect(core.view.getBigUint64(entry, false)).toBe(BigInt(linear));
    });
  });

  it('are freed with their maps, and a shallow table becomes shallow again', () => {
    const before = core.liveBytes;
    for (const iova of places) {
      map(iova, 1n);
      pin(iova, 1);
      core.exports.unpin_page_run(iommu, iova, 1);
    }
    expect(core.exports.iommu_unmap(iommu, 0n, ALL, 0)).toBe(0);
    expect(core.liveBytes).toBe(before);
  });

  it('that only cache give way when the heap is full', async () => {
    core = await freshCore({ length: 0x1000000, heapSize: 0x40000 });
    const x = core.exports;
    mm = x.mm_create(core.arena, core.pages);
    ram = x.pages_alloc(core.pages, 512) >>> 0;
    x.mm_map(mm, VADDR, VADDR + 512n * PAGE - 1n, BigInt(ram), VMA_RAM | RW);
    iommu = x.iommu_create(core.arena, core.pages, 0);
    for (let i = 0n; i < 512n; i++) {
      expect(map(i << 24n, 1n, VADDR + i * PAGE)).toBe(0);
      expect(pin(i << 24n, 1)).toBe(1);
      x.unpin_page_run(iommu, i << 24n, 1);
    }
    expect(core.view.getUint32(iommu + IOMMU_PINNED_PAGES, true)).toBe(0);
  });
});

describe('flavours and refusals', () => {
  it('an IOAS answers ENOENT where type1 answers EINVAL', () => {
    expect(pin(0n, 1)).toBe(-EINVAL);
    const ioas = core.exports.iommu_create(core.arena, core.pages, FLAVOUR_IOAS);
    expect(core.exports.pin_page_run(ioas, 0n, 1, RW, 0)).toBe(-ENOENT);
    expect(core.exports.iommu_read(ioas, 0n, ram, 1)).toBe(-ENOENT);
    core.exports.iommu_destroy(ioas);
  });

  it('a refusal in the record stops pins, also of pages pinned before', () => {
    map(0n, 1n);
    expect(pin(0n, 1)).toBe(1);
    core.view.setUint32(iommu + IOMMU_PIN_ERRNO, EACCES, true);
    expect(pin(0n, 1)).toBe(-EACCES);
  });
});

describe('injected errors', () => {
  it('fail reads, pins, or end a run short; taken back, the page works', () => {
    const x = core.exports;
    map(0n, 8n);
    expect(pin(0n, 8)).toBe(8);
    x.unpin_page_run(iommu, 0n, 8);
    expect(x.iommu_inject(iommu, 3n * PAGE, EIO, EPERM)).toBe(0);
    expect(x.iommu_read(iommu, 2n * PAGE, ram + 0x100000, 4096)).toBe(0);
    expect(x.iommu_read(iommu, 3n * PAGE - 1n, ram + 0x100000, 2)).toBe(-EIO);
    expect(pin(0n, 8)).toBe(-EPERM);
    expect(pin(0n, 3)).toBe(3);
    expect(x.iommu_inject(iommu, 3n * PAGE, 0, PIN_SHORT)).toBe(0);
    expect(x.iommu_read(iommu, 3n * PAGE, ram + 0x100000, 4)).toBe(0);
    expect(pin(0n, 8)).toBe(3);
    expect(pin(3n * PAGE, 2)).toBe(-EINVAL);
    expect(core.view.getUint32(iommu + IOMMU_PINNED_PAGES, true)).toBe(3);
    expect(x.iommu_inject(iommu, 3n * PAGE, 0, 0)).toBe(0);
    expect(pin(0n, 8)).toBe(8);
    x.iommu_unpin_all(iommu, 0n, ALL);
    expect(core.view.getUint32(mm + MM_LOCKED, true)).toBe(0);
    x.iommu_destroy(iommu);
    x.mm_destroy(mm);
    expect([core.liveBytes, core.mmBytes, core.usedPages]).toEqual([0, 0, 0]);
  });
});

describe('dirty pages as ranges', () => {
  it('equal the bits, whatever the window and the room', () => {
    const x = core.exports;
    const random = new Random();
    const PAGES = 3 * 8192;
    const base = 5n * 8192n - 100n;
    map(base * PAGE, BigInt(PAGES));
    expect(x.iommu_dirty_start(iommu)).toBe(0);
    const bits = new Uint8Array(PAGES);
    const out = x.arena_alloc(core.arena, 16 * 64) >>> 0;
    for (let round = 0; round < 60; round++) {
      for (let k = 0; k < 8; k++) {
        const first = random.int(PAGES);
        const n = Math.min(PAGES - first, 1 + random.int(random.pick([1, 3, 70, 9000])));
        if (random.int(3) > 0) {
          x.iommu_dirty_mark(iommu, (base + BigInt(first)) * PAGE, BigInt(n) * PAGE);
          bits.fill(1, first, first + n);
        } else {
          x.iommu_dirty_clear(iommu, (base + BigInt(first)) * PAGE, (base + BigInt(first + n)) * PAGE - 1n);
          bits.fill(0, first, first + n);
        }
      }
      const from = random.int(PAGES);
      const to = from + random.int(PAGES - from);
      const room = 1 + random.int(64);
      const found = new Uint8Array(PAGES);
      let at = (base + BigInt(from)) * PAGE;
      const last = (base + BigInt(to)) * PAGE + PAGE - 1n;
      let before = -1n;
      while (at <= last) {
        const count = x.iommu_dirty_ranges(iommu, at, last, out, room);
        for (let i = 0; i < count; i++) {
          const start = core.view.getBigUint64(out + 16 * i, true);
          const size = core.view.getBigUint64(out + 16 * i + 8, true);
          if (start <= before) throw new Error('ranges are not in order');
          const page = Number(start / PAGE - base);
          found.fill(1, page, page + Number(size / PAGE));
          before = start + size;
          at = before;
        }
        if (count < room) break;
      }
      const wrong = found.findIndex((bit, page) => bit !== (page >= from && page <= to ? bits[page] : 0));
      expect(wrong, `pages ${from} to ${to}, room for ${room}`).toBe(-1);
    }
    x.arena_free(core.arena, out, 16 * 64);
    x.iommu_destroy(iommu);
    expect(core.liveBytes).toBe(0);
  });
});

describe('address spaces in the core', () => {
  it('are cut, keep their neighbours, and give every page back', () => {
    const x = core.exports;
    expect(core.usedPages).toBe(1024);
    expect(x.mm_unmap(mm, VADDR + 10n * PAGE, VADDR + 20n * PAGE - 1n)).toBe(0);
    expect(x.mm_unmap(mm, VADDR + 30n * PAGE, VADDR + 40n * PAGE - 1n)).toBe(0);
    expect(core.usedPages).toBe(1004);
    map(0n, 1024n);
    expect([pin(9n * PAGE, 1), pin(10n * PAGE, 1), pin(19n * PAGE, 1), pin(20n * PAGE, 10)]).toEqual([1, -14, -14, 10]);
    // Pages 20 to 29 stay with their pins.
    expect(x.mm_unmap(mm, VADDR, VADDR + 35n * PAGE)).toBe(0);
    expect(core.usedPages).toBe(1024 - 40 + 11);
    x.unpin_page_run(iommu, 9n * PAGE, 1);
    x.unpin_page_run(iommu, 20n * PAGE, 10);
    expect(core.usedPages).toBe(1024 - 40);
    const again = x.pages_alloc(core.pages, 30) >>> 0;
    expect(again).toBe(ram);
    expect(core.u8.subarray(again, again + 30 * 4096).every((byte) => byte === 0)).toBe(true);
  });

  it('memory handed out again is zero, and a run that does not fit is refused', () => {
    const x = core.exports;
    core.u8.fill(0xee, ram, ram + 4096);
    x.mm_unmap(mm, VADDR, VADDR + PAGE - 1n);
    expect(x.pages_alloc(core.pages, 1) >>> 0).toBe(ram);
    expect(core.u8[ram]).toBe(0);
    expect(x.pages_alloc(core.pages, 1 << 20)).toBe(0);
    expect(x.pages_alloc(core.pages, 0)).toBe(0);
  });
});
