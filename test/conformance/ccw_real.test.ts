// Channel programs recorded from Linux, boot loaders and test programs, replayed end to end: every one equals its recording in CCWs executed,
// outcome and data, is refused where the sheet says so, or has its reason.
import { describe, expect, it } from 'vitest';
import type { Recording } from '../../host/devices/recording.ts';
import { createVfio } from '../../host/inline.ts';
import { type ReplayReport, ReplayRunner } from '../../host/replay/runner.ts';
import { loadLines } from '../support/data.ts';
import { RECORDED_TYPES } from '../support/recorded_types.ts';

async function replay(type: string): Promise<Array<{ recording: Recording; report: ReplayReport }>> {
  const runner = await ReplayRunner.create(createVfio);
  const recordings = await loadLines<Recording>(`ccw-real/${type}.jsonl`);
  const reports = recordings.map((recording) => ({ recording, report: runner.run(recording) }));
  expect(runner.violations).toBe(0);
  return reports;
}

describe('recorded programs', () => {
  it.each(RECORDED_TYPES)('%s: equal, or with a reason that the recording itself gives', async (type) => {
    const reports = await replay(type);
    expect(reports.length).toBeGreaterThan(0);
    for (const { recording, report } of reports) {
      const excused =
        recording.self_modifying === true || recording.resumed === true || recording.orb_origin !== 'SSCH';
      expect([report.name, report.ok, report.ok === true ? report.differences : []]).toEqual([
        recording.name,
        excused ? null : true,
        [],
      ]);
      if (excused) expect(report.reason).toBeTruthy();
    }
  });

  it('only the chain of 257 CCWs is refused, with EINVAL', async () => {
    const refused = (await replay('9336')).filter(({ report }) => report.outcome?.kind === 'refused');
    expect(refused.map(({ report }) => [report.name, report.outcome])).toEqual([
      ['ipl-fba-9336-545943-1', { kind: 'refused', errno: 'EINVAL' }],
      ['ipl-fba-9336-545943-2', { kind: 'refused', errno: 'EINVAL' }],
    ]);
  });
});

describe('a recording that does not fit', () => {
  const recording = async () => (await loadLines<Recording>('ccw-real/3270.jsonl'))[0] as Recording;
  const run = async (changed: Recording) => (await ReplayRunner.create(createVfio)).run(changed);

  it('other bytes, another status or another order are told apart', async () => {
    const good = await recording();
    const first = good.result![0]!;
    const changes: Array<[Partial<Recording>, RegExp]> = [
      [{ result: [{ ...first, iova: '0x1000' }] }, /^result\[0\]/],
      [{ outcome: { ...good.outcome, unit_status: '0e' } }, /^outcome\.unit_status/],
      [{ outcome: { ...good.outcome, ccw_address: '0x10' } }, /^outcome\.ccw_address/],
      [{ executed: [...good.executed!, '0x2084030'] }, /^executed/],
    ];
    expect(await run(good)).toMatchObject({ ok: true, differences: [] });
    for (const [change, expected] of changes) {
      const report = await run({ ...good, ...change });
      expect(report.ok).toBe(false);
      expect(report.differences.join('\n')).toMatch(new RegExp(expected.source, 'm'));
    }
  });

  it('a program in storage that is not there is refused, and nothing is left behind', async () => {
    const good = await recording();
    const report = await run({ ...good, data: [{ ...good.data[0]!, outside_memory: true }] });
    expect(report).toMatchObject({ ok: null });
    expect(report.differences.filter((text) => /given back/.test(text))).toEqual([]);
  });
});
