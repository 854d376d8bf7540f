import { describe, expect, it } from 'vitest';
import { EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY, EPERM } from '../../../assembly/abi.ts';
import type { VfioError } from '../../../host/errno.ts';
import type { IoctlArg } from '../../../host/process.ts';
import { VFIO_UPDATE_VADDR } from '../../../host/uapi/constants.ts';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_SET_IOMMU,
} from '../../../host/uapi/ioctl.ts';
import { S32, VfioDeviceBindIommufd, VfioGroupStatus } from '../../../host/uapi/structs.ts';
import { attached, NotedDevice, OPS, objects, opened, UNIT } from '../../support/objects.ts';

const set = (fd: number) => new S32({ value: fd });

describe('group: open', () => {
  it('ENOENT: no such group, and nothing but a plain number names one', async () => {
    const { vfio } = await objects();
    for (const name of ['3', '01', '0x1', '-1', '', 'noiommu-1', '1/'])
      expect(vfio.openRaw(`/dev/vfio/${name}`), name).toBe(-ENOENT);
  });

  it('EPERM: a no-iommu group needs raw I/O privilege', async () => {
    const { vfio } = await objects();
    vfio.kernel.registerDevice(new NotedDevice(vfio.kernel, 'raw'), 'noiommu-9', 'noiommu');
    expect(vfio.process({ rawIo: false }).openRaw('/dev/vfio/noiommu-9')).toBe(-EPERM);
    expect(vfio.openRaw('/dev/vfio/noiommu-9')).toBeGreaterThan(0);
  });

  it('EBUSY: a device of the group is bound through its node', async () => {
    const { vfio } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const node = vfio.open('/dev/vfio/devices/vfio0');
    expect(vfio.openRaw('/dev/vfio/1'), 'only open, not bound').toBeGreaterThan(0);
    vfio.close(5);
    vfio.ioctl(node, VFIO_DEVICE_BIND_IOMMUFD, new VfioDeviceBindIommufd({ iommufd }));
    expect(vfio.openRaw('/dev/vfio/1')).toBe(-EBUSY);
    vfio.close(node);
    expect(vfio.openRaw('/dev/vfio/1')).toBeGreaterThan(0);
  });

  it('EBUSY: exactly one open file, for all processes together', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    expect(vfio.openRaw('/dev/vfio/1')).toBe(-EBUSY);
    expect(vfio.process().openRaw('/dev/vfio/1')).toBe(-EBUSY);
    vfio.close(fd);
    expect(vfio.process().openRaw('/dev/vfio/1')).toBeGreaterThan(0);
  });
});

describe('group: GET_STATUS', () => {
  it('EFAULT unreadable, EINVAL short argsz, EFAULT not writable; argsz is not changed', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_STATUS)).toBe(-EFAULT);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_STATUS, new VfioGroupStatus({ argsz: 7 }))).toBe(-EINVAL);
    const readOnly = vfio.mmap(4096, { prot: 'rw' });
    vfio.poke(readOnly, Uint8Array.of(8));
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_STATUS, readOnly)).toBe(0);
    const status = new VfioGroupStatus({ argsz: 100 });
    expect(vfio.ioctl(fd, VFIO_GROUP_GET_STATUS, status)).toBe(0);
    expect(status.argsz).toBe(100);
  });

  it('VIABLE without owner, VIABLE and CONTAINER_SET in a container, nothing while a host driver does DMA', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    const flags = () => {
      const status = new VfioGroupStatus();
      vfio.ioctl(fd, VFIO_GROUP_GET_STATUS, status);
      return status.flags;
    };
    expect(flags()).toBe(1);
    vfio.bindHostDriver(1, 'neighbour');
    expect(flags()).toBe(0);
    vfio.unbindHostDriver(1, 'neighbour');
    const container = vfio.open('/dev/vfio/vfio');
    vfio.ioctl(fd, VFIO_GROUP_SET_CONTAINER, set(container));
    expect(flags()).toBe(3);
    expect(() => vfio.bindHostDriver(1, 'neighbour')).toThrow(/EBUSY/);
    vfio.ioctl(fd, VFIO_GROUP_UNSET_CONTAINER);
    expect(flags()).toBe(1);
  });
});

