// Seeded random guests for the channel-program tests: valid, nearly valid and senseless programs in a small set of pages that has every edge
// in it (0, 2 GiB, 4 GiB, 2^64). Writes are big-endian bytes at guest addresses.
import type { Random } from './counts.ts';

/** Guest pages that exist: pairs of neighbours, the ends of 31-, 32- and 64-bit storage. */
export const PAGES: readonly bigint[] = [
  0x0n,
  0x10000n,
  0x11000n,
  0x12000n,
  0x13000n,
  0x20000n,
  0x21000n,
  0x22000n,
  0x30000n,
  0x7ffff000n,
  0x80000000n,
  0xfffff000n,
  0x100000000n,
  0x100001000n,
  0x7fff00000000n,
  0xfffffffffffff000n,
];

export interface Program {
  readonly word1: number;
  readonly cpa: number;
  /** Ascending order does not matter; later writes win. */
  readonly writes: ReadonlyArray<{ iova: bigint; bytes: Uint8Array }>;
}

const COMMANDS = [0x02, 0x01, 0x03, 0x04, 0x0c, 0x06, 0x05, 0x14, 0x31, 0x00, 0xe4, 0x18, 0x0b];

export function ccw1(cmd: number, flags: number, count: number, cda: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, cmd);
  view.setUint8(1, flags);
  view.setUint16(2, count);
  view.setUint32(4, cda);
  return bytes;
}

export function ccw0(cmd: number, flags: number, count: number, cda: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, cda);
  view.setUint8(0, cmd);
  view.setUint8(4, flags);
  view.setUint16(6, count);
  return bytes;
}

/** A program of related chains: TICs mostly find something, data addresses mostly exist. */
export function randomProgram(random: Random): Program {
  const writes: Array<{ iova: bigint; bytes: Uint8Array }> = [];
  const fmt1 = random.int(4) !== 0;
  const c64 = random.int(3) !== 0;
  let word1 = (random.int(256) << 8) | (random.int(16) << 28) | (random.int(2) * 0x80);
  if (fmt1) word1 |= 0x00800000;
  if (c64) word1 |= 0x00020000;
  if (random.int(3) === 0) word1 |= 0x00010000;
  if (random.int(5) === 0) word1 &= ~0xff00;
  if (random.int(4) !== 0) word1 |= 0x00400000;

  const programs = PAGES.filter((page) => page <= (fmt1 ? 0xffffffffn : 0xffffffn)).map(Number);
  const heads = Array.from({ length: 1 + random.int(4) }, () => {
    const page = random.pick(programs);
    return (
      (page + random.pick([0, 0, 0x100, 0x7f8, 0x800, 0x808, 0xc00, 0xff8, random.int(512) * 8, random.int(4096)])) >>>
      0
    );
  });
  if (random.int(40) === 0) for (let i = 0; i < 20; i++) heads.push(0x10000 + i * 0x80 + random.int(3) * 8);
  const make = fmt1 ? ccw1 : ccw0;

  const dataAddress = (limit: bigint): bigint => {
    const page = random.int(30) === 0 ? BigInt(random.int(1 << 20)) * 4096n : random.pick(PAGES);
    return (page + BigInt(random.pick([0, 0, 0, 0x800, 0x7ff, 0xfff, random.int(4096)]))) & limit;
  };
  const count = () => random.pick([0, 1, 8, 64, 512, 2048, 2049, 4096, 4097, 8192, random.int(65536), random.int(300)]);
  const idal = (): number => {
    const words = 1 + random.int(34);
    const size = c64 ? 8 : 4;
    const bytes = new Uint8Array(words * size);
    const view = new DataView(bytes.buffer);
    const wide = random.int(8) === 0 ? 0xffffffffffffffffn : 0xffffffffn;
    const from = dataAddress(c64 ? wide : 0xffffffffn);
    for (let i = 0; i < words; i++) {
      const scattered = dataAddress(c64 ? wide : 0xffffffffn) & ~(random.int(6) === 0 ? 0n : 0xfffn);
      const value = i === 0 ? from : random.int(2) === 0 ? scattered : (from & ~0xfffn) + BigInt(i % 3) * 4096n;
      if (c64) view.setBigUint64(i * 8, BigInt.asUintN(64, value));
      else view.setUint32(i * 4, Number(value & 0xffffffffn));
    }
    const home = random.pick([0x20000, 0x21000, 0x22000, 0x30000, 0x13000]);
    const at = home + random.pick([0, 0x40, 0xff8, 0xffc, 0xf80, random.int(4096), random.int(500) * 8]);
    writes.push({ iova: BigInt(at), bytes });
    return at;
  };

  for (const head of heads) {
    const long = random.int(25) === 0;
    const len = long ? random.pick([254, 255, 256, 257, 258]) : 1 + random.int(12);
    for (let i = 0; i < len; i++) {
      const last = i === len - 1;
      const at = BigInt(head) + BigInt(i) * 8n;
      const chain = last ? 0 : random.pick([0x40, 0x40, 0x40, 0x80]);
      let flags = chain;
      if (random.int(8) === 0) flags |= 0x10;
      if (random.int(12) === 0) flags |= random.pick([0x20, 0x08, 0x02, 0x01]);
      if (random.int(last ? 3 : 14) === 0) {
        const to = random.pick([
          random.pick(heads),
          random.pick(heads) + 8 * random.int(12),
          head,
          Number(at & 0xffffffffn),
          random.pick(heads) - 8,
          random.pick(heads) + random.int(64),
        ]);
        const ticFlags = fmt1 && random.int(6) === 0 ? random.pick([0x40, 0x80, 0x04]) : 0;
        writes.push({ iova: at, bytes: make(fmt1 ? 8 : random.pick([0x08, 0x18, 0xf8]), ticFlags, 0, to >>> 0) });
      } else if (random.int(long ? 60 : 4) === 0) {
        writes.push({ iova: at, bytes: make(random.pick(COMMANDS), flags | 4, count(), idal()) });
      } else {
        const cda = Number(dataAddress(fmt1 ? 0xffffffffn : 0xffffffn));
        writes.push({ iova: at, bytes: make(random.pick(COMMANDS), flags, long ? random.int(3) * 32 : count(), cda) });
      }
    }
  }
  return { word1: word1 >>> 0, cpa: heads[0] as number, writes };
}

/** Random bytes where a program should be; a few bits are made likely so that chains come into being. */
export function randomBytes(random: Random): Program {
  const bytes = new Uint8Array(2048);
  const likely = random.int(2) === 0;
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.int(256);
  if (likely)
    for (let i = 0; i < bytes.length; i += 8) {
      bytes[i + 4] = 0;
      bytes[i + 5] = random.pick([0, 1, 1, 2]);
      if (random.int(6) !== 0) bytes[i + 1] = random.pick([0x40, 0x80, 0x44, 0x50]);
    }
  const page = random.pick([0x10000, 0x11000, 0x12000, 0x20000, 0]);
  const cpa = page + random.pick([0, 0x800, random.int(4096)]);
  const word1 = random.pick([0x00c2ff00, 0x0082ff00, 0x00c0ff00, 0x00c3ff00, 0x0042ff00, 0x0040ff00]);
  return { word1, cpa, writes: [{ iova: BigInt(cpa), bytes }] };
}
