import { describe, expect, it } from 'vitest';
import { Random, runs, seed } from '../support/counts.ts';
import { executor, STORAGE } from '../support/executors.ts';
import { InsnStream } from '../support/insn_stream.ts';

const STREAM = 700;
const CHECK_EVERY = 50;

describe('the accelerated executor', () => {
  for (let round = 0; round < runs(6); round++)
    it(`stream ${round}: same results, same storage, same device logs, same ledgers`, async () => {
      const [plain, fast] = [await executor(false), await executor(true)];
      const random = new Random(seed + round);
      const stream = new InsnStream(
        random,
        [...plain.vm.functions.values()].map((fn) => fn.fh),
      );
      const whole = (vm: typeof plain.vm): Uint8Array => vm.storage.view(0n, STORAGE) as Uint8Array;
      let worked = 0;
      const prologue = stream.prologue();
      for (let i = 0; i < STREAM; i++) {
        const insn = prologue[i] ?? stream.next();
        const label = `seed ${seed + round}, ${i}: ${insn.name}`;
        const both = [plain, fast].map((side) => {
          for (const [address, bytes] of insn.set) side.vm.storage.store(address, bytes);
          const registers = insn.registers.slice();
          const outcome = side.execute(insn.code, registers, insn.problem);
          return { outcome, registers: [...registers] };
        });
        expect(both[1], label).toEqual(both[0]);
        if ('cc' in both[0]!.outcome && both[0]!.outcome.cc === 0) worked++;
        [...plain.vm.functions.values()].forEach((fn, index) => {
          stream.handles[index] = fn.fh;
        });
        if (i % CHECK_EVERY !== CHECK_EVERY - 1) continue;
        expect(same(whole(plain.vm), whole(fast.vm)), `${label}: storage`).toBe(true);
        expect(fast.log, label).toEqual(plain.log);
        expect(fast.ledger(), label).toEqual(plain.ledger());
      }
      // A stream that only fails would compare nothing.
      expect(worked).toBeGreaterThan(STREAM / 8);
      expect(plain.log.filter((line) => line.includes(' block ')).length).toBeGreaterThan(3);
      for (const side of [plain, fast]) {
        side.close();
        expect(side.vfio.kernel.core.liveBytes).toBe(0);
        expect(side.vfio.kernel.pages.usedBytes).toBe(0);
      }
    });
});

function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
