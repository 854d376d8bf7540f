// A group: the devices that cannot be isolated from each other, and the file through which a user takes them. Kernel counterpart:
// drivers/vfio/group.c. Order of checks: spec vfio-core section 4.
import {
  EBADF,
  EBADFD,
  EBUSY,
  EFAULT,
  EINVAL,
  EMFILE,
  ENODEV,
  ENOTTY,
  EPERM,
  PAGE_SIZE_4K,
} from '../../assembly/abi.ts';
import { VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE } from '../uapi/constants.ts';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from '../uapi/ioctl.ts';
import { ContainerFile } from './container.ts';
import type { VfioDevice } from './device.ts';
import { GroupDeviceFile } from './device_file.ts';
import { VfioFile } from './file.ts';
import { IommufdFile } from './iommufd.ts';
import type { HwIommu } from './ops.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

/** Behind a unit of the hardware, mediated, or without any unit. */
export type GroupType = 'iommu' | 'emulated' | 'noiommu';

/** Devices that cannot be isolated from each other. */
export class Group {
  /** As in the node's name: `6`, or `noiommu-0`. */
  readonly name: string;
  readonly type: GroupType;
  /** The unit in front of a physical group. @internal */
  readonly hw: HwIommu | null;
  /** Most recently registered first. @internal */
  readonly devices: VfioDevice[] = [];
  /** @internal */
  file: GroupFile | null = null;
  /** Called when the open file of a group that lost its last device goes. @internal */
  onFileReleased: (() => void) | null = null;
  /** @internal */
  container: ContainerFile | null = null;
  /** An iommufd in the place of a container. @internal */
  iommufd: IommufdFile | null = null;
  /** SET_CONTAINER counts one, every open device one more. @internal */
  containerUsers = 0;
  /** Devices of this group bound through the cdev path. @internal */
  cdevOpenCount = 0;
  /** Members bound to host drivers that do DMA: then the group is not viable. @internal */
  readonly hostDrivers = new Set<string>();
  #dmaOwner: object | null = null;
  #dmaClaims = 0;

  /** @internal */
  constructor(name: string, type: GroupType, hw: HwIommu | null = null) {
    this.name = name;
    this.type = type;
    this.hw = hw;
  }

  /** Checks of open in order; the new file or -errno. @internal */
  open(task: Task): GroupFile | number {
    if (this.devices.length === 0) return task.fail(ENODEV, `group ${this.name} has no device bound to a vfio driver`);
    if (this.type === 'noiommu' && !task.rawIo) return task.fail(EPERM, 'a no-iommu group needs raw I/O privilege');
    if (this.cdevOpenCount > 0) return task.fail(EBUSY, 'a device of the group is open through its own node');
    if (this.file !== null) return task.fail(EBUSY, `group ${this.name} is open already`);
    this.file = new GroupFile(this);
    return this.file;
  }

  /** DMA of the isolation unit has an owner: a host driver, a container's group, or an iommufd. @internal */
  get dmaOwned(): boolean {
    return this.hostDrivers.size > 0 || this.userOwned;
  }

  /** A container or an iommufd has it. @internal */
  get userOwned(): boolean {
    return this.#dmaOwner !== null;
  }

  /** Takes DMA of the unit for `owner`; the same one may take it again. @returns 0, or -EPERM: it has another owner. Only hardware has any. @internal */
  claimDma(owner: object): number {
    if (this.type !== 'iommu') return 0;
    if (this.hostDrivers.size > 0 || (this.#dmaOwner ?? owner) !== owner) return -EPERM;
    this.#dmaOwner = owner;
    this.#dmaClaims++;
    return 0;
  }
  /** @internal */
  releaseDma(owner: object): void {
    if (this.#dmaOwner === owner && --this.#dmaClaims === 0) this.#dmaOwner = null;
  }

  /** Is the group in a container, or an iommufd in its place? @internal */
  get attached(): boolean {
    return this.container !== null || this.iommufd !== null;
  }

  /** Leaves container or iommufd; devices open on an iommufd stay bound to it. @internal */
  detach(): void {
    this.container?.detachGroup(this);
    this.container = null;
    this.containerUsers = 0;
    this.iommufd?.put();
    this.iommufd = null;
  }
}

export class GroupFile extends VfioFile {
  readonly kind = 'group';
  readonly group: Group;
  constructor(group: Group) {
    super();
    this.group = group;
  }

  override ioctl(task: Task, request: number, arg: UserArg): number {
    switch (request) {
      case VFIO_GROUP_GET_STATUS:
        return this.#getStatus(task, arg);
      case VFIO_GROUP_SET_CONTAINER:
        return this.#setContainer(task, arg);
      case VFIO_GROUP_UNSET_CONTAINER:
        return this.#unsetContainer(task);
      case VFIO_GROUP_GET_DEVICE_FD:
        return this.#getDeviceFd(task, arg);
      default:
        return task.fail(ENOTTY, 'a group knows no such request');
    }
  }

  protected override release(): void {
    this.group.detach();
    this.group.file = null;
  }

  #getStatus(task: Task, arg: UserArg): number {
    const bytes = task.copyArgsz(arg, 8);
    if (typeof bytes === 'number') return bytes;
    const { group } = this;
    if (group.devices.length === 0) return task.fail(ENODEV, 'the group is being torn down');
    let flags = 0;
    if (group.attached) flags = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
    else if (!group.dmaOwned) flags = VFIO_GROUP_FLAGS_VIABLE;
    viewOf(bytes).setUint32(4, flags, true);
    return task.copyOut(arg, 0, bytes);
  }

  #setContainer(task: Task, arg: UserArg): number {
    const bytes = arg.copyIn(0, 4);
    if (bytes === null) return task.fail(EFAULT, 'the argument is not readable');
    const fd = viewOf(bytes).getInt32(0, true);
    const file = task.file(fd);
    const { group } = this;
    if (file === undefined) return task.fail(EBADF, `descriptor ${fd} is not open`);
    if (group.attached) return task.fail(EINVAL, `group ${group.name} has a container already`);
    if (group.devices.length === 0) return task.fail(ENODEV, 'the group is being torn down');
    if (file instanceof IommufdFile) return this.#setIommufd(task, file);
    if (!(file instanceof ContainerFile)) return task.fail(EBADFD, `descriptor ${fd} is neither container nor iommufd`);
    const result = file.attachGroup(group, task);
    if (result < 0) return result;
    group.container = file.get();
    group.containerUsers = 1;
    return 0;
  }

  /** An iommufd as the container: it gets an address space for container calls unless it has one. */
  #setIommufd(task: Task, file: IommufdFile): number {
    if (file.compatIoas === null) {
      const id = file.createIoas(task);
      if (id < 0) return id;
      file.compatIoas = id;
    }
    this.group.iommufd = file.get();
    return 0;
  }

