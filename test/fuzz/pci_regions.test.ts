// Random configuration, BAR, SET_IRQS, feature and mapping calls of a hostile user. Whatever it does: no exception, nothing outside the
// declared regions, hardware that belongs to the host untouched, and nothing left after the last close.
import { describe, expect, it } from 'vitest';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { CONFIG, instance, type Opened, open, REGION, readRegion, regionInfo } from '../support/opened.ts';

const STEPS = 400;
const DEVICES = [
  { group: 1, name: '0000:00:01.0', node: 0 },
  { group: 2, name: '0000:00:02.0', node: 1 },
  { group: 6, name: '22222222-2222-4222-8222-222222222222', node: null },
] as const;
const NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 0x3c, 0x40, 0x60, 0xfe, 0xff, 0x100, 0xffc, 0x1000, 0x7fff, 0xffff, 0xfffff];

class Hostile {
  readonly random: Random;
  readonly opened: Opened;
  readonly fds: number[];
  mappings: Array<{ address: bigint; length: bigint }> = [];

  constructor(opened: Opened, random: Random) {
    this.random = random;
    this.opened = opened;
    const { vfio } = opened;
    this.fds = [
      vfio.eventfd(),
      vfio.eventfd(1, { semaphore: true }),
      opened.fd,
      opened.group,
      opened.container,
      -1,
      -2,
      999,
    ];
  }

  number(): number {
    const { random } = this;
    return random.int(3) === 0 ? random.int(2 ** 32) : random.pick(NUMBERS) + random.int(3);
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => (this.random.int(3) === 0 ? 0xff : this.random.int(256)));
  }
  offset(): bigint {
    const index = this.random.pick([0, 0, 1, 2, 6, 7, 7, 7, 8, 9, 0x7fffff, 0xffffff]);
    return REGION(index) + BigInt(this.number() % (this.random.int(2) === 0 ? 0x101 : 2 ** 32));
  }

  step(): void {
    const { random, opened } = this;
    const { vfio, fd } = opened;
    switch (random.int(7)) {
      case 0: {
        const into = new Uint8Array(random.int(40));
        const result = vfio.readRaw(fd, into, this.offset());
        expect(result).toBeLessThanOrEqual(into.length);
        break;
      }
      case 1:
        vfio.writeRaw(fd, this.bytes(random.int(12)), this.offset());
        break;
      case 2:
        vfio.writeRaw(fd, this.bytes(1 + random.int(4)), CONFIG + BigInt(random.int(0x104)));
        break;
      case 3:
        this.#ioctl();
        break;
      case 4:
        this.#map();
        break;
      case 5:
        this.#touch();
        break;
      case 6:
        vfio.eventfdOf(this.fds[0]!).signal();
        opened.clock.advance(random.int(60));
        break;
    }
  }

  #ioctl(): void {
    const { random, opened } = this;
    const request = 0x3b6a + random.int(14);
    const arg = this.bytes(8 + random.int(40));
    const view = new DataView(arg.buffer);
    view.setUint32(0, random.pick([arg.length, arg.length, arg.length, 20, 24, 28, 32, 0, 0xffffffff]), true);
    view.setUint32(4, random.pick([33, 34, 36, 36, 17, 20, 9, 4, 1, 0x20003, 0x20005, 0x20004, this.number()]), true);
    if (arg.length >= 24) {
      view.setUint32(8, random.int(6), true);
      view.setUint32(12, random.pick([0, 0, 1, 7, this.number()]), true);
      view.setUint32(16, random.pick([0, 1, 1, 2, 8, this.number()]), true);
      view.setInt32(20, random.pick(this.fds), true);
    }
    if (request === 0x3b6f && random.int(4) > 0) return;
    opened.vfio.ioctlRaw(opened.fd, request, arg);
  }

  #map(): void {
    const { random, opened } = this;
    const length = BigInt(random.pick([1, 0x1000, 0x2000, 0x10000, 0x100000, 0x101000]));
    const offset = random.int(4) === 0 ? this.offset() : REGION(random.int(10)) + BigInt(random.int(0x101) * 0x1000);
    const address = opened.vfio.mmapRaw(length, { fd: opened.fd, offset });
    if (address < 0n) return;
    const index = Number(offset >> 40n);
    const region = regionInfo(opened, index);
    expect(typeof region === 'number' ? -1n : region.size).toBeGreaterThanOrEqual((offset & 0xffffffffffn) + length);
    this.mappings.push({ address, length });
    if (this.mappings.length > 8) {
      const gone = this.mappings.shift()!;
      expect(opened.vfio.munmapRaw(gone.address, gone.length)).toBe(0);
    }
  }

  #touch(): void {
    if (this.mappings.length === 0) return;
    const { address, length } = this.random.pick(this.mappings);
    const at = address + BigInt(this.random.int(Number(length)));
    const bytes = this.bytes(1 + this.random.int(8));
    if (this.random.int(2) === 0) this.opened.vfio.pokeRaw(at, bytes);
    else this.opened.vfio.peekRaw(at, bytes);
  }
}

/** What no user may change. */
function hostOwned(device: VfioPciDevice): unknown {
  const { hw, irqs } = device;
  const { bytes } = hw.config;
  return {
    identity: [...bytes.subarray(0, 4), ...bytes.subarray(8, 12), ...bytes.subarray(0x2c, 0x30)],
    bars: [...bytes.subarray(0x10, 0x28)],
    msi: hw.msi?.enabled === true && irqs.type !== 'msi',
    msix: hw.msix?.enabled === true && irqs.type !== 'msix',
  };
}

describe(`a hostile user of regions and interrupts, seed ${seed}`, () => {
  it.each(DEVICES)('$name', async ({ group, name, node }) => {
    for (let run = 0; run < runs(8); run++) {
      const { vfio, clock } = await instance();
      const user = new Hostile(open(vfio, clock, group, name), new Random(seed + 77 * run + group));
      const device = node === null ? null : (vfio.kernel.nodes.get(node) as VfioPciDevice);
      const before = device === null ? null : hostOwned(device);
      const vendor = readRegion(user.opened, CONFIG, 4);
      for (let step = 0; step < STEPS; step++) {
        user.step();
        if (device !== null) expect(hostOwned(device)).toEqual(before);
      }
      expect(readRegion(user.opened, CONFIG, 4)).toEqual(vendor);
      vfio.exit();
      clock.advance(1000);
      expect([vfio.core.liveBytes, vfio.kernel.pages.usedBytes, vfio.task.openFiles]).toEqual([0, 0, 0]);
      expect([...vfio.kernel.groups.values()].every((other) => other.container === null && other.file === null)).toBe(
        true,
      );
    }
  });
});
