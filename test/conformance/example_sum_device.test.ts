// The example of docs/how-to/write-a-device.md, used as its reader would use it.
import { expect, it } from 'vitest';
import { SumDevice } from '../../examples/sum_device.ts';
import { Container, createVfio, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from '../../host/inline.ts';

it('a device of one’s own adds up a buffer by DMA and interrupts by MSI-X', async () => {
  const vfio = await createVfio({ machine: { devices: [] } });
  const plugged = vfio.plug(new SumDevice());

  const container = new Container(vfio);
  const device = container.attach(plugged.group.name).device(plugged.name);
  const memory = container.map(0x100000n, 4096);
  new Uint32Array(memory.bytes.buffer, memory.bytes.byteOffset, 3).set([40, 1, 1]);

  device.region(VFIO_PCI_CONFIG_REGION_INDEX).set(4, 0x6, 2); // memory space and bus master on
  const [done, fault] = device.irq(VFIO_PCI_MSIX_IRQ_INDEX).enable(2);
  const registers = device.region(0);
  registers.set(0x00, 0x100000);
  registers.set(0x04, 0);
  registers.set(0x08, 12);
  expect(await done!.next()).toBe(1n);
  expect(registers.get(0x0c)).toBe(42);

  registers.set(0x04, 1);
  registers.set(0x08, 12);
  expect(await fault!.next()).toBe(1n);
  expect(registers.get(0x10)).toBe(2);

  device.reset();
  expect(registers.get(0x10)).toBe(0);
  container.close();
  device.close();
  vfio.exit();
  expect(vfio.core.liveBytes).toBe(0);
  expect(vfio.kernel.pages.usedBytes).toBe(0);
});
