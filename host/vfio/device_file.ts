// The files that a user holds of a device. They check access, answer FEATURE, and hand everything else to the driver's table. One kind comes
// from GET_DEVICE_FD and can be used at once, the other from the device's own node and must be bound to an iommufd first.
import { EBADF, EBADFD, EBUSY, EFAULT, EINVAL, EOPNOTSUPP } from '../../assembly/abi.ts';
import { VFIO_DEVICE_ATTACH_PASID } from '../uapi/constants.ts';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_RESET,
} from '../uapi/ioctl.ts';
import type { VfioDevice } from './device.ts';
import { loggingFeature } from './dma_logging.ts';
import { readFeature, unknownFeature } from './feature.ts';
import { type MmapRequest, VfioFile } from './file.ts';
import { IommufdFile } from './iommufd.ts';
import { migrationFeature } from './migration.ts';
import type { Mapping } from './mm.ts';
import type { Task } from './task.ts';
import { type UserArg, type UserBuffer, viewOf } from './user.ts';

export abstract class DeviceFile extends VfioFile {
  readonly kind = 'device';
  readonly device: VfioDevice;
  /** False until a group opened it or BIND_IOMMUFD succeeded; every access before answers EINVAL. */
  protected accessGranted = false;
  /** Where a read or write without an offset goes; it moves by what was transferred. */
  #position = 0n;

  constructor(device: VfioDevice) {
    super();
    this.device = device;
    device.get();
  }

  /** BIND, ATTACH and DETACH as this kind of file takes them; undefined: the request goes on to the driver. */
  protected abstract iommufdIoctl(task: Task, request: number, arg: UserArg): number | undefined;

  override ioctl(task: Task, request: number, arg: UserArg): number {
    const { device } = this;
    if (request === VFIO_DEVICE_BIND_IOMMUFD) return this.iommufdIoctl(task, request, arg) ?? this.#refuse(task);
    if (!this.accessGranted) return this.#refuse(task);
    device.ops.wake?.(device);
    if (request === VFIO_DEVICE_FEATURE) return deviceFeature(device, task, arg);
    const bound = this.iommufdIoctl(task, request, arg);
    if (bound !== undefined) return bound;
    const { ops, gate, migration } = device;
    const held = gate?.ioctl(task, request);
    if (held !== undefined) return held;
    const result = ops.ioctl?.(device, task, request, arg) ?? task.fail(EINVAL, `${ops.name} takes no ioctls`);
    if (request === VFIO_DEVICE_RESET && result >= 0) migration?.reset();
    return result;
  }

  override async ioctlAsync(task: Task, request: number, arg: UserArg): Promise<number> {
    const { ops, gate, migration } = this.device;
    const held = this.accessGranted ? gate?.ioctl(task, request) : undefined;
    if (held !== undefined) return held;
    const slow = this.accessGranted ? (ops.ioctlAsync?.(this.device, task, request, arg) ?? null) : null;
    if (slow === null) return this.ioctl(task, request, arg);
    const result = await slow;
    if (request === VFIO_DEVICE_RESET && result >= 0) migration?.reset();
    return result;
  }

  override read(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    return this.#transfer(task, buffer, offset, false);
  }

  override write(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    return this.#transfer(task, buffer, offset, true);
  }

  override mmap(task: Task, request: MmapRequest): Mapping | number {
    if (!this.accessGranted) return this.#refuse(task);
    const { ops, gate } = this.device;
    const mapping = ops.mmap?.(this.device, task, request) ?? task.fail(EINVAL, `${ops.name} cannot be mapped`);
    return typeof mapping === 'number' ? mapping : (gate?.mapping(mapping, request.offset) ?? mapping);
  }

  #transfer(task: Task, buffer: UserBuffer, offset: bigint | null, write: boolean): number {
    if (!this.accessGranted) return this.#refuse(task);
    const { ops, gate } = this.device;
    const at = offset ?? this.#position;
    const call = write ? ops.write : ops.read;
    const result =
      gate?.region(task, buffer, at, write) ??
      call?.(this.device, task, gate?.narrow(buffer, at) ?? buffer, at) ??
      task.fail(EINVAL, `${ops.name} cannot be ${write ? 'written' : 'read'}`);
    if (offset === null && result > 0) this.#position += BigInt(result);
    return result;
  }

  #refuse(task: Task): number {
    return task.fail(EINVAL, 'the device is not bound yet: VFIO_DEVICE_BIND_IOMMUFD comes first');
  }
}

/** A device opened through its group: usable at once, its DMA is the container's. */
export class GroupDeviceFile extends DeviceFile {
  readonly #onRelease: () => void;

  /** @param onRelease undoes the group's side of the open. */
  constructor(device: VfioDevice, onRelease: () => void) {
    super(device);
    this.accessGranted = true;
    this.#onRelease = onRelease;
  }

