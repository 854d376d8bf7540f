// A small machine for tests of the objects: two devices that note what is done to them, one in a physical group, one mediated, and what they
// need to be reached.
import { ManualClock } from '../../host/clock.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance, VfioOptions } from '../../host/source.ts';
import { VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU } from '../../host/uapi/ioctl.ts';
import { S32 } from '../../host/uapi/structs.ts';
import { VfioDevice } from '../../host/vfio/device.ts';
import type { HwIommu, VfioDeviceOps } from '../../host/vfio/ops.ts';
import type { Vfio } from '../../host/vfio/vfio.ts';

/** A device that writes down every operation; `fail` makes the next open answer so. */
export class NotedDevice extends VfioDevice {
  readonly notes: string[] = [];
  fail = 0;
  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<NotedDevice> = OPS) {
    super(vfio, name, ops);
  }
}

export const OPS: VfioDeviceOps<NotedDevice> = {
  name: 'noted',
  openDevice(device) {
    device.notes.push('open');
    return device.fail;
  },
  closeDevice: (device) => void device.notes.push('close'),
  request: (device, count) => void device.notes.push(`request ${count}`),
  release: (device) => void device.notes.push('release'),
  dmaUnmap: (device, iova, length) => {
    device.notes.push(`unmap ${iova}+${length}`);
    device.unpinPages(iova, Number(length / 4096n));
  },
  mmap: () => ({ kind: 'io', io: { read: () => true, write: () => true } }),
  read: (_device, _task, buffer) => buffer.length,
};

export const UNIT: HwIommu = {
  pageSizes: 0x40201000n,
  ranges: [
    { start: 0n, last: 0xfedfffffn },
    { start: 0xfef00000n, last: 0xffffffffffffn },
  ],
  coherent: false,
  msiIsolated: true,
  limit: 1n << 48n,
};

export interface Objects {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  /** In the physical group 1. */
  readonly hw: NotedDevice;
  /** In the mediated group 2. */
  readonly md: NotedDevice;
}

export async function objects(options: VfioOptions = {}): Promise<Objects> {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock, machine: { devices: [] }, ...options });
  const hw = new NotedDevice(vfio.kernel, 'hw');
  const md = new NotedDevice(vfio.kernel, 'md');
  vfio.kernel.registerDevice(hw, '1', 'iommu', UNIT);
  vfio.kernel.registerDevice(md, '2', 'emulated');
  return { vfio, clock, hw, md };
}

/** Container and group, attached, with an IOMMU. */
export function attached(vfio: VfioInstance, group: number | string, type = 3): { container: number; group: number } {
  const container = vfio.open('/dev/vfio/vfio');
  const opened = vfio.open(`/dev/vfio/${group}`);
  vfio.ioctl(opened, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
  vfio.ioctl(container, VFIO_SET_IOMMU, type);
  return { container, group: opened };
}

/** The same with the device open. */
export function opened(vfio: VfioInstance, group: number | string, name: string) {
  const fds = attached(vfio, group);
  return { ...fds, device: vfio.ioctl(fds.group, VFIO_GROUP_GET_DEVICE_FD, name) };
}
