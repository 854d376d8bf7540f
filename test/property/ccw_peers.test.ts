// The translators that the core is measured against do the whole work: the same results as the slow twin on random guests.
import { describe, expect, it } from 'vitest';
import { IdiomaticTranslator } from '../../bench/peers/ccw_idiomatic.ts';
import { OptimisedTranslator } from '../../bench/peers/ccw_optimised.ts';
import type { PeerCcw, PeerPage, Translator } from '../../bench/peers/ccw_types.ts';
import { CcwGuest } from '../support/ccw_guest.ts';
import { PAGES, randomBytes, randomProgram } from '../support/ccw_programs.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { type ModelCcw, ModelProgram } from '../support/model/ccw.ts';

const EINVAL = 22;

function peerPages(guest: CcwGuest): PeerPage[] {
  return [...guest.pages].map(([page, { bytes, frame, readErrno, pinErrno, pinShort }]) => ({
    page,
    bytes,
    frame,
    ...(readErrno === undefined ? {} : { readErrno: -readErrno }),
    ...(pinShort === true ? { pinErrno: EINVAL } : pinErrno === undefined ? {} : { pinErrno: -pinErrno }),
  }));
}

function expectedCcw({ cmd, flags, count, tic, idaws }: ModelCcw): PeerCcw {
  return tic === undefined ? { cmd, flags: flags | 4, count, idaws: idaws ?? [] } : { cmd, flags, count, tic };
}

async function check(make: (pages: PeerPage[]) => Translator, count: number): Promise<void> {
  const random = new Random(seed + 7);
  const guest = new CcwGuest(await freshCore(), PAGES);
  let translated = 0;
  for (let i = 0; i < count; i++) {
    if (i % 50 === 0) guest.inject(random);
    const program = random.int(3) === 0 ? randomBytes(random) : randomProgram(random);
    guest.write(program.writes);
    const model = new ModelProgram(guest.pages, program.word1);
    const peer = make(peerPages(guest));
    const init = model.init(program.cpa);
    expect(peer.init(program.word1, program.cpa), `run ${i}`).toBe(init);
    if (init === 0) {
      expect(peer.init(program.word1, program.cpa)).toBe(-16);
      const prefetch = model.prefetch();
      expect(peer.prefetch(), `run ${i}`).toBe(prefetch);
      expect(peer.totalPins, `run ${i}`).toBe([...model.pins.values()].reduce((sum, pins) => sum + pins, 0));
      expect(peer.lockedPages).toBe(model.pins.size);
      if (prefetch === 0) {
        translated++;
        expect(peer.snapshot(), `run ${i}`).toEqual({
          chains: model.chains.map(({ iova, ccws }) => ({ iova, len: ccws.length, ccws: ccws.map(expectedCcw) })),
          pins: [...model.pins].sort(([a], [b]) => (a < b ? -1 : 1)),
        });
      }
      peer.free();
    }
    expect([peer.totalPins, peer.lockedPages]).toEqual([0, 0]);
    guest.erase(program.writes);
  }
  expect(translated).toBeGreaterThan(count / 20);
}

describe('the peers of the measurement', () => {
  it('optimised TypeScript gives the same results', () => check((pages) => new OptimisedTranslator(pages), runs(300)));
  it('idiomatic TypeScript gives the same results', () => check((pages) => new IdiomaticTranslator(pages), runs(300)));
});