  #unsetContainer(task: Task): number {
    const { group } = this;
    if (!group.attached) return task.fail(EINVAL, `group ${group.name} has no container`);
    if (group.container !== null && group.containerUsers !== 1)
      return task.fail(EBUSY, 'a device of the group is open');
    group.detach();
    return 0;
  }

  #getDeviceFd(task: Task, arg: UserArg): number {
    const name = copyString(arg);
    if (name === null) return task.fail(EFAULT, 'the name is not readable');
    if (name === undefined) return task.fail(EINVAL, 'the name is longer than a page');
    const { group } = this;
    for (const device of group.devices) {
      const match = device.ops.match?.(device, task, name) ?? (device.name === name ? 1 : 0);
      if (match < 0) return match;
      if (match > 0) return this.#openDevice(task, device);
    }
    return task.fail(ENODEV, `group ${group.name} has no device "${name}"`);
  }

  #openDevice(task: Task, device: VfioDevice): number {
    const { group } = this;
    if (!task.hasRoom) return task.fail(EMFILE, 'no descriptor is free');
    if (!group.attached) return task.fail(EINVAL, `group ${group.name} has no container`);
    // Only the first open looks at where DMA goes; the others share what it found.
    const used = device.openCount === 0 ? this.#useDma(task, device) : 0;
    if (used < 0) return used;
    const opened = device.open();
    if (opened < 0) {
      this.#unuseDma(device);
      return task.fail(-opened, `${device.ops.name} cannot open ${device.name}`);
    }
    const file = new GroupDeviceFile(device, () => {
      device.close();
      if (device.openCount === 0) this.#unuseDma(device);
      this.put();
    });
    this.get();
    return task.install(file);
  }

  /** Puts the device's DMA behind the container or the iommufd. @returns 0 or -errno. */
  #useDma(task: Task, device: VfioDevice): number {
    const { group } = this;
    const { container, iommufd } = group;
    if (container?.iommu === null) return task.fail(EINVAL, 'the container has no IOMMU: SET_IOMMU comes first');
    if (group.type === 'noiommu' && !task.rawIo) return task.fail(EPERM, 'a no-iommu group needs raw I/O privilege');
    if (container !== null) {
      group.containerUsers++;
      device.dma = container.iommu;
      return 0;
    }
    if (iommufd === null || group.type === 'noiommu') return 0;
    if (iommufd.compatIoas === null) return task.fail(ENODEV, 'the iommufd has no address space for container calls');
    const bound = iommufd.bind(device, task);
    if (bound < 0) return bound;
    const attached = iommufd.attach(device, iommufd.compatIoas, task);
    if (attached < 0) iommufd.unbind(device);
    return Math.min(attached, 0);
  }

  /** The reverse. A device on an iommufd stays there when its group moves, so the device knows where it is, not the group. */
  #unuseDma(device: VfioDevice): void {
    if (device.iommufd !== null) device.iommufd.unbind(device);
    else if (device.dma !== null) this.group.containerUsers--;
    device.dma = null;
  }
}

/** A C string of at most a page, NUL included. null: fault, undefined: too long. */
function copyString(arg: UserArg): string | null | undefined {
  const bytes: number[] = [];
  while (bytes.length < PAGE_SIZE_4K) {
    const byte = arg.copyIn(bytes.length, 1);
    if (byte === null) return null;
    if (byte[0] === 0) return new TextDecoder('latin1').decode(new Uint8Array(bytes));
    bytes.push(byte[0]!);
  }
  return undefined;
}
