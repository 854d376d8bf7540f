import { describe, expect, it } from 'vitest';
import {
  E2BIG,
  EADDRINUSE,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  EMSGSIZE,
  ENODEV,
  ENOENT,
  ENOTTY,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
} from '../../../assembly/abi.ts';
import { Iommufd } from '../../../host/classes/iommufd.ts';
import type { VfioInstance } from '../../../host/source.ts';
import * as ioctl from '../../../host/uapi/ioctl.ts';
import * as structs from '../../../host/uapi/structs.ts';
import { objects, opened } from '../../support/objects.ts';

async function setup() {
  const all = await objects();
  const { vfio } = all;
  const iommufd = new Iommufd(vfio);
  const call = (request: number, arg?: Parameters<VfioInstance['ioctlRaw']>[2]) =>
    vfio.ioctlRaw(iommufd.fd, request, arg);
  return { ...all, iommufd, call, id: iommufd.createIoas(), ram: vfio.mmap(0x10000) };
}
const ioasMap = (init: object) => new structs.IommuIoasMap({ flags: 7, length: 4096n, ...init });

describe('iommufd: every call', () => {
  it('ENOTTY unknown, EFAULT, EINVAL too small, E2BIG something behind what is known', async () => {
    const { call, vfio } = await setup();
    for (const request of [0x3b7f, 0x3b95, 0x3bff, 0xc0083b7f]) expect(call(request)).toBe(-ENOTTY);
    // Numbers that Linux has: the size is read first.
    for (const request of [0x3b89, 0x3b94, 0xc0083b81]) {
      expect(call(request)).toBe(-EFAULT);
      expect(call(request, new Uint8Array(64))).toBe(-ENOTTY);
    }
    expect(call(ioctl.IOMMU_IOAS_ALLOC)).toBe(-EFAULT);
    expect(call(ioctl.IOMMU_IOAS_ALLOC, new structs.IommuIoasAlloc({ size: 11 }))).toBe(-EINVAL);
    const large = new structs.IommuIoasAlloc({ size: 16 });
    expect(call(ioctl.IOMMU_IOAS_ALLOC, large)).toBe(0);
    large.bytes[14] = 1;
    expect(call(ioctl.IOMMU_IOAS_ALLOC, large)).toBe(-E2BIG);
    expect(call(ioctl.IOMMU_IOAS_ALLOC, new structs.IommuIoasAlloc({ flags: 1 }))).toBe(-EOPNOTSUPP);
    expect(vfio.readRaw(3, new Uint8Array(8))).toBe(-EINVAL);
  });

  it('an id that cannot be written back is not kept', async () => {
    const { call, vfio } = await setup();
    const address = vfio.mmap(4096);
    vfio.poke(address, Uint8Array.of(12));
    const readOnly = vfio.mmap(4096, { prot: 'r' });
    expect(call(ioctl.IOMMU_IOAS_ALLOC, readOnly)).toBe(-EINVAL);
    expect(call(ioctl.IOMMU_IOAS_ALLOC, address)).toBe(0);
    expect(new DataView(vfio.peek(address, 12).buffer).getUint32(8, true)).toBe(2);
  });
});

