// `vfio-wasm ccw replay` as a user runs it.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/host/cli/main.js');
const file = (type: string) => join(root, `test/data/ccw-real/${type}.jsonl.gz`);

const run = (args: string[], input = '') => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'ccw', 'replay', ...args], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 27,
  });
  return { status, stdout, stderr };
};

const FIRST = JSON.parse(
  gunzipSync(readFileSync(file('3270')))
    .toString('utf8')
    .split('\n')[0]!,
) as Record<string, unknown>;
const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('vfio-wasm ccw replay', () => {
  it('--json: one line for each program, in the recording’s own form', () => {
    const { status, stdout } = run(['--json', '-'], `# a comment\n${JSON.stringify(FIRST)}\n`);
    expect(status).toBe(0);
    expect(lines(stdout)).toEqual([
      {
        name: FIRST['name'],
        ok: true,
        outcome: FIRST['outcome'],
        executed: FIRST['executed'],
        result: FIRST['result'],
        differences: [],
      },
    ]);
  });

  it('a difference ends with 1 and is told in words', () => {
    const changed = { ...FIRST, executed: ['0x10'] };
    const { status, stdout } = run(['--json', '-'], JSON.stringify(changed));
    expect(status).toBe(1);
    expect(lines(stdout)[0]).toMatchObject({ ok: false });
    expect(String(lines(stdout)[0]!['differences'])).toMatch(/executed\[0\]/);
    expect(run(['--table', '-'], JSON.stringify(changed)).stdout).toMatch(/Different:\n {2}lnx-/);
  });

  it('what cannot be compared has null and a reason, and is no difference', () => {
    const { status, stdout } = run(['--json', file('3420'), file('3505')]);
    expect(status).toBe(0);
    for (const report of lines(stdout)) {
      expect(report['ok']).toBeNull();
      expect(report['reason']).toBeTruthy();
    }
  });

  it('without a file: all the recordings of the project as a table', () => {
    const { status, stdout, stderr } = run([]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/│ 3390 +│ +737 │ +734 │ +0 │ +3 │ +0 │/);
    expect(stdout).toMatch(/│ all +│ +1508 │ +1481 │ +2 │ +25 │ +0 │/);
    expect(stdout).toMatch(/2 x refused as it must be: a chain of more than 256 CCWs/);
  });

  it.each([
    ['{', /^vfio-wasm: -:2: not JSON/],
    ['{"name": "x"}', /^vfio-wasm: -:2: orb: at least 12 bytes/],
    [JSON.stringify({ ...FIRST, outcome: { kind: 'ended' } }), /-:2: outcome\.unit_status: two hex digits/],
    [JSON.stringify({ ...FIRST, memory: [{ iova: '0x0', hex: '0' }] }), /-:2: memory\[0\]: iova and hex/],
    [JSON.stringify({ ...FIRST, steps: [['0x0', '0c', '00']] }), /-:2: steps\[0\]/],
    [
      JSON.stringify({
        ...FIRST,
        data: [
          { iova: '0x0', len: 1 << 23, dir: 'read' },
          { iova: '0x1000000', len: 1 << 26, dir: 'read' },
        ],
      }),
      /-:2: data\[1\]/,
    ],
  ])('bad input ends with 2, its line and the reason: %s', (line, reason) => {
    const { status, stdout, stderr } = run(['-'], `\n${line}\n`);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(reason);
  });

  it('a file that is not there ends with 2', () => {
    const { status, stderr } = run(['no-such-file.jsonl']);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^vfio-wasm: no-such-file\.jsonl: ENOENT/);
  });
});
