// A machine of one subchannel, driven by vfio-ccw, and a guest's view of it through the public calls - container, group, device, I/O region,
// async command region.
import type { ManualClock } from '../clock.ts';
import type { ChannelDevice } from '../css/device.ts';
import { EngineSubchannel } from '../css/engine.ts';
import {
  IRB_SIZE,
  ORB_AREA_SIZE,
  SCSW_ACTL_DEVICE_ACTIVE,
  SCSW_ACTL_SUBCHANNEL_ACTIVE,
  SCSW_FCTL_START,
} from '../css/schib.ts';
import { type CcwDevice, CMD_REGION_SIZE, IO_IRB, IO_ORB, IO_REGION_SIZE, IO_SCSW } from '../drivers/ccw/device.ts';
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

export class ReplayMachine<D extends ChannelDevice> {
  readonly instance: VfioInstance;
  readonly clock: ManualClock;
  readonly hardware: EngineSubchannel;
  readonly device: D;
  readonly driver: CcwDevice;

  /** @param instance one with an empty machine and this clock. @throws Error the driver refuses the subchannel. */
  constructor(instance: VfioInstance, clock: ManualClock, device: D) {
    this.instance = instance;
    this.clock = clock;
    this.device = device;
    const { core, kernel } = instance;
    this.hardware = new EngineSubchannel({ busId: BUS_ID, core, clock, device });
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

  /** START with these 12 bytes of ORB. @returns the count, or the request's -errno. */
  start(open: OpenDevice, orb: Uint8Array): number {
    const region = new Uint8Array(IO_REGION_SIZE);
    region.set(orb.subarray(0, ORB_AREA_SIZE), IO_ORB);
    new DataView(region.buffer).setUint32(IO_SCSW, SCSW_FCTL_START);
    return this.instance.writeRaw(open.device, region, 0);
  }

  /** Lets at most `ms` milliseconds pass. @returns the IRB, 64 bytes, of the interruption that leaves the subchannel idle, or null. */
  wait(open: OpenDevice, ms: number): Uint8Array | null {
    for (let passed = 0; passed < ms; passed++) {
      this.clock.advance(passed === 0 ? 0 : 1);
      if (open.interrupts.take() === null) continue;
      const irb = new Uint8Array(IRB_SIZE);
      this.instance.read(open.device, irb, IO_IRB);
      const word0 = new DataView(irb.buffer).getUint32(0);
      if ((word0 & (SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE)) === 0) return irb;
    }
    return null;
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
