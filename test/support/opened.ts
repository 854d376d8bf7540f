// A device of a fresh instance, opened through its group and a type1 container, and the calls that tests of drivers make on it.
import { ManualClock } from '../../host/clock.ts';
import type { MachineDescription } from '../../host/devices/model.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance } from '../../host/source.ts';
import {
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../../host/uapi/ioctl.ts';
import { S32, VfioIommuType1DmaMap, VfioIrqInfo, VfioRegionInfo } from '../../host/uapi/structs.ts';

export interface Opened {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly container: number;
  readonly group: number;
  readonly fd: number;
}

/** A fresh instance on a clock that stands still. */
export async function instance(machine?: MachineDescription): Promise<{ vfio: VfioInstance; clock: ManualClock }> {
  const clock = new ManualClock();
  return { vfio: await createVfio(machine === undefined ? { clock } : { clock, machine }), clock };
}

/** Opens group, container and device. */
export function open(vfio: VfioInstance, clock: ManualClock, groupNumber: number | string, name: string): Opened {
  const container = vfio.open('/dev/vfio/vfio');
  const group = vfio.open(`/dev/vfio/${groupNumber}`);
  vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
  vfio.ioctl(container, VFIO_SET_IOMMU, 3);
  const fd = vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
  return { vfio, clock, container, group, fd };
}

/** Both at once. */
export async function openDevice(group: number, name: string, machine?: MachineDescription): Promise<Opened> {
  const { vfio, clock } = await instance(machine);
  return open(vfio, clock, group, name);
}

export const REGION = (index: number): bigint => BigInt(index) << 40n;
export const CONFIG = REGION(7);

export function readRegion({ vfio, fd }: Opened, offset: bigint | number, length: number): Uint8Array | number {
  const bytes = new Uint8Array(length);
  const result = vfio.readRaw(fd, bytes, offset);
  return result < 0 ? result : bytes.subarray(0, result);
}
export const writeRegion = ({ vfio, fd }: Opened, offset: bigint | number, bytes: readonly number[]): number =>
  vfio.writeRaw(fd, Uint8Array.from(bytes), offset);

/** A little-endian number of `width` bytes from a region. */
export function get(opened: Opened, offset: bigint | number, width = 4): number {
  const bytes = readRegion(opened, offset, width);
  if (typeof bytes === 'number') throw new Error(`read gave ${bytes}`);
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}
export const set = (opened: Opened, offset: bigint | number, value: number, width = 4): number =>
  writeRegion(
    opened,
    offset,
    Array.from({ length: width }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff),
  );

export function regionInfo({ vfio, fd }: Opened, index: number): InstanceType<typeof VfioRegionInfo> | number {
  const info = new VfioRegionInfo({ index });
  const result = vfio.ioctlRaw(fd, VFIO_DEVICE_GET_REGION_INFO, info);
  return result < 0 ? result : info;
}
export function irqInfo({ vfio, fd }: Opened, index: number): InstanceType<typeof VfioIrqInfo> | number {
  const info = new VfioIrqInfo({ index });
  const result = vfio.ioctlRaw(fd, VFIO_DEVICE_GET_IRQ_INFO, info);
  return result < 0 ? result : info;
}

export interface IrqRequest {
  flags: number;
  index: number;
  start?: number;
  count?: number;
  /** Descriptors with DATA_EVENTFD. */
  fds?: readonly number[];
  /** Bytes with DATA_BOOL. */
  bools?: readonly number[];
  argsz?: number;
}

/** The bytes of SET_IRQS. */
export function irqSet({ flags, index, start = 0, count, fds, bools, argsz }: IrqRequest): Uint8Array {
  const data = fds === undefined ? Uint8Array.from(bools ?? []) : new Uint8Array(Int32Array.from(fds).buffer);
  const bytes = new Uint8Array(20 + data.length);
  const view = new DataView(bytes.buffer);
  [argsz ?? bytes.length, flags, index, start, count ?? fds?.length ?? bools?.length ?? 0].forEach((word, i) => {
    view.setUint32(4 * i, word, true);
  });
  bytes.set(data, 20);
  return bytes;
}
export const setIrqs = ({ vfio, fd }: Opened, request: IrqRequest): number =>
  vfio.ioctlRaw(fd, VFIO_DEVICE_SET_IRQS, irqSet(request));

/** Maps fresh memory of the process. @returns its address. */
export function mapMemory({ vfio, container }: Opened, iova: bigint, size: number, flags = 3): bigint {
  const vaddr = vfio.mmap(size);
  vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap({ flags, vaddr, iova, size: BigInt(size) }));
  return vaddr;
}

/** What an eventfd counted since it was last asked. */
export const taken = ({ vfio }: Opened, fd: number): number => {
  const count = vfio.takeRaw(fd);
  return count < 0n ? 0 : Number(count);
};
