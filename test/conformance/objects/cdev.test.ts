import { describe, expect, it } from 'vitest';
import { EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from '../../../assembly/abi.ts';
import type { VfioInstance } from '../../../host/source.ts';
import {
  IOMMU_DESTROY,
  IOMMU_IOAS_ALLOC,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_GET_INFO,
} from '../../../host/uapi/ioctl.ts';
import {
  IommuDestroy,
  IommuIoasAlloc,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceDetachIommufdPt,
} from '../../../host/uapi/structs.ts';
import { NotedDevice, objects, opened, UNIT } from '../../support/objects.ts';

const HW = '/dev/vfio/devices/vfio0';
const MD = '/dev/vfio/devices/vfio1';

function ioas(vfio: VfioInstance, fd: number): number {
  const alloc = new IommuIoasAlloc();
  vfio.ioctl(fd, IOMMU_IOAS_ALLOC, alloc);
  return alloc.out_ioas_id;
}
const bind = (vfio: VfioInstance, fd: number, iommufd: number) =>
  vfio.ioctlRaw(fd, VFIO_DEVICE_BIND_IOMMUFD, new VfioDeviceBindIommufd({ iommufd }));
const attach = (vfio: VfioInstance, fd: number, id: number) =>
  vfio.ioctlRaw(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, new VfioDeviceAttachIommufdPt({ pt_id: id }));

describe('device node', () => {
  it('may be opened by many; nothing works before BIND', async () => {
    const { vfio, hw } = await objects();
    const fd = vfio.open(HW);
    expect(vfio.openRaw(HW)).toBeGreaterThan(0);
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_INFO)).toBe(-EINVAL);
    expect(attach(vfio, fd, 1)).toBe(-EINVAL);
    expect(vfio.readRaw(fd, new Uint8Array(4), 0)).toBe(-EINVAL);
    expect(vfio.mmapRaw(4096, { fd })).toBe(BigInt(-EINVAL));
    expect(hw.notes).toEqual([]);
    expect(vfio.openRaw('/dev/vfio/devices/vfio00')).toBe(-ENOENT);
  });

  it('BIND: EFAULT, EINVAL argsz, flags, negative; EBUSY group; EINVAL bound; EBADF; EBADFD; EINVAL open elsewhere', async () => {
    const { vfio, hw } = await objects();
    const fd = vfio.open(HW);
    const iommufd = vfio.open('/dev/iommu');
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_BIND_IOMMUFD)).toBe(-EFAULT);
    for (const wrong of [{ argsz: 15 }, { flags: 1 }, { flags: 2 }, { iommufd: -1 }])
      expect(
        vfio.ioctlRaw(fd, VFIO_DEVICE_BIND_IOMMUFD, new VfioDeviceBindIommufd({ iommufd, ...wrong })),
        JSON.stringify(wrong),
      ).toBe(-EINVAL);
    const group = vfio.open('/dev/vfio/1');
    expect(bind(vfio, fd, 99)).toBe(-EBUSY);
    vfio.close(group);
    expect(bind(vfio, fd, 99)).toBe(-EBADF);
    expect(bind(vfio, fd, vfio.eventfd())).toBe(-EBADFD);
    expect(bind(vfio, fd, fd)).toBe(-EBADFD);
    expect(bind(vfio, fd, iommufd)).toBe(0);
    expect(bind(vfio, fd, 99)).toBe(-EINVAL);
    expect(bind(vfio, vfio.open(HW), iommufd)).toBe(-EINVAL);
    expect(hw.notes).toEqual(['open']);
  });

  it('BIND gives an id of the iommufd; a failing open and an unwritable argument leave nothing', async () => {
    const { vfio, hw } = await objects();
    const fd = vfio.open(HW);
    const iommufd = vfio.open('/dev/iommu');
    hw.fail = -EBUSY;
    expect(bind(vfio, fd, iommufd)).toBe(-EBUSY);
    hw.fail = 0;
    const readOnly = vfio.mmap(4096, { prot: 'r' });
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_BIND_IOMMUFD, readOnly)).toBe(-EINVAL);
    expect([hw.openCount, hw.iommufd, hw.group.cdevOpenCount, hw.group.dmaOwned]).toEqual([0, null, 0, false]);
    const argument = new VfioDeviceBindIommufd({ iommufd });
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_BIND_IOMMUFD, argument)).toBe(0);
    expect(argument.out_devid).toBe(1);
  });

  it('EPERM: DMA of the unit belongs to a host driver or to another iommufd', async () => {
    const { vfio } = await objects();
    vfio.kernel.registerDevice(new NotedDevice(vfio.kernel, 'sibling'), '1', 'iommu', UNIT);
    const mine = vfio.open('/dev/iommu');
    const other = vfio.open('/dev/iommu');
    const fd = vfio.open(HW);
    vfio.bindHostDriver(1, 'third');
    expect(bind(vfio, fd, mine)).toBe(-EPERM);
    vfio.unbindHostDriver(1, 'third');
    expect(bind(vfio, fd, mine)).toBe(0);
    expect(() => vfio.bindHostDriver(1, 'third')).toThrow(/EBUSY/);
    const sibling = vfio.open('/dev/vfio/devices/vfio2');
    expect(bind(vfio, sibling, other)).toBe(-EPERM);
    expect(bind(vfio, sibling, mine)).toBe(0);
    vfio.close(fd);
    expect(vfio.openRaw('/dev/vfio/1')).toBe(-EBUSY);
    vfio.close(sibling);
    expect(vfio.openRaw('/dev/vfio/1')).toBeGreaterThan(0);
  });

  it('on a descriptor of the group: BIND checks its argument, then EINVAL; ATTACH and DETACH are the driver’s', async () => {
    const { vfio } = await objects();
    const { device } = opened(vfio, 1, 'hw');
    const iommufd = vfio.open('/dev/iommu');
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_BIND_IOMMUFD)).toBe(-EFAULT);
    expect(bind(vfio, device, iommufd)).toBe(-EINVAL);
    expect(attach(vfio, device, 1)).toBe(-EINVAL);
  });
});

