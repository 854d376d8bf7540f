// One migration between two machines in this page, in simulated time: a guest that writes its memory at a given rate, a serial card, a link of a given
// bandwidth. Everything follows from the seed and the settings; the screen only decides how fast time passes.
import {
  Container,
  createVfio,
  type Device,
  type Link,
  LinkError,
  linkPair,
  ManualClock,
  Migration,
  type MigrationProgress,
  type MigrationReport,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VfioDeviceFeature,
  type VfioInstance,
} from '../../host/index.ts';
import { random } from './random.ts';

export const PAGES = 1024;
const PAGE = 4096;
const SERIAL = '22222222-2222-4222-8222-222222222222';
const STATES = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];

export interface Settings {
  readonly seed: number;
  /** Pages that the guest writes per second. */
  readonly dirtyRate: number;
  /** Bytes per second of the link. */
  readonly bandwidth: number;
  /** Milliseconds that the guest may stand still. */
  readonly downtime: number;
}

export interface Sample {
  readonly ms: number;
  readonly pagesLeft: number;
  readonly dirty: number;
}

interface Side {
  readonly name: string;
  readonly vfio: VfioInstance;
  readonly container: Container;
  readonly device: Device;
  readonly ram: { address: bigint; bytes: Uint8Array };
}

async function side(name: string, clock: ManualClock): Promise<Side> {
  const devices = [{ bus: 'mdev', model: 'mtty', name: SERIAL, group: 6, type: 'mtty-2' }];
  const vfio = await createVfio({ clock, machine: { devices, memory: 32 * 1024 * 1024 } });
  const container = new Container(vfio);
  const group = container.attach(6);
  const ram = container.map(0n, PAGES * PAGE);
  return { name, vfio, container, device: group.device(SERIAL), ram };
}

/** The migration state of a device, by name. */
function stateOf({ device, vfio }: Side): string {
  const feature = new VfioDeviceFeature({
    argsz: 16,
    flags: VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  });
  vfio.ioctl(device.fd, VFIO_DEVICE_FEATURE, feature);
  return STATES[feature.view.getUint32(8, true)] ?? '?';
}

export class Simulation {
  readonly clock = new ManualClock();
  readonly settings: Settings;
  source!: Side;
  destination!: Side;
  readonly samples: Sample[] = [];
  readonly events: string[] = [];
  /** Last simulated ms at which the guest wrote a page; what was sent of it is older. */
  readonly written = new Float64Array(PAGES).fill(-1e9);
  progress: MigrationProgress | null = null;
  /** Reports of both sides, or why there is none. */
  outcome: { source: MigrationReport | Error; destination: MigrationReport | Error } | null = null;
  running: 'source' | 'destination' | 'nobody' = 'source';
  /** What a stopped guest sees of the data: both sides' RAM equal at the hand-over? */
  equal: boolean | null = null;
  #next: () => number;
  #dirty = new Set<number>();
  #logging = false;
  #cut: ((reason: unknown) => void) | null = null;
  #corrupt = false;
  #ended = false;

  constructor(settings: Settings) {
    this.settings = settings;
    this.#next = random(settings.seed);
  }

