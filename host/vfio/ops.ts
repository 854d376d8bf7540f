// The tables through which the layers meet: a bus driver's operations on a device, migration and dirty-log operations, IOMMU drivers, and what
// gives a device its DMA. Flat and constant, the object first. Kernel counterpart: include/linux/vfio.h and drivers/vfio/vfio.h.
import type { VfioDevice } from './device.ts';
import type { MmapRequest } from './file.ts';
import type { Group } from './group.ts';
import type { Mapping } from './mm.ts';
import type { Task } from './task.ts';
import type { UserArg, UserBuffer } from './user.ts';

/**
 * A bus driver's side of a device. An absent operation answers as spec vfio-core section 5 says (read, write, ioctl, mmap:
 * EINVAL). Results: >= 0 success or a count, < 0 -errno.
 */
export interface VfioDeviceOps<D extends VfioDevice = VfioDevice> {
  readonly name: string;
  /** First open, after the IOMMU is in use. On failure everything is undone by the caller. */
  openDevice?(device: D): number;
  /** Last close, before the IOMMU is released. */
  closeDevice?(device: D): void;
  /** In front of every ioctl of an open device, also those that the core answers: the device leaves its idle state. */
  wake?(device: D): void;
  read?(device: D, task: Task, buffer: UserBuffer, offset: bigint): number;
  write?(device: D, task: Task, buffer: UserBuffer, offset: bigint): number;
  /** Every ioctl except BIND, ATTACH, DETACH (cdev) and FEATURE. */
  ioctl?(device: D, task: Task, request: number, arg: UserArg): number;
  /** The same for a caller that can wait; null for every request that takes no time, which then goes to `ioctl`. Absent: all of them. */
  ioctlAsync?(device: D, task: Task, request: number, arg: UserArg): Promise<number> | null;
  mmap?(device: D, task: Task, request: MmapRequest): Mapping | number;
  /** The host wants the device back; called with 0, 1, 2, ... until the user closes. */
  request?(device: D, count: number): void;
  /** GET_DEVICE_FD: > 0 yes, 0 no, -errno. Absent: exact comparison of the name. */
  match?(device: D, task: Task, name: string): number;
  /** A range that may hold pins goes away: unpin everything inside before returning. Absent: the device may not pin. */
  dmaUnmap?(device: D, iova: bigint, length: bigint): void;
  /**
   * Pins were still there after dmaUnmap: queued work that lets go of them runs now. On Linux it would run meanwhile on another processor.
   */
  flushWork?(device: D): void;
  /** FEATURE ids that the core does not handle. `data` is where the feature's data lie. Absent: ENOTTY. */
  deviceFeature?(device: D, task: Task, feature: FeatureRequest): number;
  /** The device was destroyed (its last reference is gone). */
  release?(device: D): void;
  readonly migration?: VfioMigrationOps<D>;
  readonly log?: VfioLogOps<D>;
  readonly access?: VfioAccessOps<D>;
}

/** A FEATURE call after the header checks (spec vfio-core section 9). */
export interface FeatureRequest {
  readonly id: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
  /** Bytes behind the header. */
  readonly size: number;
  readonly data: UserArg;
}

/**
 * A device's side of migration (spec migration section B). The core walks the path through the states, makes the transfer files and keeps their
 * lives (host/vfio/migration.ts); the driver stops and starts its hardware one arc at a time and says what the bytes of its state are.
 */
export interface VfioMigrationOps<D extends VfioDevice = VfioDevice> {
  /** VFIO_MIGRATION_STOP_COPY, and P2P, PRE_COPY where the device can. Constant while the device is registered. */
  flags(device: D): number;
  /** Estimate of the bytes a stop-copy transfers. */
  dataSize(device: D): bigint;
  /**
   * One arc of the hardware, before the core opens or ends a transfer. Entering a P2P state or STOP returns only when the DMA that the state forbids
   * has ended. Absent: the device has nothing to quiesce. @returns 0, or -errno: the device is still in `from` (or in ERROR after
   * `device.migration.fail()`).
   */
  step?(device: D, from: number, to: number): number;
  /** Called when RUNNING is forced: by RESET, and at the last close. Hardware that `step` froze runs again, empty. */
  restart?(device: D): void;
  /** What a new saving transfer reads. Asked when PRE_COPY, PRE_COPY_P2P or STOP_COPY begins one. */
  source(device: D): MigrationSource;
  /** What a new resuming transfer feeds. */
  sink(device: D): MigrationSink;
}

/** Bytes of a device for one saving transfer. */
export interface MigrationSource {
  /** The first bytes of PRE_COPY, at least one. Only with the PRE_COPY flag. */
  begin?(): Uint8Array;
  /** What else can be said while the device runs, asked when everything before is read; empty: nothing now. */
  more?(): Uint8Array;
  /** Estimate of what `more` would give. */
  dirtyBytes?(): number;
  /** All that is missing for a complete stream; asked once, on entering STOP_COPY, with the device stopped. */
  end(): Uint8Array;
}

