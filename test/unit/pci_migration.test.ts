// edu and pci-msix migrate with their variant driver: DMA in flight, lines, the log of their writes. Source: spec migration sections B, C; spec edu.
import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENOTTY } from '../../assembly/abi.ts';
import type { MigratablePciDevice } from '../../host/drivers/pci/migratable.ts';
import { linkPair } from '../../host/migration/link.ts';
import { Migration } from '../../host/migration/migration.ts';
import type { MigrationGuest } from '../../host/migration/types.ts';
import { walkCaps } from '../../host/uapi/caps.ts';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IOMMU_MAP_DMA,
} from '../../host/uapi/ioctl.ts';
import { VfioDeviceFeature, VfioIommuType1DmaMap, VfioIrqSet, VfioRegionInfo } from '../../host/uapi/structs.ts';
import { type OpenMachine, openMachine } from '../support/machines.ts';

const DRIVER = 'vfio-pci-migratable';
const EDU = { bus: 'pci', model: 'edu', name: '0000:00:01.0', group: 1, driver: DRIVER };
const EDU2 = { bus: 'pci', model: 'edu', name: '0000:00:04.0', group: 9, driver: DRIVER };
const MSIX = { bus: 'pci', model: 'pci-msix', name: '0000:00:02.0', group: 2, driver: DRIVER };
const CONFIG = 7n << 40n;
const COMMAND = CONFIG + 4n;

const le = (value: number | bigint, width: number) =>
  Uint8Array.from({ length: width }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));

const write = (m: OpenMachine, device: number, offset: number | bigint, value: number | bigint, width = 4) =>
  m.vfio.write(m.fds[device]!, le(value, width), offset);

const read = (m: OpenMachine, device: number, offset: number | bigint, width = 4) => {
  const bytes = new Uint8Array(width);
  m.vfio.read(m.fds[device]!, bytes, offset);
  return bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
};

const bind = (m: OpenMachine, device: number, index: number) => {
  const eventfd = m.vfio.eventfd();
  const request = new VfioIrqSet({ argsz: 24, flags: 0x24, index, start: 0, count: 1 }, 4);
  request.view.setInt32(20, eventfd, true);
  m.vfio.ioctl(m.fds[device]!, VFIO_DEVICE_SET_IRQS, request);
  return m.vfio.eventfdOf(eventfd);
};

/** Starts a copy of `count` bytes from the device's buffer to memory, with an interrupt at the end. */
const startDma = (m: OpenMachine, device: number, iova: number, count: number) => {
  write(m, device, COMMAND, 6, 2);
  write(m, device, 0x80, 0x40000, 8);
  write(m, device, 0x88, iova, 8);
  write(m, device, 0x90, count, 8);
  write(m, device, 0x98, 7, 8);
};

async function move(source: OpenMachine, target: OpenMachine, guest: Partial<MigrationGuest> = {}) {
  const options = { clock: source.clock };
  return Promise.all([
    new Migration(source.guest, options).send(linkPairOf(0)),
    new Migration({ ...target.guest, ...guest }, options).receive(linkPairOf(1)),
  ]);
}
let links = linkPair();
const linkPairOf = (end: 0 | 1) => {
  if (end === 0) links = linkPair();
  return links[end];
};

