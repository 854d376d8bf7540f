// The guest that `vfio-wasm migrate` moves: some RAM that a little program keeps writing, and four devices that it keeps busy. Everything it writes can
// be checked, so the other side can tell whether it arrived whole. RAM page 0 holds the program's own state:
//   u64 steps@0, u32 pages written@8, u32 expected character@12, u32 random state@16
// Every other page begins with u64 step@0, u32 page@8, u32 sum@12 of the two, or is all zero.
import { Container } from '../classes/container.ts';
import type { DeviceDescription } from '../devices/model.ts';
import type { CpuDirtyLog, MigrationGuest } from '../migration/types.ts';
import { createVfio } from '../node.ts';
import type { VfioInstance } from '../source.ts';
import { VFIO_DEVICE_SET_IRQS } from '../uapi/ioctl.ts';
import { VfioIrqSet } from '../uapi/structs.ts';
import type { EventFd } from '../vfio/eventfd.ts';

const PAGE = 4096;
const DRIVER = 'vfio-pci-migratable';
const EDU = '0000:00:01.0';
const DASD = '11111111-1111-4111-8111-111111111111';
const MTTY = '22222222-2222-4222-8222-222222222222';
const DEVICES: readonly DeviceDescription[] = [
  { bus: 'pci', model: 'edu', name: EDU, group: 1, driver: DRIVER },
  { bus: 'pci', model: 'pci-msix', name: '0000:00:02.0', group: 2, driver: DRIVER },
  { bus: 'ccw', model: 'dasd-3390', name: DASD, group: 5, subchannel: '0.0.0313', device: '0.0.0120' },
  { bus: 'mdev', model: 'mtty', name: MTTY, group: 6, type: 'mtty-2' },
];
/** Groups whose devices log their own writes, and those whose container has to tell: a physical group there would make all pages dirty. */
const LOGGING = [1, 2, 6];
const CONFIG = 7n << 40n;
const PCI_COMMAND = CONFIG + 4n;
const MEMORY_AND_MASTER = 6;
const TICK_MS = 5;
/** Pages that the devices use: the channel program, the disk's data, the copies of edu. */
const PROGRAM_PAGE = 1;
const DMA_PAGE = 2;
export const FIRST_DATA_PAGE = 3;

export interface GuestHealth {
  readonly steps: number;
  readonly pagesWritten: number;
  readonly damage: readonly string[];
}

export class DemoGuest {
  readonly vfio: VfioInstance;
  readonly pages: number;
  readonly guest: MigrationGuest;
  readonly #address: bigint;
  readonly #fds: ReadonlyMap<string, number>;
  readonly #writes: number;
  readonly #dirty = new Set<number>();
  #logging = false;
  #timer: ReturnType<typeof setInterval> | null = null;
  #diskDone: EventFd | null = null;
  readonly #damage: string[] = [];

  /** @param pages of RAM. @param writesPerSecond pages that the program writes. */
  static async create(pages: number, writesPerSecond: number): Promise<DemoGuest> {
    const memory = Math.ceil((pages * PAGE) / 65536) * 65536 + (16 << 20);
    const vfio = await createVfio({ machine: { devices: DEVICES, memory }, heapSize: 8 << 20 });
    return new DemoGuest(vfio, pages, writesPerSecond);
  }