  protected override iommufdIoctl(task: Task, request: number, arg: UserArg): number | undefined {
    if (request !== VFIO_DEVICE_BIND_IOMMUFD) return undefined;
    const bind = copyBind(task, arg);
    return typeof bind === 'number' ? bind : task.fail(EINVAL, 'the device was opened through its group');
  }

  protected override release(): void {
    this.#onRelease();
    this.device.put();
  }
}

/** A device opened through its node, /dev/vfio/devices/vfio<n> (spec vfio-core section 10). */
export class CdevFile extends DeviceFile {
  protected override iommufdIoctl(task: Task, request: number, arg: UserArg): number | undefined {
    switch (request) {
      case VFIO_DEVICE_BIND_IOMMUFD:
        return this.#bind(task, arg);
      case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        return this.#attach(task, arg);
      case VFIO_DEVICE_DETACH_IOMMUFD_PT:
        return this.#detach(task, arg);
      default:
        return undefined;
    }
  }

  protected override release(): void {
    const { device } = this;
    if (this.accessGranted) {
      device.close();
      device.iommufd?.unbind(device);
      device.group.cdevOpenCount--;
    }
    device.put();
  }

  #bind(task: Task, arg: UserArg): number {
    const fd = copyBind(task, arg);
    if (typeof fd === 'number') return fd;
    const { device } = this;
    const { group } = device;
    if (group.file !== null) return task.fail(EBUSY, `group ${group.name} is open`);
    if (this.accessGranted) return task.fail(EINVAL, 'the device is bound already');
    const file = task.file(fd.iommufd);
    if (file === undefined) return task.fail(EBADF, `descriptor ${fd.iommufd} is not open`);
    if (!(file instanceof IommufdFile)) return task.fail(EBADFD, `descriptor ${fd.iommufd} is not an iommufd`);
    if (device.openCount > 0) return task.fail(EINVAL, 'the device is open through another descriptor');
    const devid = file.bind(device, task);
    if (devid < 0) return devid;
    const opened = device.open();
    if (opened < 0) {
      file.unbind(device);
      return task.fail(-opened, `${device.ops.name} cannot open ${device.name}`);
    }
    const out = new Uint8Array(4);
    viewOf(out).setUint32(0, devid, true);
    if (!arg.copyOut(12, out)) {
      device.close();
      file.unbind(device);
      return task.fail(EFAULT, 'the argument is not writable');
    }
    group.cdevOpenCount++;
    this.accessGranted = true;
    return 0;
  }

  #attach(task: Task, arg: UserArg): number {
    const bytes = task.copyArgsz(arg, 12);
    if (typeof bytes === 'number') return bytes;
    const view = viewOf(bytes);
    const refused = this.#flags(task, view.getUint32(4, true), view.getUint32(0, true) >= 16);
    if (refused < 0) return refused;
    const { iommufd } = this.device;
    const before = this.device.dma;
    const id = iommufd?.attach(this.device, view.getUint32(8, true), task) ?? -EINVAL;
    if (id < 0) return id;
    view.setUint32(8, id, true);
    if (arg.copyOut(8, bytes.subarray(8, 12))) return 0;
    if (before === null) iommufd?.detach(this.device);
    return task.fail(EFAULT, 'the argument is not writable');
  }

  #detach(task: Task, arg: UserArg): number {
    const bytes = task.copyArgsz(arg, 8);
    if (typeof bytes === 'number') return bytes;
    const view = viewOf(bytes);
    const refused = this.#flags(task, view.getUint32(4, true), view.getUint32(0, true) >= 12);
    if (refused < 0) return refused;
    this.device.iommufd?.detach(this.device);
    return 0;
  }

  /** Flag 1 (a PASID follows) is known since 7.2; no device here has PASIDs. */
  #flags(task: Task, flags: number, room: boolean): number {
    if ((flags & ~VFIO_DEVICE_ATTACH_PASID) !== 0) return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
    if (flags === 0) return 0;
    if (!room) return task.fail(EINVAL, 'argsz leaves no room for the PASID');
    return this.device.group.type === 'emulated'
      ? task.fail(EOPNOTSUPP, 'a mediated device has no PASIDs')
      : task.fail(EINVAL, 'the device has no PASIDs');
  }
}

/** The checks of BIND that need no device. Flag 1 (a token follows) is known since 7.2; no device here asks for one. */
function copyBind(task: Task, arg: UserArg): { readonly iommufd: number } | number {
  const bytes = task.copyArgsz(arg, 16);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  const flags = view.getUint32(4, true);
  if (flags !== 0) return task.fail(EINVAL, `flags 0x${flags.toString(16)}: no device here takes a token`);
  const iommufd = view.getInt32(8, true);
  return iommufd < 0 ? task.fail(EINVAL, `iommufd ${iommufd} is no descriptor`) : { iommufd };
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
