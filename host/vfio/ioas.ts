// An I/O address space of an iommufd: areas of iova onto user memory, attached hardware units and devices. Source: spec vfio-core section 10,
// vectors/abi cdev-ioas. The rules of the addresses are in iova_space.ts.
import { EADDRINUSE, EFAULT, EINVAL, ENOENT, ENOTTY, EPERM } from '../../assembly/abi.ts';
import type { VfioDevice } from './device.ts';
import type { Group } from './group.ts';
import { type Area, IovaSpace } from './iova_space.ts';
import type { DmaProvider, HwIommu } from './ops.ts';
import type { Task } from './task.ts';
import type { Vfio } from './vfio.ts';

/** What an area maps: memory of a task, with the device's permissions. */
interface Backing {
  readonly task: Task;
  readonly vaddr: bigint;
  readonly prot: number;
}

const U64_MAX = (1n << 64n) - 1n;

export class Ioas implements DmaProvider {
  readonly iommu = 0;
  readonly space = new IovaSpace<Backing>();
  /** The huge-pages option; pages are always 4 KiB here, so it changes nothing but its own value. */
  hugePages = true;
  readonly #units = new Map<HwIommu, number>();
  readonly #devices = new Set<VfioDevice>();

  /** @returns -ENOMEM when the heap is full. */
  static create(_vfio: Vfio, _task: Task): Ioas | number {
    return new Ioas();
  }

  /** Page sizes of all attached units; every size from 4 KiB when there is none. */
  get pageSizes(): bigint {
    return [...this.#units.keys()].reduce((sizes, unit) => sizes & unit.pageSizes, 0xfffffffffffff000n);
  }

  /** A device joins, behind `unit` or mediated (null). @returns 0 or -EADDRINUSE, -EFAULT, -ENOMEM; nothing changed on failure. */
  attach(unit: HwIommu | null, task: Task): number {
    if (unit === null) return 0;
    const users = this.#units.get(unit) ?? 0;
    if (users === 0 && this.space.addUnit(unit.ranges) < 0)
      return task.fail(EADDRINUSE, 'something is mapped or promised where the unit cannot translate');
    this.#units.set(unit, users + 1);
    return 0;
  }

  detach(unit: HwIommu | null): void {
    if (unit === null) return;
    const users = (this.#units.get(unit) ?? 1) - 1;
    if (users > 0) this.#units.set(unit, users);
    else {
      this.#units.delete(unit);
      this.space.removeUnit(unit.ranges);
    }
  }

  /** Maps user memory. @param fixed the iova, or null: anywhere. @returns the iova or -errno. */
  map(task: Task, fixed: bigint | null, vaddr: bigint, length: bigint, prot: number): bigint {
    if (vaddr + length - 1n > U64_MAX) return -75n;
    const iova = this.#placeFor(task, fixed, vaddr, length);
    if (iova < 0n) return iova;
    if (vaddr % 4096n !== 0n) return BigInt(task.fail(EINVAL, 'the user address is not page aligned'));
    const result = this.#check(task, vaddr, length, prot);
    if (result < 0) return BigInt(result);
    this.space.insert({ start: iova, last: iova + length - 1n, data: { task, vaddr, prot } });
    return iova;
  }

  #check(task: Task, vaddr: bigint, length: bigint, prot: number): number {
    if (this.#units.size === 0) return 0;
    for (let at = vaddr; at < vaddr + length; at += 4096n) {
      const vma = task.mm.find(at);
      if (vma?.mapping.kind !== 'ram' || ((prot & 2) !== 0 && !vma.write)) return task.fail(EFAULT, 'no memory');
    }
    return 0;
  }

  #placeFor(task: Task, fixed: bigint | null, vaddr: bigint, length: bigint): bigint {
    if (fixed === null) {
      const placed = this.space.place(length, vaddr);
      return placed < 0n ? BigInt(task.fail(Number(-placed), 'no place')) : placed;
    }
    const wrong = IovaSpace.checkRange(fixed, length);
    if (wrong < 0) return BigInt(task.fail(-wrong, 'iova or length is not page aligned, empty, or wraps'));
    const taken = this.space.checkFree(fixed, fixed + length - 1n);
    return taken < 0 ? BigInt(task.fail(-taken, 'the range is mapped already or cannot be translated')) : fixed;
  }

  /** Unmaps whole areas in ascending order. @returns bytes; -EINVAL, -EOVERFLOW, -ENOENT nothing there or an area is cut. */
  unmap(iova: bigint, length: bigint): bigint {
    if (length === 0n) return BigInt(-EINVAL);
    const last = iova + length - 1n;
    if (last > U64_MAX) return -75n;
    let unmapped = 0n;
    for (let area = this.space.first(iova, last); area !== undefined; area = this.space.first(iova, last)) {
      // What went before stays unmapped, as on Linux.
      if (area.start < iova || area.last > last) return BigInt(-ENOENT);
      this.#drop(area);
      unmapped += area.last - area.start + 1n;
    }
    return unmapped === 0n ? BigInt(-ENOENT) : unmapped;
  }

  unmapAll(): bigint {
    let unmapped = 0n;
    for (const area of [...this.space.areas]) {
      this.#drop(area);
      unmapped += area.last - area.start + 1n;
    }
    return unmapped;
  }

  copyFrom(source: Ioas, task: Task, fixed: bigint | null, iova: bigint, length: bigint, prot: number): bigint {
    const areas = source.space.covering(iova, iova + length - 1n);
    if (typeof areas === 'number') return BigInt(task.fail(-areas, 'the source is not mapped'));
    if (areas.some(({ data }) => (prot & ~data.prot) !== 0))
      return BigInt(task.fail(EPERM, 'the source is mapped with less'));
    const first = areas[0] as Area<Backing>;
    return this.map(task, fixed, first.data.vaddr + iova - first.start, length, prot);
  }

  registerDevice(device: VfioDevice): void {
    this.#devices.add(device);
  }
  unregisterDevice(device: VfioDevice): void {
    this.#devices.delete(device);
  }
  pinPages(_group: Group, _iova: bigint, _npage: number, _prot: number, _pfns: Uint32Array): number {
    return -ENOTTY;
  }
  unpinPages(_iova: bigint, _npage: number): void {}
  dmaRw(_iova: bigint, _bytes: Uint8Array, _write: boolean): number {
    return -ENOTTY;
  }
  deviceDma(_iova: bigint, _bytes: Uint8Array, _write: boolean): number {
    return -ENOTTY;
  }

  release(): void {
    this.unmapAll();
  }

  #drop(area: Area<Backing>): void {
    this.space.remove(area);
  }
}