describe('iommufd: MAP and COPY', () => {
  it('refuses in order: EOPNOTSUPP flags and reserved, EINVAL no permission, ENOENT, EEXIST', async () => {
    const { call, id, ram } = await setup();
    const map = (init: object) => call(ioctl.IOMMU_IOAS_MAP, ioasMap({ ioas_id: id, user_va: ram, ...init }));
    expect(map({ flags: 8 })).toBe(-EOPNOTSUPP);
    expect(map({ __reserved: 1 })).toBe(-EOPNOTSUPP);
    expect(map({ flags: 1 })).toBe(-EINVAL);
    expect(map({ ioas_id: 99 })).toBe(-ENOENT);
    expect(map({ iova: 0x2000n })).toBe(0);
    expect(map({ iova: 0x2000n })).toBe(-EEXIST);
    expect(map({ iova: 0x1000n, length: 0x3000n })).toBe(-EEXIST);
  });

  it('places anywhere from page 1, as aligned as the memory is', async () => {
    const { iommufd, id, vfio } = await setup();
    const address = vfio.mmap(0x10000, { addr: 0x100000n });
    expect(iommufd.map(id, address, 0x1000)).toBe(0x1000n);
    expect(iommufd.map(id, address, 0x4000)).toBe(0x4000n);
    expect(iommufd.map(id, address + 0x1000n, 0x4000)).toBe(0x2000n + 0x6000n);
    expect(iommufd.map(id, address, 0x1000)).toBe(0x2000n);
  });

  it('unmaps whole areas; what went before a cut one stays unmapped', async () => {
    const { iommufd, id, ram } = await setup();
    iommufd.map(id, ram, 0x2000, 0x10000n);
    iommufd.map(id, ram, 0x2000, 0x12000n);
    expect(() => iommufd.unmap(id, 0x10000n, 0x3000)).toThrow(/ENOENT/);
    expect(iommufd.unmap(id, 0n, 0x20000)).toBe(0x2000n);
    expect(() => iommufd.unmap(id, 0n, 0x20000)).toThrow(/ENOENT/);
    expect(() => iommufd.unmap(id, 0n, 0)).toThrow(/EINVAL/);
    expect(iommufd.unmap(id, 0n, (1n << 64n) - 1n)).toBe(0n);
  });

  it('COPY: ENOENT a gap, EPERM more than the source, and the same memory behind both', async () => {
    const { iommufd, id, ram, call, hw, vfio } = await setup();
    const other = iommufd.createIoas();
    iommufd.map(id, ram, 0x1000, 0x10000n, 'r');
    iommufd.map(id, ram + 0x3000n, 0x1000, 0x11000n, 'r');
    const copy = (init: object) =>
      call(
        ioctl.IOMMU_IOAS_COPY,
        new structs.IommuIoasCopy({
          flags: 5,
          dst_ioas_id: other,
          src_ioas_id: id,
          src_iova: 0x10000n,
          dst_iova: 0x50000n,
          length: 0x2000n,
          ...init,
        }),
      );
    expect(copy({ length: 0x3000n })).toBe(-ENOENT);
    expect(copy({ flags: 7 })).toBe(-EPERM);
    expect(copy({ src_ioas_id: 99 })).toBe(-ENOENT);
    expect(copy({ flags: 8 })).toBe(-EOPNOTSUPP);
    expect(copy({})).toBe(0);
    const device = iommufd.device(0, other);
    vfio.poke(ram + 0x3000n, Uint8Array.of(1, 2, 3));
    const bytes = new Uint8Array(3);
    expect(hw.busMaster(0x51000n, bytes, false)).toBe(0);
    expect([...bytes]).toEqual([1, 2, 3]);
    expect(hw.busMaster(0x51000n, bytes, true)).toBe(-EFAULT);
    expect(iommufd.unmap(other, 0x50000n, 0x2000)).toBe(0x2000n);
    device.close();
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });
});