describe('PCI functions migrate', () => {
  it('only with the variant driver', async () => {
    const plain = await openMachine([{ ...EDU, driver: 'vfio-pci' }]);
    const call = (flags: number) =>
      plain.vfio.ioctlRaw(plain.fds[0]!, VFIO_DEVICE_FEATURE, new VfioDeviceFeature({ argsz: 16, flags }, 8));
    expect(call(0x10001)).toBe(-ENOTTY);
    expect(call(0x20006)).toBe(-ENOTTY);
    expect(call(0x4000c)).toBe(-EINVAL);
    await expect(openMachine([{ ...EDU, driver: 'vfio-nvme' }])).rejects.toThrow(/driver is vfio-pci/);
  });

  it('a copy in flight is frozen at the source and ends at the destination, with its interrupt', async () => {
    const devices = [EDU, EDU2, MSIX];
    const source = await openMachine(devices);
    const target = await openMachine(devices);
    source.running = true;
    // Fill the first edu's buffer from memory, then start a copy back and let 40 of its 100 ms pass.
    source.vfio.view(source.ram.address, 64).set(Uint8Array.from({ length: 64 }, (_, i) => i + 1));
    write(source, 0, COMMAND, 6, 2);
    write(source, 0, 0x80, 0, 8);
    write(source, 0, 0x88, 0x40000, 8);
    write(source, 0, 0x90, 64, 8);
    write(source, 0, 0x98, 1, 8);
    source.clock.advance(100);
    startDma(source, 0, 0x3000, 64);
    source.clock.advance(40);
    write(source, 1, 4, 0x12345678);
    write(source, 2, COMMAND, 6, 2);
    write(source, 2, 0x10, 0xcafe);
    let irq = bind(source, 0, 1);
    const [sent] = await move(source, target, {
      setup() {
        // Configuration and interrupts, between RESUMING and RUNNING.
        for (const device of [0, 1, 2]) write(target, device, COMMAND, 6, 2);
        irq = bind(target, 0, 1);
      },
    });
    expect(sent).toMatchObject({ outcome: 'committed', acknowledged: true });
    // However long it waits, the source's device writes no more.
    source.clock.advance(1000);
    expect(source.vfio.view(source.ram.address + 0x3000n, 4)).toEqual(new Uint8Array(4));
    expect(read(target, 0, 0x98, 8)).toBe(7);
    expect(irq.count).toBe(0n);
    target.clock.advance(100);
    expect(read(target, 0, 0x98, 8)).toBe(6);
    expect([...target.vfio.view(target.ram.address + 0x3000n, 64)]).toEqual(
      Array.from({ length: 64 }, (_, i) => i + 1),
    );
    expect(irq.count).toBe(1n);
    expect(read(target, 1, 4)).toBe(~0x12345678 >>> 0);
    expect(read(target, 2, 0x10)).toBe(0xcafe);
  });

  it('an aborted migration goes on with the copy where it was', async () => {
    const source = await openMachine([EDU]);
    const target = await openMachine([EDU], 32768);
    startDma(source, 0, 0x1000, 16);
    source.clock.advance(40);
    const [sent] = await Promise.allSettled([
      new Migration(source.guest, { clock: source.clock }).send(linkPairOf(0)),
      new Migration(target.guest).receive(linkPairOf(1)),
    ]);
    expect(sent.status).toBe('rejected');
    source.clock.advance(59);
    expect(read(source, 0, 0x98, 8)).toBe(7);
    source.clock.advance(1);
    expect(read(source, 0, 0x98, 8)).toBe(6);
  });

  it('pages that the function writes while the rest is copied are sent again', async () => {
    const source = await openMachine([EDU]);
    const target = await openMachine([EDU]);
    source.vfio.view(source.ram.address, 16).fill(7);
    write(source, 0, COMMAND, 6, 2);
    write(source, 0, 0x80, 0, 8);
    write(source, 0, 0x88, 0x40000, 8);
    write(source, 0, 0x90, 16, 8);
    write(source, 0, 0x98, 1, 8);
    source.clock.advance(100);
    startDma(source, 0, 0x5000, 16);
    const options = {
      clock: source.clock,
      onEvent: (event: string) => {
        if (event === 'phase pre-copy') source.clock.advance(99);
      },
      onProgress: ({ phase }: { phase: string }) => {
        if (phase === 'pre-copy') source.clock.advance(1);
      },
    };
    await Promise.all([
      new Migration(source.guest, options).send(linkPairOf(0)),
      new Migration(target.guest).receive(linkPairOf(1)),
    ]);
    expect([...source.vfio.view(source.ram.address + 0x5000n, 16)]).toEqual(Array(16).fill(7));
    expect([...target.vfio.view(target.ram.address + 0x5000n, 16)]).toEqual(Array(16).fill(7));
  });

  it('a reset that is asked for in configuration space ends in RUNNING, too', async () => {
    const m = await openMachine([MSIX]);
    const device = [...m.vfio.kernel.nodes.values()].find(({ name }) => name === MSIX.name) as MigratablePciDevice;
    write(m, 0, COMMAND, 2, 2);
    write(m, 0, 0x10, 0x1234);
    expect(device.migration!.set(3).result).toBe(0);
    const control = CONFIG + BigInt(device.hw.config.find(0x10) + 8);
    write(m, 0, control, read(m, 0, control, 2) | 0x8000, 2);
    expect(device.migration!.state).toBe(2);
    expect(read(m, 0, 0x10)).toBe(0);
    expect(device.migration!.set(4).result).toBe(0);
  });

  it('an access of a stopped function that begins in the MSI-X table ends with it', async () => {
    const m = await openMachine([MSIX]);
    const device = [...m.vfio.kernel.nodes.values()].find(({ name }) => name === MSIX.name) as MigratablePciDevice;
    const bar2 = 2n << 40n;
    const fd = m.fds[0]!;
    write(m, 0, COMMAND, 2, 2);
    write(m, 0, bar2 + 128n, 0x5a5a5a5a);
    const address = m.vfio.mmap(4096, { fd, offset: bar2 });
    expect(device.migration!.set(1).result).toBe(0);
    expect(m.vfio.read(fd, new Uint8Array(200), bar2 + 64n)).toBe(64);
    expect(m.vfio.write(fd, new Uint8Array(200), bar2 + 64n)).toBe(64);
    expect(m.vfio.pokeRaw(address + 120n, new Uint8Array(16))).toBe(-EFAULT);
    const config = new Uint8Array(8);
    expect(m.vfio.readRaw(fd, config, CONFIG + 0xffcn)).toBe(-EFAULT);
    expect(device.migration!.set(2).result).toBe(0);
    expect(read(m, 0, bar2 + 128n)).toBe(0x5a5a5a5a);
    expect(m.vfio.read(fd, new Uint8Array(200), bar2 + 64n)).toBe(200);
  });

  it('a view of memory that the function writes through is in its log as a copy is', async () => {
    const m = await openMachine([EDU]);
    const device = [...m.vfio.kernel.nodes.values()].find(({ name }) => name === EDU.name) as MigratablePciDevice;
    write(m, 0, COMMAND, 6, 2);
    device.log.start([{ iova: 0n, length: 0x10000n }], 0x1000n);
    expect(device.hw.dma.view(0x3000n, 8, false)).not.toBeNull();
    expect(device.hw.dma.view(0x5ff8n, 16, true)).not.toBeNull();
    const dirty: bigint[] = [];
    device.log.readAndClear(0n, 0x10000n, (iova) => dirty.push(iova));
    expect(dirty).toEqual([0x5000n, 0x6000n]);
  });

  it('an interrupt between restore and SET_IRQS waits for its vector', async () => {
    const source = await openMachine([EDU]);
    const target = await openMachine([EDU]);
    write(source, 0, 0x20, 0x80);
    await move(source, target, { setup: () => void write(target, 0, COMMAND, 6, 2) });
    write(target, 0, 8, 5);
    target.clock.advance(1);
    expect(read(target, 0, 0x24)).toBe(1);
    expect(bind(target, 0, 1).count).toBe(1n);
  });

  it('state of another model or version is refused by the write, shorter state by the transition', async () => {
    const source = await openMachine([EDU]);
    const target = await openMachine([{ ...MSIX, name: EDU.name, group: 1 }]);
    const [sent] = await Promise.allSettled([
      new Migration(source.guest).send(linkPairOf(0)),
      new Migration(target.guest).receive(linkPairOf(1)),
    ]);
    expect(sent.status).toBe('rejected');
    expect(String((sent as PromiseRejectedResult).reason)).toMatch(/refuses its state/);
    write(target, 0, COMMAND, 6, 2);
    write(target, 0, 0, 5);
    expect(read(target, 0, 0)).toBe(5);
  });

  it('a stopped function cannot be reached by a running peer through its mapped BAR', async () => {
    const m = await openMachine([EDU, EDU2]);
    write(m, 1, COMMAND, 6, 2);
    const bar = m.vfio.mmap(0x1000, { fd: m.fds[1]!, offset: 0 });
    const map = new VfioIommuType1DmaMap({ flags: 3, vaddr: bar, iova: 0x100000n, size: 0x1000n });
    m.vfio.ioctl(m.container, VFIO_IOMMU_MAP_DMA, map);
    m.vfio.view(m.ram.address, 4).set([1, 2, 3, 4]);
    write(m, 0, COMMAND, 6, 2);
    write(m, 0, 0x80, 0, 8);
    write(m, 0, 0x88, 0x40000, 8);
    write(m, 0, 0x90, 4, 8);
    write(m, 0, 0x98, 1, 8);
    m.clock.advance(100);
    const poke = () => {
      startDma(m, 0, 0x100004, 4);
      m.clock.advance(100);
      expect(read(m, 0, 0x98, 8)).toBe(6);
    };
    poke();
    expect(read(m, 1, 4)).toBe(~0x04030201 >>> 0);
    write(m, 1, 4, 0);
    const peer = m.vfio.kernel.groups.get('9')!.devices[0]!;
    expect(peer.migration!.set(1).result).toBe(0);
    poke();
    expect(peer.gate!.count('mmap')).toBeGreaterThan(0);
    expect(peer.migration!.set(2).result).toBe(0);
    expect(read(m, 1, 4)).toBe(0xffffffff);
    // Reachable, with P2P on both: fine. Without P2P it would be refused.
    expect(m.vfio.mapsFile(m.fds[1]!)).toBe(true);
  });

  it('the older region moves a function as well, on the same machine of states', async () => {
    const older = { ...EDU, migrationRegion: true };
    const source = await openMachine([older]);
    const target = await openMachine([older]);
    const region = 9n << 40n;
    const info = new VfioRegionInfo({ argsz: 64, index: 9 }, 32);
    source.vfio.ioctl(source.fds[0]!, VFIO_DEVICE_GET_REGION_INFO, info);
    expect([...walkCaps(info.bytes, info.cap_offset)].map(({ id }) => id)).toEqual([2]);
    expect([info.view.getUint32(40, true), info.view.getUint32(44, true)]).toEqual([3, 1]);
    write(source, 0, COMMAND, 6, 2);
    write(source, 0, 4, 0x1234);
    startDma(source, 0, 0x2000, 16);
    source.clock.advance(30);
    write(source, 0, region, 2);
    write(target, 0, region, 4);
    while (read(source, 0, region + 8n, 8) > 0) {
      expect(read(source, 0, region + 16n, 8)).toBe(32);
      const chunk = new Uint8Array(read(source, 0, region + 24n, 8));
      source.vfio.read(source.fds[0]!, chunk, region + 32n);
      const at = read(target, 0, region + 16n, 8);
      target.vfio.write(target.fds[0]!, chunk, region + BigInt(at));
      write(target, 0, region + 24n, chunk.length, 8);
    }
    write(source, 0, region, 0);
    write(target, 0, COMMAND, 6, 2);
    write(target, 0, region, 1);
    expect(read(target, 0, 4)).toBe(~0x1234 >>> 0);
    target.clock.advance(100);
    expect(read(target, 0, 0x98, 8)).toBe(6);
  });
});
