// mtty: a mediated serial card with one or two ports, the smallest complete mediated device. Kernel counterpart: samples/vfio-mdev/mtty.c.
// Regions, configuration space and interrupts: spec mdev sections 7.1, 7.2, 7.4.
import { EFAULT, EINVAL, ENOSPC, ENOTTY } from '../../../assembly/abi.ts';
import { newUart, readUart, type UartState, writeUart } from '../../devices/mtty_uart.ts';
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
} from '../../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../../uapi/ioctl.ts';
import { VfioDevice } from '../../vfio/device.ts';
import { getDeviceInfo, getIrqInfo, getRegionInfo } from '../../vfio/info.ts';
import { readIrqSet } from '../../vfio/irqs.ts';
import type { Mdev, MdevDriver, MdevParent, MdevType } from '../../vfio/mdev.ts';
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserArg, UserBuffer } from '../../vfio/user.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { MttyConfig } from './mtty_config.ts';
import { MttyIrqs } from './mtty_irqs.ts';
import { mttyAccess, mttyLog, mttyMigration } from './mtty_migration.ts';

export const MTTY_PARENT = '/sys/devices/virtual/mtty/mtty';
/** Ports of one parent, shared by all its devices. */
const POOL = 24;
const OFFSET_SHIFT = 40n;
const BAR_SIZE = 8;
const LAST_BAR = 5;

/** One card. Its state is `ports`; configuration space and interrupt set-up belong to the user and are not part of what migrates. */
export class MttyDevice extends VfioDevice {
  readonly ports: UartState[];
  readonly config: MttyConfig;
  readonly irqs: MttyIrqs;
  /** Gives the ports back. */
  readonly onRelease: () => void;

  constructor(vfio: Vfio, name: string, ports: number, onRelease: () => void) {
    super(vfio, name, MTTY_OPS);
    this.ports = Array.from({ length: ports }, newUart);
    this.config = new MttyConfig(ports);
    this.irqs = new MttyIrqs(this.migration);
    this.onRelease = onRelease;
  }

  /** Size of a region; 0 for those that are not there. */
  regionSize(index: number): number {
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) return this.config.bytes.length;
    return index < this.ports.length ? BAR_SIZE : 0;
  }
}

function ioctl(device: MttyDevice, task: Task, request: number, arg: UserArg): number {
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return getDeviceInfo(task, arg, {
        flags: VFIO_DEVICE_FLAGS_PCI,
        numRegions: VFIO_PCI_NUM_REGIONS,
        numIrqs: VFIO_PCI_NUM_IRQS,
        // The sample writes the mandatory part only (seen in vectors/abi).
        length: 16,
      });
    case VFIO_DEVICE_GET_REGION_INFO:
      return getRegionInfo(task, arg, (index) =>
        index >= VFIO_PCI_NUM_REGIONS
          ? null
          : {
              flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
              size: BigInt(device.regionSize(index)),
              offset: BigInt(index) << OFFSET_SHIFT,
            },
      );
    case VFIO_DEVICE_GET_IRQ_INFO:
      return getIrqInfo(task, arg, irqInfo);
    case VFIO_DEVICE_SET_IRQS: {
      // The sample checks every index against the same count.
      const irqSet = readIrqSet(task, arg, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_IRQS);
      return typeof irqSet === 'number' ? irqSet : device.irqs.set(task, irqSet);
    }
    case VFIO_DEVICE_RESET:
      return 0;
    default:
      return task.fail(ENOTTY, 'mtty knows no such request');
  }
}

function irqInfo(index: number): { flags: number; count: number } | null {
  if (index === VFIO_PCI_INTX_IRQ_INDEX)
    return { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, count: 1 };
  if (index === VFIO_PCI_MSI_IRQ_INDEX) return { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, count: 1 };
  return null;
}

/** Finds the region and the bytes of an access. @returns -EFAULT neither BAR nor configuration; -EINVAL beyond its end; otherwise where and how much. */
function place(
  device: MttyDevice,
  task: Task,
  buffer: UserBuffer,
  offset: bigint,
): { index: number; pos: number; count: number } | number {
  const index = Number(BigInt.asIntN(64, offset) >> OFFSET_SHIFT);
  if (index !== VFIO_PCI_CONFIG_REGION_INDEX && (index < 0 || index > LAST_BAR))
    return task.fail(EFAULT, `region ${index} is not there`);
  const size = device.regionSize(index);
  const pos = offset & ((1n << OFFSET_SHIFT) - 1n);
  if (pos >= BigInt(size)) return task.fail(EINVAL, `region ${index} has ${size} bytes`);
  return { index, pos: Number(pos), count: Math.min(buffer.length, size - Number(pos)) };
}

/** Cuts an access into pieces of 4, 2 and 1 bytes by size and alignment. */
function eachPiece(pos: number, count: number, piece: (at: number, width: number, done: number) => void): void {
  for (let done = 0; done < count; ) {
    const at = pos + done;
    const left = count - done;
    const width = left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
    piece(at, width, done);
    done += width;
  }
}

function read(device: MttyDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  if (buffer.length === 0) return 0;
  const where = place(device, task, buffer, offset);
  if (typeof where === 'number') return where;
  const { index, pos, count } = where;
  const bytes = new Uint8Array(count);
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) bytes.set(device.config.bytes.subarray(pos, pos + count));
  else
    eachPiece(pos, count, (at, _width, done) => {
      bytes[done] = readUart(device.ports[index]!, at, () => device.irqs.fire());
    });
  return buffer.copyOut(0, bytes) ? count : task.fail(EFAULT, 'the buffer is not writable');
}

function write(device: MttyDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  if (buffer.length === 0) return 0;
  const where = place(device, task, buffer, offset);
  if (typeof where === 'number') return where;
  const { index, pos, count } = where;
  const bytes = buffer.copyIn(0, count);
  if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
  eachPiece(pos, count, (at, width, done) => {
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) device.config.write(at, bytes.subarray(done, done + width));
    else writeUart(device.ports[index]!, at, bytes[done]!, () => device.irqs.fire());
  });
  return count;
}

export const MTTY_OPS: VfioDeviceOps<MttyDevice> = {
  name: 'mtty',
  ioctl,
  read,
  write,
  closeDevice: (device) => device.irqs.disable(),
  migration: mttyMigration,
  log: mttyLog,
  access: mttyAccess,
  release: (device) => device.onRelease(),
};

/** A parent with its pool of ports. */
export function registerMttyParent(vfio: Vfio): MdevParent {
  let free = POOL;
  const portsOf = (type: MdevType) => Number(type.sysfsName);
  const driver: MdevDriver = {
    name: 'mtty',
    deviceApi: 'vfio-pci',
    getAvailable: (type) => Math.floor(free / portsOf(type)),
    probe(mdev: Mdev): number {
      const ports = portsOf(mdev.type);
      if (free < ports) return -ENOSPC;
      free -= ports;
      const device = new MttyDevice(vfio, mdev.name, ports, () => {
        free += ports;
      });
      mdev.device = device;
      vfio.registerDevice(device, mdev.groupName, 'emulated');
      return 0;
    },
  };
  const types = [
    { sysfsName: '1', prettyName: 'Single port serial' },
    { sysfsName: '2', prettyName: 'Dual port serial' },
  ];
  const parent = vfio.mdev.registerParent({ path: MTTY_PARENT, driver, types });
  if (typeof parent === 'number') throw new Error('the mtty parent exists already');
  return parent;
}
