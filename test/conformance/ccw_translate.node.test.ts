// `vfio-wasm ccw translate` as a user runs it.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/host/cli/main.js');
const data = (name: string) => join(root, 'test/data/ccw', `${name}.jsonl.gz`);
const folder = mkdtempSync(join(tmpdir(), 'vfio-wasm-'));

const GOOD = {
  name: 'one read',
  orb: '0000000000c2ff0000010000',
  sch_lpm: '0xf0',
  memory: [{ iova: '0x10000', hex: '0200100000100000' }],
  frames: [
    { iova: '0x10000', pfn: '0x57cc' },
    { iova: '0x100000', pfn: '0xcf57' },
  ],
};

function run(args: string[], input?: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'ccw', 'translate', ...args], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 28,
  });
  return { status, stdout, stderr };
}

function file(name: string, lines: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return path;
}

describe('vfio-wasm ccw translate', () => {
  it('prints one line of JSON per vector, in the vector’s own frames', () => {
    const { status, stdout, stderr } = run(['-'], `${JSON.stringify(GOOD)}\n`);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([
      {
        name: 'one read',
        cp_init: 0,
        pfch_warning: false,
        cp_prefetch: 0,
        chains: [
          {
            iova: '0x10000',
            len: 1,
            ccws: [{ cmd: '0x02', flags: '0x04', count: 4096, cda: '0x100000', kind: 'idal', idaws: ['0xcf57000'] }],
          },
        ],
        pinned: [{ iova: '0x100000', count: 1 }],
        orb_out: { word1: '0x00c2ff00', fmt: 1, pfch: 1, c64: 1, i2k: 0, lpm: '0xff', cpa: { chain: 0, index: 0 } },
        scsw: [],
        iova_pinned: [],
      },
    ]);
  });

  it('checks every shipped vector, packed or not', () => {
    const plain = file('plain.jsonl', [execFileSync('gzip', ['-dc', data('perf-c-64x4k')], { encoding: 'utf8' })]);
    const { status, stdout, stderr } = run(['--check', data('hand'), data('random-1'), data('random-2'), plain]);
    expect(stderr).toBe('1001 vectors, all equal\n');
    expect(status).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1001);
  });

  it('names file, line, vector and field of a difference, and exits with 1', () => {
    const lines = execFileSync('gzip', ['-dc', data('perf-a-1x4k')], { encoding: 'utf8' }).trim();
    const wrong = JSON.parse(lines) as { expect: { pinned: Array<{ count: number }> } };
    (wrong.expect.pinned[0] as { count: number }).count = 2;
    const path = file('wrong.jsonl', [lines, '# a comment', wrong]);
    const { status, stdout, stderr } = run(['--check', '--json', path]);
    expect(status).toBe(1);
    expect(stderr).toContain(`${path}:3: perf/a-1x4k\n  pinned[0].count: expected 2, is 1\n`);
    expect(stderr).toContain('2 vectors, 1 differ');
    const [first, second] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(first.differences).toEqual([]);
    expect(second.differences).toEqual(['pinned[0].count: expected 2, is 1']);
  });

  const bad: Array<[what: string, line: unknown, says: string]> = [
    ['not JSON', '{"name": ', 'not JSON'],
    ['not an object', '[1]', 'not an object'],
    ['no name', { ...GOOD, name: '' }, 'name: not a name'],
    ['a short ORB', { ...GOOD, orb: '0000' }, 'orb: 2 bytes instead of 12'],
    ['an ORB that is not hex', { ...GOOD, orb: 'zz0000000000000000000000' }, 'orb: not pairs of hex digits'],
    ['a path mask of nine bits', { ...GOOD, sch_lpm: '0x100' }, 'sch_lpm: above 0xff'],
    ['odd hex', { ...GOOD, memory: [{ iova: '0x0', hex: '123' }] }, 'memory[0].hex: not pairs of hex digits'],
    ['an address of 65 bits', { ...GOOD, memory: [{ iova: '0x10000000000000000', hex: '' }] }, 'memory[0].iova: above'],
    [
      'chunks that overlap',
      {
        ...GOOD,
        memory: [
          { iova: '0x10', hex: '0000' },
          { iova: '0x11', hex: '00' },
        ],
      },
      'memory[1]: 0x11 lies before the end',
    ],
    [
      'an unaligned page',
      { ...GOOD, frames: [{ iova: '0x10', pfn: '0x1' }] },
      'frames[0].iova: not a multiple of 0x1000',
    ],
    [
      'a page listed twice',
      {
        ...GOOD,
        frames: [
          { iova: '0x1000', pfn: '0x1' },
          { iova: '0x1000', pfn: '0x2' },
        ],
      },
      'frames: page 0x1000 is listed twice',
    ],
    [
      'a positive errno',
      { ...GOOD, frames: [{ iova: '0x0', pfn: '0x1', pin_errno: 14 }] },
      'frames[0].pin_errno: not a negative errno',
    ],
    ['no frames', { ...GOOD, frames: undefined }, 'frames: not a list'],
    [
      'a question without a chain',
      { ...GOOD, expect: { scsw: [{ offset: 1 }] } },
      'expect.scsw[0].chain: not an integer',
    ],
    ['expected chains that are no list', { ...GOOD, expect: { chains: {} } }, 'expect.chains: not a list'],
    ['an expected chain without CCWs', { ...GOOD, expect: { chains: [{}] } }, 'expect.chains[0].ccws: not a list'],
    [
      'an expected CCW that is none',
      { ...GOOD, expect: { chains: [{ ccws: [null] }] } },
      'expect.chains[0].ccws[0]: not an object',
    ],
    ['nothing to check against', GOOD, 'expect: missing'],
  ];
  it('refuses a malformed line with its number and the reason, status 2, nothing printed', () => {
    for (const [what, line, says] of bad) {
      const path = file('bad.jsonl', ['', JSON.stringify(GOOD).replace('}]}', '}],"expect":{}}'), line]);
      const { status, stdout, stderr } = run([says === 'expect: missing' ? '--check' : '--json', path]);
      expect(stderr, what).toContain(`${path}:3: ${says}`);
      expect(status, what).toBe(2);
      expect(stdout, what).toBe('');
    }
  }, 120_000);

  it('refuses what is no file, no gzip, or larger than the core', () => {
    expect(run([join(folder, 'absent')])).toMatchObject({ status: 2, stderr: expect.stringContaining('ENOENT') });
    const cut = join(folder, 'cut.gz');
    writeFileSync(cut, readFileSync(data('hand')).subarray(0, 1000));
    expect(run([cut])).toMatchObject({ status: 2, stdout: '' });
    const frames = Array.from({ length: 20_000 }, (_, page) => ({
      iova: `0x${(page * 4096).toString(16)}`,
      pfn: '0x1',
    }));
    const many = run([file('many.jsonl', [{ ...GOOD, frames }])]);
    expect(many).toMatchObject({ status: 2, stderr: expect.stringContaining('20000 pages do not fit') });
    expect(run([])).toMatchObject({ status: 2 });
  });

  it('explains itself', () => {
    const { status, stdout } = run(['--help']);
    expect(status).toBe(0);
    for (const word of ['orb', 'frames', '--check', 'Exit status']) expect(stdout).toContain(word);
  });
});
