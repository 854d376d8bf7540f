// The next-step table against a model that was written from the rules alone: shortest path over the arcs of the feature set, never through a saving
// state, ties broken as the rules say. Source: spec migration sections B.1 to B.3.
import { describe, expect, it } from 'vitest';
import { EINVAL } from '../../assembly/abi.ts';
import { nextState, stateName, stateSupported } from '../../host/vfio/migration_states.ts';
import { freshCore } from '../support/core.ts';
import { openBank } from '../support/migratable.ts';

const STOP = 1;
const RUN = 2;
const SCOPY = 3;
const RESUM = 4;
const P2P = 5;
const PRE = 6;
const PRE_P2P = 7;
const FEATURE_SETS = [1, 3, 5, 7];

/** The arcs of section B.2. */
function arcsOf(flags: number): Array<[number, number]> {
  const p2p = (flags & 2) !== 0;
  const pre = (flags & 4) !== 0;
  const both = (a: number, b: number): Array<[number, number]> => [
    [a, b],
    [b, a],
  ];
  const arcs = [...both(STOP, RESUM), ...both(STOP, SCOPY)];
  if (p2p) arcs.push(...both(RUN, P2P), ...both(P2P, STOP));
  else arcs.push(...both(RUN, STOP));
  if (pre) arcs.push(...both(RUN, PRE));
  if (pre && !p2p) arcs.push([PRE, SCOPY]);
  if (pre && p2p) arcs.push(...both(PRE, PRE_P2P), ...both(P2P, PRE_P2P), [PRE_P2P, SCOPY]);
  return arcs;
}

/** The path that the rules allow: no saving state inside, except that a running transfer may go on to its own end. */
function path(flags: number, from: number, to: number): number[] | null {
  const arcs = arcsOf(flags);
  const saving = (state: number) => state === PRE || state === PRE_P2P || state === SCOPY;
  const preCopy = (state: number) => state === PRE || state === PRE_P2P;
  let paths: number[][] = [[from]];
  for (let length = 0; length < 8; length++) {
    const done = paths.filter((p) => p.at(-1) === to);
    if (done.length > 0) return done[0]!;
    paths = paths.flatMap((p) =>
      arcs
        .filter(([a, b]) => a === p.at(-1) && !p.includes(b))
        .filter(([a, b]) => b === to || !saving(b) || (preCopy(a) && preCopy(b) && preCopy(from) && to === SCOPY))
        .map(([, b]) => [...p, b]),
    );
  }
  return null;
}

describe('the migration state table', () => {
  it('equals the shortest allowed path for every ordered pair and feature set', () => {
    for (const flags of FEATURE_SETS)
      for (let from = 0; from < 10; from++)
        for (let to = 0; to < 10; to++) {
          const label = `flags ${flags}: ${stateName(from)} -> ${stateName(to)}`;
          const legal = stateSupported(flags, from) && stateSupported(flags, to);
          // Section B.3: the way out of STOP_COPY never leads into a pre-copy state.
          const blocked = from === SCOPY && (to === PRE || to === PRE_P2P);
          const expected = !legal || blocked ? null : path(flags, from, to);
          const walked = [from];
          let at = from;
          for (let i = 0; i < 10; i++) {
            const next = nextState(flags, at, to);
            if (next < 0) {
              expect(next, label).toBe(-EINVAL);
              expect(i, label).toBe(0);
              expect(expected, label).toBeNull();
              break;
            }
            if (next === at) break;
            expect(arcsOf(flags), `${label} at ${stateName(at)}`).toContainEqual([at, next]);
            walked.push(next);
            at = next;
          }
          if (expected !== null) {
            expect(at, label).toBe(to);
            expect(walked.length, label).toBe(expected.length);
          }
        }
  });

  it('keeps the longest way of section B.3', () => {
    const way = [RESUM];
    for (let at = RESUM; at !== PRE; ) {
      at = nextState(7, at, PRE);
      way.push(at);
    }
    expect(way).toEqual([RESUM, STOP, P2P, RUN, PRE]);
  });

  it('a device walks exactly that way, one arc at a time, from every state to every state', async () => {
    const core = await freshCore();
    for (const flags of FEATURE_SETS)
      for (let from = 1; from < 8; from++)
        for (let to = 0; to < 9; to++) {
          if (!stateSupported(flags, from)) continue;
          const { device, task } = openBank(core, flags);
          const machine = device.migration!;
          expect(machine.set(from).result).toBe(0);
          // A resuming transfer needs data before it can be left.
          const loads = from === RESUM && to !== RESUM;
          if (loads) {
            machine.reset();
            const { file } = machine.set(RESUM);
            (file as unknown as { feed(bytes: Uint8Array): number }).feed(new Uint8Array(65).fill(0xff));
          }
          device.arcs.length = 0;
          const expected: string[] = [];
          let result = 0;
          for (let at = from; at !== to; ) {
            const next = nextState(flags, at, to);
            result = Math.min(0, next);
            if (next < 0) break;
            expected.push(`${at}>${next}`);
            at = next;
          }
          expect(machine.set(to).result).toBe(result);
          expect(device.arcs).toEqual(expected);
          expect(machine.state).toBe(result < 0 ? from : to);
          task.exit();
        }
  });
});
