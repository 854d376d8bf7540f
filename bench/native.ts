// C twins: clean-room programs under bench/native, built with the system's compiler when there is one. A program prints one line per
// measurement, `<name> <ns per unit>`.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '..', 'build', 'native');

/** Builds bench/native/<name>.c with -O2 and gives the program's path, or null without a compiler. */
export function buildNative(name: string, flags: readonly string[] = []): string | null {
  const source = join(here, 'native', `${name}.c`);
  const program = join(out, name);
  if (spawnSync('cc', ['--version']).status !== 0) return null;
  mkdirSync(out, { recursive: true });
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs)
    execFileSync('cc', ['-O2', '-std=gnu11', '-Wall', '-o', program, source, ...flags], { stdio: 'inherit' });
  return program;
}

/** Runs a native program and reads its `<name> <ns>` lines. */
export function runNative(program: string, args: readonly string[] = []): Record<string, number> {
  const text = execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  const result: Record<string, number> = {};
  for (const line of text.trim().split('\n')) {
    const at = line.lastIndexOf(' ');
    result[line.slice(0, at)] = Number(line.slice(at + 1));
  }
  return result;
}
