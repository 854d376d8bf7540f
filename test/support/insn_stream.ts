// Random instructions for the guest of test/support/executors.ts: mostly such that something happens, sometimes anything at all.
import { encodeInsn, INSN_NAMES, type Insn, type Registers } from '../../host/vmm/cpu.ts';
import type { Random } from './counts.ts';
import { FUNCTIONS, STORAGE, SUBCHANNELS } from './executors.ts';

export interface RandomInsn {
  readonly name: string;
  readonly code: Uint8Array;
  readonly registers: Registers;
  readonly problem: boolean;
  /** Storage set before it. */
  readonly set: ReadonlyArray<readonly [bigint, Uint8Array]>;
}

const WILD: readonly bigint[] = [
  0n,
  1n,
  7n,
  0xfffn,
  0x1000n,
  BigInt(STORAGE) - 4n,
  BigInt(STORAGE),
  1n << 32n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** A big-endian number of 1, 2, 4 or 8 bytes. */
function be(value: bigint | number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * (size - 1 - i))) & 0xffn));
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export class InsnStream {
  readonly #random: Random;
  /** Handles by index, as the guest last saw them. */
  readonly handles: number[];

  constructor(random: Random, handles: readonly number[]) {
    this.#random = random;
    this.handles = [...handles];
  }

  /** What a guest does at first: functions enabled, translated and allowed to master the bus, a buffer of the second ISM function attached. */
  prologue(): RandomInsn[] {
    const handle = (index: number): bigint => BigInt((0x80010000 | index) >>> 0) << 32n;
    const step = (
      name: string,
      fields: Partial<Insn>,
      values: Readonly<Record<number, bigint>>,
      ...set: RandomInsn['set']
    ): RandomInsn => {
      const registers = new BigUint64Array(16);
      for (const [index, value] of Object.entries(values)) registers[Number(index)] = value;
      return { name, code: encodeInsn(name, fields), registers, problem: false, set };
    };
    const store = (index: number, offset: number, length: number, value: bigint, space = 2): RandomInsn =>
      step(
        'PCISTG',
        { r1: 2, r2: 4 },
        { 2: value, 4: handle(index) | BigInt((space << 16) | length), 5: BigInt(offset) },
      );
    const fib = concat(
      new Uint8Array(16),
      be(0x100000000n, 8),
      be(0x1000fffffn, 8),
      be(0x10804n, 8),
      new Uint8Array(40),
    );
    const pages = concat(...Array.from({ length: 256 }, (_, i) => be(0x80000 + 4096 * (i % 64), 8)));
    const enable = (index: number): Uint8Array =>
      concat(
        be(32, 2),
        be(5, 2),
        new Uint8Array(12),
        be(0x10000 | index, 4),
        be(0, 2),
        be(1, 2),
        new Uint8Array(8),
        be(0x20, 2),
        be(0, 2),
      );
    const ready = [0, 1, 2].flatMap((index) => [
      step('CLP', { r1: 2, r2: 3 }, { 3: 0x4000n }, [0x4000n, enable(index)]),
      step('MPCIFC', { r1: 2, b2: 6 }, { 2: handle(index) | 4n, 6: 0x3000n }, [0x3000n, fib]),
      step(
        'RPCIT',
        { r1: 2, r2: 4 },
        { 2: handle(index), 4: 0x100000000n, 5: 0x40000n },
        [0x10010n, be(0x14007n, 8)],
        [0x14000n, be(0x18000n, 8)],
        [0x18000n, pages],
      ),
      store(index, 4, 2, 0x0400n, 15),
    ]);
    return [
      ...ready,
      store(1, 0x10, 8, 0x0000000001000000n),
      store(1, 0x18, 4, 0x00400000n),
      store(1, 0x1c, 4, 0x01000000n),
      store(0, 0x20, 8, 0x0001000000000000n),
      store(0, 0x1c, 4, 0x03000000n),
    ];
  }

  next(): RandomInsn {
    const random = this.#random;
    const name = random.int(40) === 0 ? random.pick(INSN_NAMES) : random.pick(COMMON);
    const registers = new BigUint64Array(16);
    const set: Array<readonly [bigint, Uint8Array]> = [];
    const fields = this.#operands(name, registers, set);
    if (random.int(12) === 0) registers[random.int(16)] = random.pick(WILD);
    if (random.int(30) === 0)
      set.push([
        BigInt(random.int(STORAGE - 64)),
        Uint8Array.from({ length: 1 + random.int(63) }, () => random.int(256)),
      ]);
    return { name, code: encodeInsn(name, fields), registers, problem: random.int(50) === 0, set };
  }

  #operands(name: string, registers: Registers, set: Array<readonly [bigint, Uint8Array]>): Partial<Insn> {
    const random = this.#random;
    const index = random.int(15) === 0 ? FUNCTIONS : random.int(FUNCTIONS);
    const fh = BigInt(random.int(25) === 0 ? random.int(0x7fffffff) : (this.handles[index] ?? 0x80000007));
    const request = (pcias: number, low: number): bigint => (fh << 32n) | BigInt((pcias << 16) | low);
    switch (name) {
      case 'PCILG':
      case 'PCISTG': {
        const pcias = random.pick([0, 0, 2, 2, 15, 1, 9]);
        const offset =
          pcias === 15
            ? 4 * random.int(70)
            : random.pick([0x10, 0x18, 0x1c, 0x20, 0x28, 0x30, 0x1000, 0x1008, random.int(0x2000)]);
        registers[2] = random.pick([
          0x0400n,
          0x01000000n,
          0x02000000n,
          0x03000000n,
          0x00100000n,
          BigInt(random.int(256)),
          0x0000000001000000n,
        ]);
        registers[4] = request(pcias, random.pick([1, 2, 4, 4, 8, 8, random.int(16)]));
        registers[5] = BigInt(offset);
        return { r1: 2, r2: random.int(20) === 0 ? 5 : 4 };
      }
      case 'PCISTB':
        registers[2] = request(
          random.pick([0, 0, 0, 2, 15]),
          random.pick([8, 16, 64, 128, 128, 256, random.int(5000)]),
        );
        registers[3] = BigInt(random.pick([0, 8, 0x1000, 0x1f80, 0x1ff8, 0x8000000, 0x8000003, random.int(0x4000)]));
        registers[6] = BigInt(random.pick([0x2000, 0x2004, 0x2fc0, random.int(STORAGE)]));
        return { r1: 2, r3: 3, b2: 6 };
      case 'MPCIFC':
        set.push([0x3000n, this.#fib()]);
        registers[2] = request(
          random.int(12) === 0 ? 1 : 0,
          random.pick([2, 3, 4, 4, 4, 4, 5, 6, 7, 7, 7, 7, 7, 9, 10, random.int(20)]),
        );
        registers[6] = 0x3000n + BigInt(random.int(20) === 0 ? 4 : 0);
        return { r1: 2, b2: 6 };
      case 'STPCIFC':
        registers[2] = request(0, 0);
        registers[6] = 0x3100n;
        return { r1: 2, b2: 6 };
      case 'RPCIT':
        set.push(...this.#tables());
        registers[2] = request(0, 0);
        registers[4] = 0x100000000n + BigInt(4096 * random.int(16));
        registers[5] = BigInt(4096 * random.int(8));
        return { r1: 2, r2: 4 };
      case 'CLP':
        set.push([0x4000n, this.#clp(Number(fh))]);
        registers[3] = 0x4000n;
        return { r1: 2, r2: 3 };
      case 'CHSC':
        set.push([
          0x5000n,
          concat(be(16, 2), be(random.pick([0x0e, 0x0e, 0x31, 0x99]), 2), be(0, 4), be(1n << 61n, 8)),
        ]);
        registers[3] = 0x5000n;
        return { r1: 3 };
      case 'SSCH':
        set.push(...this.#program());
        registers[1] = random.pick(SUBCHANNELS);
        registers[6] = 0x6000n;
        return { b2: 6 };
      case 'MSCH':
        set.push([
          0x6100n,
          concat(
            be(random.int(1 << 30), 4),
            be(random.pick([0x0080, 0x1880, 0x0080, 0x0000, 0x0100]), 2),
            be(0, 2),
            be(0x80000000, 4),
            be(0, 2),
            be(0xff00, 2),
            new Uint8Array(36),
          ),
        ]);
        registers[1] = random.pick(SUBCHANNELS);
        registers[6] = 0x6100n;
        return { b2: 6 };
      case 'NQAP':
        set.push([
          0x7000n,
          random.pick([
            concat(be(1, 2), be(4, 2), be(0xdeadbeef, 4)),
            concat(be(2, 2), be(1, 2), Uint8Array.of(3, 9, 250)),
            be(0x77, 2),
          ]),
        ]);
        registers[0] = this.#apqn();
        registers[3] = BigInt(random.int(1 << 30));
        registers[4] = 0x7000n;
        registers[5] = BigInt(random.pick([8, 7, 2, random.int(20000)]));
        return { r1: 4, r2: 2 };
      case 'DQAP':
        registers[0] = this.#apqn();
        registers[4] = 0x7800n;
        registers[5] = BigInt(random.pick([256, 4, 0]));
        return { r1: 2, r2: 4 };
      case 'PQAP':
        registers[0] = this.#apqn() | BigInt(random.int(5) << 24);
        registers[1] = random.pick([0n, (1n << 47n) | 3n]);
        registers[2] = BigInt(random.pick([0x7f00, 0x7f08, 0, STORAGE]));
        return {};
      default:
        registers[1] = random.int(10) === 0 ? BigInt(random.int(1 << 20)) : random.pick(SUBCHANNELS);
        registers[6] = 0x6200n + BigInt(random.pick([0, 0, 0, 4, 1]));
        return { b2: 6 };
    }
  }

  #apqn(): bigint {
    return this.#random.pick([0x0504n, 0x0547n, 0x0504n, 0x0404n, 0xffffn]);
  }

  #fib(): Uint8Array {
    const random = this.#random;
    const pal = 0x100000000n + BigInt(random.pick([0x7fff, 0xffff, 0xfffff]));
    return concat(
      be(random.int(30) === 0 ? 1 : 0, 8),
      be(0, 8),
      be(random.int(20) === 0 ? 0n : random.pick([0x100000000n, 0x100001000n]), 8),
      be(pal, 8),
      be(random.int(15) === 0 ? random.pick([0x10004n, 0x10800n]) : 0x10804n, 8),
      be(random.pick([0x30010000, 0x30020081, 0]), 4),
      be(0, 4),
      be(0x3800, 8),
      be(0x3900, 8),
      be(random.pick([0n, 0x3a00n, 0x3a01n]), 8),
      be(0, 8),
    );
  }

  #tables(): Array<readonly [bigint, Uint8Array]> {
    const random = this.#random;
    const page = (): bigint => BigInt(0x80000 + 4096 * random.int(32)) | random.pick([0n, 0n, 0n, 0x200n, 0x400n]);
    return [
      [0x10010n, be(random.int(40) === 0 ? random.pick([0n, 0x14027n, 0x1400bn, 0x14005n]) : 0x14007n, 8)],
      [0x14000n, be(random.int(40) === 0 ? random.pick([0n, 0x18020n, 0x18004n, 0x400n]) : 0x18000n, 8)],
      [0x18000n, concat(...Array.from({ length: 32 }, () => be(page(), 8)))],
    ];
  }

  #clp(fh: number): Uint8Array {
    const random = this.#random;
    const command = random.pick([2, 3, 4, 5, 5, 5, 5, 5, 9]);
    const operand =
      command === 5 ? be(random.pick([0x0001, 0x0001, 0x0001, 0x0001, 0x0001, 0x0100, 0x0000]), 2) : be(0, 2);
    const handle = command === 4 ? random.pick([5, 0x10, 0xff]) : random.int(4) > 0 ? fh & 0x7fffffff : fh;
    return concat(
      be(32, 2),
      be(command, 2),
      be(0, 12),
      be(handle >>> 0, 4),
      be(0, 2),
      operand,
      be(0, 8),
      be(random.pick([0x20, 0x40, 0x90, 0x100]), 2),
      be(0, 2),
    );
  }

  #program(): Array<readonly [bigint, Uint8Array]> {
    const random = this.#random;
    const ccws = Array.from({ length: 1 + random.int(4) }, (_, i, all = 3) => {
      const command = random.pick([0x03, 0x04, 0xe4, 0x64, 0x06, 0x72, 0x31, 0x08, 0xff]);
      const flags = (i < all ? random.pick([0x60, 0x60, 0x20, 0x00]) : 0x20) | (random.int(20) === 0 ? 4 : 0);
      return concat(
        Uint8Array.of(command, flags),
        be(1 + random.int(64), 2),
        be(random.pick([0x40000, 0x40ff8, 0x41000, 0x6800, STORAGE + 8]), 4),
      );
    });
    const orb = concat(
      be(random.int(1 << 30), 4),
      be(random.pick([0x0080ff00, 0x00c2ff00, 0x00c08000, 0x0880ff00]), 4),
      be(0x6800, 4),
    );
    return [
      [0x6000n, orb],
      [0x6800n, concat(...ccws, new Uint8Array(64))],
    ];
  }
}

const COMMON: readonly string[] = [
  ...Array<string>(6).fill('PCILG'),
  ...Array<string>(6).fill('PCISTG'),
  ...Array<string>(6).fill('PCISTB'),
  ...Array<string>(4).fill('MPCIFC'),
  ...Array<string>(5).fill('RPCIT'),
  ...Array<string>(3).fill('CLP'),
  'STPCIFC',
  'CHSC',
  ...Array<string>(4).fill('SSCH'),
  ...Array<string>(3).fill('MSCH'),
  ...Array<string>(4).fill('TSCH'),
  'STSCH',
  'TPI',
  'TPI',
  'HSCH',
  'CSCH',
  'RSCH',
  'XSCH',
  'NQAP',
  'NQAP',
  'NQAP',
  'DQAP',
  'DQAP',
  'PQAP',
  'PQAP',
  'PQAP',
];
