import { describe, expect, it } from 'vitest';
import { SumDevice } from '../../examples/sum_device.ts';
import { PCI_COMMAND } from '../../host/devices/pci_config.ts';
import { PciDevice, type PciDeviceOptions, type PciHost } from '../../host/devices/pci_device.ts';

class Sample extends PciDevice {
  readonly log: string[] = [];
  constructor(options: Partial<PciDeviceOptions> = {}) {
    super({ vendor: 1, device: 2, classCode: 0xff0000, bars: { 0: { size: 256 } }, ...options });
  }
  protected override read(bar: number, offset: number, width: number): number {
    this.log.push(`r${bar}:${offset}:${width}`);
    return 0x11223344;
  }
  protected override write(bar: number, offset: number, width: number, value: number): void {
    this.log.push(`w${bar}:${offset}:${width}:${value.toString(16)}`);
  }
}

class Host implements PciHost {
  readonly lines: boolean[] = [];
  readonly messages: string[] = [];
  memory: PciHost['memory'] = null;
  intx(level: boolean): void {
    this.lines.push(level);
  }
  message(address: bigint, data: number): void {
    this.messages.push(`${address.toString(16)}:${data}`);
  }
}

function plugged<D extends PciDevice>(device: D): { device: D; host: Host } {
  const host = new Host();
  device.host = host;
  return { device, host };
}
const MASTER = 0x106;
const store = (device: PciDevice, bar: number, at: number, value: number) =>
  device.store(bar, at, 4, new Uint8Array(Uint32Array.of(value).buffer), 0);

describe('a PCI function', () => {
  it('answers accesses of its own width; 8 bytes are two of 4 unless the model says otherwise', () => {
    const { device } = plugged(new Sample());
    const into = new Uint8Array(8);
    device.load(0, 8, 2, into, 0);
    device.load(0, 8, 8, into, 0);
    expect([...into]).toEqual([0x44, 0x33, 0x22, 0x11, 0x44, 0x33, 0x22, 0x11]);
    device.store(0, 16, 8, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0xff), 0);
    expect(device.log).toEqual(['r0:8:2', 'r0:8:4', 'r0:12:4', 'w0:16:4:1', 'w0:20:4:ff000002']);
  });

  it('does not decode while its memory bit is off, and has nothing behind a BAR that does not exist', () => {
    const { device } = plugged(new Sample());
    const into = new Uint8Array(4);
    device.configWrite(PCI_COMMAND, 2, 0);
    device.load(0, 0, 4, into, 0);
    device.store(0, 0, 4, into, 0);
    device.load(3, 0, 4, into, 0);
    expect([...into]).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect(device.log).toEqual([]);
  });

  it('drives INTx as a level, holds it back by INTx disable, shows it in the status', () => {
    const { device, host } = plugged(new Sample());
    device.raiseIntx();
    device.raiseIntx();
    expect(host.lines).toEqual([true]);
    device.configWrite(PCI_COMMAND, 2, 0x502);
    expect(host.lines).toEqual([true, false]);
    expect(device.configRead(6, 2) & 8).toBe(8);
    device.configWrite(PCI_COMMAND, 2, 0x102);
    device.lowerIntx();
    expect(host.lines).toEqual([true, false, true, false]);
    expect(device.configRead(6, 2) & 8).toBe(0);
  });

  it('sends MSI with the vector in the low bits; masked vectors wait; without bus master they are lost', () => {
    const { device, host } = plugged(new Sample({ msi: { vectors: 4, maskable: true } }));
    const at = device.msi!.offset;
    device.msi!.program(0xfee01000n, 0x40);
    device.configWrite(PCI_COMMAND, 2, MASTER);
    device.configWrite(at + 2, 2, 0x21);
    device.interrupt(3);
    device.configWrite(at + 16, 4, 2);
    device.interrupt(1);
    device.interrupt(1);
    expect(host.messages).toEqual(['fee01000:67']);
    device.configWrite(at + 16, 4, 0);
    expect(host.messages).toEqual(['fee01000:67', 'fee01000:65']);
    device.configWrite(PCI_COMMAND, 2, 0x102);
    device.interrupt(0);
    expect(host.messages).toHaveLength(2);
    expect(host.lines).toEqual([]);
  });

  it('lowers the line when messages are enabled and does not raise it again by itself', () => {
    const { device, host } = plugged(new Sample({ msi: {}, interruptPin: 1 }));
    device.interrupt();
    device.configWrite(device.msi!.offset + 2, 2, 1);
    device.configWrite(device.msi!.offset + 2, 2, 0);
    expect(host.lines).toEqual([true, false]);
    device.interrupt();
    expect(host.lines).toEqual([true, false, true]);
  });

  it('keeps an MSI-X vector pending while it or the function is masked, and never sends it twice', () => {
    const { device, host } = plugged(new Sample({ msix: { bar: 0, vectors: 3, table: 0, pending: 0x80 } }));
    const at = device.msix!.offset;
    device.configWrite(PCI_COMMAND, 2, MASTER);
    device.configWrite(at + 2, 2, 0xc000);
    store(device, 0, 16, 0xfee00000);
    store(device, 0, 24, 77);
    store(device, 0, 28, 0);
    device.interrupt(1);
    device.interrupt(1);
    device.interrupt(2);
    device.interrupt(9);
    const pending = new Uint8Array(1);
    device.load(0, 0x80, 1, pending, 0);
    expect(pending[0]).toBe(6);
    store(device, 0, 0x80, 0);
    device.configWrite(at + 2, 2, 0x8000);
    expect(host.messages).toEqual(['fee00000:77']);
    device.load(0, 0x80, 1, pending, 0);
    expect(pending[0]).toBe(4);
    expect(device.log).toEqual([]);
  });

  it('loses addresses, decoding, messages and the line on reset, not plain storage', () => {
    const { device, host } = plugged(new Sample({ msi: {}, express: { flr: true }, interruptPin: 1 }));
    device.config.writable.fill(0xff, 0xf0, 0x100);
    device.configWrite(0xf0, 4, 0x12345678);
    device.raiseIntx();
    const express = device.config.find(0x10);
    device.configWrite(express + 8, 2, 0x8000);
    expect(host.lines).toEqual([true, false]);
    expect(device.configRead(0x10, 4)).toBe(0);
    expect(device.configRead(PCI_COMMAND, 2)).toBe(0);
    expect(device.configRead(0xf0, 4)).toBe(0x12345678);
    expect(device.configRead(express + 8, 2) & 0x8000).toBe(0);
  });

  it('refuses what cannot be built', () => {
    expect(() => new Sample({ bars: { 0: { size: 24 } } })).toThrow(RangeError);
    expect(() => new Sample({ msi: { vectors: 3 } })).toThrow(RangeError);
    expect(() => new Sample({ msix: { bar: 0, vectors: 0 } })).toThrow(RangeError);
  });

  it('answers register accesses while its own DMA is still open', async () => {
    const { device, host } = plugged(new SumDevice());
    let answer: (result: number) => void = () => {};
    host.memory = {
      read: (_iova, into) => new Promise((resolve) => (answer = resolve)).then(() => into.fill(1).length && 0),
      write: () => 0,
    };
    device.configWrite(PCI_COMMAND, 2, MASTER);
    device.configWrite(device.msix!.offset + 2, 2, 0x8000);
    store(device, 1, 12, 0);
    store(device, 0, 0x08, 8);
    const status = new Uint8Array(4);
    device.load(0, 0x10, 4, status, 0);
    expect([status[0], device.dma.open, host.messages.length]).toEqual([1, 1, 0]);
    answer(0);
    for (let i = 0; i < 10; i++) await Promise.resolve();
    device.load(0, 0x0c, 4, status, 0);
    expect([...status]).toEqual([2, 2, 2, 2]);
    expect([device.dma.open, host.messages.length]).toEqual([0, 1]);
  });
});