describe('device node: ATTACH and DETACH', () => {
  it('EFAULT, EINVAL argsz and flags, a PASID refused by kind of device, ENOENT, EINVAL not an address space', async () => {
    const { vfio } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const [hw, md] = [vfio.open(HW), vfio.open(MD)];
    for (const fd of [hw, md]) expect(bind(vfio, fd, iommufd)).toBe(0);
    const id = ioas(vfio, iommufd);
    const raw = (fd: number, init: object) =>
      vfio.ioctlRaw(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, new VfioDeviceAttachIommufdPt({ pt_id: id, ...init }));
    expect(vfio.ioctlRaw(hw, VFIO_DEVICE_ATTACH_IOMMUFD_PT)).toBe(-EFAULT);
    expect(raw(hw, { argsz: 11 })).toBe(-EINVAL);
    expect(raw(hw, { flags: 2 })).toBe(-EINVAL);
    expect(raw(hw, { flags: 1, argsz: 16 })).toBe(-EINVAL);
    expect(raw(md, { flags: 1, argsz: 16 })).toBe(-EOPNOTSUPP);
    expect(raw(hw, { pt_id: 0 })).toBe(-ENOENT);
    expect(raw(hw, { pt_id: 99 })).toBe(-ENOENT);
    expect(raw(hw, { pt_id: 1 })).toBe(-EINVAL);
    expect(raw(md, { pt_id: 1 })).toBe(-ENOENT);
    expect(raw(hw, {})).toBe(0);
    expect(vfio.ioctlRaw(hw, VFIO_DEVICE_DETACH_IOMMUFD_PT)).toBe(-EFAULT);
    expect(vfio.ioctlRaw(hw, VFIO_DEVICE_DETACH_IOMMUFD_PT, new VfioDeviceDetachIommufdPt({ argsz: 7 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(hw, VFIO_DEVICE_DETACH_IOMMUFD_PT, new VfioDeviceDetachIommufdPt({ flags: 2 }))).toBe(-EINVAL);
  });

  it('a second ATTACH replaces the first; DETACH of nothing is fine; DESTROY refuses what is attached', async () => {
    const { vfio, hw } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const fd = vfio.open(HW);
    bind(vfio, fd, iommufd);
    const [first, second] = [ioas(vfio, iommufd), ioas(vfio, iommufd)];
    const destroy = (id: number) => vfio.ioctlRaw(iommufd, IOMMU_DESTROY, new IommuDestroy({ id }));
    expect(attach(vfio, fd, first)).toBe(0);
    const before = hw.dma;
    expect(attach(vfio, fd, first)).toBe(0);
    expect(hw.dma).toBe(before);
    expect(destroy(first)).toBe(-EBUSY);
    expect(attach(vfio, fd, second)).toBe(0);
    expect(hw.dma).not.toBe(before);
    expect(destroy(first)).toBe(0);
    expect(destroy(second)).toBe(-EBUSY);
    expect(destroy(1), 'the bound device').toBe(-EBUSY);
    for (let i = 0; i < 2; i++)
      expect(vfio.ioctlRaw(fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, new VfioDeviceDetachIommufdPt())).toBe(0);
    expect(hw.dma).toBeNull();
    expect(destroy(second)).toBe(0);
    expect(attach(vfio, fd, second)).toBe(-ENOENT);
  });

  it('functions of one group share one translation: a second joins the first or is refused, a change moves both', async () => {
    const { vfio, hw } = await objects();
    const twin = new NotedDevice(vfio.kernel, 'twin');
    vfio.kernel.registerDevice(twin, '1', 'iommu', UNIT);
    const iommufd = vfio.open('/dev/iommu');
    const [first, second] = [ioas(vfio, iommufd), ioas(vfio, iommufd)];
    const [a, b] = [vfio.open(HW), vfio.open(`/dev/vfio/devices/vfio${twin.node}`)];
    for (const fd of [a, b]) bind(vfio, fd, iommufd);
    expect(attach(vfio, a, first)).toBe(0);
    expect(attach(vfio, b, second)).toBe(-EINVAL);
    expect(twin.dma).toBeNull();
    expect(attach(vfio, b, first)).toBe(0);
    expect(twin.dma).toBe(hw.dma);
    const before = hw.dma;
    expect(attach(vfio, b, second)).toBe(0);
    expect(hw.dma).toBe(twin.dma);
    expect(hw.dma).not.toBe(before);
    vfio.ioctl(iommufd, IOMMU_DESTROY, new IommuDestroy({ id: first }));
    vfio.ioctl(a, VFIO_DEVICE_DETACH_IOMMUFD_PT, new VfioDeviceDetachIommufdPt());
    expect(twin.dma).not.toBeNull();
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('ATTACH answers with a page table behind hardware, with the address space itself for a mediated device', async () => {
    const { vfio } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const [hw, md] = [vfio.open(HW), vfio.open(MD)];
    for (const fd of [hw, md]) bind(vfio, fd, iommufd);
    const id = ioas(vfio, iommufd);
    const attached = (fd: number, pt: number) => {
      const argument = new VfioDeviceAttachIommufdPt({ pt_id: pt });
      vfio.ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument);
      return argument.pt_id;
    };
    expect(attached(md, id)).toBe(id);
    const table = attached(hw, id);
    expect(table).not.toBe(id);
    expect(attached(hw, table)).toBe(table);
    expect(attach(vfio, md, table)).toBe(-ENOENT);
    expect(vfio.ioctlRaw(iommufd, IOMMU_DESTROY, new IommuDestroy({ id: table }))).toBe(-EBUSY);
  });

  it('close unbinds; a bound device keeps the iommufd; nothing is left', async () => {
    const { vfio, hw, md } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const [a, b] = [vfio.open(HW), vfio.open(MD)];
    for (const fd of [a, b]) bind(vfio, fd, iommufd);
    const id = ioas(vfio, iommufd);
    attach(vfio, a, id);
    attach(vfio, b, id);
    vfio.close(iommufd);
    expect(hw.dma).not.toBeNull();
    vfio.close(a);
    expect([hw.dma, hw.iommufd, hw.group.dmaOwned]).toEqual([null, null, false]);
    expect(md.dma).not.toBeNull();
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });
});
