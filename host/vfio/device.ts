// A device as the VFIO core sees it, and the file that a user holds of it. The core checks access, dispatches to the driver's table, answers
// FEATURE, and keeps the device's own ledger of pins. Kernel counterpart: vfio_main.c.
import { E2BIG, EBUSY, EINVAL, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET } from '../uapi/ioctl.ts';
import { AccessGate } from './access.ts';
import { loggingFeature } from './dma_logging.ts';
import { readFeature, unknownFeature } from './feature.ts';
import { type MmapRequest, VfioFile } from './file.ts';
import type { Group } from './group.ts';
import { MigrationMachine, migrationFeature } from './migration.ts';
import type { Mapping } from './mm.ts';
import type { DmaProvider, VfioDeviceOps } from './ops.ts';
import type { Task } from './task.ts';
import type { UserArg, UserBuffer } from './user.ts';
import type { Vfio } from './vfio.ts';

export { checkFeature } from './feature.ts';

const MAX_PIN_PAGES = PAGE_SIZE_4K / 8;

/** Drivers extend this with their own state. */
export class VfioDevice {
  readonly vfio: Vfio;
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: a table is typed by its own device class
  readonly ops: VfioDeviceOps<any>;
  /** Set when the device is registered. */
  group!: Group;
  /** Number of its node, /dev/vfio/devices/vfio<n>; -1 until it is registered. */
  node = -1;
  openCount = 0;
  /** Called after the last close; set while the device is being unregistered. */
  onIdle: (() => void) | null = null;
  /** Where DMA goes while the device is open or attached. */
  dma: DmaProvider | null = null;
  /** Pins this device holds, by page iova: the ledger above the container's counts (spec iommu-type1 section 6). */
  readonly pins = new Map<bigint, number>();
  /** The migration state and its transfers; null when the driver does not migrate. */
  readonly migration: MigrationMachine | null;
  /** What a stopped device allows; null when the device never stops. */
  readonly gate: AccessGate | null;

  // biome-ignore lint/suspicious/noExplicitAny: see above
  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<any>) {
    this.vfio = vfio;
    this.name = name;
    this.ops = ops;
    this.migration = ops.migration === undefined ? null : new MigrationMachine(this, ops.migration);
    this.gate = this.migration === null ? null : new AccessGate(this);
  }

  /**
   * Pins pages for the device (spec vfio-core section 11). @returns npage or -errno: EINVAL npage 0, not open, or the driver has no dmaUnmap;
   * E2BIG more than 512 pages; otherwise the provider's. On failure nothing is pinned.
   */
  pinPages(iova: bigint, npage: number, prot: number, pfns: Uint32Array): number {
    if (npage === 0 || this.openCount === 0 || this.dma === null || this.ops.dmaUnmap === undefined) return -EINVAL;
    if (npage > MAX_PIN_PAGES) return -E2BIG;
    const result = this.dma.pinPages(this.group, iova, npage, prot, pfns);
    if (result > 0)
      for (let i = 0; i < npage; i++) {
        const page = iova + BigInt(i * PAGE_SIZE_4K);
        this.pins.set(page, (this.pins.get(page) ?? 0) + 1);
      }
    return result;
  }

  /** Gives pins of this device back; pages that it does not hold are left alone. */
  unpinPages(iova: bigint, npage: number): void {
    for (let i = 0; i < npage; i++) {
      const page = iova + BigInt(i * PAGE_SIZE_4K);
      const held = this.pins.get(page);
      if (held === undefined) continue;
      if (held === 1) this.pins.delete(page);
      else this.pins.set(page, held - 1);
      this.dma?.unpinPages(page, 1);
    }
  }

  /** CPU access to the device's address space. @returns 0 or -errno (EINVAL: no bytes, or not open). */
  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (bytes.length === 0 || this.openCount === 0 || this.dma === null) return -EINVAL;
    return this.dma.dmaRw(iova, bytes, write);
  }

  /**
   * The device's own DMA, as a bus master. Nothing leaves a device that its migration state has quiesced.
   * @returns 0 or -errno; nothing is moved on failure. -EBUSY: not now; otherwise the provider's, -EINVAL: not open.
   */
  busMaster(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (this.dma === null || this.openCount === 0) return -EINVAL;
    if (this.gate !== null && !this.gate.dma()) return -EBUSY;
    return this.dma.deviceDma(iova, bytes, write);
  }

  /** Opens the device for one more file; openDevice runs on the first. The DMA provider must be in place. */
  open(): number {
    if (this.openCount === 0) {
      this.openCount = 1;
      if (this.ops.dmaUnmap !== undefined) this.dma?.registerDevice(this);
      const result = this.ops.openDevice?.(this) ?? 0;
      if (result < 0) {
        if (this.ops.dmaUnmap !== undefined) this.dma?.unregisterDevice(this);
        this.openCount = 0;
        return result;
      }
    } else this.openCount++;
    return 0;
  }

  /** One file less; closeDevice runs on the last, then the IOMMU is let go. */
  close(): void {
    if (this.openCount === 1) {
      this.migration?.close();
      this.ops.log?.stop(this);
      this.ops.closeDevice?.(this);
      for (const [page, count] of [...this.pins]) for (let i = 0; i < count; i++) this.unpinPages(page, 1);
      if (this.ops.dmaUnmap !== undefined) this.dma?.unregisterDevice(this);
    }
    this.openCount--;
    if (this.openCount === 0) this.onIdle?.();
  }
}

