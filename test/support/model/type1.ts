// The type1 rules once more, slow and obvious: lists, sets, one page at a time, straight from spec iommu-type1. Page numbers are JavaScript
// numbers (2^52 pages are exact). The property test compares the core and its host layer with this after every operation.
import { EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM, ERANGE } from '../../../assembly/abi.ts';

const READ = 1;
const WRITE = 2;

/** Something that stands behind virtual pages. */
export interface Window {
  readonly vpage: number;
  readonly npage: number;
  readonly prot: number;
  /** Frame numbers; null: nothing behind it. */
  readonly frames: number[] | null;
}

/** Memory of one task: windows, and who needs each frame. */
export class MemoryModel {
  windows: Window[] = [];
  readonly needs = new Map<number, number>();
  #nextFrame = 0;

  map(vpage: number, npage: number, prot: number, backed: boolean): void {
    const frames = backed ? Array.from({ length: npage }, () => this.#nextFrame++) : null;
    for (const frame of frames ?? []) this.get(frame);
    this.windows.push({ vpage, npage, prot, frames });
  }
  /** Unmaps [vpage, vpage + npage), cutting what reaches beyond. */
  unmap(vpage: number, npage: number): void {
    const end = vpage + npage;
    const kept: Window[] = [];
    for (const window of this.windows) {
      const piece = (from: number, to: number): void => {
        if (from >= to) return;
        const frames = window.frames?.slice(from - window.vpage, to - window.vpage) ?? null;
        kept.push({ vpage: from, npage: to - from, prot: window.prot, frames });
      };
      const windowEnd = window.vpage + window.npage;
      if (windowEnd <= vpage || window.vpage >= end) {
        kept.push(window);
        continue;
      }
      piece(window.vpage, vpage);
      piece(end, windowEnd);
      window.frames?.forEach((frame, i) => {
        if (window.vpage + i >= vpage && window.vpage + i < end) this.put(frame);
      });
    }
    this.windows = kept;
  }
  /** The frame behind a page for an access with this permission, or null: a fault. */
  fault(vpage: number, prot: number): number | null {
    const window = this.windows.find((w) => w.vpage <= vpage && vpage < w.vpage + w.npage);
    if (window === undefined || (window.prot & prot) !== prot || window.frames === null) return null;
    return window.frames[vpage - window.vpage] as number;
  }
  /** The frames behind at most `npage` pages, as far as one window reaches; none: a fault. */
  run(vpage: number, npage: number, prot: number): number[] {
    const window = this.windows.find((w) => w.vpage <= vpage && vpage < w.vpage + w.npage);
    if (window === undefined || (window.prot & prot) !== prot) return [];
    return window.frames?.slice(vpage - window.vpage, vpage - window.vpage + npage) ?? [];
  }
  get(frame: number): void {
    this.needs.set(frame, (this.needs.get(frame) ?? 0) + 1);
  }
  put(frame: number): void {
    const left = (this.needs.get(frame) as number) - 1;
    if (left === 0) this.needs.delete(frame);
    else this.needs.set(frame, left);
  }
}

export interface MapModel {
  readonly page: number;
  readonly npage: number;
  vpage: number;
  readonly prot: number;
  readonly lockCap: boolean;
  invalid: boolean;
  readonly pins: Map<number, { frame: number; count: number }>;
  /** Frames that the hardware was given. */
  hw: number[];
  dirty: Set<number>;
}

/** What a hardware group brings. */
export interface UnitModel {
  /** Inclusive page ranges. */
  readonly ranges: ReadonlyArray<readonly [number, number]>;
  readonly limitPage: number;
}

export class Type1Model {
  readonly memory: MemoryModel;
  readonly entryLimit: number;
  maps: MapModel[] = [];
  emulated = false;
  unit: UnitModel | null = null;
  /** The hardware group pinned at least once. */
  pinner = false;
  device = false;
  tracking = false;
  limit = Number.POSITIVE_INFINITY;
  lockCap = true;
  /** Once hardware was there and left, the full range is reported. */
  #ranges: ReadonlyArray<readonly [number, number]> = [];

  constructor(memory: MemoryModel, entryLimit: number) {
    this.memory = memory;
    this.entryLimit = entryLimit;
  }

  get pinnedPages(): number {
    return this.maps.reduce((sum, map) => sum + map.pins.size, 0);
  }
  get pins(): number {
    return this.maps.reduce((sum, map) => [...map.pins.values()].reduce((s, pin) => s + pin.count, sum), 0);
  }
  get locked(): number {
    return this.unit === null ? this.pinnedPages : this.maps.reduce((sum, map) => sum + map.hw.length, 0);
  }
  get allDirty(): boolean {
    return this.unit !== null && !this.pinner;
  }
  get #anyInvalid(): boolean {
    return this.maps.some((map) => map.invalid);
  }

