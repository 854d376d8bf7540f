// Recordings with anything wrong in them: they are refused with a reason or replayed to some report, and nothing stays behind.
import { expect, it } from 'vitest';
import { checkRecording, type Recording } from '../../host/devices/recording.ts';
import { createVfio, VfioError } from '../../host/inline.ts';
import { ReplayRunner } from '../../host/replay/runner.ts';
import { Random, runs } from '../support/counts.ts';
import { loadLines } from '../support/data.ts';

/** Files with small programs of all kinds: status, chains, loops, suspension, IDALs. */
const FILES = ['1403', '3088', '3211', '3270', '3480', '3525'];

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Changes one leaf, or drops or doubles one item or member, somewhere in the value. */
function mutate(value: Json, random: Random): Json {
  if (Array.isArray(value)) {
    if (value.length === 0) return random.pick<Json>([[0], [null], 'x']);
    const at = random.int(value.length);
    const kind = random.int(8);
    if (kind === 0) return value.filter((_, i) => i !== at);
    if (kind === 1) return [...value, value[at]!];
    return value.map((item, i) => (i === at ? mutate(item, random) : item));
  }
  if (typeof value === 'object' && value !== null) {
    const keys = Object.keys(value);
    const key = random.pick(keys);
    if (random.int(12) === 0)
      return Object.fromEntries(keys.filter((other) => other !== key).map((other) => [other, value[other]!]));
    return { ...value, [key]: mutate(value[key]!, random) };
  }
  if (typeof value === 'number') return random.pick<Json>([0, value + 1, value - 1, value * 2, 65535, -1, 1e9, null]);
  if (typeof value !== 'string') return 7;
  if (value.startsWith('0x'))
    return `0x${(Number(value) + random.pick([-8, -1, 1, 4, 8, 4096, 1 << 20, 2 ** 33])).toString(16)}`;
  if (value === '') return random.pick<Json>(['00', 'zz', null]);
  const at = random.int(value.length);
  return random.int(20) === 0
    ? value.slice(0, at)
    : value.slice(0, at) + random.int(16).toString(16) + value.slice(at + 1);
}

it('a spoilt recording is refused or replayed, and leaves nothing behind', async () => {
  const random = new Random();
  const recordings = (await Promise.all(FILES.map((file) => loadLines<Json>(`ccw-real/${file}.jsonl`)))).flat();
  const runner = await ReplayRunner.create(createVfio);
  const seen = { malformed: 0, refused: 0, equal: 0, different: 0, failed: 0 };
  for (let run = 0; run < runs(1500); run++) {
    let spoilt = random.pick(recordings);
    for (let i = 0; i <= random.int(3); i++) spoilt = mutate(spoilt, random);
    if (checkRecording(spoilt) !== undefined) {
      seen.malformed += 1;
      continue;
    }
    try {
      const report = runner.run(spoilt as unknown as Recording);
      expect(report.differences.filter((text) => /given back/.test(text))).toEqual([]);
      if (report.outcome?.kind === 'refused') seen.refused += 1;
      else if (report.differences.length === 0) seen.equal += 1;
      else seen.different += 1;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      seen.failed += 1;
    }
  }
  for (const kind of ['malformed', 'refused', 'equal', 'different'] as const)
    expect([kind, seen[kind] > 20]).toEqual([kind, true]);
  const good = (await loadLines<Recording>('ccw-real/3270.jsonl'))[0]!;
  expect(runner.run(good)).toMatchObject({ ok: true, differences: [] });
});