  /** Makes both machines and starts the migration; time does not pass yet. */
  async begin(): Promise<void> {
    this.source = await side('source', this.clock);
    this.destination = await side('destination', this.clock);
    const { bytes } = this.source.ram;
    for (let page = 0; page < PAGES; page++)
      if (this.#next() < 0.7)
        for (let i = 0; i < PAGE; i += 64) bytes[page * PAGE + i] = Math.floor(this.#next() * 256);
    const bar = this.source.device.region(0);
    for (const char of 'on its way') bar.set(0, char.charCodeAt(0), 1);
    this.#writer();
    const [here, there] = linkPair();
    const outgoing = this.#slow(here);
    this.#cut = (reason) => {
      void outgoing.close(reason);
      void there.close(reason);
    };
    const { policyOf } = this;
    const options = { clock: this.clock, policy: policyOf(), id: `demo-${this.settings.seed}`, frameSize: 16 * 1024 };
    const from = new Migration(
      {
        process: this.source.vfio,
        ram: [{ name: 'ram', address: this.source.ram.address, size: PAGES * PAGE, iova: 0n }],
        devices: [{ name: 'serial', fd: this.source.device.fd, container: this.source.container.fd }],
        cpu: {
          start: () => {
            this.#logging = true;
          },
          harvest: (mark) => {
            for (const page of this.#dirty) mark(this.source.ram.address + BigInt(page * PAGE), PAGE);
            this.#dirty.clear();
          },
          stop: () => {
            this.#logging = false;
          },
        },
        pause: () => this.#run('nobody'),
        resume: () => this.#run('source'),
      },
      { ...options, onProgress: (progress) => this.#note(progress), onEvent: (event) => this.#event('source', event) },
    );
    const to = new Migration(
      {
        process: this.destination.vfio,
        ram: [{ name: 'ram', address: this.destination.ram.address, size: PAGES * PAGE, iova: 0n }],
        devices: [{ name: 'serial', fd: this.destination.device.fd, container: this.destination.container.fd }],
        resume: () => {
          this.equal = compare(this.source.ram.bytes, this.destination.ram.bytes);
          this.#run('destination');
        },
      },
      { ...options, onEvent: (event) => this.#event('destination', event) },
    );
    const settle = (promise: Promise<MigrationReport>): Promise<MigrationReport | Error> =>
      promise.catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
    void Promise.all([settle(from.send(outgoing)), settle(to.receive(there))]).then(([source, destination]) => {
      this.outcome = { source, destination };
    });
  }

  private readonly policyOf = () => ({
    downtimeLimit: this.settings.downtime,
    bandwidth: this.settings.bandwidth,
    maxRounds: 12,
  });

  /** Lets simulated time pass, in steps small enough that nothing is jumped over. */
  async advance(ms: number): Promise<void> {
    for (let passed = 0; passed < ms && !this.#ended; passed += 1) {
      this.clock.advance(1);
      // Promises of both sides settle before the next millisecond: the order depends on simulated time alone.
      for (let i = 0; i < 60; i++) await Promise.resolve();
      if (this.outcome !== null) this.#ended = true;
    }
  }

  get done(): boolean {
    return this.outcome !== null;
  }

  states(): { source: string; destination: string } {
    return { source: stateOf(this.source), destination: stateOf(this.destination) };
  }

  /** The cable is pulled. */
  breakLink(): void {
    this.#event('link', 'broken by hand');
    this.#cut?.(new LinkError('somebody pulled the cable'));
  }

  /** One bit of the next chunk turns over. */
  corruptByte(): void {
    this.#event('link', 'the next chunk will have one wrong bit');
    this.#corrupt = true;
  }

  close(): void {
    this.#ended = true;
    this.#cut?.(new LinkError('the page goes on'));
  }

  #run(who: 'source' | 'destination' | 'nobody'): void {
    this.running = who;
  }

  #event(who: string, text: string): void {
    this.events.push(`${this.clock.now().toFixed(0).padStart(5)} ms  ${who}: ${text}`);
  }

  #note(progress: MigrationProgress): void {
    this.progress = progress;
    this.samples.push({ ms: this.clock.now(), pagesLeft: progress.pagesLeft, dirty: this.#dirty.size });
  }

  /** The guest's processors: every 10 ms some pages, most of them from a working set. */
  #writer(): void {
    const tick = (): void => {
      if (this.#ended) return;
      if (this.running === 'source') {
        const exact = (this.settings.dirtyRate * 10) / 1000;
        const count = Math.floor(exact) + (this.#next() < exact % 1 ? 1 : 0);
        for (let i = 0; i < count; i++) {
          const page = this.#next() < 0.8 ? Math.floor(this.#next() * PAGES * 0.2) : Math.floor(this.#next() * PAGES);
          this.source.ram.bytes[page * PAGE + Math.floor(this.#next() * PAGE)] = Math.floor(this.#next() * 256);
          this.written[page] = this.clock.now();
          if (this.#logging) this.#dirty.add(page);
        }
      }
      this.clock.after(10, tick);
    };
    tick();
  }

  /** The link as the source sees it: bytes take their time, and somebody may tamper with them. */
  #slow(link: Link): Link {
    return {
      incoming: link.incoming,
      close: (reason) => link.close(reason),
      send: async (bytes) => {
        let sent = bytes;
        if (this.#corrupt && bytes.length > 64) {
          this.#corrupt = false;
          sent = bytes.slice();
          const at = Math.floor(this.#next() * sent.length);
          sent[at] = (sent[at] ?? 0) ^ 0x10;
        }
        await new Promise<void>((resolve) =>
          this.clock.after((bytes.length / this.settings.bandwidth) * 1000, resolve),
        );
        await link.send(sent);
      },
    };
  }
}

function compare(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