describe('iommufd: ranges', () => {
  const ranges = async (room: number, from: Awaited<ReturnType<typeof setup>>) => {
    const { vfio, call, id, ram } = from;
    const argument = new structs.IommuIoasIovaRanges({ ioas_id: id, num_iovas: room, allowed_iovas: ram });
    const result = call(ioctl.IOMMU_IOAS_IOVA_RANGES, argument);
    const view = new DataView(vfio.peek(ram, 64).buffer);
    const words = Array.from({ length: 4 }, (_, i) => view.getBigUint64(8 * i, true));
    return { result, total: argument.num_iovas, words, alignment: argument.out_iova_alignment };
  };

  it('everything without hardware; what the unit translates with it; EMSGSIZE when there is no room, with the number', async () => {
    const from = await setup();
    expect(await ranges(2, from)).toMatchObject({
      result: 0,
      total: 1,
      words: [0n, (1n << 64n) - 1n, 0n, 0n],
      alignment: 4096n,
    });
    from.iommufd.device(0, from.id);
    expect(await ranges(1, from)).toMatchObject({ result: -EMSGSIZE, total: 2, words: [0n, 0xfedfffffn, 0n, 0n] });
    expect(await ranges(2, from)).toMatchObject({ result: 0, words: [0n, 0xfedfffffn, 0xfef00000n, 0xffffffffffffn] });
  });

  it('a unit cannot join where something is mapped that it cannot translate', async () => {
    const { iommufd, id, ram, vfio, hw } = await setup();
    iommufd.map(id, ram, 4096, 0xfee00000n);
    expect(() => iommufd.device(0, id)).toThrow(/EADDRINUSE/);
    expect(hw.dma).toBeNull();
    iommufd.unmap(id, 0xfee00000n, 4096);
    iommufd.map(id, vfio.mmap(4096, { backed: false }), 4096, 0x1000n);
    expect(() => iommufd.device(0, id)).toThrow(/EFAULT/);
    iommufd.unmap(id, 0x1000n, 4096);
    expect(iommufd.device(0, id).fd).toBeGreaterThan(0);
  });

  it('ALLOW_IOVAS limits placement: EINVAL overlapping or empty, EADDRINUSE not translatable', async () => {
    const { iommufd, id, ram, vfio, call } = await setup();
    iommufd.device(0, id);
    const allow = (...pairs: [bigint, bigint][]) => {
      const view = new DataView(new ArrayBuffer(16 * pairs.length));
      pairs.flat().forEach((value, index) => {
        view.setBigUint64(8 * index, value, true);
      });
      vfio.poke(ram, new Uint8Array(view.buffer));
      return call(
        ioctl.IOMMU_IOAS_ALLOW_IOVAS,
        new structs.IommuIoasAllowIovas({ ioas_id: id, num_iovas: pairs.length, allowed_iovas: ram }),
      );
    };
    expect(allow([0n, 0xfffn], [0x800n, 0x1fffn])).toBe(-EINVAL);
    expect(allow([5n, 5n])).toBe(-EINVAL);
    expect(allow([0xfee00000n, 0xfee0ffffn])).toBe(-EADDRINUSE);
    expect(allow([0x40000000n, 0x40001fffn])).toBe(0);
    expect(iommufd.map(id, ram, 0x1000)).toBe(0x40000000n);
    expect(() => iommufd.map(id, ram, 0x4000)).toThrow(/ENOSPC/);
    expect(allow()).toBe(0);
    expect(iommufd.map(id, ram, 0x1000)).toBe(0x1000n);
  });
});

describe('iommufd: options', () => {
  const option = (init: object) => new structs.IommuOption(init);
  it('rlimit mode: set while there is no object', async () => {
    const { vfio } = await objects();
    const fd = vfio.open('/dev/iommu');
    const call = (init: object) => vfio.ioctlRaw(fd, ioctl.IOMMU_OPTION, option(init));
    expect(call({ op: 2 })).toBe(-EOPNOTSUPP);
    expect(call({ option_id: 9 })).toBe(-EOPNOTSUPP);
    expect(call({ __reserved: 1 })).toBe(-EOPNOTSUPP);
    expect(call({ val64: 2n })).toBe(-EINVAL);
    expect(call({ val64: 1n })).toBe(0);
    const get = option({ op: 1 });
    expect(vfio.ioctlRaw(fd, ioctl.IOMMU_OPTION, get)).toBe(0);
    expect(get.val64).toBe(1n);
    vfio.ioctl(fd, ioctl.IOMMU_IOAS_ALLOC, new structs.IommuIoasAlloc());
    expect(call({ val64: 0n })).toBe(-EBUSY);
    vfio.rlimit({ lockCap: false });
    expect(call({ val64: 0n })).toBe(-EPERM);
  });

  it('huge pages: of one address space', async () => {
    const { call, id } = await setup();
    expect(call(ioctl.IOMMU_OPTION, option({ option_id: 1, object_id: 99 }))).toBe(-ENOENT);
    expect(call(ioctl.IOMMU_OPTION, option({ option_id: 1, object_id: id, val64: 0n }))).toBe(0);
    const get = option({ option_id: 1, op: 1, object_id: id, val64: 7n });
    expect(call(ioctl.IOMMU_OPTION, get)).toBe(0);
    expect(get.val64).toBe(0n);
  });
});

