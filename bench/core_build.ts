// Compiles bench/core/<name>.ts, the core with measuring loops, with the flags of the release core.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Core, type CoreOptions, createCore } from '../host/core.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** A core with the exports of bench/core/<name>.ts beside its own. */
export async function benchCore<E>(name: string, options: CoreOptions): Promise<Core & { exports: E }> {
  const out = join(root, 'build', `bench_${name}.wasm`);
  mkdirSync(join(root, 'build'), { recursive: true });
  const flags = [
    '--runtime',
    'stub',
    '--enable',
    'simd',
    '--enable',
    'bulk-memory',
    '--importMemory',
    '--noExportMemory',
  ];
  const asc = join(root, 'node_modules/assemblyscript/bin/asc.js');
  const source = join(root, 'bench/core', `${name}.ts`);
  execFileSync(
    process.execPath,
    [asc, source, ...flags, '--optimizeLevel', '3', '--shrinkLevel', '1', '--use', 'abort=', '-o', out],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  return (await createCore(() => WebAssembly.compile(readFileSync(out)), options)) as Core & { exports: E };
}
