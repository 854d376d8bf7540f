// A device of one's own that migrates, as docs/how-to/write-a-device.md describes it, moved by the public calls only.
import { describe, expect, it } from 'vitest';
import {
  Container,
  createVfio,
  linkPair,
  Migration,
  PciDevice,
  type StatefulHardware,
  VFIO_PCI_CONFIG_REGION_INDEX,
  type VfioInstance,
  type Width,
} from '../../host/inline.ts';

const REG_COUNT = 0;
const REG_STORE = 4;
const RAM = 65536;

/** Counts up every 10 ms once started, and stores its count at an address when it is told to. */
class Counter extends PciDevice implements StatefulHardware {
  readonly stateModel = 'cntr';
  readonly stateVersion = 1;
  readonly stateSize = 4;
  #count = 0;

  constructor() {
    super({ vendor: 1, device: 2, classCode: 0xff0000, bars: { 0: { size: 4096 } } });
  }
  protected override read(_bar: number, offset: number, _width: Width): number {
    return offset === REG_COUNT ? this.#count : 0;
  }
  protected override write(_bar: number, offset: number, _width: Width, value: number): void {
    if (offset === REG_COUNT) this.#count = value;
    if (offset === REG_STORE) this.dma.write(BigInt(value), Uint8Array.of(this.#count));
  }
  protected override onReset(): void {
    this.#count = 0;
  }
  saveState(into: DataView): void {
    into.setUint32(0, this.#count, true);
  }
  loadState(from: DataView): boolean {
    this.#count = from.getUint32(0, true);
    return true;
  }
  resume(): void {}
}

async function machine() {
  const vfio: VfioInstance = await createVfio({ machine: { devices: [] } });
  const plugged = vfio.plug(new Counter(), { migrates: true });
  const container = new Container(vfio);
  const device = container.attach(plugged.group.name).device(plugged.name);
  const memory = container.map(0n, RAM);
  const command = () => device.region(VFIO_PCI_CONFIG_REGION_INDEX).set(4, 0x6, 2);
  command();
  const guest = {
    process: vfio,
    ram: [{ name: 'ram', address: memory.address, size: RAM, iova: 0n }],
    devices: [{ name: 'counter', fd: device.fd, container: container.fd }],
    setup: command,
  };
  return { vfio, registers: device.region(0), memory, guest };
}

describe('a device of one’s own', () => {
  it('moves with its state and the memory that its DMA wrote', async () => {
    const source = await machine();
    const target = await machine();
    source.registers.set(REG_COUNT, 77);
    source.registers.set(REG_STORE, 0x3000);
    const [there, here] = linkPair();
    const [sent, received] = await Promise.all([
      new Migration(source.guest).send(there),
      new Migration(target.guest).receive(here),
    ]);
    expect([sent.outcome, received.outcome]).toEqual(['committed', 'committed']);
    expect(target.registers.get(REG_COUNT)).toBe(77);
    expect(target.memory.bytes[0x3000]).toBe(77);
    target.registers.set(REG_STORE, 0x4000);
    expect(target.memory.bytes[0x4000]).toBe(77);
  });

  it('that is to migrate and has no state is refused', async () => {
    const vfio = await createVfio({ machine: { devices: [] } });
    class Plain extends PciDevice {}
    const hw = new Plain({ vendor: 1, device: 2, classCode: 0 });
    expect(() => vfio.plug(hw, { migrates: true })).toThrow(/StatefulHardware/);
    expect(() => vfio.plug(Object.assign(hw, new Counter(), { stateModel: 'too long' }), { migrates: true })).toThrow(
      TypeError,
    );
    vfio.plug(hw);
  });
});
