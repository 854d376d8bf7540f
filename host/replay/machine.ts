// The machine that replays: one subchannel whose device answers from a recording, driven by vfio-ccw, and a guest's view of it through the public
// calls - container, group, device, I/O region.
import type { ManualClock } from '../clock.ts';
import { EngineSubchannel } from '../css/engine.ts';
import { ReplayDevice } from '../devices/replay.ts';
import { type CcwDevice, CMD_REGION_SIZE, IO_REGION_SIZE } from '../drivers/ccw/device.ts';
import { bindVfioCcw } from '../drivers/ccw/vfio_ccw.ts';
import type { VfioInstance } from '../source.ts';
import {
  VFIO_CCW_IO_IRQ_INDEX,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_TYPE1v2_IOMMU,
} from '../uapi/constants.ts';
import {
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../uapi/ioctl.ts';
import type { EventFd } from '../vfio/eventfd.ts';

const UUID = '44444444-4444-4444-8444-444444444444';
const GROUP = '1';
const BUS_ID = '0.0.0001';
/** File offset of the async command region. */
const CMD_OFFSET = 1 << 10;
const IRQ_SET_SIZE = 24;

/** Descriptors of an open device. */
export interface OpenDevice {
  readonly container: number;
  readonly group: number;
  readonly device: number;
  readonly eventFd: number;
  readonly interrupts: EventFd;
}

export class ReplayMachine {
  readonly instance: VfioInstance;
  readonly clock: ManualClock;
  readonly hardware: EngineSubchannel;
  readonly device = new ReplayDevice();
  readonly driver: CcwDevice;

  /** @param instance one with an empty machine and this clock. @throws Error the driver refuses the subchannel. */
  constructor(instance: VfioInstance, clock: ManualClock) {
    this.instance = instance;
    this.clock = clock;
    const { core, kernel } = instance;
    this.hardware = new EngineSubchannel({ busId: BUS_ID, core, clock, device: this.device });
    const parent = bindVfioCcw(kernel, this.hardware);
    const mdev = typeof parent === 'number' ? parent : kernel.mdev.create(parent.types[0]!, UUID, GROUP);
    if (typeof mdev === 'number') throw new Error(`vfio-ccw refuses the subchannel: ${mdev}`);
    this.driver = mdev.device as CcwDevice;
  }

  /** Container with a type 1 address space; the device is opened by `openDevice` once the guest's memory is mapped. */
  openContainer(): { container: number; group: number } {
    const { instance } = this;
    const container = instance.open('/dev/vfio/vfio');
    const group = instance.open(`/dev/vfio/${GROUP}`);
    const argument = new Uint8Array(4);
    new DataView(argument.buffer).setInt32(0, container, true);
    instance.ioctl(group, VFIO_GROUP_SET_CONTAINER, argument);
    instance.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
    return { container, group };
  }

  openDevice(open: { container: number; group: number }): OpenDevice {
    const { instance } = this;
    const device = instance.ioctl(open.group, VFIO_GROUP_GET_DEVICE_FD, UUID);
    const eventFd = instance.eventfd();
    const irqs = new Uint8Array(IRQ_SET_SIZE);
    const view = new DataView(irqs.buffer);
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    [IRQ_SET_SIZE, flags, VFIO_CCW_IO_IRQ_INDEX, 0, 1, eventFd].forEach((value, i) => {
      view.setUint32(4 * i, value, true);
    });
    instance.ioctl(device, VFIO_DEVICE_SET_IRQS, irqs);
    return { ...open, device, eventFd, interrupts: instance.eventfdOf(eventFd) };
  }

  /** Writes the I/O region. @returns the count, or the request's -errno. */
  request(open: OpenDevice, region: Uint8Array): number {
    return this.instance.writeRaw(open.device, region, 0);
  }

  readRegion(open: OpenDevice): Uint8Array {
    const region = new Uint8Array(IO_REGION_SIZE);
    this.instance.read(open.device, region, 0);
    return region;
  }

  /** Halt (1) or clear (2) through the async command region. */
  command(open: OpenDevice, command: number): number {
    const region = new Uint8Array(CMD_REGION_SIZE);
    new DataView(region.buffer).setUint32(0, command, true);
    return this.instance.writeRaw(open.device, region, CMD_OFFSET);
  }

  close(open: { container: number; group: number } & Partial<OpenDevice>): void {
    const { device, eventFd, group, container } = open;
    for (const fd of [device, eventFd, group, container]) if (fd !== undefined) this.instance.close(fd);
  }
}
