import { describe, expect, it } from 'vitest';
import { EFAULT } from '../../assembly/abi.ts';
import type { Edu } from '../../host/devices/edu.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { VFIO_IOMMU_UNMAP_DMA } from '../../host/uapi/ioctl.ts';
import { VfioIommuType1DmaUnmap } from '../../host/uapi/structs.ts';
import { CONFIG, get, mapMemory, type Opened, openDevice, set } from '../support/opened.ts';

const EDU = '0000:00:01.0';
const hardware = ({ vfio }: Opened) => (vfio.kernel.nodes.get(0) as VfioPciDevice).hw as Edu;

describe('DMA of a function through its container', () => {
  it('moves under the mapping’s permission, page by page over holes', async () => {
    const opened = await openDevice(1, EDU);
    const { dma } = hardware(opened);
    const vaddr = mapMemory(opened, 0x10000n, 0x2000);
    const readOnly = mapMemory(opened, 0x12000n, 0x1000, 1);
    opened.vfio.poke(readOnly, new Uint8Array(0x1000).fill(5));
    expect(dma.write(0x10000n, Uint8Array.of(1))).toBe(-EFAULT);
    set(opened, CONFIG + 4n, 0x6, 2);
    expect(dma.write(0x11ff0n, new Uint8Array(0x20).fill(9))).toBe(-EFAULT);
    expect([...opened.vfio.peek(vaddr + 0x1ff0n, 16)]).toEqual(new Array(16).fill(9));
    expect([...opened.vfio.peek(readOnly, 4)]).toEqual([5, 5, 5, 5]);
    const into = new Uint8Array(0x20).fill(0xee);
    expect(dma.read(0x12ff0n, into)).toBe(-EFAULT);
    expect([...into]).toEqual([...new Array(16).fill(5), ...new Array(16).fill(0)]);
    expect(dma.read(0xfffffffffffffff8n, into)).toBe(-EFAULT);
  });

  it('lends memory of the core without a copy, with the permission it has', async () => {
    const opened = await openDevice(1, EDU);
    const { dma } = hardware(opened);
    const vaddr = mapMemory(opened, 0x10000n, 0x2000);
    mapMemory(opened, 0x12000n, 0x1000, 1);
    expect(dma.view(0x10000n, 16, true)).toBe(null);
    set(opened, CONFIG + 4n, 0x6, 2);
    const view = dma.view(0x10ff0n, 0x20, true)!;
    view.fill(0x42);
    expect([...opened.vfio.peek(vaddr + 0xff0n, 0x20)]).toEqual(new Array(0x20).fill(0x42));
    expect(dma.view(0x12000n, 16, true)).toBe(null);
    expect(dma.view(0x12000n, 16, false)).toHaveLength(16);
    expect(dma.view(0x13000n, 1, false)).toBe(null);
    expect(dma.view(0xffffffffffffffffn, 2, false)).toBe(null);
  });

  it('finishes a transfer that was under way when the memory went, and when the device was closed', async () => {
    const opened = await openDevice(1, EDU);
    const { vfio, clock } = opened;
    mapMemory(opened, 0x100000n, 0x1000);
    set(opened, CONFIG + 4n, 0x6, 2);
    const start = () => {
      set(opened, 0x80, 0x100000);
      set(opened, 0x88, 0x40000);
      set(opened, 0x90, 64);
      set(opened, 0x98, 1);
    };
    start();
    vfio.ioctl(opened.container, VFIO_IOMMU_UNMAP_DMA, new VfioIommuType1DmaUnmap({ iova: 0x100000n, size: 0x1000n }));
    expect(get(opened, 0x98)).toBe(1);
    clock.advance(100);
    expect(get(opened, 0x98)).toBe(0);
    start();
    const { state } = hardware(opened);
    vfio.close(opened.fd);
    clock.advance(100);
    expect(state.command).toBe(0n);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });
});
