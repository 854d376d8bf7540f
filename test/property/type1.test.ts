// A million random calls against the slow model of type1, with the ledger checked after every one: maps, pins,
// references, locked pages, free slots, pages of memory, errno, bytes and bitmaps.
import { describe, expect, it } from 'vitest';
import type { Core } from '../../host/core.ts';
import { VFIO_IOMMU_DIRTY_PAGES, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../../host/uapi/ioctl.ts';
import { VfioDevice } from '../../host/vfio/device.ts';
import { Group } from '../../host/vfio/group.ts';
import { type Type1Iommu, type1Driver } from '../../host/vfio/iommu_type1.ts';
import type { HwIommu } from '../../host/vfio/ops.ts';
import type { Task } from '../../host/vfio/task.ts';
import { DirectBuffer } from '../../host/vfio/user.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { type MapModel, MemoryModel, Type1Model, type UnitModel } from '../support/model/type1.ts';

const PAGE = 4096n;
const ENTRY_LIMIT = 40;
/** Where maps are tried: the bottom, around the reserved window of the unit, around 2^32 bytes, at 2^48, and the last pages there are. */
const BASES = [0, 0xfede0, 0xffff0, 2 ** 36 - 16, 2 ** 52 - 40];
const SPAN = 40;
const UNIT: UnitModel = {
  ranges: [
    [0, 0xfedff],
    [0xfef00, 2 ** 36 - 1],
  ],
  limitPage: 2 ** 36,
};
const HARDWARE: HwIommu = {
  pageSizes: 0x40201000n,
  ranges: UNIT.ranges.map(([start, last]) => ({ start: BigInt(start) * PAGE, last: (BigInt(last) + 1n) * PAGE - 1n })),
  coherent: false,
  msiIsolated: true,
  limit: BigInt(UNIT.limitPage) * PAGE,
};
const VBASE = 0x7f0000000;
const VSPAN = 96;
const BITMAP_PAGE = VBASE + 1000;

class Run {
  readonly random: Random;
  readonly core: Core;
  readonly vfio: Vfio;
  readonly task: Task;
  readonly emulated = new Group('6', 'emulated');
  readonly hardware = new Group('1', 'iommu', HARDWARE);
  readonly device: VfioDevice;
  iommu!: Type1Iommu;
  memory!: MemoryModel;
  model!: Type1Model;
  /** Pins that the driver holds, by page. */
  readonly held = new Map<number, number>();
  last = '';

  constructor(core: Core, from: number) {
    this.random = new Random(from);
    this.core = core;
    this.vfio = new Vfio(core, { iommuDrivers: () => [] });
    this.task = this.vfio.task();
    this.device = new VfioDevice(this.vfio, 'test', {
      name: 'test',
      dmaUnmap: (_device, iova, length) => this.letGo(Number(iova / PAGE), Number(length / PAGE)),
    });
    this.device.group = this.emulated;
  }

  begin(): void {
    const iommu = type1Driver(this.vfio, { entryLimit: ENTRY_LIMIT }).open(this.task, 3);
    if (typeof iommu === 'number') throw new Error(`open: ${iommu}`);
    this.iommu = iommu as Type1Iommu;
    this.memory = new MemoryModel();
    this.model = new Type1Model(this.memory, ENTRY_LIMIT);
    this.held.clear();
    this.task.memlockPages = Number.POSITIVE_INFINITY;
    this.task.lockCap = true;
    this.#mmap(BITMAP_PAGE, 1, 3, true);
    for (let at = 0; at < VSPAN; at += 12) this.#mmap(VBASE + at, 12, at === 48 ? 1 : 3, at !== 60);
    this.attachEmulated();
    this.iommu.registerDevice(this.device);
    this.model.device = true;
  }

  /** Closes everything; nothing may be left. */
  end(): void {
    if (this.model.device) this.closeDevice();
    if (this.model.emulated) this.iommu.detachGroup(this.emulated);
    if (this.model.unit !== null) this.iommu.detachGroup(this.hardware);
    this.iommu.release();
    expect(this.core.liveBytes).toBe(0);
    expect(this.task.mm.lockedPages).toBe(0);
    for (const { vpage, npage } of this.memory.windows) this.task.mm.unmap(BigInt(vpage) * PAGE, BigInt(npage) * PAGE);
    expect(this.vfio.pages.usedBytes).toBe(0);
  }

  /** The driver's answer to an unmap: every pin in the range. */
  letGo(page: number, npage: number): void {
    for (const [at, count] of [...this.held]) {
      if (at < page || at >= page + npage) continue;
      for (let i = 0; i < count; i++) this.iommu.unpinPages(BigInt(at) * PAGE, 1);
      this.held.delete(at);
    }
  }
  #drainModel = (map: MapModel): void => {
    for (const [page, { count }] of [...map.pins]) for (let i = 0; i < count; i++) this.model.unpin(page, 1);
  };

  #page(): number {
    return this.random.pick(BASES) + this.random.int(SPAN);
  }
  #length(page: number): number {
    return Math.min(1 + this.random.int(this.random.pick([2, 6, 14])), 2 ** 52 - page);
  }
  #expect(actual: number | bigint, wanted: number | bigint, what: string): void {
    this.last = what;
    if (BigInt(actual) !== BigInt(wanted))
      throw new Error(`${what}: ${actual}, the model says ${wanted} (${this.task.why})`);
  }
  #struct(size: number, fill: (view: DataView) => void): DataView {
    const view = new DataView(new ArrayBuffer(size));
    view.setUint32(0, size, true);
    fill(view);
    return view;
  }
  #ioctl(request: number, view: DataView): number {
    return this.iommu.ioctl(this.task, request, new DirectBuffer(new Uint8Array(view.buffer)));
  }

  mapOrUpdate(update: boolean): void {
    const known = this.model.maps.length > 0 && this.random.int(3) === 0 ? this.random.pick(this.model.maps) : null;
    const page = known?.page ?? this.#page();
    const npage = known !== null && this.random.int(4) > 0 ? known.npage : this.#length(page);
    const vpage = VBASE + this.random.int(VSPAN);
    const prot = this.random.pick([1, 2, 3, 3, 3]);
    const view = this.#struct(32, (v) => {
      v.setUint32(4, update ? 4 : prot, true);
      v.setBigUint64(8, BigInt(vpage) * PAGE, true);
      v.setBigUint64(16, BigInt(page) * PAGE, true);
      v.setBigUint64(24, BigInt(npage) * PAGE, true);
    });
    const wanted = update ? this.model.update(page, npage, vpage) : this.model.map(page, npage, vpage, prot);
    this.#expect(this.#ioctl(VFIO_IOMMU_MAP_DMA, view), wanted, `map ${page} ${npage} ${vpage} ${prot} ${update}`);
  }

  /** A range that often is exactly some maps. */
  #range(): { page: number; npage: number } {
    const { maps } = this.model;
    if (maps.length > 0 && this.random.int(4) > 0) {
      const at = this.random.int(maps.length);
      const first = maps[at]!;
      const last = maps[Math.min(maps.length - 1, at + this.random.int(3))]!;
      const page = first.page - (this.random.int(8) === 0 && first.page > 0 ? 1 : 0);
      // All 2^52 pages at once do not fit into a size field.
      return { page, npage: Math.min(last.page + last.npage - page, 2 ** 52 - 1) };
    }
    const page = this.#page();
    return { page, npage: this.#length(page) };
  }

  unmap(): void {
    const all = this.random.int(60) === 0;
    const { page, npage } = all ? { page: 0, npage: 0 } : this.#range();
    const view = this.#struct(24, (v) => {
      v.setUint32(4, all ? 2 : 0, true);
      v.setBigUint64(8, BigInt(page) * PAGE, true);
      v.setBigUint64(16, BigInt(npage) * PAGE, true);
    });
    const wanted = this.model.unmap(page, npage, all, this.#drainModel);
    this.#expect(this.#ioctl(VFIO_IOMMU_UNMAP_DMA, view), Math.min(wanted, 0), `unmap ${page} ${npage} ${all}`);
    if (wanted >= 0) this.#expect(view.getBigUint64(16, true), BigInt(wanted) * PAGE, 'bytes unmapped');
  }

  invalidate(): void {
    const all = this.random.int(10) === 0;
    const { page, npage } = all ? { page: 0, npage: 0 } : this.#range();
    const view = this.#struct(24, (v) => {
      v.setUint32(4, all ? 6 : 4, true);
      v.setBigUint64(8, BigInt(page) * PAGE, true);
      v.setBigUint64(16, BigInt(npage) * PAGE, true);
    });
    const wanted = this.model.invalidate(page, npage, all);
    this.#expect(this.#ioctl(VFIO_IOMMU_UNMAP_DMA, view), Math.min(wanted, 0), `invalidate ${page} ${npage} ${all}`);
    if (wanted >= 0) this.#expect(view.getBigUint64(16, true), BigInt(wanted) * PAGE, 'bytes invalidated');
  }

  pin(): void {
    const map = this.model.maps.length > 0 && this.random.int(5) > 0 ? this.random.pick(this.model.maps) : null;
    const range = this.#range();
    const page = map === null ? range.page : map.page + this.random.int(map.npage);
    const npage = Math.min(map === null ? range.npage : 1 + this.random.int(map.npage), 512);
    const prot = 1 + this.random.int(3);
    const byHardware = this.model.unit !== null && this.random.int(2) === 0;
    const frames = new Uint32Array(npage);
    const wanted = this.model.pin(page, npage, prot, byHardware);
    const group = byHardware ? this.hardware : this.emulated;
    const result = this.iommu.pinPages(group, BigInt(page) * PAGE, npage, prot, frames);
    this.#expect(result, typeof wanted === 'number' ? wanted : npage, `pin ${page} ${npage} ${prot}`);
    if (typeof wanted === 'number') return;
    for (let i = 0; i < npage; i++) this.held.set(page + i, (this.held.get(page + i) ?? 0) + 1);
  }
  unpin(): void {
    const held = [...this.held.keys()];
    if (held.length === 0) return;
    const page = this.random.pick(held);
    const npage = 1 + this.random.int(6);
    for (let i = page; i < page + npage && this.model.at(i) !== undefined; i++) {
      const count = this.held.get(i);
      if (count === 1) this.held.delete(i);
      else if (count !== undefined) this.held.set(i, count - 1);
    }
    this.model.unpin(page, npage);
    this.iommu.unpinPages(BigInt(page) * PAGE, npage);
    this.last = `unpin ${page} ${npage}`;
  }

  readWrite(): void {
    const { page } = this.#range();
    const offset = this.random.int(4096);
    const bytes = new Uint8Array(1 + this.random.int(this.random.pick([100, 9000])));
    const write = this.random.int(2) === 0;
    if (write) bytes.fill(this.random.int(256));
    // Up to the end of the address space; what goes beyond is refused like any hole.
    const wanted = this.model.rw(page, offset, bytes.length, write);
    const result = this.iommu.dmaRw(BigInt(page) * PAGE + BigInt(offset), bytes, write);
    this.#expect(result, wanted, `dma_rw ${page} ${offset} ${bytes.length} ${write}`);
    if (wanted < 0) return;
    // Two maps may show the same memory: of what was written, only the last byte is sure to be still there.
    for (let i = write ? bytes.length - 1 : 0; i < bytes.length; i += 1023) {
      const at = page + Math.floor((offset + i) / 4096);
      const map = this.model.at(at) as MapModel;
      const memory = new Uint8Array(1);
      const vaddr = BigInt(map.vpage + (at - map.page)) * PAGE + BigInt((offset + i) % 4096);
      if (this.task.mm.read(vaddr, memory))
        this.#expect(bytes[i] as number, memory[0] as number, `byte ${i} of ${this.last}`);
    }
  }

  dirty(): void {
    const flags = this.random.pick([1, 2, 4, 4, 4, 4]);
    if (flags !== 4) {
      if (flags === 1) this.model.start();
      else this.model.stop();
      const view = this.#struct(8, (v) => v.setUint32(4, flags, true));
      this.#expect(this.#ioctl(VFIO_IOMMU_DIRTY_PAGES, view), 0, `dirty ${flags}`);
      return;
    }
    const { page, npage } = this.#range();
    if (npage > 2048) return;
    const words = Math.ceil(npage / 64);
    const memory = this.task.mm.view(BigInt(BITMAP_PAGE) * PAGE, words * 8) as Uint8Array;
    for (let i = 0; i < memory.length; i++) memory[i] = this.random.int(256);
    const bits = Array.from({ length: words * 64 }, (_, i) => ((memory[i >> 3]! >> (i & 7)) & 1) === 1);
    const view = this.#struct(48, (v) => {
      v.setUint32(4, 4, true);
      v.setBigUint64(8, BigInt(page) * PAGE, true);
      v.setBigUint64(16, BigInt(npage) * PAGE, true);
      v.setBigUint64(24, PAGE, true);
      v.setBigUint64(32, BigInt(words * 8), true);
      v.setBigUint64(40, BigInt(BITMAP_PAGE) * PAGE, true);
    });
    const wanted = this.model.report(page, npage, bits);
    this.#expect(this.#ioctl(VFIO_IOMMU_DIRTY_PAGES, view), wanted, `report ${page} ${npage}`);
    const same = bits.every((bit, i) => ((memory[i >> 3]! >> (i & 7)) & 1) === Number(bit));
    this.#expect(Number(same), 1, `bitmap of ${page} ${npage}`);
  }

  attachEmulated(): void {
    const wanted = this.model.maps.some((map) => map.invalid) ? -16 : this.model.emulated ? -22 : 0;
    this.#expect(this.iommu.attachGroup(this.emulated, this.task), wanted, 'attach mediated');
    if (wanted === 0) this.model.emulated = true;
  }
  closeDevice(): void {
    this.letGo(0, 2 ** 52);
    for (const map of this.model.maps) this.#drainModel(map);
    this.iommu.unregisterDevice(this.device);
    this.model.device = false;
  }
  groups(): void {
    switch (this.random.int(5)) {
      case 0:
        if (this.model.device) {
          if (this.random.int(4) === 0) this.closeDevice();
        } else if (this.model.emulated) {
          this.iommu.registerDevice(this.device);
          this.model.device = true;
        }
        return;
      case 1:
        this.#expect(this.iommu.attachGroup(this.hardware, this.task), this.model.attachUnit(UNIT), 'attach hardware');
        return;
      case 2:
        if (this.model.unit === null || !this.model.emulated) return;
        this.iommu.detachGroup(this.hardware);
        this.model.detachUnit();
        return;
      case 3:
        this.attachEmulated();
        return;
      default:
        if (this.model.unit === null || !this.model.emulated) return;
        if (this.model.device) this.closeDevice();
        this.iommu.detachGroup(this.emulated);
        this.model.emulated = false;
    }
  }

  #mmap(vpage: number, npage: number, prot: number, backed: boolean): void {
    if (this.memory.windows.some((w) => w.vpage < vpage + npage && vpage < w.vpage + w.npage)) return;
    const options = { addr: BigInt(vpage) * PAGE, read: (prot & 1) !== 0, write: (prot & 2) !== 0, backed };
    const result = this.task.mm.mapAnonymous(BigInt(npage) * PAGE, options);
    if (result < 0n) throw new Error(`mmap: ${result}`);
    this.memory.map(vpage, npage, prot, backed);
  }
  addressSpace(): void {
    const vpage = VBASE + this.random.int(VSPAN);
    const npage = 1 + this.random.int(24);
    if (this.random.int(6) === 0) {
      this.#expect(this.task.mm.unmap(BigInt(vpage) * PAGE, BigInt(npage) * PAGE), 0, 'munmap');
      this.memory.unmap(vpage, npage);
    } else this.#mmap(vpage, npage, this.random.pick([1, 3, 3, 3, 3, 3, 3, 3]), this.random.int(12) > 0);
    this.last = `address space ${vpage} ${npage}`;
  }
  limits(): void {
    this.task.lockCap = this.random.int(2) === 0;
    this.task.memlockPages = this.random.int(3) === 0 ? Number.POSITIVE_INFINITY : this.random.int(60);
    this.model.lockCap = this.task.lockCap;
    this.model.limit = this.task.memlockPages;
  }

  step(): void {
    const dice = this.random.int(100);
    if (dice < 22) this.mapOrUpdate(false);
    else if (dice < 25) this.mapOrUpdate(true);
    else if (dice < 36) this.unmap();
    else if (dice < 39) this.invalidate();
    else if (dice < 58) this.pin();
    else if (dice < 74) this.unpin();
    else if (dice < 84) this.readWrite();
    else if (dice < 92) this.dirty();
    else if (dice < 95) this.groups();
    else if (dice < 98) this.addressSpace();
    else this.limits();
  }

  ledger(): void {
    const { model, iommu } = this;
    const wrong =
      iommu.mapCount !== model.maps.length ||
      iommu.available !== ENTRY_LIMIT - model.maps.length ||
      iommu.pinnedPages !== model.pinnedPages ||
      iommu.pinCount !== BigInt(model.pins) ||
      this.task.mm.lockedPages !== model.locked ||
      this.vfio.pages.usedBytes !== this.memory.needs.size * 4096;
    if (!wrong) return;
    expect({
      after: this.last,
      maps: iommu.mapCount,
      available: iommu.available,
      pinnedPages: iommu.pinnedPages,
      pins: Number(iommu.pinCount),
      locked: this.task.mm.lockedPages,
      pages: this.vfio.pages.usedBytes / 4096,
    }).toEqual({
      after: this.last,
      maps: model.maps.length,
      available: ENTRY_LIMIT - model.maps.length,
      pinnedPages: model.pinnedPages,
      pins: model.pins,
      locked: model.locked,
      pages: this.memory.needs.size,
    });
  }
}

describe('type1 against its model', () => {
  // 50 x 20,000: a million in Node, and another, with other seeds, in Chromium.
  const environment = typeof window === 'undefined' ? 0 : 1000;
  it.each(Array.from({ length: 50 }, (_, i) => seed + i + environment))('20,000 calls, seed %i', async (from) => {
    const run = new Run(await freshCore({ length: 0x800000 }), from);
    for (let left = runs(20_000); left > 0; left -= 4000) {
      run.begin();
      for (let i = 0; i < 4000; i++) {
        run.step();
        run.ledger();
      }
      run.end();
    }
  });
});
