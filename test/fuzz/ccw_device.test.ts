// Hostile users and guests of a vfio-ccw device: random bytes into its regions and calls, random programs in guest storage, mappings that come and go,
// hardware that holds, ends late or refuses. Nothing is predicted; what must hold is checked all the time.
import { describe, expect, it } from 'vitest';
import type { ChannelDevice, CommandEnd, Transfer } from '../../host/css/device.ts';
import type { EngineSubchannel } from '../../host/css/engine.ts';
import { VFIO_DEVICE_CCW_CMD_REQUEST, VfioCcwCmdRequest } from '../../host/uapi/ccw_request.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../host/uapi/ioctl.ts';
import { VfioIommuType1DmaMap, VfioIommuType1DmaUnmap } from '../../host/uapi/structs.ts';
import { type CcwMachine, engineMachine, NOTHING, RAM, request, u32be } from '../support/ccw_machine.ts';
import { ccw1 } from '../support/ccw_programs.ts';
import { Random, runs, seed } from '../support/counts.ts';

const MACHINES = 10;
const STEPS = runs(20_000);
const PAGES = RAM / 4096;
const GUARD = 0x10000;
const PATHS = [['offline'], ['offline', 'online'], ['vary-off', 'vary-on'], ['vary-on', 'online']] as const;

