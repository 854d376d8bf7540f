// Migration: the check sum, the stream against plain memory copy, downtime and total time against how fast the guest writes, and what a harvest
// of dirty pages costs in small and large guests. Goals: shared performance goals ("migration stream").
import { readFileSync } from 'node:fs';
import { Container } from '../host/classes/container.ts';
import { createCore } from '../host/core.ts';
import { linkPair } from '../host/migration/link.ts';
import { Migration } from '../host/migration/migration.ts';
import { PageSet } from '../host/migration/ram.ts';
import type { MigrationGuest, MigrationReport } from '../host/migration/types.ts';
import { createVfio } from '../host/node.ts';
import type { VfioInstance } from '../host/source.ts';
import { VFIO_IOMMU_DIRTY_PAGES } from '../host/uapi/ioctl.ts';
import { VfioIommuType1DirtyBitmap, VfioIommuType1DirtyBitmapGet } from '../host/uapi/structs.ts';
import { type Case, measure, type Row, rowOf } from './harness.ts';

const PAGE = 4096;
const MIB = 1 << 20;
const GIB = 1n << 30n;

export async function rows(): Promise<Row[]> {
  return [...(await sums()), ...(await stream()), ...(await writing()), ...(await harvests())];
}

/** The sum beside slice-by-eight in plain TypeScript, the usual way to do it there. */
async function sums(): Promise<Row[]> {
  const core = await createCore(
    async () => WebAssembly.compile(readFileSync(new URL('../host/core.wasm', import.meta.url))),
    { length: 16 * MIB },
  );
  const { exports } = core;
  const table = exports.crc32c_create(core.arena);
  const bytes = core.u8.subarray(core.userBase, core.userBase + MIB);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 0x9e3779b1) >>> 13;
  const plain = slices();
  const cases: Case[] = [64, PAGE, 65536, MIB].map((size) => ({
    table: 'crc32c',
    row: `${size} bytes`,
    unit: 'byte',
    goal: 'above 1.4 GiB/s',
    per: size,
    candidates: [
      {
        name: 'core',
        run(n) {
          for (let i = 0; i < n; i++) exports.crc32c(table, 0, core.userBase, size);
        },
      },
      {
        name: 'typescript',
        run(n) {
          for (let i = 0; i < n; i++) plain(bytes, size);
        },
      },
    ],
  }));
  const measured: Row[] = [];
  for (const one of cases) measured.push(await measure(one));
  return measured;
}

function slices(): (bytes: Uint8Array, size: number) => number {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
    tables[0]![i] = crc;
  }
  for (let k = 1; k < 8; k++)
    for (let i = 0; i < 256; i++) {
      const before = tables[k - 1]![i]!;
      tables[k]![i] = (before >>> 8) ^ tables[0]![before & 255]!;
    }
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  return (bytes, size) => {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, size >> 2);
    let crc = -1;
    for (let i = 0; i < words.length; i += 2) {
      const a = words[i]! ^ crc;
      const b = words[i + 1]!;
      crc =
        t7[a & 255]! ^
        t6[(a >>> 8) & 255]! ^
        t5[(a >>> 16) & 255]! ^
        t4[a >>> 24]! ^
        t3[b & 255]! ^
        t2[(b >>> 8) & 255]! ^
        t1[(b >>> 16) & 255]! ^
        t0[b >>> 24]!;
    }
    return ~crc >>> 0;
  };
}

interface Ram {
  readonly vfio: VfioInstance;
  readonly address: bigint;
  readonly size: number;
  readonly bytes: Uint8Array;
}

async function ram(size: number): Promise<Ram> {
  const vfio = await createVfio({ machine: { devices: [] }, length: size + 16 * MIB, heapSize: 8 * MIB });
  const address = vfio.mmap(size);
  return { vfio, address, size, bytes: vfio.view(address, size) };
}

const guestOf = ({ vfio, address, size }: Ram, more: Partial<MigrationGuest> = {}): MigrationGuest => ({
  process: vfio,
  ram: [{ name: 'ram', address, size }],
  devices: [],
  ...more,
});

function scribble(bytes: Uint8Array): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let value = 1;
  for (let i = 0; i < words.length; i++) {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0;
    words[i] = value;
  }
}

/** 64 MiB of RAM without zero pages, framed, summed, journalled, put in place: both sides in one thread, and each side alone. */
async function stream(): Promise<Row[]> {
  const size = 64 * MIB;
  const source = await ram(size);
  const target = await ram(size);
  scribble(source.bytes);
  const chunks: Uint8Array[] = [];
  for await (const chunk of new Migration(guestOf(source)).save()) chunks.push(chunk.slice());
  async function* recorded() {
    yield* chunks;
  }
  const ways: ReadonlyArray<[name: string, move: () => Promise<unknown>]> = [
    [
      'both sides in one thread',
      () => {
        const [left, right] = linkPair();
        return Promise.all([new Migration(guestOf(source)).send(left), new Migration(guestOf(target)).receive(right)]);
      },
    ],
    [
      'sending side alone',
      async () => {
        for await (const chunk of new Migration(guestOf(source)).save()) chunk.at(0);
      },
    ],
    ['receiving side alone', () => new Migration(guestOf(target)).restore(recorded())],
    [
      'memory copy',
      async () => {
        target.bytes.set(source.bytes);
      },
    ],
  ];
  const times = ways.map(() => [] as number[]);
  for (let round = 0; round < 7; round++)
    for (const [i, [, move]] of ways.entries()) {
      target.bytes.fill(0);
      const start = performance.now();
      await move();
      times[i]!.push(((performance.now() - start) * 1e6) / size);
    }
  const middle = times.map((list) => [...list].sort((x, y) => x - y)[list.length >> 1]!);
  const copy = middle.at(-1)!;
  return ways.slice(0, -1).map(([name], i) => {
    const note = `${(1 / middle[i]!).toFixed(2)} GB/s, ${((copy / middle[i]!) * 100).toFixed(0)} % of memory copy`;
    const goal = i === 0 ? 'at least 50 % of memory copy' : '';
    const subject = { table: 'migration stream', row: `64 MiB, ${name}`, unit: 'byte', goal, note };
    return rowOf(subject, { core: middle[i]!, 'memory copy': copy });
  });
}

