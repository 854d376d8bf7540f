// The one live instance behind all views: a machine with a 3390 disk and a subchannel that answers from recordings, a container for both, and
// the guest's memory. Everything goes through the package's public entry; every call is recorded.
import {
  Container,
  createVfio,
  type Device,
  deviceAction,
  inspectContainer,
  ManualClock,
  type PinView,
  trace,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
  VfioBitmap,
  VfioError,
  type VfioInstance,
  VfioIommuType1DirtyBitmap,
  VfioIommuType1DirtyBitmapGet,
} from '../../host/index.ts';
import { hex, size } from './dom.ts';
import { Log } from './log.ts';
import { PROGRAMS } from './programs.ts';

export const DISK = '11111111-1111-4111-8111-111111111111';
export const REPLAY = '55555555-5555-4555-8555-555555555555';
const NAMES: ReadonlyMap<string, string> = new Map([
  [DISK, 'the 3390'],
  [REPLAY, 'the recorded device'],
]);
const PAGE = 4096n;

export interface DemoMap {
  readonly iova: bigint;
  readonly last: bigint;
  readonly vaddr: bigint;
}

export interface MapState {
  readonly maps: readonly DemoMap[];
  readonly pins: readonly PinView[];
  /** Dirty pages, at most 4096 of them. */
  readonly dirty: readonly bigint[];
  readonly dmaAvail: number;
  readonly lockedPages: number;
  readonly limitPages: number;
}

/** The page itself cannot do what was asked, before any call. */
export class Refused extends Error {}

export class World {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly log = new Log(NAMES);
  /** Pages of the CCW picked in the program view, by iova: the map outlines them. */
  lit: ReadonlySet<bigint> = new Set();
  readonly container: Container;
  readonly devices: ReadonlyMap<string, Device>;
  /** Milliseconds until the instance answered its first call, and bytes of the core. */
  readonly startMs: number;
  readonly coreBytes: number;
  /** The program that holds pins for the map view, if any. */
  #held: { iova: bigint } | null = null;
  /** Where each mapping's memory is in the process. */
  readonly #vaddr = new Map<bigint, bigint>();

  constructor(vfio: VfioInstance, clock: ManualClock, startMs: number, coreBytes: number) {
    this.clock = clock;
    this.startMs = startMs;
    this.coreBytes = coreBytes;
    this.vfio = trace(vfio, (line) => this.log.call(line));
    this.container = new Container(this.vfio);
    const groups = [this.container.attach(5), this.container.attach(8)] as const;
    this.devices = new Map([
      [DISK, groups[0].device(DISK)],
      [REPLAY, groups[1].device(REPLAY)],
    ]);
    for (const [name, device] of this.devices)
      device.irq(0).enable(1, () => this.log.interrupt(`I/O interrupt of ${NAMES.get(name)}`));
    this.#dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
  }

  /** Runs a call; what it says, or the errno with the reason. */
  attempt(call: () => string): { failed: boolean; text: string } {
    try {
      return { failed: false, text: call() };
    } catch (error) {
      if (!(error instanceof VfioError || error instanceof Refused)) throw error;
      return { failed: true, text: error.message };
    }
  }

  map(iova: bigint, length: bigint): string {
    if (length > 1n << 31n) {
      const address = this.vfio.mmap(length, { backed: false });
      this.container.map(iova, Number(length), { address });
      this.#vaddr.set(iova, address);
      return `mapped ${size(length)} at ${hex(iova)}, with nothing behind it`;
    }
    this.#vaddr.set(iova, this.container.map(iova, Number(length)).address);
    return `mapped ${size(length)} at ${hex(iova)}`;
  }