/** Takes and gives random amounts, ends with random status, now or later. */
class RandomDevice implements ChannelDevice {
  deferred = true;
  readonly #random: Random;
  readonly #late: Transfer[] = [];
  constructor(random: Random) {
    this.#random = random;
  }
  execute(command: number, transfer: Transfer): CommandEnd | null {
    if ((command & 3) === 2 || (command & 15) === 4 || (command & 15) === 12)
      transfer.store(new Uint8Array(this.#random.int(0x2000)).fill(command));
    else transfer.fetch(this.#random.int(0x2000));
    if (!this.deferred || this.#random.int(4) !== 0) return this.#end();
    this.#late.push(transfer);
    return null;
  }
  endLate(): void {
    this.#late.shift()?.end(this.#end());
  }
  #end(): CommandEnd {
    const unitStatus = this.#random.pick([0x0c, 0x0c, 0x0c, 0x4c, 0x0e, 0x08, 0xff]);
    return { unitStatus, ...(unitStatus === 0x0e ? { sense: Uint8Array.of(0x80) } : {}) };
  }
}

class Fuzz {
  readonly #random: Random;
  readonly #device: RandomDevice;
  readonly #machine: CcwMachine<EngineSubchannel>;
  readonly #guard: bigint;
  /** Linear page of the first byte of guest storage. */
  readonly #firstPage: number;
  /** Guest pages that are mapped, by page number. */
  readonly #mapped = new Set<number>(Array.from({ length: PAGES }, (_, page) => page));
  readonly #pending: Promise<number>[] = [];
  readonly #programs = [0, 0, 0, 0];
  #fd: number;

  constructor(random: Random, device: RandomDevice, machine: CcwMachine<EngineSubchannel>) {
    this.#random = random;
    this.#device = device;
    this.#machine = machine;
    this.#guard = machine.vfio.mmap(GUARD);
    machine.vfio.view(this.#guard, GUARD).fill(0xa5);
    this.#firstPage = machine.vfio.view(machine.ram, 1).byteOffset >>> 12;
    // One map for each page, so that any can go alone.
    this.#unmap(0, PAGES);
    for (let page = 0; page < PAGES; page++) this.#map(page);
    this.#fd = machine.open();
  }

  #map(page: number): void {
    const { vfio, container, ram } = this.#machine;
    const at = BigInt(page * 4096);
    const flags = this.#random.int(16) === 0 ? 1 : 3;
    const map = new VfioIommuType1DmaMap({ flags, iova: at, vaddr: ram + at, size: 4096n });
    if (vfio.ioctlRaw(container, VFIO_IOMMU_MAP_DMA, map) === 0) this.#mapped.add(page);
  }
  #unmap(page: number, npage: number): void {
    const { vfio, container } = this.#machine;
    const unmap = new VfioIommuType1DmaUnmap({ iova: BigInt(page * 4096), size: BigInt(npage * 4096) });
    if (vfio.ioctlRaw(container, VFIO_IOMMU_UNMAP_DMA, unmap) === 0)
      for (let i = 0; i < npage; i++) this.#mapped.delete(page + i);
  }

  step(): void {
    const { vfio, hardware, clock } = this.#machine;
    const random = this.#random;
    const kind = random.int(100);
    let result = 0;
    let most = 0;
    if (kind < 35) {
      const functions = random.pick([0x4000, 0x4000, 0x4000, random.int(0x8000)]);
      const result = vfio.writeRaw(this.#fd, request(this.#word1(), this.#cpa(), functions), 0);
      // Without the start function the result is whatever a caller put into ret_code.
      if ((functions & 0x4000) !== 0 && (result < -133 || result > 24)) throw new Error(`a start answered ${result}`);
    } else if (kind < 55) {
      const region = random.pick([0, 0x400, 0x800, 0xc00, 0x1000]);
      vfio.writeRaw(this.#fd, this.#bytes(random.int(130)), region + random.int(130));
    } else if (kind < 57) vfio.writeRaw(this.#fd, Uint8Array.of(random.pick([1, 2, 2, 2]), 0, 0, 0), 0x400);
    else if (kind < 60) {
      const bytes = new Uint8Array(random.int(130));
      most = bytes.length;
      result = vfio.readRaw(this.#fd, bytes, random.int(0x1100));
    } else if (kind < 70) this.#putProgram();
    else if (kind < 80) clock.advance(random.int(3));
    else if (kind < 84) {
      for (let i = random.int(4); i > 0; i--) this.#device.endLate();
      clock.advance(2);
    } else if (kind < 87) result = vfio.ioctlRaw(this.#fd, VFIO_DEVICE_SET_IRQS, this.#irqSet());
    else if (kind < 88)
      result = vfio.ioctlRaw(this.#fd, VFIO_DEVICE_GET_INFO + random.int(5), this.#bytes(random.int(64)));
    else if (kind < 89) this.#unmap(random.int(PAGES), 1);
    else if (kind < 94) this.#map(random.int(PAGES));
    else if (kind < 95) hardware.hold(random.int(12) === 0);
    else if (kind < 96) {
      hardware.answer('ssch', random.pick([1, 2, 3]));
      vfio.writeRaw(this.#fd, request(this.#word1(), this.#cpa()), 0);
      hardware.answer('ssch', 0);
    } else if (kind < 98) this.#cmdRequest();
    else if (random.int(4) !== 0) for (const event of random.pick(PATHS)) hardware.channelPath(event, 0);
    else {
      vfio.close(this.#fd);
      this.#fd = this.#machine.open();
    }
    if (result > most || result < -133) throw new Error(`operation ${kind} answered ${result}`);
    this.#check();
  }

  /** Every pin is a page that is mapped now, at the place the map says, or one of the caller's own for a request of its own. */
  #check(): void {
    const { device, vfio } = this.#machine;
    const { program, request: running } = device;
    if (program === null || !program.held) return;
    const { userBase, userEnd } = vfio.core;
    for (const { page, linear } of program.pinned()) {
      if (linear < userBase >>> 12 || linear >= userEnd >>> 12) throw new Error('a pin outside user pages');
      if (running !== null) continue;
      if (!this.#mapped.has(Number(page))) throw new Error(`page 0x${page.toString(16)} is pinned, not mapped`);
      if (linear !== this.#firstPage + Number(page)) throw new Error('a pin names another page than the map');
    }
  }

  /** The user goes away. @returns what is left. */
  async finish(): Promise<unknown> {
    const { vfio, clock, group, container } = this.#machine;
    vfio.close(this.#fd);
    vfio.close(group);
    vfio.close(container);
    clock.advance(10);
    for (const outcome of await Promise.all(this.#pending))
      if (outcome > 0) throw new Error(`a request gave ${outcome}`);
    expect(vfio.view(this.#guard, GUARD).every((byte) => byte === 0xa5)).toBe(true);
    return this.#machine.leftovers();
  }

  #word1(): number {
    const random = this.#random;
    const usual = random.pick([0x00c2ff00, 0x00c2ff00, 0x0042ff00, 0x00c3ff00, 0x00c0ff00]);
    return (usual ^ (random.int(8) === 0 ? random.int(0x10000) << 16 : 0)) >>> 0;
  }
  /** Mostly inside guest storage, not always aligned, sometimes far away. */
  #address(): number {
    const random = this.#random;
    if (random.int(60) === 0) return (random.next() * 0x100000000) >>> 0;
    return random.int(RAM / 8) * 8 + (random.int(10) === 0 ? random.int(8) : 0);
  }
  /** Mostly where a program was put. */
  #cpa(): number {
    return this.#random.int(4) === 0 ? this.#address() : this.#random.pick(this.#programs);
  }
  #bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => (this.#random.int(3) === 0 ? this.#random.int(256) : 0));
  }
  #ccw(): Uint8Array {
    const random = this.#random;
    const command = random.pick([0x01, 0x02, 0x02, 0x03, 0x08, 0x04, 0x0c, random.int(256)]);
    const flags = random.pick([0x40, 0x60, 0x60, 0x80, 0x20, 0, 0, 0x44, 0x24, random.int(256)]);
    return ccw1(command, flags, random.pick([0, 1, 8, 80, 80, 2048, 4096, random.int(0x10000)]), this.#address());
  }
  #putProgram(): void {
    const random = this.#random;
    const parts = Array.from({ length: random.int(10) + 1 }, () =>
      random.int(12) === 0 ? u32be(0, this.#address()) : this.#ccw(),
    );
    const at = random.int((RAM - 128) / 8) * 8;
    this.#programs[random.int(4)] = at;
    this.#machine.put(at, ...parts, ccw1(0x02, 0x20, 8, this.#address()));
  }
  #irqSet(): Uint8Array {
    const random = this.#random;
    const flags = random.pick([33, 34, 36, 36, random.int(128)]);
    const words = [20 + random.int(8), flags, random.int(4), random.int(2), random.int(3)];
    const bytes = new Uint8Array(20 + random.int(8));
    const view = new DataView(bytes.buffer);
    words.forEach((word, i) => {
      view.setUint32(4 * i, word, true);
    });
    if (bytes.length >= 24) view.setInt32(20, random.pick([-2, -1, 0, this.#fd, 99]), true);
    return bytes;
  }
  #cmdRequest(): void {
    const random = this.#random;
    const { vfio, ram } = this.#machine;
    const buffer = random.int(PAGES) * 4096;
    for (let i = 0; i < 8; i++) {
      const ccw = this.#ccw();
      const cda = random.pick([2048 + 8 * random.int(8), 8 * random.int(8), random.int(5000)]);
      new DataView(ccw.buffer).setUint32(4, cda);
      const slot = new Uint8Array(8);
      new DataView(slot.buffer).setBigUint64(0, ram + BigInt(this.#address()), true);
      this.#machine.put(buffer + 8 * i, ccw);
      this.#machine.put(buffer + 2048 + 8 * i, slot);
    }
    const argument = new VfioCcwCmdRequest({
      orb_area: u32be(0, 0x00c2ff00, 0),
      scsw_area: u32be(0x4000, 0, 0),
      ccwchain_nr: random.int(9),
      u_ccwchain: ram + BigInt(buffer),
    });
    this.#device.deferred = random.int(2) === 1;
    if (random.int(2) === 1) this.#pending.push(vfio.ioctlAsyncRaw(this.#fd, VFIO_DEVICE_CCW_CMD_REQUEST, argument));
    else vfio.ioctlRaw(this.#fd, VFIO_DEVICE_CCW_CMD_REQUEST, argument);
  }
}

describe('a vfio-ccw device in bad company', () => {
  it.each(Array.from({ length: MACHINES }, (_, i) => i))(`machine %i: ${STEPS} operations, seed ${seed}`, async (i) => {
    const random = new Random(seed + i);
    const device = new RandomDevice(random);
    const machine = await engineMachine(device);
    const fuzz = new Fuzz(random, device, machine);
    for (let step = 0; step < STEPS; step++) fuzz.step();
    expect(await fuzz.finish()).toEqual(NOTHING);
    // The company must be bad in many ways: programs run, requests of both forms too.
    expect(machine.hardware.started).toBeGreaterThan(STEPS / 50);
  });
});
