// Resets: of one function, and of all functions behind one bus or slot. The host saves what it must keep, resets, and restores. Kernel
// counterparts: pci_try_reset_function, vfio_pci_ioctl_pci_hot_reset, vfio_pci_dev_set_hot_reset. Source: spec pci section 7.
import { EAGAIN, EBADF, EBUSY, EFAULT, EINVAL, ENODEV, ENOSPC, ENOTTY, EPERM } from '../../../assembly/abi.ts';
import { PCI_COMMAND } from '../../devices/pci_config.ts';
import { EXP_DEVCAP, EXP_DEVCAP_FLR, EXP_DEVCTL, EXP_DEVCTL2 } from '../../devices/pci_express.ts';
import {
  VFIO_PCI_DEVID_NOT_OWNED,
  VFIO_PCI_DEVID_OWNED,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
  VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
} from '../../uapi/constants.ts';
import { type Group, GroupFile } from '../../vfio/group.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import type { VfioPciDevice } from './device.ts';
import { setPowerState } from './power.ts';

const MINSZ = 12;
const DEPENDENT_SIZE = 8;

/** A function behind the same reset that vfio does not drive. */
export interface ForeignFunction {
  readonly segment: number;
  readonly bus: number;
  readonly devfn: number;
  /** null: it is in no group. */
  readonly groupName: string | null;
}

/** Functions that one bus (or slot) reset hits: a dev_set. */
export class PciResetDomain {
  readonly devices: VfioPciDevice[] = [];
  readonly foreign: ForeignFunction[] = [];

  add(device: VfioPciDevice): void {
    this.devices.push(device);
  }
  remove(device: VfioPciDevice): void {
    this.devices.splice(this.devices.indexOf(device), 1);
  }

  /** The reset itself: every function of it, with its host state saved and restored around. */
  reset(): void {
    for (const device of this.devices) device.zaps++;
    for (const device of this.devices) setPowerState(device, 0);
    const saved = this.devices.map((device) => hostState(device));
    for (const device of this.devices) device.hw.reset();
    this.devices.forEach((device, i) => {
      restoreHostState(device, saved[i]!);
      device.migration?.reset();
      device.needsReset = false;
    });
  }
}

type HostState = Array<{ offset: number; width: 1 | 2 | 4; value: number }>;

/** What the host keeps of a function over a reset: the writable header and the control words of PCI Express. */
export function hostState(device: VfioPciDevice): HostState {
  const { config } = device.hw;
  const words: HostState = [];
  for (let offset = 0x3c; offset > PCI_COMMAND; offset -= 4)
    words.push({ offset, width: 4, value: config.read(offset, 4) });
  const express = config.find(0x10);
  if (express !== 0)
    for (const at of [EXP_DEVCTL, EXP_DEVCTL2])
      words.push({ offset: express + at, width: 2, value: config.read(express + at, 2) });
  words.push({ offset: PCI_COMMAND, width: 2, value: config.read(PCI_COMMAND, 2) });
  return words;
}

export function restoreHostState(device: VfioPciDevice, state: HostState): void {
  for (const { offset, width, value } of state) device.hw.configWrite(offset, width, value);
  device.irqs.messages.restore();
}

/** Does the function, or a bus of its own, have a reset? */
function functionReset(device: VfioPciDevice): (() => void) | null {
  const { hw } = device;
  const express = hw.config.find(0x10);
  if (express !== 0 && (hw.config.read(express + EXP_DEVCAP, 4) & EXP_DEVCAP_FLR) !== 0) return () => hw.reset();
  const advanced = hw.config.find(0x13);
  if (advanced !== 0 && (hw.config.bytes[advanced + 3]! & 2) !== 0) return () => hw.reset();
  const domain = device.options.resetDomain;
  const alone = domain !== undefined && domain.devices.length === 1 && domain.foreign.length === 0;
  return alone ? () => hw.reset() : null;
}

/** @returns 0, -EAGAIN the device is locked by another reset, -ENOTTY it has no reset. */
export function tryResetFunction(device: VfioPciDevice): number {
  const reset = functionReset(device);
  if (reset === null) return -ENOTTY;
  if (device.resetLocked) return -EAGAIN;
  device.zaps++;
  setPowerState(device, 0);
  const state = hostState(device);
  reset();
  restoreHostState(device, state);
  // Also one that was asked for in configuration space: what the device had of a migration is gone.
  device.migration?.reset();
  return 0;
}

/** RESET: EINVAL the device cannot; EAGAIN somebody else is resetting it. */
export function resetDevice(device: VfioPciDevice, task: Task): number {
  if (!device.resetWorks) return task.fail(EINVAL, 'the device has no reset');
  const result = tryResetFunction(device);
  return result < 0 ? task.fail(-result, 'the device is being reset') : result;
}

