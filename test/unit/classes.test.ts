// The convenience classes, told as the program of the README would use them, against the default machine.
import { describe, expect, it } from 'vitest';
import { Container } from '../../host/classes/container.ts';
import { Iommufd } from '../../host/classes/iommufd.ts';
import { ManualClock } from '../../host/clock.ts';
import { createVfio } from '../../host/inline.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
} from '../../host/uapi/constants.ts';

const RAISE = 0x60;
const setup = async () => {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock });
  const container = new Container(vfio);
  const group = container.attach(1);
  return { clock, vfio, container, group, device: group.device('0000:00:01.0') };
};

describe('container, group, device', () => {
  it('describes the device, reads its registers and its configuration', async () => {
    const { device, container, group } = await setup();
    expect(device.info()).toEqual({ flags: VFIO_DEVICE_FLAGS_PCI, numRegions: 9, numIrqs: 5, caps: [] });
    expect(device.region(VFIO_PCI_BAR0_REGION_INDEX).get(0)).toBe(0x010000ed);
    const config = device.region(VFIO_PCI_CONFIG_REGION_INDEX);
    expect([config.get(0, 2), config.get(2, 2), config.size]).toEqual([0x1234, 0x11e8, 256n]);
    expect(() => device.region(0).get(0xffffe, 4)).toThrow(RangeError);
    expect(container.checkExtension(3)).toBe(1);
    expect(container.info()).toMatchObject({ pageSizes: 0x40201000n, available: 65535 });
    expect(group.viable).toBe(true);
  });

  it('an interrupt calls back, counts, and can be awaited; disabling closes the eventfds', async () => {
    const { device, vfio } = await setup();
    const seen: number[] = [];
    // A message is a write of the device's own: it needs bus mastering.
    device.region(VFIO_PCI_CONFIG_REGION_INDEX).set(4, 0x106, 2);
    const irq = device.irq(VFIO_PCI_MSI_IRQ_INDEX);
    const [eventfd] = irq.enable(1, (subindex) => seen.push(subindex));
    const bar0 = device.region(0);
    bar0.set(RAISE, 1);
    bar0.set(RAISE, 1);
    expect([seen, eventfd?.count]).toEqual([[0, 0], 2n]);
    for await (const count of eventfd!) {
      expect(count).toBe(2n);
      break;
    }
    const open = vfio.task.openFiles;
    irq.disable();
    irq.disable();
    expect(vfio.task.openFiles).toBe(open - 1);
    bar0.set(RAISE, 1);
    expect(seen).toHaveLength(2);
    irq.enable();
    irq.trigger();
    expect(() => device.irq(VFIO_PCI_MSI_IRQ_INDEX).mask()).toThrow(/ENOTTY/);
  });

  it('a level interrupt is masked when it fires, until unmasked', async () => {
    const { device } = await setup();
    const irq = device.irq(VFIO_PCI_INTX_IRQ_INDEX);
    const [eventfd] = irq.enable();
    device.region(0).set(RAISE, 1);
    expect(eventfd?.take()).toBe(1n);
    irq.unmask();
    expect(eventfd?.take(), 'the line is still high').toBe(1n);
    device.region(0).set(0x64, 1);
    irq.unmask();
    expect(eventfd?.take()).toBeNull();
    expect(device.irq(VFIO_PCI_INTX_IRQ_INDEX)).toBe(irq);
  });

  it('memory is reached by the device at its iova, and freed', async () => {
    const { container, device, clock, vfio } = await setup();
    const ram = container.map(0x100000n, 5000);
    expect(ram.bytes).toHaveLength(8192);
    ram.bytes.set([0xde, 0xad, 0xbe, 0xef]);
    device.region(VFIO_PCI_CONFIG_REGION_INDEX).set(4, 0x106, 2);
    const bar0 = device.region(0);
    const dma = (source: number | bigint, destination: number | bigint, command: number) => {
      bar0.set(0x80, source, 8);
      bar0.set(0x88, destination, 8);
      bar0.set(0x90, 4, 8);
      bar0.set(0x98, command, 8);
      clock.advance(100);
    };
    dma(ram.iova, 0x40000, 1);
    dma(0x40000, ram.iova + 0x1000n, 3);
    expect([...ram.bytes.subarray(4096, 4100)]).toEqual([0xde, 0xad, 0xbe, 0xef]);
    ram.free();
    ram.free();
    expect(() => vfio.view(ram.address, 1)).toThrow(RangeError);
    expect(container.unmapAll()).toBe(0n);
    const own = vfio.mmap(4096);
    expect(container.map(0, 4096, { address: own, prot: 'r' }).address).toBe(own);
    expect(container.unmap(0, 4096)).toBe(4096n);
    expect(() => container.map(0xfee00000n, 4096)).toThrow(/EINVAL/);
  });

  it('features, resets and their refusals', async () => {
    const { device, container } = await setup();
    expect(() => device.feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(8))).toThrow(
      /ENOTTY/,
    );
    expect(() => device.reset()).toThrow(/EINVAL/);
    const mtty = container.attach(6).device('22222222-2222-4222-8222-222222222222');
    mtty.info();
    const flags = mtty.feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(8));
    expect(flags[0]).toBe(7);
  });

  it('a refused attach closes the group again', async () => {
    const { vfio, container } = await setup();
    vfio.bindHostDriver(2, 'neighbour');
    expect(() => container.attach(2)).toThrow(/EPERM/);
    vfio.unbindHostDriver(2, 'neighbour');
    container.attach(2);
  });

  it('close gives everything back', async () => {
    const { vfio, container, device } = await setup();
    device.irq(VFIO_PCI_MSI_IRQ_INDEX).enable();
    container.map(0, 0x10000);
    container.close();
    device.close();
    expect([vfio.task.openFiles, vfio.core.usedPages]).toEqual([0, 0]);
  });

  it('a device node through an iommufd', async () => {
    const vfio = await createVfio();
    const iommufd = new Iommufd(vfio);
    const ioas = iommufd.createIoas();
    const device = iommufd.device(0, ioas);
    expect(device.region(0).get(0)).toBe(0x010000ed);
    expect(() => iommufd.destroy(ioas)).toThrow(/EBUSY/);
    expect(() => iommufd.device(0)).toThrow(/EINVAL/);
    device.close();
    iommufd.destroy(ioas);
    iommufd.close();
    expect(vfio.task.openFiles).toBe(0);
  });
});