  unmap(iova: bigint, length: bigint): string {
    const bytes = this.container.unmap(iova, length);
    if (this.#held !== null && !this.inspect().pins.some((pin) => pin.iova === this.#held?.iova)) this.#held = null;
    return `unmapped ${size(bytes)}`;
  }

  /** Guest memory at `iova`, live; null when it is not mapped. */
  memory(iova: bigint, length: number): Uint8Array | null {
    const found = this.inspect().maps.find((map) => map.iova <= iova && iova + BigInt(length) - 1n <= map.last);
    return found === undefined ? null : this.vfio.view(found.vaddr + (iova - found.iova), length);
  }

  /** A program that reads into four pages is started and held: its pages stay pinned until it may go on. */
  pinSome(wanted?: bigint): string {
    if (this.#held !== null) throw new Refused('a program holds its pages already: unpin first');
    const iova = this.#target(6n, wanted);
    this.#program(iova, 4);
    this.action(DISK, 'hold', { value: 1 });
    try {
      this.#start(iova);
    } catch (error) {
      this.action(DISK, 'hold', { value: 0 });
      throw error;
    }
    this.#held = { iova: iova + PAGE };
    return 'a started program holds 4 pages until its device answers';
  }

  unpinSome(): string {
    if (this.#held === null) throw new Refused('nothing is held');
    this.#held = null;
    this.action(DISK, 'hold', { value: 0 });
    this.clock.advance(50);
    return 'the device answered, the program ended, its pages are unpinned and marked dirty';
  }

  deviceWrites(wanted?: bigint): string {
    if (this.#held !== null) throw new Refused('a program is held: unpin first');
    const iova = this.#target(5n, wanted);
    this.#program(iova, 3);
    this.#start(iova);
    this.clock.advance(50);
    return 'a program stored what the device says about itself into 3 pages';
  }

  setMemlock(text: string): string {
    const limit = text.trim();
    const bytes = limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit);
    if (limit === '' || !(bytes >= 0)) throw new Refused(`not a number of bytes: ${text}`);
    this.vfio.rlimit({ memlock: bytes, lockCap: bytes === Number.POSITIVE_INFINITY });
    return limit === 'unlimited'
      ? 'no limit, for what is mapped from now on'
      : `at most ${size(BigInt(Math.floor(bytes)))} may be locked by what is mapped from now on; a mapping keeps the privilege with which it was made`;
  }

  /** Asks the hardware behind a device, as a script would. */
  action(name: string, action: string, fields: Record<string, string | number>): void {
    deviceAction(this.vfio, name, action, fields);
  }

  inspect(): MapState {
    const view = inspectContainer(this.vfio, this.container.fd);
    const dirty: bigint[] = [];
    for (const range of view.dirty)
      for (let page = range.iova; page < range.iova + range.length && dirty.length < 4096; page += PAGE)
        dirty.push(page);
    const { mm, limits } = this.vfio.task;
    return {
      maps: view.maps.map(({ iova, last }) => ({ iova, last, vaddr: this.#vaddr.get(iova) ?? 0n })),
      pins: view.pins,
      dirty,
      dmaAvail: view.available,
      lockedPages: mm.lockedPages,
      limitPages:
        limits.memlock === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : Math.floor(limits.memlock / 4096),
    };
  }

  /** A mapped stretch of so many pages: the one that begins at `wanted`, or the first. */
  #target(pages: bigint, wanted?: bigint): bigint {
    const fitting = this.inspect().maps.filter(
      (map) => map.last - map.iova + 1n >= pages * PAGE && map.last < 1n << 31n && map.vaddr !== 0n,
    );
    const found = fitting.find((map) => map.iova === wanted) ?? fitting[0];
    if (found !== undefined) return found.iova;
    this.map(0x800000n, 16n * PAGE);
    return 0x800000n;
  }

  /** CCWs in the first page, one sense-id of 32 bytes into each of the next pages. */
  #program(iova: bigint, pages: number): void {
    const memory = this.memory(iova, 4096);
    if (memory === null) return;
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    for (let i = 0; i < pages; i++) {
      view.setUint32(8 * i, 0xe4000020 | (i < pages - 1 ? 0x600000 : 0x200000));
      view.setUint32(8 * i + 4, Number(iova) + 4096 * (i + 1));
    }
  }

  #start(iova: bigint): void {
    const region = new Uint8Array(24);
    const view = new DataView(region.buffer);
    view.setUint32(4, 0x00c2ff00);
    view.setUint32(8, Number(iova));
    view.setUint32(12, 0x4000);
    this.vfio.write(this.device(DISK).fd, region, 0);
  }

  device(name: string): Device {
    const device = this.devices.get(name);
    if (device === undefined) throw new Error(`no device ${name}`);
    return device;
  }

  /** Asks which pages are dirty, as a migration does between two rounds; what was reported is clean then, but for what is still pinned. */
  harvest(): string {
    const before = this.inspect().dirty.length;
    for (const map of this.inspect().maps) {
      const pages = (map.last - map.iova + 1n) / PAGE;
      if (pages > 1n << 20n) continue;
      const bytes = Number((pages + 63n) / 64n) * 8;
      const data = this.vfio.mmap(BigInt(bytes));
      const get = new VfioIommuType1DirtyBitmapGet({
        iova: map.iova,
        size: map.last - map.iova + 1n,
        bitmap: new VfioBitmap({ pgsize: PAGE, size: BigInt(bytes), data }),
      });
      this.#dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, get.bytes);
      this.vfio.munmap(data, bytes);
    }
    const left = this.inspect().dirty.length;
    return `${before} pages reported dirty and clean from now on${left > 0 ? `, ${left} of them pinned and therefore dirty again` : ''}`;
  }

  #dirty(flags: number, data: Uint8Array = new Uint8Array(0)): void {
    const request = new VfioIommuType1DirtyBitmap({ argsz: VfioIommuType1DirtyBitmap.size + data.length, flags });
    request.bytes.set(data, VfioIommuType1DirtyBitmap.size);
    this.vfio.ioctl(this.container.fd, VFIO_IOMMU_DIRTY_PAGES, request);
  }
}

export async function makeWorld(seed: number): Promise<World> {
  const clock = new ManualClock();
  const begin = performance.now();
  const vfio = await createVfio({
    clock,
    machine: {
      seed,
      memory: 96 * 1024 * 1024,
      devices: [
        { bus: 'ccw', model: 'dasd-3390', name: DISK, group: 5, subchannel: '0.0.0313', device: '0.0.0120' },
        {
          bus: 'ccw',
          model: 'replay',
          name: REPLAY,
          group: 8,
          subchannel: '0.0.0400',
          device: '0.0.0400',
          recordings: PROGRAMS.map(({ recording }) => recording),
        },
      ],
    },
  });
  const startMs = performance.now() - begin;
  const [core] = performance.getEntriesByType('resource').filter((entry) => /core.*\.wasm/.test(entry.name));
  const coreBytes = (core as PerformanceResourceTiming | undefined)?.decodedBodySize ?? 0;
  const world = new World(vfio, clock, startMs, coreBytes);
  world.map(0n, 0x100000n);
  world.map(0x1000000n, 0x80000n);
  return world;
}
