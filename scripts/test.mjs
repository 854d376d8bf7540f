// npm test: type check, lint, then every suite in Node and, where a Chromium is found, in the browser.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const chromium = process.env.CHROMIUM ?? '/usr/bin/chromium';
const long = process.argv.includes('--long');
const env = { ...process.env };
if (long) {
  env.VFIO_WASM_LONG ??= '20';
  env.VFIO_WASM_SEED ??= String(Math.floor(Math.random() * 2 ** 31));
}
env.VFIO_WASM_SEED ??= '20261120';
console.log(`seed ${env.VFIO_WASM_SEED} (VFIO_WASM_SEED repeats a run)`);

if (!existsSync(chromium)) {
  const message = `NO CHROMIUM at ${chromium}: THE BROWSER SUITES DO NOT RUN (set CHROMIUM to its path)`;
  if (process.env.CI === 'true') {
    console.error(`${message}; CI requires one`);
    process.exit(1);
  }
  console.warn(`\n*** ${message} ***\n`);
}

function step(name, script, args) {
  console.log(`\n> ${name}`);
  const result = spawnSync(process.execPath, [join(root, 'node_modules', script), ...args], {
    cwd: root,
    stdio: 'inherit',
    env,
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

step('type check', 'typescript/bin/tsc', ['-p', 'tsconfig.json', '--noEmit']);
step('lint', '@biomejs/biome/bin/biome', ['check', '--error-on-warnings', '.']);
console.log('\n> documentation of the public names');
for (const [command, ...args] of [
  [process.execPath, 'scripts/build.mjs', '--types'],
  ['npm', 'ci', '--prefix', 'tools/api-docs', '--no-audit', '--no-fund', '--silent'],
  ['npm', '--prefix', 'tools/api-docs', 'run', '--silent', 'build'],
]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) {
    process.stderr.write(`${stdout}${stderr}`);
    process.exit(status ?? 1);
  }
}
step('suites', 'vitest/vitest.mjs', ['run', ...(long ? ['--testTimeout', '3600000'] : [])]);
