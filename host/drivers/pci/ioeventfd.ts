// IOEVENTFD: a signal of an eventfd becomes one write to a register. Kernel counterpart: vfio_pci_ioeventfd. Source: spec pci section 5.
import { EEXIST, EFAULT, EINVAL, ENODEV, ENOSPC } from '../../../assembly/abi.ts';
import type { Width } from '../../devices/pci_device.ts';
import { eventFdOf } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import { VFIO_PCI_OFFSET_SHIFT, type VfioPciDevice } from './device.ts';

const MINSZ = 28;
const MAX = 1000;
const WIDTH_MASK = 0xf;
const LAST_BAR = 5;
const POS_MASK = (1n << VFIO_PCI_OFFSET_SHIFT) - 1n;

export interface Ioeventfd {
  readonly bar: number;
  readonly pos: number;
  readonly data: bigint;
  readonly width: Width;
  readonly stop: () => void;
}

/**
 * @returns 0, or -errno in this order: EFAULT; EINVAL argsz < 28, unknown flags, not exactly one width, fd < -1, no BAR, beyond its end, in the
 * MSI-X table, 8 bytes wide (as on the platform of the vectors); a known (bar, pos, data, width): EEXIST, or removal with fd -1; ENODEV
 * nothing to remove; ENOSPC 1000 exist; EBADF / EINVAL the descriptor. Nothing changed after a failure.
 */
export function setIoeventfd(device: VfioPciDevice, task: Task, arg: UserArg): number {
  const bytes = arg.copyIn(0, MINSZ);
  if (bytes === null) return task.fail(EFAULT, 'the argument is not readable');
  const view = viewOf(bytes);
  const argsz = view.getUint32(0, true);
  if (argsz < MINSZ) return task.fail(EINVAL, `argsz ${argsz} is smaller than ${MINSZ}`);
  const flags = view.getUint32(4, true);
  const offset = view.getBigUint64(8, true);
  const fd = view.getInt32(24, true);
  const width = flags & WIDTH_MASK;
  if ((flags & ~WIDTH_MASK) !== 0 || width === 0 || (width & (width - 1)) !== 0)
    return task.fail(EINVAL, `flags 0x${flags.toString(16)}: exactly one width`);
  if (fd < -1) return task.fail(EINVAL, `${fd} is not a descriptor`);
  const bar = offset >> VFIO_PCI_OFFSET_SHIFT;
  const pos = Number(offset & POS_MASK);
  const resource = bar <= LAST_BAR ? (device.hw.bars[Number(bar)] ?? null) : null;
  if (resource === null) return task.fail(EINVAL, `there is no BAR ${bar}`);
  if (pos + width > resource.size) return task.fail(EINVAL, 'beyond the end of the BAR');
  const { msixOffset, msixSize } = device;
  if (device.msixBar === resource.index && pos < msixOffset + msixSize && pos + width > msixOffset)
    return task.fail(EINVAL, 'inside the MSI-X table');
  if (width === 8) return task.fail(EINVAL, 'no 8-byte writes from an eventfd');
  const data = BigInt.asUintN(8 * width, view.getBigUint64(16, true));
  const key = { bar: resource.index, pos, data: view.getBigUint64(16, true), width: width as Width };
  const known = device.ioeventfds.findIndex(
    (other) => other.bar === key.bar && other.pos === pos && other.data === key.data && other.width === width,
  );
  if (known >= 0) {
    if (fd !== -1) return task.fail(EEXIST, 'this write has an eventfd already');
    device.ioeventfds.splice(known, 1)[0]!.stop();
    return 0;
  }
  if (fd < 0) return task.fail(ENODEV, 'there is no such eventfd');
  if (device.ioeventfds.length >= MAX) return task.fail(ENOSPC, `${MAX} eventfds are set`);
  const eventfd = eventFdOf(task, fd);
  if (typeof eventfd === 'number') return eventfd;
  const value = new Uint8Array(8);
  viewOf(value).setBigUint64(0, data, true);
  const write = () => {
    if (device.gate?.store() === false) return;
    if (resource.kind === 'io' || device.memoryEnabled) device.hw.store(key.bar, pos, key.width, value, 0);
  };
  const stop = eventfd.hook(() => {
    eventfd.take();
    write();
  });
  device.ioeventfds.push({ ...key, stop });
  if (eventfd.count > 0n) write();
  return 0;
}

/** The last close: all of them go. */
export function dropIoeventfds(device: VfioPciDevice): void {
  for (const ioeventfd of device.ioeventfds.splice(0)) ioeventfd.stop();
}
