// A device as the VFIO core sees it, and the file that a user holds of it. The core checks access, dispatches to the driver's table, answers
// FEATURE, and keeps the device's own ledger of pins. Kernel counterpart: vfio_main.c.
import { E2BIG, EINVAL, ENOTTY, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../uapi/constants.ts';
import { VFIO_DEVICE_FEATURE } from '../uapi/ioctl.ts';
import { type MmapRequest, VfioFile } from './file.ts';
import type { Group } from './group.ts';
import type { Mapping } from './mm.ts';
import type { DmaProvider, FeatureRequest, VfioDeviceOps } from './ops.ts';
import type { Task } from './task.ts';
import { type UserArg, type UserBuffer, viewOf } from './user.ts';
import type { Vfio } from './vfio.ts';

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

  // biome-ignore lint/suspicious/noExplicitAny: see above
  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<any>) {
    this.vfio = vfio;
    this.name = name;
    this.ops = ops;
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
    const { ops } = this.device;
    return ops.ioctl?.(this.device, task, request, arg) ?? task.fail(EINVAL, `${ops.name} takes no ioctls`);
  }

  override read(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops } = this.device;
    return ops.read?.(this.device, task, buffer, offset ?? 0n) ?? task.fail(EINVAL, `${ops.name} cannot be read`);
  }

  override write(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops } = this.device;
    return ops.write?.(this.device, task, buffer, offset ?? 0n) ?? task.fail(EINVAL, `${ops.name} cannot be written`);
  }

  override mmap(task: Task, request: MmapRequest): Mapping | number {
    if (!this.accessGranted) return task.fail(EINVAL, 'the device is not bound yet');
    const { ops } = this.device;
    return ops.mmap?.(this.device, task, request) ?? task.fail(EINVAL, `${ops.name} cannot be mapped`);
  }

  protected override release(): void {
    this.#onRelease(this);
  }
}

/** FEATURE: header checks in the order of spec vfio-core section 9, then the core's own features or the driver's. */
function deviceFeature(device: VfioDevice, task: Task, arg: UserArg): number {
  const header = task.copyArgsz(arg, 8);
  if (typeof header === 'number') return header;
  const view = viewOf(header);
  const size = view.getUint32(0, true) - 8;
  const flags = view.getUint32(4, true);
  const known =
    VFIO_DEVICE_FEATURE_MASK | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE;
  if ((flags & ~known) !== 0) return task.fail(EINVAL, `unknown feature flags 0x${flags.toString(16)}`);
  const feature: FeatureRequest = {
    id: flags & VFIO_DEVICE_FEATURE_MASK,
    get: (flags & VFIO_DEVICE_FEATURE_GET) !== 0,
    set: (flags & VFIO_DEVICE_FEATURE_SET) !== 0,
    probe: (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0,
    size,
    data: {
      value: arg.value + 8n,
      copyIn: (offset, length) => arg.copyIn(8 + offset, length),
      copyOut: (offset, bytes) => arg.copyOut(8 + offset, bytes),
    },
  };
  if (!feature.probe && feature.get && feature.set) return task.fail(EINVAL, 'GET and SET together');
  return (
    device.ops.deviceFeature?.(device, task, feature) ??
    task.fail(ENOTTY, `${device.ops.name} has no feature ${feature.id}`)
  );
}

/**
 * The check every feature makes before it runs. @returns 1: execute; 0: PROBE, done; -EINVAL.
 * @param supported VFIO_DEVICE_FEATURE_GET and/or SET. @param minsz bytes of data that the feature needs.
 */
export function checkFeature(task: Task, feature: FeatureRequest, supported: number, minsz: number): number {
  const getOk = (supported & VFIO_DEVICE_FEATURE_GET) !== 0;
  const setOk = (supported & VFIO_DEVICE_FEATURE_SET) !== 0;
  if ((feature.get && !getOk) || (feature.set && !setOk))
    return task.fail(EINVAL, `feature ${feature.id} does not support ${feature.get && !getOk ? 'GET' : 'SET'}`);
  if (feature.probe) return 0;
  if (!feature.get && !feature.set) return task.fail(EINVAL, 'neither GET nor SET nor PROBE');
  if (feature.size < minsz)
    return task.fail(EINVAL, `feature ${feature.id} needs ${minsz} bytes of data, got ${feature.size}`);
  return 1;
}
