// The core's iommu object with a face: maps, pins, copies and a bus master's accesses, for whoever gives devices their DMA - a type1 container
// (iommu_type1.ts) or an iommufd address space (ioas.ts). What the two do differently (argument checks, errno of a missing map) is theirs.
import {
  EFAULT,
  EINVAL,
  EIO,
  ENOMEM,
  IOMMU_AVAIL,
  IOMMU_DIRTY_ON,
  IOMMU_DOMAINS,
  IOMMU_INVALID,
  IOMMU_MAPS,
  IOMMU_NOTIFY_IOVA,
  IOMMU_NOTIFY_LAST,
  IOMMU_PIN_ERRNO,
  IOMMU_PINNED_PAGES,
  IOMMU_PINS,
  IOMMU_RW_ERRNO,
  IOMMU_SCRATCH,
  IOMMU_SCRATCH_SIZE,
  IOMMU_UNMAPPED,
  MAP_LOCK_CAP,
  PROT_READ,
  PROT_WRITE,
  PTE_FRAME,
  UNMAP_AGAIN,
  UNMAP_ALL,
  UNMAP_NOTIFY,
  VMA_RAM,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { viewU64 } from '../uapi/words.ts';
import type { VfioDevice } from './device.ts';
import type { Group } from './group.ts';
import { IO_TOKEN_SHIFT, type IoMapping } from './mm.ts';
import type { DmaProvider } from './ops.ts';
import type { Task } from './task.ts';

const NO_LIMIT = 0xffffffff;
const ALL = (1n << 64n) - 1n;
const PAGE = 4096n;
/** A driver that has not let go after so many calls more never will. */
const MAX_RETRIES = 10;
const IO_OFFSET = (1n << IO_TOKEN_SHIFT) - 1n;

export class DmaTable implements DmaProvider {
  protected readonly core: Core;
  /** The core's iommu object. */
  readonly iommu: number;
  /** Devices that supplied dmaUnmap and are open. */
  readonly #devices = new Set<VfioDevice>();

  /** @param iommu what createIommu gave. */
  protected constructor(core: Core, iommu: number) {
    this.core = core;
    this.iommu = iommu;
  }

  /** @param flavour FLAVOUR_TYPE1 or FLAVOUR_IOAS. @returns an iommu object of the core, or 0: its heap is full. */
  static createIommu(core: Core, flavour: number): number {
    return core.exports.iommu_create(core.arena, core.pages, flavour) >>> 0;
  }

  /** Unmaps everything and frees the core's object; whatever drivers still pin is taken from them. */
  protected destroyIommu(): void {
    this.core.exports.iommu_destroy(this.iommu);
  }

  protected field(offset: number): number {
    return this.core.view.getUint32(this.iommu + offset, true);
  }
  protected setField(offset: number, value: number): void {
    this.core.view.setUint32(this.iommu + offset, value, true);
  }
  protected field64(offset: number): bigint {
    return viewU64(this.core.view, this.iommu + offset);
  }

  /** Maps there are. */
  get mapCount(): number {
    return this.field(IOMMU_MAPS);
  }
  /** Maps that may still be made. */
  get available(): number {
    return this.field(IOMMU_AVAIL);
  }
  set available(count: number) {
    this.setField(IOMMU_AVAIL, count);
  }
  /** Pages that hold a pin. */
  get pinnedPages(): number {
    return this.field(IOMMU_PINNED_PAGES);
  }
  /** Pins altogether. */
  get pinCount(): bigint {
    return this.field64(IOMMU_PINS);
  }
  protected get domainCount(): number {
    return this.field(IOMMU_DOMAINS);
  }
  protected get invalidCount(): number {
    return this.field(IOMMU_INVALID);
  }
  protected get hasDevices(): boolean {
    return this.#devices.size > 0;
  }

  /** Why the core refuses pins and dma_rw right now, as errno; 0: it does not. */
  protected refuse(pin: number, rw: number): void {
    this.setField(IOMMU_PIN_ERRNO, pin);
    this.setField(IOMMU_RW_ERRNO, rw);
  }

  registerDevice(device: VfioDevice): void {
    this.#devices.add(device);
  }
  unregisterDevice(device: VfioDevice): void {
    this.#devices.delete(device);
  }

  /**
   * Maps [iova, last] onto `vaddr` of the caller. @param prot PROT_READ | PROT_WRITE. @param end first iova that the hardware cannot translate.
   * @returns 0 or -errno as iommu_map (assembly/iommu/dma.ts); nothing is mapped on failure.
   */
  protected mapRange(task: Task, iova: bigint, last: bigint, vaddr: bigint, prot: number, end: bigint): number {
    const { record } = task.mm;
    if (record === 0) return -ENOMEM;
    if (this.domainCount !== 0 && task.mm.hasIo && !ioReady(task, vaddr, vaddr + (last - iova))) return -EFAULT;
    const meta = prot | (task.lockCap ? MAP_LOCK_CAP : 0);
    return this.core.exports.iommu_map(this.iommu, record, iova, last, vaddr, meta, end);
  }

  /**
   * Removes the maps in [iova, last], asking drivers to let go of pinned ones. @param mode UNMAP_* (assembly/abi.ts).
   * @returns 0; -EINVAL a map would be cut; -EIO a driver kept its pins, which were taken from it: the maps are gone. `unmappedBytes` says how
   * much was removed.
   */
  protected unmapRange(iova: bigint, last: bigint, mode: number): number {
    const { iommu_unmap } = this.core.exports;
    let result = iommu_unmap(this.iommu, iova, last, mode);
    let broken = 0;
    while (result === UNMAP_NOTIFY) {
      // What drivers do may end in another unmap; the count so far is this call's.
      const bytes = this.unmappedBytes;
      broken = this.drain(this.field64(IOMMU_NOTIFY_IOVA), this.field64(IOMMU_NOTIFY_LAST)) || broken;
      this.unmappedBytes = bytes;
      result = iommu_unmap(this.iommu, iova, last, mode | UNMAP_AGAIN);
    }
    return result < 0 ? result : broken;
  }

  /** Has the drivers let go of [start, last], a map. @returns 0; -EIO one did not, and its pins were taken from it. */
  protected drain(start: bigint, last: bigint): number {
    const { iommu_pinned, iommu_unpin_all } = this.core.exports;
    for (let tries = 0; iommu_pinned(this.iommu, start, last) !== 0; tries++) {
      if (tries > MAX_RETRIES) {
        iommu_unpin_all(this.iommu, start, last);
        return -EIO;
      }
      for (const device of [...this.#devices]) {
        if (tries > 0) device.ops.flushWork?.(device);
        device.ops.dmaUnmap?.(device, start, last - start + 1n);
      }
    }
    return 0;
  }

  /** Bytes that the last unmapRange removed. */
  protected get unmappedBytes(): bigint {
    return this.field64(IOMMU_UNMAPPED);
  }
  protected set unmappedBytes(bytes: bigint) {
    this.core.view.setBigUint64(this.iommu + IOMMU_UNMAPPED, bytes, true);
  }

  /** Dirty tracking runs. */
  get dirtyOn(): boolean {
    return this.field(IOMMU_DIRTY_ON) !== 0;
  }

  /** The first map that holds `iova` or lies behind it. */
  mapFrom(iova: bigint): { start: bigint; last: bigint } | null {
    if (iova > ALL || this.core.exports.iommu_next_map(this.iommu, iova) === 0) return null;
    return { start: this.field64(IOMMU_NOTIFY_IOVA), last: this.field64(IOMMU_NOTIFY_LAST) };
  }

  /** Removes every map. */
  protected unmapAll(): void {
    this.unmapRange(0n, ALL, UNMAP_ALL);
  }

  pinPages(_group: Group, iova: bigint, npage: number, prot: number, pfns: Uint32Array): number {
    const room = IOMMU_SCRATCH_SIZE / 4;
    const out = this.iommu + IOMMU_SCRATCH;
    const { exports } = this.core;
    // The page is the one that contains the address, but the map must cover a whole page from there on.
    const step = iova % PAGE === 0n ? room : 1;
    for (let done = 0; done < npage; ) {
      const n = Math.min(step, npage - done);
      const at = iova + BigInt(done) * PAGE;
      const covered = step === room || this.#covers(at, at + PAGE - 1n);
      const result = !covered ? -EINVAL : exports.pin_page_run(this.iommu, at, n, prot, out);
      if (result < 0) {
        exports.unpin_page_run(this.iommu, iova, done);
        return result;
      }
      const { view } = this.core;
      for (let i = 0; i < result; i++)
        pfns[done + i] = view.getUint32(view.getUint32(out + 4 * i, true) + PTE_FRAME, true) >>> 12;
      done += result;
      if (result < n) return done;
    }
    return npage;
  }

  /** Does one map hold all of [iova, last]? */
  #covers(iova: bigint, last: bigint): boolean {
    const map = this.mapFrom(iova);
    return map !== null && map.start <= iova && last <= map.last;
  }

  unpinPages(iova: bigint, npage: number): void {
    this.core.exports.unpin_page_run(this.iommu, iova, npage);
  }

  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean): number {
    const size = bytes.length;
    if (size <= IOMMU_SCRATCH_SIZE) return this.#rw(iova, bytes, write, this.iommu + IOMMU_SCRATCH);
    const { arena_alloc, arena_free } = this.core.exports;
    const buffer = arena_alloc(this.core.arena, size) >>> 0;
    if (buffer === 0) return -ENOMEM;
    const result = this.#rw(iova, bytes, write, buffer);
    arena_free(this.core.arena, buffer, size);
    return result;
  }

  #rw(iova: bigint, bytes: Uint8Array, write: boolean, buffer: number): number {
    const { iommu_read, iommu_write } = this.core.exports;
    if (write) {
      this.core.u8.set(bytes, buffer);
      return iommu_write(this.iommu, iova, buffer, bytes.length);
    }
    const result = iommu_read(this.iommu, iova, buffer, bytes.length);
    if (result === 0) bytes.set(this.core.u8.subarray(buffer, buffer + bytes.length));
    return result;
  }

  deviceDma(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (this.domainCount === 0) return this.dmaRw(iova, bytes, write);
    const fits = this.#walkRuns(iova, bytes, write, false);
    return fits === 0 ? this.#walkRuns(iova, bytes, write, true) : fits;
  }

  deviceView(iova: bigint, length: number, write: boolean): Uint8Array | null {
    if (this.domainCount === 0 || length <= 0 || iova < 0n || iova + BigInt(length) - 1n > ALL) return null;
    const meta = this.core.exports.iommu_run(this.iommu, iova);
    if ((meta & VMA_RAM) === 0 || (meta & (write ? PROT_WRITE : PROT_READ)) === 0) return null;
    const linear = Number(this.field64(IOMMU_NOTIFY_IOVA));
    const room = this.field64(IOMMU_NOTIFY_LAST) - iova + 1n;
    return BigInt(length) <= room ? this.core.u8.subarray(linear, linear + length) : null;
  }

  /** Goes through the hardware's runs; without `move` it only looks. */
  #walkRuns(iova: bigint, bytes: Uint8Array, write: boolean, move: boolean): number {
    for (let done = 0; done < bytes.length; ) {
      const at = iova + BigInt(done);
      const meta = at > ALL ? 0 : this.core.exports.iommu_run(this.iommu, at);
      if ((meta & (write ? PROT_WRITE : PROT_READ)) === 0) return -EFAULT;
      const value = this.field64(IOMMU_NOTIFY_IOVA);
      const room = this.field64(IOMMU_NOTIFY_LAST) - at + 1n;
      const n = room < BigInt(bytes.length - done) ? Number(room) : bytes.length - done;
      if (move && !this.#move(meta, value, bytes.subarray(done, done + n), write)) return -EFAULT;
      done += n;
    }
    return 0;
  }

  #move(meta: number, value: bigint, bytes: Uint8Array, write: boolean): boolean {
    if ((meta & VMA_RAM) !== 0) {
      const linear = Number(value);
      if (write) this.core.u8.set(bytes, linear);
      else bytes.set(this.core.u8.subarray(linear, linear + bytes.length));
      return true;
    }
    const region = this.core.ioRegion(Number(value >> IO_TOKEN_SHIFT)) as IoMapping | undefined;
    const offset = Number(value & IO_OFFSET);
    return (write ? region?.write(offset, bytes) : region?.read(offset, bytes)) ?? false;
  }

  /** One translation domain more. @param end first iova that the unit cannot translate. @returns 0 or -errno, then nothing changed. */
  protected attachDomain(task: Task, end: bigint): number {
    // The privilege that counts is the one each map was made with.
    const limit = Math.min(task.memlockPages, NO_LIMIT);
    return this.core.exports.iommu_attach_domain(this.iommu, end, limit);
  }
  protected detachDomain(): void {
    this.core.exports.iommu_detach_domain(this.iommu);
  }
}

/** May every device region in the range be mapped for DMA now? A function whose memory space is off may not. */
function ioReady(task: Task, vaddr: bigint, last: bigint): boolean {
  for (let at = vaddr; at <= last; ) {
    const vma = task.mm.find(at);
    if (vma === undefined) return true;
    if (vma.mapping.kind === 'io' && vma.mapping.io.enabled?.() === false) return false;
    at = vma.end;
  }
  return true;
}