/** Bytes for a device in one resuming transfer. The core collects them; segmentation of the writes is free. */
export interface MigrationSink {
  /** Length of the longest stream that the device takes. A write beyond it fails with ENOMEM and takes nothing. */
  readonly capacity: number;
  /** Looks at everything received so far, after each write. -errno: that write fails and the transfer is dead. */
  check?(received: Uint8Array): number;
  /**
   * RESUMING -> STOP: loads the stream, all or nothing. @returns 0, or -errno (EINVAL: incomplete or not valid): the device stays in
   * RESUMING and more may be written.
   */
  load(received: Uint8Array): number;
}

/** The device's own log of the pages it wrote (spec migration section B.8). */
export interface VfioLogOps<D extends VfioDevice = VfioDevice> {
  /**
   * Starts logging these ranges, checked and free of overlaps. @returns the page size chosen, or -errno as a bigint (EINVAL: it is on already).
   */
  start(device: D, ranges: readonly LogRange[], pageSize: bigint): bigint;
  stop(device: D): number;
  /** Marks every dirty page of the range through `mark` and clears it in the log. @returns 0 or -errno (EINVAL: logging is off). */
  readAndClear(device: D, iova: bigint, length: bigint, mark: (iova: bigint, length: bigint) => void): number;
}

export interface LogRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/**
 * How a driver's surface falls into the kinds of the access matrix (host/vfio/access.ts). Absent: every region is `mmio`, offsets hold
 * the index above bit 40, and ioctls fall as their names say.
 */
export interface VfioAccessOps<D extends VfioDevice = VfioDevice> {
  /** The region and position behind a file offset: what kind it is and how many bytes it has from there. undefined: no such place. */
  region(device: D, offset: bigint): { readonly kind: AccessKind; readonly left: bigint } | undefined;
  /** Kind of an ioctl that the core does not know; undefined: the driver does not know it either, and says so. Absent: `operation`. */
  ioctl?(device: D, request: number): AccessKind | undefined;
}

/**
 * A kind of access: `mmio` BARs and other plain registers; `config` configuration space, the MSI-X table and the migration region; `request` regions
 * whose access starts an operation; `operation` ioctls that do; `irqs` SET_IRQS; `info` the GET_*_INFO calls; `reset`.
 */
export type AccessKind = 'mmio' | 'config' | 'request' | 'operation' | 'irqs' | 'info' | 'reset';

/** The hardware IOMMU in front of a physical group. */
export interface HwIommu {
  /** Bit n set: pages of 2^n bytes. */
  readonly pageSizes: bigint;
  /** Valid iova ranges, ascending; both ends inclusive. */
  readonly ranges: ReadonlyArray<{ start: bigint; last: bigint }>;
  /** DMA_CC: the unit enforces cache coherency. */
  readonly coherent: boolean;
  /** Interrupt messages are isolated; without it attaching needs the unsafe-interrupts option. */
  readonly msiIsolated: boolean;
  /** First address the unit cannot translate at all; mapping at or above it fails with ERANGE. */
  readonly limit: bigint;
}

/** What gives a device its DMA: a type1 container or an iommufd address space. */
export interface DmaProvider {
  /** The core's iommu object: maps, pages, pins. */
  readonly iommu: number;
  /** A device that supplied dmaUnmap opened (or closed for the last time). */
  registerDevice(device: VfioDevice): void;
  unregisterDevice(device: VfioDevice): void;
  /**
   * Pins `npage` pages from `iova` for `group`, all or nothing (spec iommu-type1 section 6).
   * @param pfns receives the linear page frame (linear address >> 12) of each page. @returns npage or -errno.
   */
  pinPages(group: Group, iova: bigint, npage: number, prot: number, pfns: Uint32Array): number;
  unpinPages(iova: bigint, npage: number): void;
  /** CPU copy through the mappings (spec iommu-type1 section 7). @returns 0 or -errno. */
  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean): number;
  /**
   * A bus master's own access: the mapping's permission decides, written pages become dirty, a mapped BAR is reached (peer to
   * peer). @returns 0 or -errno; nothing is moved on failure.
   */
  deviceDma(iova: bigint, bytes: Uint8Array, write: boolean): number;
  /**
   * The same access without a copy: a live view of the memory, valid until anything is mapped or unmapped. null: the range is not one run of
   * memory in the core with that permission, or the provider has none to give. All that a hardware domain maps writable counts as dirty anyway.
   */
  deviceView?(iova: bigint, length: number, write: boolean): Uint8Array | null;
}

/** One IOMMU instance behind a container. */
export interface IommuInstance extends DmaProvider {
  checkExtension(extension: number): number;
  /** Requests that the container does not know itself. */
  ioctl(task: Task, request: number, arg: UserArg): number;
  attachGroup(group: Group, task: Task): number;
  detachGroup(group: Group): void;
  /** The container forgets the instance: everything is unmapped and freed. */
  release(): void;
}

/** An IOMMU driver that containers can choose with SET_IOMMU. */
export interface IommuDriverOps {
  readonly name: string;
  /** Serves no-iommu groups only. */
  readonly noIommu: boolean;
  /** CHECK_EXTENSION while no instance is bound. */
  checkExtension(extension: number): number;
  open(task: Task, extension: number): IommuInstance | number;
}
