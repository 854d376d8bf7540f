// Every recorded program that the 2016 request admits gives the same IRB and the same data as through the regions.
import { describe, expect, it } from 'vitest';
import { EOPNOTSUPP } from '../../assembly/abi.ts';
import type { Recording } from '../../host/devices/recording.ts';
import { fromHex } from '../../host/hex.ts';
import { createVfio } from '../../host/inline.ts';
import { ReplayRunner } from '../../host/replay/runner.ts';
import { loadLines } from '../support/data.ts';
import { FlatReplay } from '../support/flat_replay.ts';
import { RECORDED_TYPES } from '../support/recorded_types.ts';

/** Format 1, prefetch and 64-bit IDAWs; no 2 KiB blocks, no transport mode. */
const ADMITTED = 0x00c20000;
const LOOKED_AT = 0x00c70000;

/** How many of the recorded programs are admitted; the others have another kind of ORB, or are refused by the regions too. */
const COUNTS: Readonly<Record<(typeof RECORDED_TYPES)[number], number>> = {
  '1403': 5,
  '3088': 27,
  '3211': 0,
  '3215': 12,
  '3270': 51,
  '3330': 0,
  '3370': 35,
  '3380': 63,
  '3390': 708,
  '3420': 0,
  '3480': 82,
  '3490': 78,
  '3505': 0,
  '3525': 5,
  '3590': 75,
  '9336': 117,
  '9345': 64,
  'virtio-ccw': 105,
};

describe('recorded programs through the 2016 request', () => {
  it.each(RECORDED_TYPES)('%s', async (type) => {
    const regions = await ReplayRunner.create(createVfio);
    const requests = await FlatReplay.create();
    const differences: unknown[] = [];
    let admitted = 0;
    for (const recording of await loadLines<Recording>(`ccw-real/${type}.jsonl`)) {
      const expected = regions.run(recording);
      const seen = await requests.run(recording);
      const word1 = new DataView(fromHex(recording.orb).buffer).getUint32(4);
      if ('errno' in seen) {
        const refused = expected.outcome === null || expected.outcome.kind === 'refused';
        if (seen.errno === EOPNOTSUPP) expect((word1 & LOOKED_AT) >>> 0, recording.name).not.toBe(ADMITTED);
        else if (!refused) differences.push([recording.name, 'not admitted', seen.errno]);
        continue;
      }
      admitted++;
      const { outcome, executed, result } = expected;
      try {
        expect(seen).toEqual({ outcome, executed, result });
      } catch {
        differences.push([recording.name, seen, { outcome, executed, result }]);
      }
    }
    expect(differences).toEqual([]);
    expect(admitted).toBe(COUNTS[type]);
    expect(requests.violations).toBe(0);
  });
});
