import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENODEV, ENOTTY } from '../../../assembly/abi.ts';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../../../host/uapi/ioctl.ts';
import { S32, VfioIommuType1DmaMap, VfioIommuType1Info } from '../../../host/uapi/structs.ts';
import { attached, NotedDevice, objects } from '../../support/objects.ts';

describe('container', () => {
  it('every open gives a new one', async () => {
    const { vfio } = await objects();
    const first = vfio.open('/dev/vfio/vfio');
    const second = vfio.open('/dev/vfio/vfio');
    const group = vfio.open('/dev/vfio/1');
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: first }));
    expect(vfio.ioctlRaw(second, VFIO_SET_IOMMU, 3)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(first, VFIO_SET_IOMMU, 3)).toBe(0);
  });

  it('API version 0', async () => {
    const { vfio } = await objects();
    expect(vfio.ioctl(vfio.open('/dev/vfio/vfio'), VFIO_GET_API_VERSION)).toBe(0);
  });

  it('CHECK_EXTENSION never fails, and compares all 64 bits', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/vfio');
    const answers = (values: readonly (number | bigint)[]) =>
      values.map((id) => vfio.ioctl(fd, VFIO_CHECK_EXTENSION, id));
    expect(answers([1, 3, 9])).toEqual([1, 1, 1]);
    expect(answers([0, 2, 4, 5, 6, 7, 8, 10, 11, 0xffffffff, 0x100000001n, 1n << 63n])).toEqual(Array(12).fill(0));
  });

  it('SET_IOMMU: EINVAL no group; ENODEV nobody knows the id; EINVAL known but nothing to choose; EINVAL chosen already', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/vfio');
    const group = vfio.open('/dev/vfio/1');
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 3)).toBe(-EINVAL);
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: fd }));
    for (const id of [0, 2, 6, 8, 99]) expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, id), `${id}`).toBe(-ENODEV);
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 9)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 1)).toBe(0);
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 3)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 99)).toBe(-EINVAL);
  });

  it('any other request: EINVAL without an IOMMU, its own answer or ENOTTY with one', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/vfio');
    expect(vfio.ioctlRaw(fd, VFIO_IOMMU_GET_INFO)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, 0x5401)).toBe(-EINVAL);
    const { container } = attached(vfio, 1);
    expect(vfio.ioctlRaw(container, VFIO_IOMMU_GET_INFO)).toBe(-EFAULT);
    expect(vfio.ioctlRaw(container, 0x5401)).toBe(-ENOTTY);
  });

  it('read and write EINVAL, mmap ENODEV', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/vfio');
    expect(vfio.readRaw(fd, new Uint8Array(4))).toBe(-EINVAL);
    expect(vfio.writeRaw(fd, new Uint8Array(4))).toBe(-EINVAL);
    expect(vfio.mmapRaw(4096, { fd })).toBe(BigInt(-ENODEV));
  });

  it('returns to the just opened state when the last group leaves; all maps are gone', async () => {
    const { vfio } = await objects();
    const { container, group } = attached(vfio, 1);
    const ram = vfio.mmap(4096);
    const map = () =>
      vfio.ioctlRaw(container, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap({ flags: 3, vaddr: ram, size: 4096n }));
    expect(map()).toBe(0);
    vfio.ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
    expect(map()).toBe(-EINVAL);
    expect(vfio.ioctlRaw(container, VFIO_SET_IOMMU, 3)).toBe(-EINVAL);
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
    expect(vfio.ioctlRaw(container, VFIO_SET_IOMMU, 1)).toBe(0);
    expect(map()).toBe(0);
  });

  it('a group that the chosen IOMMU refuses is not attached', async () => {
    const { vfio } = await objects();
    const { container } = attached(vfio, 2);
    const far = new VfioIommuType1DmaMap({ flags: 3, vaddr: vfio.mmap(4096), iova: 0xfee00000n, size: 4096n });
    vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, far);
    const group = vfio.open('/dev/vfio/1');
    expect(vfio.ioctlRaw(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EINVAL);
    expect(vfio.kernel.groups.get('1')?.dmaOwned).toBe(false);
  });

  it('no-iommu: only its own extension, no mapping calls, raw I/O privilege for all of it', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/vfio');
    expect(vfio.ioctl(fd, VFIO_CHECK_EXTENSION, 8)).toBe(0);
    vfio.kernel.registerDevice(new NotedDevice(vfio.kernel, 'raw'), 'noiommu-9', 'noiommu');
    expect(vfio.ioctl(fd, VFIO_CHECK_EXTENSION, 8)).toBe(1);
    const group = vfio.open('/dev/vfio/noiommu-9');
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: fd }));
    expect([1, 3, 9].map((id) => vfio.ioctl(fd, VFIO_CHECK_EXTENSION, id))).toEqual([0, 0, 0]);
    expect(vfio.ioctlRaw(fd, VFIO_SET_IOMMU, 8)).toBe(0);
    expect(vfio.ioctlRaw(fd, VFIO_IOMMU_GET_INFO, new VfioIommuType1Info())).toBe(-ENOTTY);
    expect(vfio.openRaw('/dev/vfio/devices/vfio2')).toBe(-2);
  });
});