  at(page: number): MapModel | undefined {
    return this.maps.find((map) => map.page <= page && page < map.page + map.npage);
  }
  #inside(page: number, npage: number): MapModel[] {
    return this.maps.filter((map) => map.page < page + npage && page < map.page + map.npage);
  }
  bisects(page: number, npage: number): boolean {
    const first = this.at(page);
    const last = this.at(page + npage - 1);
    return (
      (first !== undefined && first.page !== page) || (last !== undefined && last.page + last.npage !== page + npage)
    );
  }

  map(page: number, npage: number, vpage: number, prot: number): number {
    if (this.#inside(page, npage).length > 0) return -EEXIST;
    if (this.maps.length >= this.entryLimit) return -ENOSPC;
    if (this.#ranges.length > 0 && !this.#ranges.some(([a, b]) => a <= page && page + npage - 1 <= b)) return -EINVAL;
    const map: MapModel = {
      page,
      npage,
      vpage,
      prot,
      lockCap: this.lockCap,
      invalid: false,
      pins: new Map(),
      hw: [],
      dirty: new Set(),
    };
    if (this.unit !== null) {
      const result = this.#give(map, this.unit, this.locked);
      if (result < 0) return result;
    }
    this.maps.push(map);
    this.maps.sort((a, b) => a.page - b.page);
    return 0;
  }

  /** Pins a map's pages for the hardware, a window of memory at a time: pinned and charged as one, then given to the unit. @param locked pages locked before. */
  #give(map: MapModel, unit: UnitModel, locked: number): number {
    let failed = 0;
    for (let from = 0; from < map.npage && failed === 0; ) {
      const frames = this.memory.run(map.vpage + from, map.npage - from, map.prot & WRITE ? WRITE : READ);
      const first = map.page + from;
      const fresh = frames.filter((_, i) => !map.pins.has(first + i)).length;
      if (frames.length === 0) failed = -EFAULT;
      else if (fresh > 0 && !map.lockCap && locked + fresh > this.limit) failed = -ENOMEM;
      else if (first + frames.length > unit.limitPage) failed = -ERANGE;
      else {
        for (const frame of frames) this.memory.get(frame);
        map.hw.push(...frames);
        locked += fresh;
        from += frames.length;
      }
    }
    if (failed !== 0) this.#take(map);
    return failed;
  }
  #take(map: MapModel): void {
    for (const frame of map.hw) this.memory.put(frame);
    map.hw = [];
  }

  attachUnit(unit: UnitModel): number {
    if (this.#anyInvalid) return -EBUSY;
    if (this.unit !== null) return -EINVAL;
    const [first] = unit.ranges[0]!;
    const [, last] = unit.ranges[unit.ranges.length - 1]!;
    const outside = (map: MapModel): boolean => map.page < first || map.page + map.npage - 1 > last;
    if (this.#ranges.length > 0 && this.maps.some(outside)) return -EINVAL;
    for (let i = 1; i < unit.ranges.length; i++) {
      const from = unit.ranges[i - 1]![1] + 1;
      if (this.#inside(from, unit.ranges[i]![0] - from).length > 0) return -EINVAL;
    }
    let locked = this.locked;
    for (const map of this.maps) {
      const result = this.#give(map, unit, locked);
      if (result < 0) {
        for (const other of this.maps) this.#take(other);
        return result;
      }
      locked += map.npage - map.pins.size;
    }
    this.unit = unit;
    this.pinner = false;
    this.#ranges = unit.ranges;
    return 0;
  }
  detachUnit(): void {
    const dirties = this.tracking && this.allDirty;
    for (const map of this.maps) this.#take(map);
    this.unit = null;
    this.#ranges = [[0, 2 ** 52 - 1]];
    if (dirties) for (const map of this.maps) for (let i = 0; i < map.npage; i++) map.dirty.add(map.page + i);
  }

  /** Unmaps whole maps. @param drain has the driver unpin. @returns pages removed or -errno. */
  unmap(page: number, npage: number, all: boolean, drain: (map: MapModel) => void): number {
    if (!all && this.bisects(page, npage)) return -EINVAL;
    let removed = 0;
    for (const map of all ? [...this.maps] : this.#inside(page, npage)) {
      if (map.pins.size > 0) drain(map);
      this.#take(map);
      this.maps = this.maps.filter((other) => other !== map);
      removed += map.npage;
    }
    return removed;
  }

  invalidate(page: number, npage: number, all: boolean): number {
    if (this.emulated) return -EBUSY;
    if (!all && this.bisects(page, npage)) return -EINVAL;
    const maps = all ? this.maps : this.#inside(page, npage);
    if (maps.some((map) => map.invalid)) return -EINVAL;
    for (const map of maps) map.invalid = true;
    return maps.reduce((sum, map) => sum + map.npage, 0);
  }
  update(page: number, npage: number, vpage: number): number {
    const maps = this.#inside(page, npage);
    const map = maps[0];
    if (map === undefined) return -ENOENT;
    if (maps.length > 1 || !map.invalid || map.page !== page || map.npage !== npage) return -EINVAL;
    // The map stays with its task, so the privilege it was made with stays, too.
    map.vpage = vpage;
    map.invalid = false;
    return 0;
  }

  #refusal(): number {
    if (this.#anyInvalid) return -EBUSY;
    return this.device ? 0 : -EINVAL;
  }

  /** @returns frames, or -errno with nothing pinned. */
  pin(page: number, npage: number, prot: number, byHardware: boolean): number[] | number {
    const refused = this.#refusal();
    if (refused < 0) return refused;
    const frames: number[] = [];
    for (let i = 0; i < npage; i++) {
      const result = this.#pinOne(page + i, prot);
      if (result < 0) {
        this.unpin(page, i);
        return result;
      }
      frames.push(result);
    }
    if (byHardware) this.pinner = true;
    return frames;
  }
  #pinOne(page: number, prot: number): number {
    const map = this.at(page);
    if (map === undefined) return -EINVAL;
    if ((map.prot & prot) !== prot) return -EPERM;
    const pin = map.pins.get(page);
    if (pin !== undefined) {
      pin.count++;
      return pin.frame;
    }
    const frame = this.memory.fault(map.vpage + (page - map.page), map.prot & WRITE ? WRITE : READ);
    if (frame === null) return -EFAULT;
    if (this.unit === null && !map.lockCap && this.locked + 1 > this.limit) return -ENOMEM;
    this.memory.get(frame);
    map.pins.set(page, { frame, count: 1 });
    if (this.tracking) map.dirty.add(page);
    return frame;
  }
  unpin(page: number, npage: number): void {
    for (let i = page; i < page + npage; i++) {
      const map = this.at(i);
      if (map === undefined) return;
      const pin = map.pins.get(i);
      if (pin === undefined || --pin.count > 0) continue;
      this.memory.put(pin.frame);
      map.pins.delete(i);
      if (this.tracking && (map.prot & WRITE) !== 0) map.dirty.add(i);
    }
  }

  /** dma_rw of [offset, offset + length) bytes from the start of `page`. Writes of what a chunk cannot take are refused whole. */
  rw(page: number, offset: number, length: number, write: boolean): number {
    if (this.#anyInvalid) return -EBUSY;
    const last = page + Math.floor((offset + length - 1) / 4096);
    for (let at = page; at <= last; ) {
      const map = this.at(at);
      if (map === undefined) return -EINVAL;
      if ((map.prot & READ) === 0 || (write && (map.prot & WRITE) === 0)) return -EPERM;
      const end = Math.min(last, map.page + map.npage - 1);
      for (let i = at; i <= end; i++)
        if (this.memory.fault(map.vpage + (i - map.page), write ? WRITE : READ) === null) return -EFAULT;
      if (write && this.tracking) for (let i = at; i <= end; i++) map.dirty.add(i);
      at = end + 1;
    }
    return 0;
  }

  start(): void {
    if (this.tracking) return;
    this.tracking = true;
    for (const map of this.maps) map.dirty = new Set(map.pins.keys());
  }
  stop(): void {
    this.tracking = false;
    for (const map of this.maps) map.dirty.clear();
  }

  /** Writes one map's bits where the kernel puts them; `bits` begins at page `base`. */
  emit(map: MapModel, base: number, bits: boolean[]): void {
    const position = map.page - base;
    const shift = position % 64;
    const first = position - shift;
    const before = bits.slice(first, first + 64);
    const end = first + Math.ceil((shift + map.npage) / 64) * 64;
    for (let i = first; i < end; i++) bits[i] = false;
    for (let i = 0; i < map.npage; i++) bits[position + i] = this.allDirty || map.dirty.has(map.page + i);
    if (shift !== 0) for (let i = 0; i < 64; i++) bits[first + i] = (bits[first + i] ?? false) || (before[i] ?? false);
  }
  /** DIRTY_PAGES GET_BITMAP. */
  report(page: number, npage: number, bits: boolean[]): number {
    if (!this.tracking || this.bisects(page, npage)) return -EINVAL;
    for (const map of this.#inside(page, npage)) {
      this.emit(map, page, bits);
      map.dirty = new Set(map.pins.keys());
    }
    return 0;
  }
}