/** GET_PCI_HOT_RESET_INFO. */
export function hotResetInfo(device: VfioPciDevice, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, MINSZ);
  if (typeof bytes === 'number') return bytes;
  const domain = device.options.resetDomain;
  if (domain === undefined) return task.fail(ENODEV, 'there is no slot or bus reset');
  const view = viewOf(bytes);
  const needed = domain.devices.length + domain.foreign.length;
  const room = Math.floor((view.getUint32(0, true) - MINSZ) / DEPENDENT_SIZE);
  view.setUint32(4, 0, true);
  view.setUint32(8, needed, true);
  if (room < needed) {
    const copied = task.copyOut(arg, 0, bytes);
    return copied < 0 ? copied : task.fail(ENOSPC, `${needed} devices need room`);
  }
  const list = dependents(device, domain);
  if (list === null) return task.fail(EPERM, 'a device behind the reset is in no group');
  view.setUint32(4, list.flags, true);
  const copied = task.copyOut(arg, MINSZ, list.bytes);
  return copied < 0 ? copied : task.copyOut(arg, 0, bytes);
}

function dependents(device: VfioPciDevice, domain: PciResetDomain): { flags: number; bytes: Uint8Array } | null {
  const bytes = new Uint8Array(DEPENDENT_SIZE * (domain.devices.length + domain.foreign.length));
  const view = viewOf(bytes);
  let at = 0;
  let owned = true;
  const put = (id: number, where: { segment: number; bus: number; devfn: number }) => {
    view.setUint32(at, id, true);
    view.setUint16(at + 4, where.segment, true);
    view.setUint8(at + 6, where.bus);
    view.setUint8(at + 7, where.devfn);
    at += DEPENDENT_SIZE;
  };
  const own = device.iommufdId;
  for (const other of domain.devices) {
    if (own === null) put(Number(other.group.name), other);
    else {
      const id = devIdOf(device, other);
      owned &&= id !== VFIO_PCI_DEVID_NOT_OWNED;
      put(id, other);
    }
  }
  for (const other of domain.foreign) {
    if (own === null) {
      if (other.groupName === null) return null;
      put(Number(other.groupName), other);
    } else {
      owned = false;
      put(VFIO_PCI_DEVID_NOT_OWNED, other);
    }
  }
  const flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | (owned ? VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED : 0);
  return { flags: own === null ? 0 : flags, bytes };
}

/** Owned with an id in the same iommufd, owned implicitly (its group is), or not owned. */
function devIdOf(device: VfioPciDevice, other: VfioPciDevice): number {
  const own = device.iommufdId!;
  const id = other.iommufdId;
  if (id !== null) return id.iommufd === own.iommufd ? id.devid : VFIO_PCI_DEVID_NOT_OWNED;
  const groupOwned = other.group.devices.some(
    (member) => (member as Partial<VfioPciDevice>).iommufdId?.iommufd === own.iommufd,
  );
  return groupOwned && other.openCount === 0 ? VFIO_PCI_DEVID_OWNED : VFIO_PCI_DEVID_NOT_OWNED;
}

/** PCI_HOT_RESET. On failure nothing was reset. */
export function hotReset(device: VfioPciDevice, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, MINSZ);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  const count = view.getUint32(8, true);
  if (view.getUint32(4, true) !== 0) return task.fail(EINVAL, 'no flags are known');
  const own = device.iommufdId;
  if ((own === null) !== count > 0)
    return task.fail(EINVAL, own === null ? 'a list of groups is needed' : 'an iommufd proves ownership, not groups');
  const domain = device.options.resetDomain;
  if (domain === undefined) return task.fail(ENODEV, 'there is no slot or bus reset');
  const groups = own === null ? readGroups(domain, task, arg, count) : null;
  if (typeof groups === 'number') return groups;
  if (domain.foreign.length > 0) return task.fail(EINVAL, 'a device behind the reset has another driver');
  for (const other of domain.devices) {
    const covered = groups === null ? devIdOf(device, other) !== VFIO_PCI_DEVID_NOT_OWNED : groups.has(other.group);
    if (!covered) return task.fail(EINVAL, `${other.name} is not covered`);
  }
  if (domain.devices.some((other) => other.resetLocked)) return task.fail(EBUSY, 'a device is being reset');
  domain.reset();
  return 0;
}

function readGroups(domain: PciResetDomain, task: Task, arg: UserArg, count: number): Set<Group> | number {
  const devices = domain.devices.length + domain.foreign.length;
  if (count > devices) return task.fail(EINVAL, `${count} groups for ${devices} devices`);
  const fds = arg.copyIn(MINSZ, 4 * count);
  if (fds === null) return task.fail(EFAULT, 'the list of groups is not readable');
  const groups = new Set<Group>();
  for (let i = 0; i < count; i++) {
    const fd = viewOf(fds).getInt32(4 * i, true);
    const file = task.file(fd);
    if (file === undefined) return task.fail(EBADF, `descriptor ${fd} is not open`);
    if (!(file instanceof GroupFile)) return task.fail(EINVAL, `descriptor ${fd} is not a group`);
    groups.add(file.group);
  }
  return groups;
}

/** After the last close of a device: a bus that nobody uses any more is reset when somebody had used it. */
export function resetUnusedDomain(device: VfioPciDevice): void {
  const domain = device.options.resetDomain;
  if (domain === undefined || domain.foreign.length > 0) return;
  if (domain.devices.some((other) => other.openCount > (other === device ? 1 : 0))) return;
  if (domain.devices.some((other) => other.needsReset)) domain.reset();
}