describe('iommufd as a container', () => {
  it('VFIO_IOAS: ENODEV until there is one; SET, GET, CLEAR', async () => {
    const { call, id } = await setup();
    const space = (op: number, ioas_id = 0) => new structs.IommuVfioIoas({ op, ioas_id });
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(0))).toBe(-ENODEV);
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(1, 99))).toBe(-ENOENT);
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(1, id))).toBe(0);
    const get = space(0);
    expect(call(ioctl.IOMMU_VFIO_IOAS, get)).toBe(0);
    expect(get.ioas_id).toBe(id);
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(2))).toBe(0);
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(0))).toBe(-ENODEV);
    expect(call(ioctl.IOMMU_VFIO_IOAS, space(3))).toBe(-EOPNOTSUPP);
  });

  it('a group needs no SET_IOMMU; container calls map for it; a device outlives UNSET_CONTAINER', async () => {
    const { vfio, hw } = await objects();
    const fd = vfio.open('/dev/iommu');
    const call = (request: number, arg?: Parameters<VfioInstance['ioctlRaw']>[2]) => vfio.ioctlRaw(fd, request, arg);
    expect(call(ioctl.VFIO_SET_IOMMU, 3)).toBe(-ENODEV);
    expect(call(ioctl.VFIO_CHECK_EXTENSION, 4)).toBe(-ENODEV);
    const group = vfio.open('/dev/vfio/1');
    vfio.ioctl(group, ioctl.VFIO_GROUP_SET_CONTAINER, new structs.S32({ value: fd }));
    const device = vfio.ioctl(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'hw');
    expect([1, 3, 4, 6, 8, 9, 10].map((id) => call(ioctl.VFIO_CHECK_EXTENSION, id))).toEqual([1, 1, 0, 0, 1, 1, 0]);
    expect([1, 3, 6, 99].map((type) => call(ioctl.VFIO_SET_IOMMU, type))).toEqual([0, 0, -EINVAL, -EINVAL]);
    const ram = vfio.mmap(0x4000);
    vfio.poke(ram, Uint8Array.of(7));
    const map = { flags: 3, vaddr: ram, iova: 0x10000n, size: 0x4000n };
    expect(call(ioctl.VFIO_IOMMU_MAP_DMA, new structs.VfioIommuType1DmaMap(map))).toBe(0);
    expect(call(ioctl.VFIO_IOMMU_MAP_DMA, new structs.VfioIommuType1DmaMap(map))).toBe(-EEXIST);
    expect(call(ioctl.VFIO_IOMMU_MAP_DMA, new structs.VfioIommuType1DmaMap({ ...map, flags: 4 }))).toBe(-EINVAL);
    const bytes = new Uint8Array(1);
    expect(hw.busMaster(0x10000n, bytes, false)).toBe(0);
    expect(bytes[0]).toBe(7);
    const info = new structs.VfioIommuType1Info({ argsz: 128 });
    expect(call(ioctl.VFIO_IOMMU_GET_INFO, info)).toBe(0);
    expect([info.iova_pgsizes, info.cap_offset]).toEqual([0x40201000n, 24]);
    vfio.ioctl(group, ioctl.VFIO_GROUP_UNSET_CONTAINER);
    expect(hw.busMaster(0x10000n, bytes, false)).toBe(0);
    const unmap = (init: object) => call(ioctl.VFIO_IOMMU_UNMAP_DMA, new structs.VfioIommuType1DmaUnmap(init));
    expect(unmap({ flags: 1 })).toBe(-EOPNOTSUPP);
    expect(unmap({ flags: 2, size: 4096n })).toBe(-EINVAL);
    expect(unmap({ iova: 0x11000n, size: 0x1000n }), 'cut').toBe(-ENOENT);
    expect(unmap({ iova: 0x11000n }), 'empty').toBe(-EINVAL);
    expect(unmap({ iova: 0xfffffffffffff000n, size: 0x2000n }), 'wraps').toBe(-EOVERFLOW);
    expect(unmap({ iova: 0n, size: 0x1000n }), 'nothing there').toBe(0);
    expect(unmap({ flags: 2 })).toBe(0);
    expect(hw.busMaster(0x10000n, bytes, false)).toBe(-EFAULT);
    vfio.close(device);
    expect(hw.group.dmaOwned).toBe(false);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('a device that is open on an iommufd stays there when its group joins a container; later opens share what the first found', async () => {
    const { vfio, md } = await objects();
    const iommufd = vfio.open('/dev/iommu');
    const group = vfio.open('/dev/vfio/2');
    const join = (fd: number) => vfio.ioctl(group, ioctl.VFIO_GROUP_SET_CONTAINER, new structs.S32({ value: fd }));
    join(iommufd);
    const first = vfio.ioctl(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md');
    const { dma } = md;
    vfio.ioctl(group, ioctl.VFIO_GROUP_UNSET_CONTAINER);
    expect(vfio.ioctlRaw(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md')).toBe(-EINVAL);
    const container = vfio.open('/dev/vfio/vfio');
    join(container);
    // No SET_IOMMU yet: only a first open would need it.
    const second = vfio.ioctl(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md');
    vfio.ioctl(container, ioctl.VFIO_SET_IOMMU, 3);
    const third = vfio.ioctl(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md');
    expect(md.dma).toBe(dma);
    expect(md.notes).toEqual(['open']);
    for (const fd of [first, third]) vfio.close(fd);
    expect(md.iommufd).not.toBeNull();
    vfio.close(second);
    expect([md.iommufd, md.dma]).toEqual([null, null]);
    expect(md.notes).toEqual(['open', 'close']);
    // Now the container has it: as long as any file is open, it is in use.
    const [fourth, fifth] = [1, 2].map(() => vfio.ioctl(group, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md'));
    vfio.close(fourth as number);
    expect(vfio.ioctlRaw(group, ioctl.VFIO_GROUP_UNSET_CONTAINER)).toBe(-EBUSY);
    vfio.close(fifth as number);
    expect(vfio.ioctlRaw(group, ioctl.VFIO_GROUP_UNSET_CONTAINER)).toBe(0);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('a mediated device pins through it, without the limit of 512 pages, and is told of what goes away', async () => {
    const { iommufd, id, md, vfio } = await setup();
    const ram = vfio.mmap(0x300000);
    iommufd.map(id, ram, 0x300000, 0x400000n);
    iommufd.device(1, id);
    const pfns = new Uint32Array(768);
    expect(md.pinPages(0x400000n, 768, 3, pfns)).toBe(768);
    expect(md.pinPages(0x10000n, 1, 3, pfns)).toBe(-ENOENT);
    expect(iommufd.unmap(id, 0x400000n, 0x300000)).toBe(0x300000n);
    expect(md.notes).toEqual(['open', `unmap ${0x400000}+${0x300000}`]);
    expect(md.pins.size).toBe(0);
  });

  it('through a container 512 pages are the limit', async () => {
    const { vfio, md } = await objects();
    opened(vfio, 2, 'md');
    expect(md.pinPages(0n, 513, 1, new Uint32Array(513))).toBe(-E2BIG);
    expect(md.pinPages(0n, 0, 1, new Uint32Array(1))).toBe(-EINVAL);
  });
});
