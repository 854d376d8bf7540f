// An I/O address space of an iommufd: areas of iova onto user memory, attached hardware units and devices. Source: spec vfio-core section 10,
// vectors/abi cdev-ioas. The rules of the addresses are in iova_space.ts, the pages in dma_table.ts.
import {
  EADDRINUSE,
  EEXIST,
  EINVAL,
  ENOENT,
  ENOMEM,
  EOVERFLOW,
  EPERM,
  FLAVOUR_IOAS,
  PAGE_SIZE_4K,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { DmaTable } from './dma_table.ts';
import { type Area, IovaSpace } from './iova_space.ts';
import type { HwIommu } from './ops.ts';
import type { Task } from './task.ts';

/** A piece of user memory: whose, where, and what devices may do with it. */
interface Backing {
  readonly task: Task;
  readonly vaddr: bigint;
  readonly length: bigint;
  readonly prot: number;
}

const U64_MAX = (1n << 64n) - 1n;
const PAGE = BigInt(PAGE_SIZE_4K);
/** An address space has as many areas as memory allows. */
const NO_LIMIT = 0xffffffff;

export class Ioas extends DmaTable {
  /** Areas with the pieces that they are made of. */
  readonly space = new IovaSpace<readonly Backing[]>();
  /** The huge-pages option; pages are always 4 KiB here, so it changes nothing but its own value. */
  hugePages = true;
  readonly #units = new Map<HwIommu, number>();

  /** @returns -ENOMEM when the heap is full. */
  static create(core: Core, task: Task): Ioas | number {
    const iommu = DmaTable.createIommu(core, FLAVOUR_IOAS);
    return iommu === 0 ? task.fail(ENOMEM, "the core's heap is full") : new Ioas(core, iommu);
  }

  private constructor(core: Core, iommu: number) {
    super(core, iommu);
    this.available = NO_LIMIT;
  }

  /** Page sizes of all attached units; every size from 4 KiB when there is none. */
  get pageSizes(): bigint {
    return [...this.#units.keys()].reduce((sizes, unit) => sizes & unit.pageSizes, 0xfffffffffffff000n);
  }

  /** Every attached unit enforces cache coherency. */
  get coherent(): boolean {
    return [...this.#units.keys()].every((unit) => unit.coherent);
  }

  /**
   * A device joins, behind `unit` or mediated (null). Behind the first unit everything mapped is pinned.
   * @returns 0 or -EADDRINUSE, -EFAULT, -ENOMEM; nothing changed on failure.
   */
  attach(unit: HwIommu | null, task: Task): number {
    if (unit === null) return 0;
    const users = this.#units.get(unit) ?? 0;
    if (users === 0) {
      if (this.space.addUnit(unit.ranges) < 0)
        return task.fail(EADDRINUSE, 'something is mapped or promised where the unit cannot translate');
      const attached = this.attachDomain(task, 0n);
      if (attached < 0) {
        this.space.removeUnit(unit.ranges);
        return task.fail(-attached, 'what is mapped cannot be pinned');
      }
    }
    this.#units.set(unit, users + 1);
    return 0;
  }

  /** The reverse; behind the last unit pages are unpinned that no driver pins. */
  detach(unit: HwIommu | null): void {
    if (unit === null) return;
    const users = (this.#units.get(unit) ?? 1) - 1;
    if (users > 0) {
      this.#units.set(unit, users);
      return;
    }
    this.#units.delete(unit);
    this.space.removeUnit(unit.ranges);
    this.detachDomain();
  }

  /**
   * Maps user memory. @param fixed the iova, or null: anywhere.
   * @returns the iova, or -errno in this order: EOVERFLOW the user range wraps; EINVAL unaligned or empty, EOVERFLOW the iova range wraps, EINVAL
   * a unit cannot translate it, EEXIST mapped already (fixed) or EINVAL, ENOSPC (anywhere); EINVAL the user address is unaligned; then, behind
   * hardware, EFAULT, ENOMEM from pinning. Nothing is mapped on failure.
   */
  map(task: Task, fixed: bigint | null, vaddr: bigint, length: bigint, prot: number): bigint {
    if (vaddr + length - 1n > U64_MAX) return BigInt(task.fail(EOVERFLOW, 'the user range wraps'));
    const iova = this.#place(task, fixed, vaddr, length);
    if (iova < 0n) return iova;
    if (vaddr % PAGE !== 0n) return BigInt(task.fail(EINVAL, 'the user address is not page aligned'));
    return this.#insert(task, iova, [{ task, vaddr, length, prot }]);
  }

  /** Unmaps whole areas in ascending order. @returns bytes, or -errno: EINVAL empty; EOVERFLOW; ENOENT nothing there, or an area is cut. */
  unmap(iova: bigint, length: bigint): bigint {
    if (length === 0n) return BigInt(-EINVAL);
    const last = iova + length - 1n;
    if (last > U64_MAX) return BigInt(-EOVERFLOW);
    let unmapped = 0n;
    for (let area = this.space.first(iova, last); area !== undefined; area = this.space.first(iova, last)) {
      // What went before stays unmapped, as on Linux.
      if (area.start < iova || area.last > last) return BigInt(-ENOENT);
      this.#drop(area);
      unmapped += area.last - area.start + 1n;
    }
    return unmapped === 0n ? BigInt(-ENOENT) : unmapped;
  }

  /** Unmaps everything. @returns bytes. */
  unmapEverything(): bigint {
    let unmapped = 0n;
    for (const area of [...this.space.areas]) {
      this.#drop(area);
      unmapped += area.last - area.start + 1n;
    }
    return unmapped;
  }

  /**
   * Maps what another address space (or this one) maps at `iova`. @returns the new iova, or -errno: EINVAL empty; EOVERFLOW; ENOENT the
   * source is not mapped without a gap; EPERM it is mapped with less; then as `map`.
   */
  copyFrom(source: Ioas, task: Task, fixed: bigint | null, iova: bigint, length: bigint, prot: number): bigint {
    if (length === 0n) return BigInt(task.fail(EINVAL, 'length 0'));
    if (iova + length - 1n > U64_MAX) return BigInt(task.fail(EOVERFLOW, 'the source range wraps'));
    const last = iova + length - 1n;
    const areas = source.space.covering(iova, last);
    if (typeof areas === 'number') return BigInt(task.fail(-areas, 'the source is not mapped without a gap'));
    const pieces = areas.flatMap((area) => piecesOf(area, iova, last));
    if (pieces.some((piece) => (prot & ~piece.prot) !== 0))
      return BigInt(task.fail(EPERM, 'the source is mapped with less'));
    if (pieces.some((piece) => piece.vaddr % PAGE !== 0n || piece.length % PAGE !== 0n))
      return BigInt(task.fail(EINVAL, 'the source range is not page aligned'));
    const to = this.#place(task, fixed, pieces[0]?.vaddr ?? 0n, length);
    if (to < 0n) return to;
    return this.#insert(
      task,
      to,
      pieces.map((piece) => ({ ...piece, prot })),
    );
  }

  /** The address space goes: everything is unmapped and the core's object freed. */
  release(): void {
    this.unmapEverything();
    this.destroyIommu();
  }

  #place(task: Task, fixed: bigint | null, vaddr: bigint, length: bigint): bigint {
    if (fixed === null) {
      const placed = this.space.place(length, vaddr);
      return placed < 0n ? BigInt(task.fail(Number(-placed), 'there is no place for that length')) : placed;
    }
    const wrong = IovaSpace.checkRange(fixed, length);
    if (wrong < 0) return BigInt(task.fail(-wrong, 'iova or length is not page aligned, empty, or wraps'));
    const taken = this.space.checkFree(fixed, fixed + length - 1n);
    if (taken === 0) return fixed;
    return BigInt(
      task.fail(-taken, taken === -EEXIST ? 'the range is mapped already' : 'the hardware cannot translate it'),
    );
  }

  #insert(task: Task, iova: bigint, pieces: readonly Backing[]): bigint {
    let at = iova;
    for (const piece of pieces) {
      const result = this.mapRange(piece.task, at, at + piece.length - 1n, piece.vaddr, piece.prot, 0n);
      if (result < 0) {
        if (at > iova) this.unmapRange(iova, at - 1n, 0);
        return BigInt(task.fail(-result, 'the memory cannot be mapped for the hardware'));
      }
      at += piece.length;
    }
    this.space.insert({ start: iova, last: at - 1n, data: pieces });
    return iova;
  }

  #drop(area: Area<readonly Backing[]>): void {
    this.space.remove(area);
    this.unmapRange(area.start, area.last, 0);
  }
}

/** The part of an area inside [first, last], piece by piece. */
function piecesOf(area: Area<readonly Backing[]>, first: bigint, last: bigint): Backing[] {
  const pieces: Backing[] = [];
  let at = area.start;
  for (const piece of area.data) {
    const end = at + piece.length - 1n;
    const from = at < first ? first : at;
    const to = end > last ? last : end;
    if (from <= to) pieces.push({ ...piece, vaddr: piece.vaddr + (from - at), length: to - from + 1n });
    at = end + 1n;
  }
  return pieces;
}