describe('what a function is made of', () => {
  it.each<[string, Partial<PciDeviceOptions>, RegExp]>([
    ['a 64-bit BAR over the next one', { bars: { 0: { size: 4096, kind: 'mem64' }, 1: { size: 4096 } } }, /upper half/],
    ['a 64-bit BAR without a next one', { bars: { 5: { size: 4096, kind: 'mem64' } } }, /upper half/],
    ['a seventh BAR', { bars: { 6: { size: 4096 } } }, /0 to 5/],
    ['a size that is no power of two', { bars: { 0: { size: 3000 } } }, /power of two/],
    ['more than 32 bits reach', { bars: { 0: { size: 2 ** 32 } } }, /at most/],
    ['more than a region holds', { bars: { 0: { size: 2 ** 41, kind: 'mem64' } } }, /at most/],
    ['an address beside its size', { bars: { 0: { size: 4096, address: 0x800 } } }, /multiple of its size/],
    ['MSI-X in a BAR that is not there', { msix: { bar: 1, vectors: 2 } }, /no memory BAR/],
    ['MSI-X behind the end of its BAR', { bars: { 0: { size: 4096 } }, msix: { bar: 0, vectors: 2 } }, /of 4096/],
    [
      'MSI-X tables that overlap',
      { bars: { 0: { size: 4096 } }, msix: { bar: 0, vectors: 2, pending: 16 } },
      /overlap/,
    ],
    [
      'an MSI-X table beside a multiple of 8',
      { bars: { 0: { size: 4096 } }, msix: { bar: 0, vectors: 2, table: 4, pending: 64 } },
      /multiples of 8/,
    ],
    ['vital product data of odd length', { vpd: new Uint8Array(5) }, /multiple of 4/],
  ])('%s is refused when it is built', (_name, options, why) => {
    expect(() => new Sample(options)).toThrow(why);
  });
});
