// The PCI core as a library: a driver of one's own over it, peers in one container, node descriptors, VGA.
import { describe, expect, it } from 'vitest';
import { EINVAL } from '../../assembly/abi.ts';
import { PciDevice, type Width } from '../../host/devices/pci_device.ts';
import { coreEnable, coreFinishEnable, registerRegion } from '../../host/drivers/pci/core.ts';
import { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { VFIO_PCI_OPS } from '../../host/drivers/pci/vfio_pci.ts';
import { walkCaps } from '../../host/uapi/caps.ts';
import {
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
} from '../../host/uapi/ioctl.ts';
import {
  S32,
  VfioDeviceBindIommufd,
  VfioIommuType1DmaMap,
  VfioPciHotReset,
  VfioPciHotResetInfo,
  VfioRegionInfo,
} from '../../host/uapi/structs.ts';
import type { VfioDeviceOps } from '../../host/vfio/ops.ts';
import {
  CONFIG,
  get,
  instance,
  open,
  openDevice,
  REGION,
  readRegion,
  regionInfo,
  set,
  writeRegion,
} from '../support/opened.ts';

class Plain extends PciDevice {
  constructor() {
    super({ vendor: 1, device: 2, classCode: 0x030000, vga: true });
  }
  protected override read(bar: number, offset: number, width: Width): number {
    return bar * 0x10 + (offset & 0xf) * 0x100 + width;
  }
}

describe('a driver over the library core', () => {
  it('adds a region with its own calls and sparse areas, and keeps everything else', async () => {
    const { vfio, clock } = await instance({ devices: [] });
    const storage = new Uint8Array(0x3000);
    const seen: string[] = [];
    const ops: VfioDeviceOps<VfioPciDevice> = {
      ...VFIO_PCI_OPS,
      name: 'variant',
      openDevice(device) {
        const result = coreEnable(device);
        if (result < 0) return result;
        registerRegion(device, {
          flags: 7,
          size: 0x3000n,
          type: 0x80001234,
          subtype: 9,
          sparse: [{ offset: 0x1000n, size: 0x1000n }],
          read: (_device, _task, buffer, pos) =>
            buffer.copyOut(0, storage.subarray(Number(pos), Number(pos) + buffer.length)) ? buffer.length : -14,
          mmap: (_device, _task, pos) => ({
            read: (offset, into) => {
              into.set(storage.subarray(Number(pos) + offset, Number(pos) + offset + into.length));
              return true;
            },
            write: (offset, from) => {
              storage.set(from, Number(pos) + offset);
              return true;
            },
          }),
          release: () => seen.push('release'),
        });
        coreFinishEnable(device);
        return 0;
      },
    };
    const device = new VfioPciDevice(vfio.kernel, '0000:00:1f.0', ops, new Plain());
    vfio.kernel.registerDevice(device, '8', 'iommu', vfio.machine.pciIommu);
    const opened = open(vfio, clock, 8, device.name);
    const info = new VfioRegionInfo({ argsz: 96, index: 9 });
    vfio.ioctl(opened.fd, VFIO_DEVICE_GET_REGION_INFO, info);
    expect([info.size, walkCaps(info.bytes, info.cap_offset).map((cap) => cap.id)]).toEqual([0x3000n, [2, 1]]);
    expect(vfio.mmapRaw(0x1000, { fd: opened.fd, offset: REGION(9) })).toBe(BigInt(-EINVAL));
    expect(vfio.mmapRaw(0x2000, { fd: opened.fd, offset: REGION(9) + 0x1000n })).toBe(BigInt(-EINVAL));
    const mapped = vfio.mmap(0x1000, { fd: opened.fd, offset: REGION(9) + 0x1000n });
    vfio.poke(mapped + 4n, Uint8Array.of(1, 2, 3));
    expect([...(readRegion(opened, REGION(9) + 0x1004n, 3) as Uint8Array)]).toEqual([1, 2, 3]);
    expect(writeRegion(opened, REGION(9), [1])).toBe(-EINVAL);
    expect(regionInfo(opened, 10)).toBe(-EINVAL);
    vfio.munmap(mapped, 0x1000);
    vfio.close(opened.fd);
    expect(seen).toEqual(['release']);
  });

  it('shows the VGA ranges of a function that has them, and nothing between', async () => {
    const { vfio, clock } = await instance({ devices: [] });
    const device = vfio.plug(new Plain());
    const opened = open(vfio, clock, device.group.name, device.name);
    expect(regionInfo(opened, 8)).toMatchObject({ size: 0xc0000n, flags: 3 });
    expect([...(readRegion(opened, REGION(8) + 0x3ben - 3n, 9) as Uint8Array)]).toEqual([0x81]);
    expect(get(opened, REGION(8) + 0xa0004n)).toBe(0x84 + 0x400);
    expect(readRegion(opened, REGION(8) + 0xbfffen, 8)).toHaveLength(2);
    for (const at of [0x3afn, 0x3bcn, 0x3e0n, 0x9ffffn, 0xc0000n])
      expect(readRegion(opened, REGION(8) + at, 1)).toBe(-EINVAL);
    expect(regionInfo(await openDevice(1, '0000:00:01.0'), 8)).toBe(-EINVAL);
  });
});

describe('functions together', () => {
  it('one function’s DMA reaches the BAR of another through a mapping of it', async () => {
    const opened = await openDevice(1, '0000:00:01.0');
    const { vfio, clock, container } = opened;
    const group = vfio.open('/dev/vfio/2');
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
    const peer = { ...opened, fd: vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, '0000:00:02.0') };
    set(opened, CONFIG + 4n, 6, 2);
    set(peer, CONFIG + 4n, 2, 2);
    const vaddr = vfio.mmap(0x1000, { fd: peer.fd, offset: 0 });
    vfio.ioctl(
      container,
      VFIO_IOMMU_MAP_DMA,
      new VfioIommuType1DmaMap({ flags: 3, vaddr, iova: 0x20000n, size: 0x1000n }),
    );
    set(peer, 0x100, 0x11223344);
    const dma = (source: number, destination: number, command: number) => {
      set(opened, 0x80, source);
      set(opened, 0x88, destination);
      set(opened, 0x90, 4);
      set(opened, 0x98, command);
      clock.advance(100);
    };
    dma(0x20100, 0x40000, 1);
    dma(0x40000, 0x20200, 3);
    expect(get(peer, 0x200)).toBe(0x11223344);
    set(peer, CONFIG + 4n, 0, 2);
    dma(0x40000, 0x20300, 3);
    set(peer, CONFIG + 4n, 2, 2);
    expect(get(peer, 0x300)).toBe(0);
  });

  it('node descriptors prove ownership of a bus by their iommufd', async () => {
    const { vfio, clock } = await instance();
    const iommufd = vfio.open('/dev/iommu');
    const fds = [1, 2].map((node) => vfio.open(`/dev/vfio/devices/vfio${node}`));
    const bind = (fd: number) => {
      const arg = new VfioDeviceBindIommufd({ argsz: 16, iommufd });
      vfio.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, arg);
      return arg.out_devid;
    };
    const list = (fd: number) => {
      const info = new VfioPciHotResetInfo({ argsz: 28 });
      vfio.ioctl(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
      return [info.flags, info.view.getUint32(12, true), info.view.getUint32(20, true)];
    };
    const first = bind(fds[0]!);
    expect(list(fds[0]!)).toEqual([3, first, 0]);
    const second = bind(fds[1]!);
    expect(list(fds[0]!)).toEqual([3, first, second]);
    const opened = { vfio, clock, fd: fds[1]!, container: -1, group: -1 };
    set(opened, CONFIG + 4n, 2, 2);
    set(opened, 0, 7);
    expect(vfio.ioctlRaw(fds[0]!, VFIO_DEVICE_PCI_HOT_RESET, new VfioPciHotReset({ argsz: 16, count: 1 }))).toBe(
      -EINVAL,
    );
    expect(vfio.ioctlRaw(fds[0]!, VFIO_DEVICE_PCI_HOT_RESET, new VfioPciHotReset())).toBe(0);
    expect(get(opened, 0)).toBe(0);
  });
});
