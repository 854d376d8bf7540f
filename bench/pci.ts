// PCI: what an access of a register, of configuration space, an interrupt and DMA cost through the whole ABI, beside the bare model or a plain
// copy.
import type { VfioPciDevice } from '../host/drivers/pci/device.ts';
import { Container, createVfio } from '../host/node.ts';
import { VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from '../host/uapi/constants.ts';
import { type Candidate, measure, type Row } from './harness.ts';

const CONFIG = 7n << 40n;
const PAGE = 4096;
const LARGE = 1 << 20;

const times = (name: string, once: () => unknown): Candidate => ({
  name,
  run(n) {
    for (let i = 0; i < n; i++) once();
  },
});

export async function rows(): Promise<Row[]> {
  const vfio = await createVfio();
  const container = new Container(vfio);
  const edu = container.attach(1).device('0000:00:01.0');
  const msix = container.attach(2).device('0000:00:02.0');
  for (const device of [edu, msix]) device.region(7).set(4, 0x6, 2);
  const eduHw = (vfio.kernel.nodes.get(0) as VfioPciDevice).hw;
  const msixHw = (vfio.kernel.nodes.get(1) as VfioPciDevice).hw;
  const word = new Uint8Array(4);
  const page = new Uint8Array(PAGE);
  const mapped = vfio.mmap(PAGE, { fd: edu.fd, offset: 0 });
  const access = 'pci access';
  const result: Row[] = [
    await measure({
      table: access,
      row: 'register read, 4 bytes',
      unit: 'access',
      candidates: [
        times('pread', () => vfio.readRaw(edu.fd, word, 4n)),
        times('mmap', () => vfio.peekRaw(mapped + 4n, word)),
        times('bare model', () => eduHw.load(0, 4, 4, word, 0)),
      ],
    }),
    await measure({
      table: access,
      row: 'register write, 4 bytes',
      unit: 'access',
      candidates: [
        times('pwrite', () => vfio.writeRaw(edu.fd, word, 4n)),
        times('mmap', () => vfio.pokeRaw(mapped + 4n, word)),
        times('bare model', () => eduHw.store(0, 4, 4, word, 0)),
      ],
    }),
    await measure({
      table: access,
      row: 'memory BAR read, 4 KiB',
      unit: 'byte',
      per: PAGE,
      candidates: [
        times('pread', () => vfio.readRaw(msix.fd, page, 0n)),
        times('plain copy', () => page.set(msixHw.bars[0]!.memory!)),
      ],
    }),
    await measure({
      table: access,
      row: 'configuration read, 4 bytes',
      unit: 'access',
      candidates: [
        times('pread', () => vfio.readRaw(edu.fd, word, CONFIG)),
        times('bare model', () => eduHw.configRead(0, 4)),
      ],
    }),
    await measure({
      table: access,
      row: 'configuration write, cache line',
      unit: 'access',
      candidates: [
        times('pwrite', () => vfio.writeRaw(edu.fd, word.subarray(0, 1), CONFIG + 0xcn)),
        times('bare model', () => eduHw.configWrite(0xc, 1, 0)),
      ],
    }),
  ];
  result.push(...(await interrupts(edu, msix, eduHw, msixHw)), ...(await dma(container, msixHw)));
  vfio.exit();
  return result;
}

type Opened =
  ReturnType<InstanceType<typeof Container>['attach']> extends { device(name: string): infer D } ? D : never;

async function interrupts(
  edu: Opened,
  msix: Opened,
  eduHw: VfioPciDevice['hw'],
  msixHw: VfioPciDevice['hw'],
): Promise<Row[]> {
  let heard = 0;
  const listen = () => {
    heard++;
  };
  edu.irq(VFIO_PCI_MSI_IRQ_INDEX).enable(1, listen);
  msix.irq(VFIO_PCI_MSIX_IRQ_INDEX).enable(8, listen);
  const callback = times('callback', listen);
  const row = (name: string, hw: VfioPciDevice['hw'], vector: number) =>
    measure({
      table: 'pci interrupts',
      row: name,
      unit: 'interrupt',
      candidates: [times('device to eventfd to listener', () => hw.interrupt(vector)), callback],
    });
  const done = [await row('MSI', eduHw, 0), await row('MSI-X, vector 5', msixHw, 5)];
  if (heard === 0) throw new Error('no interrupt arrived');
  return done;
}

async function dma(container: Container, hw: VfioPciDevice['hw']): Promise<Row[]> {
  const memory = container.map(0x10000000n, LARGE).bytes;
  const buffer = new Uint8Array(LARGE).fill(7);
  const sized = (size: number, name: string) => {
    const part = buffer.subarray(0, size);
    const target = memory.subarray(0, size);
    return measure({
      table: 'pci DMA',
      row: name,
      unit: 'byte',
      per: size,
      candidates: [
        times('dma.write', () => hw.dma.write(0x10000000n, part)),
        times('dma.view', () => hw.dma.view(0x10000000n, size, true)!.set(part)),
        times('plain copy', () => target.set(part)),
      ],
    });
  };
  return [await sized(64, '64 bytes'), await sized(PAGE, '4 KiB'), await sized(LARGE, '1 MiB')];
}
