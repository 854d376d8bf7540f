// `vfio-wasm run` as a user starts it: exit statuses, and what goes to which stream.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const main = fileURLToPath(new URL('../../dist/host/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'vfio-run-'));
afterAll(() => rmSync(folder, { recursive: true }));

function vfioWasm(args: string[], input?: string) {
  const result = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    ...(input === undefined ? {} : { input }),
  });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const GOOD = '{"op":"open","as":"c","path":"/dev/vfio/vfio","expect":{"errno":null}}\n{"op":"close","fd":"$c"}\n';

describe('vfio-wasm run', () => {
  it('0: everything ran and held; one result line per operation, nothing else', () => {
    expect(vfioWasm(['run', file('good', GOOD)])).toEqual({
      status: 0,
      stdout: '{"op":"open","ret":3}\n{"op":"close","ret":0}\n',
      stderr: '',
    });
  });

  it('- is standard input', () => {
    expect(vfioWasm(['run', '-'], GOOD).stdout).toContain('"ret":3');
  });

  it('1: an expectation did not hold; file, line and difference on standard error, and the rest is executed', () => {
    const path = file('differs', '# a comment\n{"op":"close","fd":9,"expect":{"ret":0}}\n{"op":"idle"}\n');
    const { status, stdout, stderr } = vfioWasm(['run', path]);
    expect(status).toBe(1);
    expect(stdout).toBe('{"op":"close","ret":-9,"errno":"EBADF"}\n{"op":"idle","ret":0}\n');
    expect(stderr).toBe(`${path}:2: close: ret is -9, expected 0\n`);
  });

  it('2: malformed; line and reason on standard error', () => {
    const path = file('malformed', '{"op":"idle"}\n{"op":"fly"}\n');
    expect(vfioWasm(['run', path])).toEqual({
      status: 2,
      stdout: '',
      stderr: `vfio-wasm: ${path}:2: unknown operation "fly"\n`,
    });
  });

  it('2: malformed at a line that only running shows; the results before it are there', () => {
    const path = file('late', '{"op":"idle"}\n{"op":"device","name":"x","action":"y"}\n');
    const { status, stdout, stderr } = vfioWasm(['run', path]);
    expect([status, stdout]).toEqual([2, '{"op":"idle","ret":0}\n']);
    expect(stderr).toContain(':2: the machine has no device "x"');
  });

  it('2: no such file, no file named', () => {
    expect(vfioWasm(['run', join(folder, 'nosuch')])).toMatchObject({ status: 2, stdout: '' });
    expect(vfioWasm(['run'])).toMatchObject({ status: 2, stdout: '' });
  });

  it('--trace writes a recording that runs with the same results', () => {
    const out = join(folder, 'recording');
    expect(vfioWasm(['run', '--trace', out, file('again', GOOD)]).status).toBe(0);
    expect(readFileSync(out, 'utf8')).toContain('"path":"/dev/vfio/vfio"');
    expect(vfioWasm(['run', out])).toMatchObject({ status: 0, stderr: '' });
    expect(vfioWasm(['run', '--trace', join(folder, 'no', 'such'), file('again', GOOD)]).status).toBe(2);
  });

  it('--help shows the form of a script', () => {
    const { status, stdout } = vfioWasm(['run', '--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('"request": "VFIO_CHECK_EXTENSION"');
  });
});
