// `vfio-wasm ccw scenario` as a user runs it.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/host/cli/main.js');
const vectors = join(root, 'test/data/ccw/fsm.jsonl.gz');

const run = (args: string[], input = '') => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'ccw', 'scenario', ...args], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 26,
  });
  return { status, stdout, stderr };
};

const SMALL = { name: 'small', memory: [], frames: [], steps: [{ op: 'open' }, { op: 'close' }] };
const IDLE = {
  ret: 0,
  state: 'IDLE',
  program: false,
  pins: 0,
  lpm: '0xf0',
  ret_code: 0,
  cmd_ret_code: 0,
  device_ops: ['enable'],
  signals: {},
  unregister: false,
};

describe('vfio-wasm ccw scenario', () => {
  it('prints what is seen after each step, one line of JSON per scenario', () => {
    const { status, stdout, stderr } = run(['-'], `# a comment\n${JSON.stringify(SMALL)}\n`);
    expect([status, stderr]).toEqual([0, '']);
    const { name, steps } = JSON.parse(stdout) as { name: string; steps: unknown[] };
    expect([name, steps[0], steps.length]).toEqual(['small', IDLE, 2]);
  });

  it('--check: all recorded scenarios are equal', () => {
    const { status, stdout, stderr } = run(['--check', vectors]);
    expect([status, stderr]).toEqual([0, '81 scenarios, all equal\n']);
    expect(stdout.trim().split('\n')).toHaveLength(81);
  });

  it('--check: a difference is told in words and ends with 1', () => {
    const steps = [{ op: 'open', expect: { ...IDLE, state: 'STANDBY', device_ops: [] } }];
    const { status, stderr } = run(['--check', '-'], JSON.stringify({ ...SMALL, steps }));
    expect(status).toBe(1);
    expect(stderr).toBe('-:1: small\n  steps[0] open.state: expected "STANDBY", is "IDLE"\n1 scenarios, 1 differ\n');
  });

  it.each([
    ['{', /^vfio-wasm: -:2: not JSON/],
    [JSON.stringify({ ...SMALL, steps: [{ op: 'leap' }] }), /^vfio-wasm: -:2: steps\[0\]\.op: "leap" is none of/],
    [
      JSON.stringify({ ...SMALL, steps: [{ op: 'ioctl', cmd: '0x3b6b', size: 16, arg: { argsz: 'zz' } }] }),
      /-:2: steps\[0\]\.arg\.argsz: not a hex string/,
    ],
    [
      JSON.stringify({ ...SMALL, steps: [{ op: 'ioctl', cmd: '0x3b6b', size: 16, arg: { argsz: {} } }] }),
      /-:2: steps\[0\]\.arg\.argsz: not an integer/,
    ],
    [
      JSON.stringify({ ...SMALL, steps: [{ op: 'ioctl', cmd: '0x3b6c', size: 64, arg: { cap: 1 } }] }),
      /-:2: steps\[0\]\.arg\.cap: not an object/,
    ],
    [JSON.stringify({ ...SMALL, initial: null }), /-:2: initial: not an object/],
    [JSON.stringify({ ...SMALL, frames: [{ iova: '0x1', pfn: '0x1' }] }), /-:2: frames\[0\]\.iova: not a multiple/],
  ])('bad input ends with 2, its line and the reason: %s', (line, reason) => {
    const { status, stdout, stderr } = run(['-'], `\n${line}\n`);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(reason);
  });

  it('a guest that is larger than the core ends with 2', () => {
    const frames = Array.from({ length: 20_000 }, (_, i) => ({ iova: `0x${(i * 4096).toString(16)}`, pfn: '0x1' }));
    expect(run(['-'], JSON.stringify({ ...SMALL, frames }))).toMatchObject({ status: 2, stdout: '' });
  });

  it('a file that cannot be read ends with 2', () => {
    expect(run(['/nowhere.jsonl'])).toMatchObject({ status: 2, stdout: '' });
  });

  it('explains itself', () => {
    const { status, stdout } = run(['--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('"op": "open"');
  });
});