/** What GET_DEVICE_FD or a device node gives: one open file of a device. */
export class DeviceFile extends VfioFile {
  readonly kind = 'device';
  readonly device: VfioDevice;
  /** False until a group opened it or BIND_IOMMUFD succeeded; every access before answers EINVAL. */
  accessGranted = false;
  readonly #onRelease: (file: DeviceFile) => void;

  constructor(device: VfioDevice, onRelease: (file: DeviceFile) => void) {
    super();
    this.device = device;
    this.#onRelease = onRelease;
  }

  override ioctl(task: Task, request: number, arg: UserArg): number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    if (request === VFIO_DEVICE_FEATURE) return deviceFeature(this.device, task, arg);
    const { ops, gate, migration } = this.device;
    const held = gate?.ioctl(task, request);
    if (held !== undefined) return held;
    const result = ops.ioctl?.(this.device, task, request, arg) ?? task.fail(EINVAL, `${ops.name} takes no ioctls`);
    if (request === VFIO_DEVICE_RESET && result >= 0) migration?.reset();
    return result;
  }

  override read(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops, gate } = this.device;
    const held = gate?.region(task, buffer, offset ?? 0n, false);
    if (held !== undefined) return held;
    return ops.read?.(this.device, task, buffer, offset ?? 0n) ?? task.fail(EINVAL, `${ops.name} cannot be read`);
  }

  override write(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops, gate } = this.device;
    const held = gate?.region(task, buffer, offset ?? 0n, true);
    if (held !== undefined) return held;
    return ops.write?.(this.device, task, buffer, offset ?? 0n) ?? task.fail(EINVAL, `${ops.name} cannot be written`);
  }

  override mmap(task: Task, request: MmapRequest): Mapping | number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops, gate } = this.device;
    const mapping = ops.mmap?.(this.device, task, request) ?? task.fail(EINVAL, `${ops.name} cannot be mapped`);
    return typeof mapping === 'number' ? mapping : (gate?.mapping(mapping, request.offset) ?? mapping);
  }

  protected override release(): void {
    this.#onRelease(this);
  }
}

/** FEATURE: the header, then the core's own features, then the driver's (spec vfio-core section 9). */
function deviceFeature(device: VfioDevice, task: Task, arg: UserArg): number {
  const feature = readFeature(task, arg);
  if (typeof feature === 'number') return feature;
  return (
    migrationFeature(device, task, feature) ??
    loggingFeature(device, task, feature) ??
    device.ops.deviceFeature?.(device, task, feature) ??
    unknownFeature(task, device.ops.name, feature)
  );
}
