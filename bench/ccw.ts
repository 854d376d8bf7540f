// Channel programs: copy, translate and release of the five benchmark programs, against the same work in TypeScript (optimised and
// idiomatic, bench/peers) and in C (bench/native/ccw.c, the same algorithm).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { ChannelProgram } from '../host/ccw/channel_program.ts';
import { GuestPages } from '../host/ccw/guest_pages.ts';
import { type Core, createCore } from '../host/core.ts';
import { type Candidate, measure, type Row, rowOf } from './harness.ts';
import { buildNative, runNative } from './native.ts';
import { IdiomaticTranslator } from './peers/ccw_idiomatic.ts';
import { OptimisedTranslator } from './peers/ccw_optimised.ts';
import type { PeerPage, Translator } from './peers/ccw_types.ts';

const here = dirname(fileURLToPath(import.meta.url));

interface Subject {
  readonly file: string;
  readonly row: string;
  readonly goal: string;
}

const SUBJECTS: readonly Subject[] = [
  { file: 'perf-a-1x4k', row: 'a: 1 x 4 KiB', goal: 'C <= 1.35x, idiomatic >= 40x' },
  { file: 'perf-b-dasd-8x4k', row: 'b: dasd, 8 x 4 KiB', goal: 'C <= 1.35x, optimised >= 1.7x, idiomatic >= 40x' },
  { file: 'perf-c-64x4k', row: 'c: 64 x 4 KiB', goal: 'C <= 1.35x, optimised >= 1.7x, idiomatic >= 40x' },
  { file: 'perf-d-8x60k-idal', row: 'd: 8 x 60 KiB, IDALs', goal: 'C <= 1.35x, optimised >= 3x, idiomatic >= 40x' },
  { file: 'perf-e-256x64b', row: 'e: 256 x 64 B', goal: 'C <= 1.35x, optimised >= 1.7x, idiomatic >= 40x' },
];

/** A guest of one of the vector files. */
export interface BenchGuest {
  readonly word1: number;
  readonly cpa: number;
  readonly pages: readonly bigint[];
  readonly memory: ReadonlyArray<{ iova: bigint; bytes: Uint8Array }>;
}

/** Reads the first vector of a file in test/data/ccw. */
export function loadGuest(file: string): BenchGuest {
  const packed = readFileSync(join(here, '..', 'test', 'data', 'ccw', `${file}.jsonl.gz`));
  const vector = JSON.parse(gunzipSync(packed).toString()) as {
    orb: string;
    memory: Array<{ iova: string; hex: string }>;
    frames: Array<{ iova: string }>;
  };
  return {
    word1: Number.parseInt(vector.orb.slice(8, 16), 16),
    cpa: Number.parseInt(vector.orb.slice(16, 24), 16),
    pages: vector.frames.map(({ iova }) => BigInt(iova)),
    memory: vector.memory.map(({ iova, hex }) => ({ iova: BigInt(iova), bytes: Buffer.from(hex, 'hex') })),
  };
}

function translatorOf(name: string, translator: Translator, { word1, cpa }: BenchGuest): Candidate {
  return {
    name,
    run(n) {
      let failed = 0;
      for (let i = 0; i < n; i++) {
        failed |= translator.init(word1, cpa);
        failed |= translator.prefetch();
        translator.free();
      }
      if (failed !== 0) throw new Error(`${name}: ${failed}`);
    },
  };
}

/** The core's pages as a peer takes them. */
export function peerPages(core: Core, guest: GuestPages, iovas: readonly bigint[]): PeerPage[] {
  return iovas.map((iova) => {
    const linear = guest.linear(iova) as number;
    return { page: iova >> 12n, frame: linear >>> 12, bytes: core.u8.slice(linear, linear + 4096) };
  });
}

async function subjectRow({ file, row, goal }: Subject): Promise<Row> {
  const guest = loadGuest(file);
  const binary = readFileSync(join(here, '..', 'host', 'core.wasm'));
  const core = await createCore(() => WebAssembly.compile(binary));
  const pages = new GuestPages(core);
  pages.add(guest.pages);
  for (const { iova, bytes } of guest.memory) pages.write(iova, bytes);
  const { cp_init, cp_prefetch, cp_free } = core.exports;
  const cp = new ChannelProgram(core).address;
  const { iommu } = pages;
  const { word1, cpa } = guest;
  const ours: Candidate = {
    name: 'core',
    run(n) {
      let failed = 0;
      for (let i = 0; i < n; i++) {
        failed |= cp_init(cp, iommu, word1, cpa);
        failed |= cp_prefetch(cp);
        cp_free(cp);
      }
      if (failed !== 0) throw new Error(`core: ${failed}`);
    },
  };
  const peers = peerPages(core, pages, guest.pages);
  const candidates = [
    ours,
    translatorOf('optimised', new OptimisedTranslator(peers), guest),
    translatorOf('idiomatic', new IdiomaticTranslator(peers), guest),
  ];
  const subject = { table: 'ccw translate + release', row, unit: 'program', goal };
  // Short turns in three parts with the C program between them: the machine's mood is shared by all.
  const parts: Array<Record<string, number>> = [];
  for (let part = 0; part < 3; part++) {
    const { ns } = await measure({ ...subject, candidates }, { rounds: 15, turn: 5 });
    const c = native(file, guest);
    parts.push(c === null ? ns : { ...ns, C: c });
  }
  const median = (name: string) => parts.map((ns) => ns[name] as number).sort((x, y) => x - y)[1] as number;
  return rowOf(subject, Object.fromEntries(Object.keys(parts[0] ?? {}).map((name) => [name, median(name)])));
}

/** ns per program of the C twin, or null without a compiler. */
function native(file: string, guest: BenchGuest): number | null {
  const program = buildNative('ccw');
  if (program === null) return null;
  const path = join(here, '..', 'build', 'native', `${file}.txt`);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, nativeInput(guest));
  return runNative(program, [path])['translate'] ?? null;
}

/** A guest as text for the C twin: ORB, pages, bytes. */
export function nativeInput({ word1, cpa, pages, memory }: BenchGuest): string {
  return [
    `orb ${word1.toString(16)} ${cpa.toString(16)}`,
    ...pages.map((iova) => `page ${iova.toString(16)}`),
    ...memory.map(({ iova, bytes }) => `mem ${iova.toString(16)} ${Buffer.from(bytes).toString('hex')}`),
    '',
  ].join('\n');
}

export async function rows(): Promise<Row[]> {
  const result: Row[] = [];
  for (const subject of SUBJECTS) result.push(await subjectRow(subject));
  return result;
}
