// An instance of the subsystem: groups, devices, IOMMU drivers, the node table behind open(path). Kernel counterpart: the registries of
// vfio_main.c and group.c.
import { ENOENT } from '../../assembly/abi.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { Core } from '../core.ts';
import { PageAllocator } from '../memory.ts';
import { ContainerFile } from './container.ts';
import type { VfioDevice } from './device.ts';
import type { VfioFile } from './file.ts';
import { Group, type GroupType } from './group.ts';
import type { HwIommu, IommuDriverOps } from './ops.ts';
import { Task, type TaskOptions } from './task.ts';

export interface VfioInstanceOptions {
  clock?: Clock;
  iommuDrivers: (vfio: Vfio) => readonly IommuDriverOps[];
}

export class Vfio {
  readonly core: Core;
  readonly pages: PageAllocator;
  readonly clock: Clock;
  readonly groups = new Map<string, Group>();
  readonly iommuDrivers: readonly IommuDriverOps[];

  constructor(core: Core, options: VfioInstanceOptions) {
    this.core = core;
    this.pages = new PageAllocator(core);
    this.clock = options.clock ?? systemClock;
    this.iommuDrivers = options.iommuDrivers(this);
  }

  task(options: TaskOptions = {}): Task {
    return new Task(this.core, this.pages, options);
  }

  /** Registers a device in the group of this name, which is made when it does not exist. */
  registerDevice(device: VfioDevice, groupName: string, type: GroupType, hw: HwIommu | null = null): Group {
    let group = this.groups.get(groupName);
    if (group === undefined) {
      group = new Group(groupName, type, hw);
      this.groups.set(groupName, group);
    }
    group.devices.unshift(device);
    device.group = group;
    return group;
  }

  /** Removes a device that nobody has open; an empty group goes with it. */
  unregisterDevice(device: VfioDevice): void {
    const { group } = device;
    group.devices.splice(group.devices.indexOf(device), 1);
    device.ops.release?.(device);
    if (group.devices.length === 0) this.groups.delete(group.name);
  }

  /** The file behind a path, not yet referenced, or -errno. */
  open(task: Task, path: string): VfioFile | number {
    if (path === '/dev/vfio/vfio') return new ContainerFile(this.iommuDrivers);
    const match = /^\/dev\/vfio\/((?:noiommu-)?\d+)$/.exec(path);
    const group = match === null ? undefined : this.groups.get(match[1]!);
    return group?.open(task) ?? task.fail(ENOENT, `there is no ${path}`);
  }
}
