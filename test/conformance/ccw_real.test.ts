// Channel programs recorded from Linux, boot loaders and test programs, replayed end to end: every one equals its recording in CCWs executed,
// outcome and data, is refused where the sheet says so, or has its reason.
import { describe, expect, it } from 'vitest';
import { checkRecording, type RecordedOutcome, type Recording } from '../../host/devices/recording.ts';
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

describe('recordings of other shapes', () => {
  const ORB = '0000000008c2800000010000';
  /** CCWs at 0x10000 and what they did. */
  const made = (
    ccws: readonly string[],
    outcome: Partial<RecordedOutcome>,
    more: Partial<Recording> = {},
  ): Recording => ({
    name: 'made',
    orb: ORB,
    memory: [{ iova: '0x10000', hex: ccws.join('') }],
    data: [{ iova: '0x20000', len: 16, dir: 'read' }],
    outcome: {
      kind: 'ended',
      unit_status: '0c',
      channel_status: '00',
      residual_count: 0,
      ccw_address: '0x10008',
      ...outcome,
    },
    ...more,
  });
  const run = async (recording: Recording) => (await ReplayRunner.create(createVfio)).run(recording);
  const READ = '0220001000020000';

  it('an IRB has 64 bytes', () => {
    expect(checkRecording(made([READ], { irb: '00'.repeat(63) }))).toMatch(/outcome\.irb: 64 bytes/);
    expect(checkRecording(made([READ], { irb: '00'.repeat(64) }))).toBeUndefined();
  });

  it('addresses may be padded', async () => {
    const padded = made(
      [READ],
      {},
      { executed: ['0x0000000000010000'], steps: [['0x0000000000010000', '0c', '00', 0]] },
    );
    expect([checkRecording(padded), (await run(padded)).ok]).toEqual([undefined, true]);
  });

  it('suspended: stops before the CCW with the flag', async () => {
    const recording = made(
      ['0340000000000000', '0222001000020000'],
      { kind: 'suspended', unit_status: '00', ccw_address: '0x10010' },
      { executed: ['0x10000', '0x10008'], steps: [['0x10000', '0c', '00', 0]] },
    );
    expect(await run(recording)).toMatchObject({ ok: true, differences: [], outcome: recording.outcome });
  });

  it.each(['halt', 'clear'])('ended by %s: the command that was waiting never ends by itself', async (kind) => {
    const recording = made(
      ['0340000000000000', READ],
      { kind, unit_status: '00', residual_count: 16, ccw_address: '0x10010' },
      {
        executed: ['0x10000', '0x10008'],
        steps: [
          ['0x10000', '0c', '00', 0],
          ['0x10008', '00', '00', 16],
        ],
      },
    );
    expect(await run(recording)).toMatchObject({ ok: true, differences: [], outcome: { kind } });
  });

  it('a trace that was cut: the rest follows from program and outcome', async () => {
    const SEARCH = '3160000500020000';
    const executed = Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? '0x10000' : '0x10008'));
    const steps = Array.from({ length: 200 }, () => ['0x10000', '0c', '00', 0] as const);
    const recording = made([SEARCH, '0800000000010000', READ], { ccw_address: '0x10018' }, { executed, steps });
    expect(await run(recording)).toMatchObject({ ok: true, differences: [], executed });
  });

  it('a trace of exactly as many CCWs as are kept was not cut', async () => {
    const executed = [...Array.from({ length: 599 }, (_, i) => (i % 2 === 0 ? '0x10000' : '0x10008')), '0x10010'];
    const steps = Array.from({ length: 200 }, () => ['0x10000', '0c', '00', 0] as const);
    const programs = ['3160000500020000', '0800000000010000', '0320001000020000', '0320001000020000'];
    const outcome = { unit_status: '0e', channel_status: '00', residual_count: 16, ccw_address: '0x10018' };
    const report = await run(made(programs, outcome, { executed, steps }));
    expect(report).toMatchObject({ ok: true, differences: [], executed, outcome });
  });

  it('beyond the steps that are kept a no-operation moved nothing, and a read what the recording has of it', async () => {
    const NOOP = '0360000100000000';
    const at = (i: number) => `0x${(0x10000 + 8 * i).toString(16)}`;
    const executed = Array.from({ length: 203 }, (_, i) => at(i));
    const steps = Array.from({ length: 200 }, (_, i) => [at(i), '0c', '00', 1] as const);
    const result = [{ iova: '0x20000', len: 5, hex: '0102030405' }];
    const programs = [...steps.map(() => NOOP), NOOP, '0260001000020000', '0320000100000000'];
    const outcome = { residual_count: 1, ccw_address: at(203) };
    const report = await run(made(programs, outcome, { executed, steps, result }));
    expect(report).toMatchObject({ ok: true, differences: [], executed, result, outcome });
  });

  it('no trace at all, several CCWs: all but the last end normally', async () => {
    const recording = made([`0240${READ.slice(4)}`, '0220001000020010'], { residual_count: 4, ccw_address: '0x10010' });
    const report = await run({ ...recording, data: [{ iova: '0x20000', len: 32, dir: 'read' }] });
    expect(report).toMatchObject({ ok: true, differences: [], executed: ['0x10000', '0x10008'] });
  });

  it('modified IDAWs are run, not compared, and said so', async () => {
    const recording = made(['0221001000020000'], {}, { executed: ['0x10000'], steps: [['0x10000', '0c', '00', 0]] });
    expect(await run(recording)).toMatchObject({ ok: null, reason: expect.stringMatching(/modified IDAWs/) });
  });

  it('more than 16 chains must be refused', async () => {
    const memory = Array.from({ length: 17 }, (_, i) => ({
      iova: `0x${(0x10000 + i * 0x1000).toString(16)}`,
      hex: `034000000000000008000000${(0x10000 + (i + 1) * 0x1000).toString(16).padStart(8, '0')}`,
    }));
    const report = await run({ ...made([], {}), memory });
    expect(report).toMatchObject({ ok: true, outcome: { kind: 'refused', errno: 'EINVAL' } });
    expect(report.reason).toMatch(/more than 16 chains/);
  });
});