describe('group: SET_CONTAINER', () => {
  it('EFAULT, EBADF, EINVAL already in one, EBADFD neither container nor iommufd: in this order', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    const container = vfio.open('/dev/vfio/vfio');
    const eventfd = vfio.eventfd();
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER)).toBe(-EFAULT);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(99))).toBe(-EBADF);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(-1))).toBe(-EBADF);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(eventfd))).toBe(-EBADFD);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(fd))).toBe(-EBADFD);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(0);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(99))).toBe(-EBADF);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(eventfd))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(-EINVAL);
  });

  it('EPERM: a host driver owns DMA of the unit; a mediated group has no such owner', async () => {
    const { vfio } = await objects();
    const container = vfio.open('/dev/vfio/vfio');
    vfio.bindHostDriver(1, 'neighbour');
    expect(vfio.ioctlRaw(vfio.open('/dev/vfio/1'), VFIO_GROUP_SET_CONTAINER, set(container))).toBe(-EPERM);
    vfio.bindHostDriver(2, 'neighbour');
    expect(vfio.ioctlRaw(vfio.open('/dev/vfio/2'), VFIO_GROUP_SET_CONTAINER, set(container))).toBe(0);
  });

  it('EPERM: groups with and without an IOMMU do not mix', async () => {
    const { vfio } = await objects();
    vfio.kernel.registerDevice(new NotedDevice(vfio.kernel, 'raw'), 'noiommu-9', 'noiommu');
    const container = vfio.open('/dev/vfio/vfio');
    const hw = vfio.open('/dev/vfio/1');
    const raw = vfio.open('/dev/vfio/noiommu-9');
    expect(vfio.ioctlRaw(hw, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(0);
    expect(vfio.ioctlRaw(raw, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(-EPERM);
    vfio.ioctl(hw, VFIO_GROUP_UNSET_CONTAINER);
    expect(vfio.ioctlRaw(raw, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(0);
    expect(vfio.ioctlRaw(hw, VFIO_GROUP_SET_CONTAINER, set(container))).toBe(-EPERM);
    expect(vfio.ioctlRaw(container, VFIO_SET_IOMMU, 3)).toBe(-ENODEV);
    expect(vfio.ioctlRaw(container, VFIO_SET_IOMMU, 8)).toBe(0);
    expect(vfio.ioctlRaw(raw, VFIO_GROUP_GET_DEVICE_FD, 'raw')).toBeGreaterThan(0);
  });

  it('ENODEV: the last device went while the group was open', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    await vfio.unplug('hw');
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_STATUS, new VfioGroupStatus())).toBe(-ENODEV);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_SET_CONTAINER, set(vfio.open('/dev/vfio/vfio')))).toBe(-ENODEV);
    expect(vfio.openRaw('/dev/vfio/1')).toBe(-ENOENT);
    vfio.close(fd);
    expect(vfio.openRaw('/dev/vfio/1')).toBe(-ENOENT);
  });

  it('the last device takes the group out of its container; its number is free again', async () => {
    const { vfio } = await objects();
    const { container, group } = attached(vfio, 1);
    expect(vfio.ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR)).toBe(1);
    await vfio.unplug('hw');
    expect(vfio.ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 'as just opened').toBe(0);
    expect(vfio.ioctlRaw(container, VFIO_SET_IOMMU, 3)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EINVAL);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_GET_STATUS, new VfioGroupStatus())).toBe(-ENODEV);
    const next = new NotedDevice(vfio.kernel, 'next');
    vfio.kernel.registerDevice(next, '1', 'iommu', UNIT);
    const again = attached(vfio, 1);
    vfio.close(group);
    expect(vfio.ioctlRaw(again.group, VFIO_GROUP_GET_DEVICE_FD, 'next')).toBeGreaterThan(0);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('two devices that go while they are open: the group stays in its container until the second is closed', async () => {
    const { vfio } = await objects();
    vfio.kernel.registerDevice(new NotedDevice(vfio.kernel, 'twin'), '1', 'iommu', UNIT);
    const { container, group } = attached(vfio, 1);
    const fds = ['hw', 'twin'].map((name) => vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name));
    const gone = ['hw', 'twin'].map((name) => vfio.unplug(name));
    vfio.close(fds[0] as number);
    expect(vfio.ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR)).toBe(1);
    vfio.close(fds[1] as number);
    await Promise.all(gone);
    expect(vfio.ioctl(container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR)).toBe(0);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EINVAL);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });
});

describe('group: UNSET_CONTAINER', () => {
  it('EINVAL without a container, EBUSY while a device is open', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EINVAL);
    vfio.close(fd);
    const { group, device } = opened(vfio, 1, 'hw');
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EBUSY);
    vfio.close(device);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(0);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EINVAL);
  });

  it('EBUSY while a mapping holds the device, whose descriptor is closed', async () => {
    const { vfio, hw } = await objects();
    const { group, device } = opened(vfio, 1, 'hw');
    const address = vfio.mmap(4096, { fd: device });
    vfio.close(device);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(-EBUSY);
    expect(hw.notes).toEqual(['open']);
    vfio.munmap(address, 4096);
    expect(hw.notes).toEqual(['open', 'close']);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(0);
  });
});

