// A vfio-ccw device as its user holds it: an instance with one subchannel, a container with guest RAM at iova 0, the device's descriptor; and
// the few guest programs that the driver's tests need.
import { ManualClock } from '../../host/clock.ts';
import type { Core } from '../../host/core.ts';
import type { ChannelDevice } from '../../host/css/device.ts';
import { EngineSubchannel } from '../../host/css/engine.ts';
import type { SubchannelHardware } from '../../host/css/subchannel.ts';
import { ScriptedSubchannel } from '../../host/devices/scripted.ts';
import { CcwDevice } from '../../host/drivers/ccw/device.ts';
import { bindVfioCcw } from '../../host/drivers/ccw/vfio_ccw.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance } from '../../host/source.ts';
import {
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_TYPE1v2_IOMMU,
} from '../../host/uapi/constants.ts';
import {
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../../host/uapi/ioctl.ts';
import { S32, VfioIommuType1DmaMap, VfioIrqSet } from '../../host/uapi/structs.ts';
import { ccw1 } from './ccw_programs.ts';

export const UUID = '11111111-1111-4111-8111-111111111111';
export const SUBCHANNEL = '0.0.0313';
/** Bytes of guest RAM, at iova 0. */
export const RAM = 0x40000;
/** Where `putProgram` puts it; its data lie in three pages from DATA on. */
export const PROGRAM = 0x10000;
export const DATA = 0x20000;

export class CcwMachine<H extends SubchannelHardware = ScriptedSubchannel> {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly hardware: H;
  readonly container: number;
  readonly group: number;
  readonly ram: bigint;

  constructor(vfio: VfioInstance, clock: ManualClock, hardware: H) {
    this.vfio = vfio;
    this.clock = clock;
    this.hardware = hardware;
    const parent = bindVfioCcw(vfio.kernel, hardware);
    if (typeof parent === 'number') throw new Error(`vfio-ccw: ${parent}`);
    const mdev = vfio.kernel.mdev.create(parent.types[0]!, UUID, '5');
    if (typeof mdev === 'number') throw new Error(`mdev: ${mdev}`);
    this.container = vfio.open('/dev/vfio/vfio');
    this.group = vfio.open('/dev/vfio/5');
    vfio.ioctl(this.group, VFIO_GROUP_SET_CONTAINER, new S32({ value: this.container }));
    vfio.ioctl(this.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
    this.ram = vfio.mmap(RAM);
    this.map(0n, BigInt(RAM), this.ram);
  }

  /** The kernel's object behind the descriptor. */
  get device(): CcwDevice {
    const device = this.vfio.kernel.mdev.devices.get(UUID)?.device;
    if (device instanceof CcwDevice) return device;
    throw new Error('there is no device');
  }

  openRaw(): number {
    return this.vfio.ioctlRaw(this.group, VFIO_GROUP_GET_DEVICE_FD, UUID);
  }
  open(): number {
    return this.vfio.ioctl(this.group, VFIO_GROUP_GET_DEVICE_FD, UUID);
  }
  map(iova: bigint, size: bigint, vaddr: bigint, flags = 3): void {
    this.vfio.ioctl(this.container, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap({ flags, vaddr, iova, size }));
  }

  /** Guest storage. */
  put(address: number, ...parts: Uint8Array[]): void {
    let at = address;
    for (const part of parts) {
      this.vfio.view(this.ram, RAM).set(part, at);
      at += part.length;
    }
  }
  /** Two chained reads over three pages: 0x1800 bytes at DATA, 16 bytes in the third page. */
  putProgram(): void {
    this.put(PROGRAM, ccw1(0x02, 0x60, 0x1800, DATA), ccw1(0x02, 0x20, 16, DATA + 0x2000));
  }

  /** Lets queued work run. */
  work(): void {
    this.clock.advance(0);
  }
  /** Binds a fresh eventfd to an interrupt. @returns its descriptor. */
  bindIrq(fd: number, index: number): number {
    const eventfd = this.vfio.eventfd();
    this.vfio.ioctl(fd, VFIO_DEVICE_SET_IRQS, irqSet(index, VFIO_IRQ_SET_DATA_EVENTFD, s32(eventfd)));
    return eventfd;
  }
  /** How often an eventfd was signalled since the last look. */
  signals(eventfd: number): number {
    return Number(this.vfio.eventfdOf(eventfd).take() ?? 0n);
  }

  /** Everything that must be nothing once the user is gone. */
  leftovers(): { pins: number; locked: number; bytes: number; files: number } {
    const { core, task } = this.vfio;
    const locked = task.mm.lockedPages;
    return { pins: this.device.program?.pinCount ?? 0, locked, bytes: core.liveBytes, files: task.openFiles };
  }
}

/** @param make the subchannel, over the machine's core and clock; default a scripted one with four paths. */
export async function ccwMachine<H extends SubchannelHardware = ScriptedSubchannel>(
  make: (core: Core, clock: ManualClock) => H = () => new ScriptedSubchannel({ busId: SUBCHANNEL }) as unknown as H,
): Promise<CcwMachine<H>> {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock, machine: { devices: [] } });
  return new CcwMachine(vfio, clock, make(vfio.core, clock));
}

/** The same with the channel engine and a device model of the test's. */
export const engineMachine = (device: ChannelDevice): Promise<CcwMachine<EngineSubchannel>> =>
  ccwMachine((core, clock) => new EngineSubchannel({ busId: SUBCHANNEL, core, clock, device, deviceNumber: 0x120 }));

export const NOTHING = { pins: 0, locked: 0, bytes: 0, files: 0 };

export const s32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);
export const u32be = (...words: number[]): Uint8Array => {
  const bytes = new Uint8Array(4 * words.length);
  words.forEach((word, i) => {
    new DataView(bytes.buffer).setUint32(4 * i, word);
  });
  return bytes;
};

/** SET_IRQS of one interrupt with a trigger; `data` behind the header. */
export function irqSet(
  index: number,
  dataType: number,
  data: Uint8Array = new Uint8Array(0),
  header: Partial<{ argsz: number; flags: number; start: number; count: number }> = {},
): InstanceType<typeof VfioIrqSet> {
  const set = new VfioIrqSet(
    { flags: dataType | VFIO_IRQ_SET_ACTION_TRIGGER, index, count: 1, ...header },
    data.length,
  );
  if (header.argsz === undefined) set.argsz = 20 + data.length;
  set.bytes.set(data, 20);
  return set;
}

/** Format-1, prefetch, 64-bit IDAWs, all paths. */
export const ORB_WORD1 = 0x00c2ff00;
export const FCTL_START = 0x00004000;
/** The first 24 bytes of region 0: ORB and SCSW. */
export const request = (word1 = ORB_WORD1, cpa = PROGRAM, functions = FCTL_START): Uint8Array =>
  u32be(0, word1, cpa, functions, 0, 0);

/** An IRB of 64 bytes with this SCSW. */
export function irb(word0: number, cpa = 0, status = 0x0c000000): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set(u32be(word0, cpa, status));
  return bytes;
}
/** Start function, primary and secondary status: the normal end. */
export const FINAL = 0x00004007;
/** Alert and status pending only: something that nobody asked for. */
export const UNSOLICITED = 0x00000011;
/** A program-controlled interruption: intermediate status, subchannel and device active. */
export const INTERMEDIATE = 0x000040c9;
