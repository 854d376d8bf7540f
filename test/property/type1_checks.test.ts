// The order of checks of MAP_DMA, UNMAP_DMA and DIRTY_PAGES, copied step by step from spec iommu-type1 sections 4, 5.1, 5.2 and 8 with the 7.2 lines,
// against calls whose every field is drawn from the values where a rule changes: several of them are wrong at once.
import { describe, expect, it } from 'vitest';
import { EACCES, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC, EOVERFLOW } from '../../assembly/abi.ts';
import { VFIO_IOMMU_DIRTY_PAGES, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../../host/uapi/ioctl.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { PAGE, Type1Bench, UNIT } from '../support/type1.ts';

const TOP = 1n << 64n;
const USER_END = 0x7ffffffff000n;
const ENTRIES = 3;

interface Map {
  readonly iova: bigint;
  readonly size: bigint;
  invalid: boolean;
}

class Checks {
  readonly bench: Type1Bench;
  readonly random: Random;
  readonly v2: boolean;
  readonly hardware: boolean;
  readonly ram: bigint;
  maps: Map[] = [];
  tracking = false;

  constructor(bench: Type1Bench, random: Random, v2: boolean, hardware: boolean) {
    this.bench = bench;
    this.random = random;
    this.v2 = v2;
    this.hardware = hardware;
    this.ram = bench.mmap(64);
    bench.iommu.attachGroup(hardware ? bench.hardware : bench.emulated, bench.task);
  }

  /** A number around what is mapped, or at an edge of the address space; sometimes not aligned. */
  #number(): bigint {
    const { random } = this;
    const known = this.maps.flatMap(({ iova, size }) => [iova, iova + size, iova + PAGE, size, size - PAGE]);
    const edges = [
      0n,
      PAGE,
      4n * PAGE,
      0x10000n,
      0xfedff000n,
      0xfee00000n,
      1n << 48n,
      1n << 63n,
      TOP - PAGE,
      TOP - 2n * PAGE,
    ];
    const value = random.int(3) === 0 ? random.pick(edges) : random.pick([...known, 0x10000n, 0x14000n, PAGE]);
    return BigInt.asUintN(64, random.int(8) === 0 ? value + random.pick([1n, -1n, 0x800n]) : value);
  }
  #flags(known: readonly number[]): number {
    const { random } = this;
    return random.int(10) === 0 ? random.pick([8, 0x10, 0x80000000, 0xffffffff]) : random.pick(known);
  }
  #argsz(size: number): number {
    return this.random.int(8) === 0
      ? this.random.pick([0, 7, 8, 23, 24, 31, 32, 47, 48])
      : size + this.random.int(2) * 100;
  }
  #view(words: ReadonlyArray<readonly [number, bigint]>, argsz: number, flags: number): DataView {
    const view = new DataView(new ArrayBuffer(64));
    view.setUint32(0, argsz, true);
    view.setUint32(4, flags, true);
    for (const [at, value] of words) view.setBigUint64(at, value, true);
    return view;
  }
  #inside(iova: bigint, size: bigint): Map[] {
    return this.maps.filter((map) => map.iova < iova + size && iova < map.iova + map.size);
  }
  #cut(iova: bigint, size: bigint): boolean {
    return this.#inside(iova, size).some((map) => map.iova < iova || map.iova + map.size > iova + size);
  }

  map(): void {
    const [iova, size] = [this.#number(), this.#number()];
    const vaddr = this.random.int(4) === 0 ? this.#number() : this.ram;
    const flags = this.#flags([1, 2, 3, 3, 3, 4, 4, 5, 0]);
    const argsz = this.#argsz(32);
    const rule = (): number => {
      if (argsz < 32 || flags > 7) return -EINVAL;
      if (size === 0n) return -EINVAL;
      if (iova + size > TOP || vaddr + size > TOP) return -EOVERFLOW;
      const update = (flags & 4) !== 0;
      if (update === ((flags & 3) !== 0)) return -EINVAL;
      if ((iova | size | vaddr) % PAGE !== 0n) return -EINVAL;
      const there = this.#inside(iova, size);
      if (update) {
        const map = there[0];
        if (map === undefined) return -ENOENT;
        if (!map.invalid || map.iova !== iova || map.size !== size) return -EINVAL;
        map.invalid = false;
        return 0;
      }
      if (there.length > 0) return -EEXIST;
      if (this.maps.length === ENTRIES) return -ENOSPC;
      const last = iova + size - 1n;
      if (this.hardware && !UNIT.ranges.some((range) => range.start <= iova && last <= range.last)) return -EINVAL;
      if (this.hardware && (vaddr !== this.ram || size > 64n * PAGE)) return -EFAULT;
      if (this.tracking && size / PAGE > 0x7fffffffn) return -EINVAL;
      this.maps.push({ iova, size, invalid: false });
      this.maps.sort((a, b) => (a.iova < b.iova ? -1 : 1));
      return 0;
    };
    const view = this.#view(
      [
        [8, vaddr],
        [16, iova],
        [24, size],
      ],
      argsz,
      flags,
    );
    const what = `map ${iova} ${size} ${vaddr} flags ${flags} argsz ${argsz}`;
    expect(this.bench.ioctl(VFIO_IOMMU_MAP_DMA, view), what).toBe(rule());
  }

  /** Section 5.1 step 3. */
  #bitmap(pgsize: bigint, length: bigint, data: bigint, size: bigint): number {
    if (data + length > USER_END || pgsize === 0n) return -EINVAL;
    const npage = size / (pgsize & -pgsize);
    return npage === 0n || length === 0n || length > 1n << 28n || length < ((npage + 63n) / 64n) * 8n ? -EINVAL : 0;
  }
  #bitmapFields(): [bigint, bigint, bigint] {
    const { random, ram } = this;
    return [
      random.pick([PAGE, PAGE, PAGE, 0n, 8192n, 2048n, 0x1800n]),
      random.pick([8n, 8n, 8192n, 8192n, 1n << 28n, (1n << 28n) + 8n, 0n, TOP - 8n]),
      random.pick([ram, ram, ram, 0x10n, USER_END - 8n, USER_END]),
    ];
  }

  unmap(): void {
    const whole = this.maps.length > 0 && this.random.int(3) === 0 ? this.random.pick(this.maps) : null;
    const [iova, size] = whole === null ? [this.#number(), this.#number()] : [whole.iova, whole.size];
    const zero = this.random.int(5) === 0;
    const [start, length] = zero ? [0n, 0n] : [iova, size];
    const flags = this.#flags(zero ? [2, 2, 6, 6, 7] : [0, 0, 0, 4, 4, 1, 1, 2, 3, 5, 6]);
    const argsz = this.#argsz((flags & 1) !== 0 ? 48 : 24);
    const [pgsize, bytes, data] = this.#bitmapFields();
    let removed = 0n;
    const rule = (): number => {
      if (argsz < 24 || flags > 7) return -EINVAL;
      const [dirty, all, vaddr] = [(flags & 1) !== 0, (flags & 2) !== 0, (flags & 4) !== 0];
      if (dirty && (all || vaddr)) return -EINVAL;
      if (dirty && (argsz < 48 || this.#bitmap(pgsize, bytes, data, length) < 0)) return -EINVAL;
      if (vaddr && !this.hardware) return -EBUSY;
      if (start % PAGE !== 0n) return -EINVAL;
      if (all) {
        if (start !== 0n || length !== 0n) return -EINVAL;
      } else {
        if (length === 0n || length % PAGE !== 0n) return -EINVAL;
        if (start + length > TOP) return -EOVERFLOW;
      }
      if (dirty && (!this.tracking || pgsize !== PAGE)) return -EINVAL;
      if (this.v2 && !all && this.#cut(start, length)) return -EINVAL;
      let gone = all ? [...this.maps] : this.#inside(start, length);
      if (!this.v2 && gone[0] !== undefined && gone[0].iova < start) gone = [];
      if (vaddr && gone.some(({ invalid }) => invalid)) return -EINVAL;
      for (const map of gone) {
        if (dirty && data !== this.ram) return -EFAULT;
        removed += map.size;
        if (vaddr) map.invalid = true;
        else this.maps.splice(this.maps.indexOf(map), 1);
      }
      return 0;
    };
    const view = this.#view(
      [
        [8, start],
        [16, length],
        [24, pgsize],
        [32, bytes],
        [40, data],
      ],
      argsz,
      flags,
    );
    const what = `unmap ${start} ${length} flags ${flags} argsz ${argsz} bitmap ${pgsize} ${bytes} ${data}`;
    const wanted = rule();
    expect(this.bench.ioctl(VFIO_IOMMU_UNMAP_DMA, view), what).toBe(wanted);
    expect(view.getBigUint64(16, true), `size after ${what}`).toBe(wanted === 0 ? BigInt.asUintN(64, removed) : length);
    expect(view.getUint32(0, true)).toBe(argsz);
  }

  dirty(): void {
    const flags = this.#flags([1, 2, 4, 4, 4, 4, 0, 3, 5, 6, 7]);
    const argsz = this.#argsz(flags === 4 ? 48 : 8);
    const [iova, size] = [this.#number(), this.#number()];
    const [pgsize, bytes, data] = this.#bitmapFields();
    const rule = (): number => {
      if (!this.v2) return -EACCES;
      if (argsz < 8 || (flags !== 1 && flags !== 2 && flags !== 4)) return -EINVAL;
      if (flags === 1) {
        if (!this.tracking && this.maps.some((map) => map.size / PAGE > 0x7fffffffn)) return -EINVAL;
        this.tracking = true;
        return 0;
      }
      if (flags === 2) {
        this.tracking = false;
        return 0;
      }
      if (argsz < 48 || size === 0n) return -EINVAL;
      if (iova + size > TOP) return -EOVERFLOW;
      if (this.#bitmap(pgsize, bytes, data, size) < 0 || pgsize !== PAGE) return -EINVAL;
      if ((iova | size) % PAGE !== 0n || !this.tracking || this.#cut(iova, size)) return -EINVAL;
      return this.#inside(iova, size).length > 0 && data !== this.ram ? -EFAULT : 0;
    };
    // Only as much of the bitmap as there is memory behind it.
    if (this.tracking && flags === 4 && size > 64n * PAGE * 8n * PAGE) return;
    const view = this.#view(
      [
        [8, iova],
        [16, size],
        [24, pgsize],
        [32, bytes],
        [40, data],
      ],
      argsz,
      flags,
    );
    const what = `dirty ${flags} argsz ${argsz} ${iova} ${size} bitmap ${pgsize} ${bytes} ${data}`;
    expect(this.bench.ioctl(VFIO_IOMMU_DIRTY_PAGES, view), what).toBe(rule());
  }
}

describe('the order of checks', () => {
  for (const v2 of [true, false])
    for (const hardware of [true, false])
      it(`version ${v2 ? 2 : 1}, ${hardware ? 'hardware' : 'mediated'}`, async () => {
        for (let run = 0; run < runs(4); run++) {
          const bench = await Type1Bench.make(v2 ? 3 : 1, { entryLimit: ENTRIES });
          const checks = new Checks(bench, new Random(seed + run), v2, hardware);
          for (let i = 0; i < 1500; i++) {
            const dice = checks.random.int(8);
            if (dice < 3) checks.map();
            else if (dice < 6) checks.unmap();
            else checks.dirty();
            expect(bench.iommu.available).toBe(ENTRIES - checks.maps.length);
          }
          bench.iommu.release();
          expect(bench.core.liveBytes).toBe(0);
        }
      });
});
