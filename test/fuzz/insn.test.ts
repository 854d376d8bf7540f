import { describe, expect, it } from 'vitest';
import { encodeInsn, INSN_NAMES } from '../../host/vmm/cpu.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { executor, FUNCTIONS, STORAGE } from '../support/executors.ts';
import { InsnStream } from '../support/insn_stream.ts';

const CALLS = 3000;
const GUARD = 0x10000;

/** Any 64 bits, with a liking for edges. */
function wild(random: Random): bigint {
  const edges = [
    0n,
    1n,
    0xfffn,
    BigInt(STORAGE) - 1n,
    BigInt(STORAGE),
    1n << 31n,
    1n << 32n,
    1n << 63n,
    (1n << 64n) - 1n,
  ];
  switch (random.int(4)) {
    case 0:
      return random.pick(edges);
    case 1:
      return BigInt(random.int(STORAGE));
    case 2:
      return (BigInt(0x80010000 + random.int(FUNCTIONS)) << 32n) | BigInt(random.int(0x7fffffff));
    default:
      return (BigInt(random.int(0x40000000)) << 34n) ^ BigInt(random.int(0x40000000));
  }
}

describe('random operands', () => {
  for (const accelerated of [false, true])
    for (let round = 0; round < runs(2); round++)
      it(`round ${round}, ${accelerated ? 'accelerated' : 'plain'}: no trap, nothing outside storage changed, nothing left`, async () => {
        const random = new Random(seed + 77 + round);
        const side = await executor(accelerated);
        const { vfio, vm } = side;
        const guard = vfio.mmap(GUARD);
        vfio.view(guard, GUARD).fill(0xa5);
        const prologue = new InsnStream(random, []).prologue();
        for (const { set, code, registers } of prologue) {
          for (const [address, bytes] of set) vm.storage.store(address, bytes);
          side.execute(code, registers, false);
        }
        const registers = new BigUint64Array(16);
        for (let call = 0; call < CALLS; call++) {
          for (let i = 0; i < 16; i++) registers[i] = wild(random);
          const fields = {
            r1: random.int(16),
            r2: random.int(16),
            r3: random.int(16),
            b2: random.int(16),
            x2: random.int(16),
            d2: random.int(0x100000) - 0x80000,
          };
          const code =
            random.int(20) === 0
              ? Uint8Array.from({ length: random.pick([2, 4, 6]) }, () => random.int(256))
              : encodeInsn(random.pick(INSN_NAMES), fields);
          // Now and then a block of noise where operands are looked for.
          if (random.int(5) === 0) {
            const at = random.int(STORAGE - 256);
            vm.storage.store(
              BigInt(at),
              Uint8Array.from({ length: 256 }, () => random.int(256)),
            );
          }
          const outcome = side.execute(code, registers, random.int(10) === 0);
          const codes = 'cc' in outcome ? [0, 1, 2, 3].includes(outcome.cc) : [1, 2, 5, 6, 0x15].includes(outcome.pgm);
          expect(codes, `seed ${seed + 77 + round}, call ${call}: ${JSON.stringify(outcome)}`).toBe(true);
        }
        expect(vfio.view(guard, GUARD).every((byte) => byte === 0xa5)).toBe(true);
        vfio.munmap(guard, GUARD);
        side.close();
        expect(vfio.kernel.core.liveBytes).toBe(0);
        expect(vfio.kernel.pages.usedBytes).toBe(0);
        expect(vfio.task.openFiles).toBe(0);
      });
});
