// The translator against its slow twin on random guests: same results, errnos, pins; nothing pinned outside the guest's pages, nothing left.
import { describe, expect, it } from 'vitest';
import { ChannelProgram } from '../../host/ccw/channel_program.ts';
import { CcwGuest, type Observed, observe, observeModel } from '../support/ccw_guest.ts';
import { PAGES, type Program, randomBytes, randomProgram } from '../support/ccw_programs.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { ModelProgram } from '../support/model/ccw.ts';

/** Programs between two changes of the guest's faults. */
const ROUND = 250;

async function compareMany(
  count: number,
  from: number,
  make: (random: Random) => Program,
): Promise<Map<string, number>> {
  const core = await freshCore();
  const guest = new CcwGuest(core, PAGES);
  const cp = new ChannelProgram(core);
  const random = new Random(from);
  const baseline = core.liveBytes;
  const outcomes = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    if (i % ROUND === 0) guest.inject(random);
    const program = make(random);
    guest.write(program.writes);
    const model = new ModelProgram(guest.pages, program.word1);
    const expected = observeModel(model, program.cpa);
    const actual = observe(cp, guest, program.word1, program.cpa);
    if (!same(expected, actual)) expect({ seed: from, run: i, ...actual }).toEqual({ seed: from, run: i, ...expected });
    if (guest.pins !== actual.pins.reduce((sum, [, n]) => sum + n, 0))
      throw new Error(`run ${i}: pins are not the program's`);
    if (actual.prefetch === 0) ask(cp, model, random);
    cp.free();
    if (guest.pins !== 0 || guest.pinnedPages !== 0)
      throw new Error(`seed ${from}, run ${i}: ${guest.pins} pins are left`);
    guest.erase(program.writes);
    const outcome = `${actual.init} ${actual.prefetch}`;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  cp.destroy();
  guest.destroy();
  expect(core.liveBytes).toBeLessThan(baseline);
  expect(core.liveBytes).toBe(0);
  return outcomes;
}

/** Quicker than toEqual, which is kept for the report. */
function same(a: Observed, b: Observed): boolean {
  const flat = (value: Observed) =>
    JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? part.toString() : part));
  return flat(a) === flat(b);
}

/** Random questions to a translated program. */
function ask(cp: ChannelProgram, model: ModelProgram, random: Random): void {
  const chains = cp.chains();
  const chain = random.int(chains.length);
  const { host, len } = chains[chain] as { host: number; len: number };
  const offset = random.pick([-8, 0, 4, 8, len * 8 - 8, len * 8, len * 8 + 8, random.int(len * 8 + 1)]);
  const guest = cp.guestCpa(host + offset);
  if (guest !== model.guestCpa(chain, offset)) expect({ chain, offset, guest }).toBe(model.guestCpa(chain, offset));
  const iova = BigInt.asUintN(64, random.pick(PAGES) + BigInt(random.int(8192) - 4096));
  const length = random.pick([0n, 1n, 4096n, BigInt(random.int(20000)), 0xffffffffffffffffn, 1n << 63n]);
  const pinned = cp.iovaPinned(iova, length);
  if (pinned !== model.iovaPinned(iova, length)) expect({ iova, length, pinned }).toBe(model.iovaPinned(iova, length));
}

describe('random channel programs', () => {
  it('related chains: the core and its slow twin agree in everything', async () => {
    const outcomes = await compareMany(runs(60_000), seed, randomProgram);
    // The generator must reach every kind of end, or the comparison says little.
    for (const outcome of ['0 0', '0 -22', '0 -14', '0 -12', '-22 null', '-14 null'])
      expect(outcomes.get(outcome) ?? 0, outcome).toBeGreaterThan(20);
    expect(outcomes.get('0 0')).toBeGreaterThan(runs(60_000) / 10);
  });

  it('random bytes as a program', async () => {
    const outcomes = await compareMany(runs(50_000), seed + 1, randomBytes);
    expect(outcomes.size).toBeGreaterThan(3);
  });
});