describe('group: GET_DEVICE_FD', () => {
  it('EFAULT, EINVAL longer than a page, ENODEV no such device: before the container is looked at', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD)).toBe(-EFAULT);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'x'.repeat(4096))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'x'.repeat(4095))).toBe(-ENODEV);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'md')).toBe(-ENODEV);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBe(-EINVAL);
  });

  it('EINVAL: no container, or a container without an IOMMU', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/vfio/1');
    const container = vfio.open('/dev/vfio/vfio');
    vfio.ioctl(fd, VFIO_GROUP_SET_CONTAINER, set(container));
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBe(-EINVAL);
    vfio.ioctl(container, VFIO_SET_IOMMU, 3);
    expect(vfio.ioctlRaw(fd, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBeGreaterThan(0);
  });

  it('asks the most recently registered device first; match may take any name or refuse with its own errno', async () => {
    const { vfio } = await objects();
    const asked: string[] = [];
    const matching = (answer: number, name: string) =>
      new NotedDevice(vfio.kernel, name, {
        ...OPS,
        match: () => {
          asked.push(name);
          return answer;
        },
      });
    vfio.kernel.registerDevice(matching(1, 'any'), '1', 'iommu');
    vfio.kernel.registerDevice(matching(0, 'none'), '1', 'iommu');
    const { group } = attached(vfio, 1);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_GET_DEVICE_FD, 'whatever')).toBeGreaterThan(0);
    expect(asked).toEqual(['none', 'any']);
    vfio.kernel.registerDevice(matching(-13, 'refuses'), '1', 'iommu');
    expect(vfio.ioctlRaw(group, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBe(-13);
  });

  it('each call gives a new descriptor; the driver opens on the first and closes on the last', async () => {
    const { vfio, hw } = await objects();
    const { group, device } = opened(vfio, 1, 'hw');
    const second = vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, 'hw');
    expect(second).not.toBe(device);
    vfio.close(device);
    expect(hw.notes).toEqual(['open']);
    vfio.close(second);
    expect(hw.notes).toEqual(['open', 'close']);
  });

  it("a failing open is undone completely and answers the driver's errno", async () => {
    const { vfio, hw } = await objects();
    const { group } = attached(vfio, 1);
    hw.fail = -EBUSY;
    expect(vfio.ioctlRaw(group, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBe(-EBUSY);
    expect([hw.openCount, hw.files, hw.dma]).toEqual([0, 0, null]);
    expect(vfio.ioctlRaw(group, VFIO_GROUP_UNSET_CONTAINER)).toBe(0);
  });
});

it('group: ENOTTY for any other request, EINVAL for read and write, ENODEV for mmap', async () => {
  const { vfio } = await objects();
  const fd = vfio.open('/dev/vfio/1');
  expect(vfio.ioctlRaw(fd, 0x3b64)).toBe(-ENOTTY);
  expect(vfio.ioctlRaw(fd, 0x3b6b)).toBe(-ENOTTY);
  expect(vfio.readRaw(fd, new Uint8Array(4))).toBe(-EINVAL);
  expect(vfio.writeRaw(fd, new Uint8Array(4), 0)).toBe(-EINVAL);
  expect(vfio.mmapRaw(4096, { fd })).toBe(BigInt(-ENODEV));
});

it('every refusal says why, in words', async () => {
  const { vfio, hw } = await objects();
  const group = vfio.open('/dev/vfio/1');
  const container = vfio.open('/dev/vfio/vfio');
  const reason = (call: () => unknown): string => {
    try {
      call();
    } catch (error) {
      return (error as VfioError).why;
    }
    return 'succeeded';
  };
  const ioctl = (fd: number, request: number, arg?: IoctlArg) => reason(() => vfio.ioctl(fd, request, arg));
  expect([
    reason(() => vfio.open('/dev/vfio/1')),
    ioctl(group, VFIO_GROUP_SET_CONTAINER, set(99)),
    ioctl(group, VFIO_GROUP_SET_CONTAINER, set(group)),
    ioctl(group, VFIO_GROUP_UNSET_CONTAINER),
    ioctl(group, VFIO_GROUP_GET_DEVICE_FD, 'x'),
    ioctl(group, VFIO_GROUP_GET_DEVICE_FD, 'hw'),
    ioctl(group, 0x1234),
    ioctl(container, VFIO_SET_IOMMU, 3),
  ]).toEqual([
    'group 1 is open already',
    'descriptor 99 is not open',
    `descriptor ${group} is neither container nor iommufd`,
    'group 1 has no container',
    'group 1 has no device "x"',
    'group 1 has no container',
    'a group knows no such request',
    'the container has no group yet',
  ]);
  vfio.close(group);
  const fds = attached(vfio, 1);
  hw.fail = -EBUSY;
  expect(ioctl(fds.group, VFIO_GROUP_GET_DEVICE_FD, 'hw')).toBe('noted cannot open hw');
});
