// An instance of the subsystem: groups, devices, IOMMU drivers, the node table behind open(path). Kernel counterpart: the registries of
// vfio_main.c and group.c.
import { EBUSY, ENODEV, ENOENT } from '../../assembly/abi.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { Core } from '../core.ts';
import { PageAllocator } from '../memory.ts';
import { ContainerFile } from './container.ts';
import type { VfioDevice } from './device.ts';
import { CdevFile } from './device_file.ts';
import type { VfioFile } from './file.ts';
import { Group, type GroupType } from './group.ts';
import { IommufdFile } from './iommufd.ts';
import { MdevBus } from './mdev.ts';
import type { HwIommu, IommuDriverOps } from './ops.ts';
import { Sysfs } from './sysfs.ts';
import { Task, type TaskOptions } from './task.ts';
import { VmLinks } from './vm.ts';

/** Numbers below belong to the machine's own table. */
const FIRST_FREE_GROUP = 8;
const REQUEST_INTERVAL_MS = 10_000;

export interface VfioInstanceOptions {
  clock?: Clock;
  iommuDrivers: (vfio: Vfio) => readonly IommuDriverOps[];
}

export class Vfio {
  readonly core: Core;
  readonly pages: PageAllocator;
  /** Virtual machines that groups are linked to. */
  readonly vms = new VmLinks();
  readonly clock: Clock;
  readonly groups = new Map<string, Group>();
  /** Registered devices by the number of their node, /dev/vfio/devices/vfio<n>. */
  readonly nodes = new Map<number, VfioDevice>();
  /** The number that the next device registered gets; null: the lowest free one. */
  nextNode: number | null = null;
  readonly iommuDrivers: readonly IommuDriverOps[];
  readonly sysfs = new Sysfs();
  readonly mdev = new MdevBus(this);

  constructor(core: Core, options: VfioInstanceOptions) {
    this.core = core;
    this.pages = new PageAllocator(core);
    this.clock = options.clock ?? systemClock;
    this.iommuDrivers = options.iommuDrivers(this);
  }

  task(options: TaskOptions = {}): Task {
    return new Task(this.core, this.pages, options);
  }

  /** The group of this name, made when it does not exist. */
  group(name: string, type: GroupType, hw: HwIommu | null): Group {
    const group = this.groups.get(name) ?? new Group(name, type, hw);
    this.groups.set(name, group);
    return group;
  }

  /** A device that is registered, by name. */
  device(name: string): VfioDevice | undefined {
    return [...this.nodes.values()].find((device) => device.name === name);
  }

  /**
   * Binds a member of a group to a host driver that does DMA: the group is not viable from now on. @returns 0; -ENODEV no such group; -EBUSY
   * a user owns DMA of the group, or the member belongs to a vfio driver.
   */
  bindHostDriver(groupName: string, member: string): number {
    const group = this.groups.get(groupName);
    if (group === undefined) return -ENODEV;
    if (group.userOwned || group.devices.some((device) => device.name === member)) return -EBUSY;
    group.hostDrivers.add(member);
    return 0;
  }

  /** The reverse. @returns 0; -ENODEV no such group, or no host driver has the member. */
  unbindHostDriver(groupName: string, member: string): number {
    const group = this.groups.get(groupName);
    if (group === undefined || !group.hostDrivers.delete(member)) return -ENODEV;
    this.#forgetEmpty(group);
    return 0;
  }

  /** Registers a device in the group of this name, which is made when it does not exist. */
  registerDevice(device: VfioDevice, groupName: string, type: GroupType, hw: HwIommu | null = null): Group {
    const group = this.group(groupName, type, hw);
    group.devices.unshift(device);
    device.group = group;
    let node = this.nextNode ?? 0;
    while (this.nodes.has(node)) node++;
    this.nextNode = null;
    this.nodes.set(node, device);
    device.node = node;
    return group;
  }

  /** The lowest group number that is free for a device that comes later. */
  nextGroupName(): string {
    let number = FIRST_FREE_GROUP;
    while (this.groups.has(String(number))) number++;
    return String(number);
  }

  /**
   * Removes a device. It cannot be opened from now on. While a user still has it open, the driver's `request` is called with 0, 1, 2, ... at once and
   * every 10 s (spec vfio-core section 5) and the rest happens on the last close. The last device takes its group along: the group leaves its
   * container, and whoever has it open finds it dead (ENODEV).
   * @param released called when the device is gone: at once when nobody has it open.
   */
  unregisterDevice(device: VfioDevice, released: () => void = () => {}): void {
    const { group } = device;
    group.devices.splice(group.devices.indexOf(device), 1);
    this.nodes.delete(device.node);
    let cancel = () => {};
    const finish = () => {
      cancel();
      device.ops.release?.(device);
      // Another device that is being removed, too, may still be open; then its own end comes here.
      if (group.devices.length === 0 && group.containerUsers <= 1) group.detach();
      this.#forgetEmpty(group);
      released();
    };
    if (device.files === 0) {
      finish();
      return;
    }
    device.onIdle = finish;
    const ask = (count: number) => {
      device.ops.request?.(device, count);
      cancel = this.clock.after(REQUEST_INTERVAL_MS, () => ask(count + 1));
    };
    ask(0);
  }

  #forgetEmpty(group: Group): void {
    if (group.devices.length === 0 && group.hostDrivers.size === 0) this.groups.delete(group.name);
  }

  /** The file behind a path, not yet referenced, or -errno. */
  open(task: Task, path: string): VfioFile | number {
    if (path === '/dev/vfio/vfio') return new ContainerFile(this.iommuDrivers);
    if (path === '/dev/iommu') return new IommufdFile(this);
    const node = /^\/dev\/vfio\/devices\/vfio(0|[1-9]\d*)$/.exec(path);
    const device = node === null ? undefined : this.nodes.get(Number(node[1]));
    if (device !== undefined && device.group.type !== 'noiommu') return new CdevFile(device);
    const match = /^\/dev\/vfio\/((?:noiommu-)?(?:0|[1-9]\d*))$/.exec(path);
    const group = match === null ? undefined : this.groups.get(match[1]!);
    return group?.open(task) ?? task.fail(ENOENT, `there is no ${path}`);
  }
}