/** 16 MiB over a link held to 100 MiB/s while the guest writes; 25 600 pages a second is the speed of the link. */
async function writing(): Promise<Row[]> {
  const measured: Row[] = [];
  for (const rate of [0, 2000, 5000, 10000, 20000, 40000]) {
    const source = await ram(16 * MIB);
    const target = await ram(16 * MIB);
    scribble(source.bytes);
    const report = await moveWriting(source, target, rate);
    measured.push(
      rowOf(
        {
          table: 'downtime and total time',
          row: `${rate} pages/s written`,
          unit: 'migration',
          note: `${report.rounds.length} rounds, ${(report.bytes / MIB).toFixed(1)} MiB, downtime ${report.downtime.toFixed(1)} ms, total ${report.milliseconds.toFixed(0)} ms`,
        },
        { downtime: report.downtime * 1e6, total: report.milliseconds * 1e6 },
      ),
    );
  }
  return measured;
}

async function moveWriting(source: Ram, target: Ram, rate: number): Promise<MigrationReport> {
  const dirty = new Set<number>();
  let last = performance.now();
  let running = true;
  let random = 7;
  const write = () => {
    const now = performance.now();
    const pages = Math.floor(((now - last) * rate) / 1000);
    if (!running || pages === 0) return;
    last = now;
    for (let i = 0; i < pages; i++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      const page = random % (source.size / PAGE);
      source.bytes[page * PAGE] = random;
      dirty.add(page);
    }
  };
  const guest = guestOf(source, {
    cpu: {
      start: () => dirty.clear(),
      harvest(mark) {
        write();
        for (const page of dirty) mark(source.address + BigInt(page * PAGE), PAGE);
        dirty.clear();
      },
      stop: () => {},
    },
    pause: () => {
      running = false;
    },
  });
  const policy = { bandwidth: 100 * MIB, downtimeLimit: 20, maxRounds: 20 };
  const [left, right] = linkPair();
  const [report] = await Promise.all([
    new Migration(guest, { policy, frameSize: 65536, onProgress: write }).send(left),
    new Migration(guestOf(target)).receive(right),
  ]);
  return report;
}

/** One look at the bitmap of a guest that wrote 1000 pages, through the container's ioctl, into the set of pages to send. */
async function harvests(): Promise<Row[]> {
  const measured: Row[] = [];
  for (const size of [1n, 64n, 1024n]) {
    const bytes = size * GIB;
    const pages = Number(bytes / BigInt(PAGE));
    const room = Math.ceil(pages / 8);
    const vfio = await createVfio({
      machine: { devices: [{ bus: 'mdev', model: 'mtty', name: '22222222-2222-4222-8222-222222222222', group: 6 }] },
      length: 16 * MIB + 4 * room + 64 * MIB,
      heapSize: 32 * MIB + 2 * room,
    });
    const container = new Container(vfio);
    const device = container.attach(6).device('22222222-2222-4222-8222-222222222222');
    const address = vfio.mmap(bytes, { backed: false, addr: 0x100000000000n });
    container.map(0n, Number(bytes), { address });
    vfio.ioctl(container.fd, VFIO_IOMMU_DIRTY_PAGES, new VfioIommuType1DirtyBitmap({ flags: 1 }));
    const bitmap = vfio.mmap(room);
    const view = vfio.view(bitmap, room);
    const set = new PageSet(pages);
    const head = VfioIommuType1DirtyBitmap.size;
    const argument = new VfioIommuType1DirtyBitmap({ argsz: head + 40, flags: 4 }, 40);
    const range = { iova: 0n, size: bytes, bitmap: { pgsize: 4096n, size: BigInt(room), data: bitmap } };
    argument.bytes.set(new VfioIommuType1DirtyBitmapGet(range).bytes, head);
    const { iommu } = vfio.kernel.groups.get('6')!.devices[0]!.dma!;
    const stride = bytes / 1000n;
    const harvest = () => {
      for (let i = 0n; i < 1000n; i++) vfio.core.exports.iommu_dirty_mark(iommu, (i * stride) & ~4095n, 4096n);
      vfio.ioctl(container.fd, VFIO_IOMMU_DIRTY_PAGES, argument);
      set.merge(view);
    };
    const scratch = new Uint8Array(room);
    measured.push(
      await measure(
        {
          table: 'dirty harvest',
          row: `${size} GiB of guest, 1000 pages written`,
          unit: 'harvest',
          candidates: [
            {
              name: 'core',
              run(n) {
                for (let i = 0; i < n; i++) harvest();
              },
            },
            {
              name: 'copy of the bitmap',
              run(n) {
                for (let i = 0; i < n; i++) scratch.set(view);
              },
            },
          ],
          note: `${set.pages} pages`,
        },
        { rounds: 5 },
      ),
    );
    if (set.count < 1000) throw new Error(`only ${set.count} pages were found`);
    device.close();
    vfio.exit();
  }
  return measured;
}
