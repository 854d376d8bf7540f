// `vfio-wasm insn` as a user runs it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/host/cli/main.js');
const machine = join(root, 'test/data/insn/machine.json.gz');
const folder = mkdtempSync(join(tmpdir(), 'vfio-wasm-'));
const LINE = { id: 'x', steps: [{ i: 'PCILG', op: 'b9d20024', in: { r4: '0x80020000000f0004' }, cc: 3 }] };

function run(args: string[], input?: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'insn', ...args], { encoding: 'utf8', input });
  return { status, stdout, stderr };
}
const jsonl = (...lines: unknown[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join('');

describe('vfio-wasm insn', () => {
  it('finds machine.json beside the file and writes a line of results for each sequence', () => {
    const file = join(folder, 'one.jsonl');
    writeFileSync(file, jsonl(LINE, { ...LINE, id: 'y' }));
    copyFileSync(machine, join(folder, 'machine.json'));
    expect(run([file])).toEqual({
      status: 0,
      stdout: '{"id":"x","steps":[{"cc":3}]}\n{"id":"y","steps":[{"cc":3}]}\n',
      stderr: '',
    });
  });

  it('--check: 0 as recorded; 1 and where it differs', () => {
    const wrong = { id: 'y', steps: [{ ...LINE.steps[0], cc: 0 }] };
    const { status, stderr } = run(['--check', '--machine', machine, '-'], jsonl(LINE, wrong));
    expect(status).toBe(1);
    expect(stderr).toBe('-:2: y\n  step 0 PCILG: cc 3, recorded 0\n2 lines, 1 differ\n');
    expect(run(['--check', '--machine', machine, '-'], jsonl(LINE)).status).toBe(0);
  });

  it('wrong input is 2, with file, line and place', () => {
    const bad = { id: 'z', steps: [...LINE.steps, { i: 'TPI', op: 'b9d20024' }] };
    expect(run(['--machine', machine, '-'], jsonl(LINE, bad))).toEqual({
      status: 2,
      stdout: '',
      stderr: 'vfio-wasm: -:2: steps[1].op: b9d20024 is PCILG, not TPI\n',
    });
    const outside = { id: 'z', steps: [{ ...LINE.steps[0], set: [['0x4000000', '00']] }] };
    expect(run(['--machine', machine, '-'], jsonl(outside))).toMatchObject({
      status: 2,
      stderr: 'vfio-wasm: -:1: z: 0x4000000 is outside storage\n',
    });
    expect(run(['-'], jsonl(LINE))).toMatchObject({ status: 2 });
  });
});