  private constructor(vfio: VfioInstance, pages: number, writesPerSecond: number) {
    this.vfio = vfio;
    this.pages = pages;
    this.#writes = Math.ceil((writesPerSecond * TICK_MS) / 1000);
    const size = pages * PAGE;
    const containers = [new Container(vfio), new Container(vfio)] as const;
    const fds = new Map<string, number>();
    const owner = new Map<string, number>();
    for (const { name, group } of DEVICES) {
      const container = containers[LOGGING.includes(group!) ? 0 : 1];
      fds.set(name, container.attach(group!).device(name).fd);
      owner.set(name, container.fd);
    }
    this.#fds = fds;
    this.#address = vfio.mmap(size);
    for (const container of containers) container.map(0n, size, { address: this.#address });
    const cpu: CpuDirtyLog = {
      start: () => {
        this.#logging = true;
        this.#dirty.clear();
      },
      harvest: (mark) => {
        for (const page of this.#dirty) mark(this.#address + BigInt(page * PAGE), PAGE);
        this.#dirty.clear();
      },
      stop: () => {
        this.#logging = false;
      },
    };
    this.guest = {
      process: vfio,
      ram: [{ name: 'ram', address: this.#address, size, iova: 0n }],
      devices: DEVICES.map(({ name }) => ({ name, fd: fds.get(name)!, container: owner.get(name)! })),
      cpu,
      peers: [],
      pause: () => this.pause(),
      resume: () => this.run(),
      setup: () => this.#setUp(),
    };
  }

  /** What firmware and drivers do on a fresh machine. */
  boot(): void {
    this.#setUp();
    this.#page(0).setUint32(16, 0x2545f491, true);
    this.#write(MTTY, 2n, 1);
    this.run();
  }

  run(): void {
    this.#timer ??= setInterval(() => this.step(), TICK_MS);
  }

  pause(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** One step of the program: RAM, then every device a little. */
  step(): void {
    const state = this.#page(0);
    const step = state.getBigUint64(0, true) + 1n;
    state.setBigUint64(0, step, true);
    let random = state.getUint32(16, true);
    for (let i = 0; i < this.#writes; i++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      const page = FIRST_DATA_PAGE + (random % (this.pages - FIRST_DATA_PAGE));
      const view = this.#page(page);
      if (view.getUint32(12, true) === 0) state.setUint32(8, state.getUint32(8, true) + 1, true);
      view.setBigUint64(0, step, true);
      view.setUint32(8, page, true);
      view.setUint32(12, sumOf(step, page), true);
    }
    state.setUint32(16, random, true);
    this.#serial(state, Number(step & 0x7fn));
    this.#copy();
    this.#disk();
  }

  /** Does everything that arrived fit together? */
  health(): GuestHealth {
    const state = this.#page(0);
    const steps = state.getBigUint64(0, true);
    const damage = [...this.#damage];
    let written = 0;
    for (let page = FIRST_DATA_PAGE; page < this.pages; page++) {
      const view = this.#page(page);
      const sum = view.getUint32(12, true);
      if (sum === 0) continue;
      written++;
      const step = view.getBigUint64(0, true);
      if (view.getUint32(8, true) !== page || sum !== sumOf(step, page) || step > steps)
        damage.push(`page ${page} is not what step ${step} wrote`);
    }
    if (written !== state.getUint32(8, true))
      damage.push(`${written} pages, the program wrote ${state.getUint32(8, true)}`);
    return { steps: Number(steps), pagesWritten: written, damage };
  }

  /** A character waits in the card's fifo from step to step: it must be the one that RAM says. */
  #serial(state: DataView, next: number): void {
    const expected = state.getUint32(12, true);
    const got = this.#read(MTTY, 0n, 1);
    if (expected !== 0 && got !== expected)
      this.#damage.push(`serial card: character ${got} where ${expected} was sent`);
    this.#write(MTTY, 0n, next + 1);
    state.setUint32(12, next + 1, true);
  }

  /** Keeps edu copying its buffer to memory. */
  #copy(): void {
    if ((this.#read(EDU, 0x98n, 4) & 1) !== 0) return;
    this.#write(EDU, 0x80n, 0x40000, 8);
    this.#write(EDU, 0x88n, DMA_PAGE * PAGE, 8);
    this.#write(EDU, 0x90n, 64, 8);
    this.#write(EDU, 0x98n, 3, 8);
  }

  /** Keeps the disk answering SENSE ID. */
  #disk(): void {
    if (this.#diskDone !== null && this.#diskDone.take() === null) return;
    const program = this.#page(PROGRAM_PAGE);
    program.setUint32(0, 0xe4200007);
    program.setUint32(4, PROGRAM_PAGE * PAGE + 64);
    const region = new Uint8Array(124);
    const view = new DataView(region.buffer);
    view.setUint32(4, 0x00c0ff00);
    view.setUint32(8, PROGRAM_PAGE * PAGE);
    view.setUint32(12, 0x4000);
    this.vfio.writeRaw(this.#fds.get(DASD)!, region, 0);
  }

  /** Configuration and interrupts: on a fresh machine, and on a destination between RESUMING and RUNNING. */
  #setUp(): void {
    this.#write(EDU, PCI_COMMAND, MEMORY_AND_MASTER, 2);
    const fd = this.vfio.eventfd();
    const request = new VfioIrqSet({ argsz: 24, flags: 0x24, index: 0, start: 0, count: 1 }, 4);
    request.view.setInt32(20, fd, true);
    this.vfio.ioctl(this.#fds.get(DASD)!, VFIO_DEVICE_SET_IRQS, request);
    this.#diskDone = this.vfio.eventfdOf(fd);
    this.#diskDone.signal();
  }

  /** A view of a page that the program is about to write. */
  #page(page: number): DataView {
    if (this.#logging) this.#dirty.add(page);
    const bytes = this.vfio.view(this.#address + BigInt(page * PAGE), PAGE);
    return new DataView(bytes.buffer, bytes.byteOffset, PAGE);
  }

  #write(device: string, offset: bigint, value: number, width = 1): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < Math.min(width, 4); i++) bytes[i] = value >>> (8 * i);
    this.vfio.write(this.#fds.get(device)!, bytes, offset);
  }

  #read(device: string, offset: bigint, width: number): number {
    const bytes = new Uint8Array(width);
    this.vfio.read(this.#fds.get(device)!, bytes, offset);
    return bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  }
}

/** Never 0. */
const sumOf = (step: bigint, page: number): number =>
  ((Math.imul(Number(step & 0xffffffffn), 0x9e3779b1) ^ Math.imul(page, 0x85ebca6b)) | 1) >>> 0;
