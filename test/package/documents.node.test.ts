// The documents keep their word: every program and command of the getting-started page and the how-tos is taken out of the text and run against the
// packed package. A fence ```js NAME is a file, ```sh a command, ```text what the commands before it print.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const RUN = [
  'docs/getting-started.md',
  'docs/how-to/embed.md',
  'docs/how-to/look-inside.md',
  'docs/how-to/test-error-paths.md',
  'docs/how-to/replay-a-bug-report.md',
];

let folder = '';
let tarball = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'documents-'));
  execFileSync('node', ['scripts/build.mjs', '--if-needed'], { cwd: root, stdio: 'pipe' });
  const text = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  tarball = join(folder, (JSON.parse(text) as [{ filename: string }])[0].filename);
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const markdown = (): string[] =>
  [
    'README.md',
    'CHANGELOG.md',
    ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) => join('docs', name)),
  ].filter((name) => name.endsWith('.md'));

describe('documents', () => {
  it.each(RUN)('%s does what it says', (name) => {
    const project = join(folder, name.replace(/\W/g, '-'));
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), '{ "private": true }');
    execFileSync('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], {
      cwd: project,
      stdio: 'pipe',
    });
    let printed = '';
    let ran = 0;
    for (const [, kind = '', file = '', body = ''] of readFileSync(join(root, name), 'utf8').matchAll(
      /^```(\w+) ?(\S*)\n([\s\S]*?)^```$/gm,
    )) {
      if (kind === 'js') writeFileSync(join(project, file), body);
      else if (kind === 'sh') {
        printed = '';
        for (const command of body.trim().split('\n')) {
          if (/^npm (init|install)/.test(command)) continue; // done above, with the tarball instead of the registry
          printed += execFileSync('sh', ['-c', command], { cwd: project, encoding: 'utf8' });
          ran++;
        }
      } else if (kind === 'text') expect(printed).toBe(body);
    }
    expect(ran).toBeGreaterThan(0);
  });

  it('README.md: its ten lines run', () => {
    const project = join(folder, 'readme');
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), '{ "private": true }');
    execFileSync('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], {
      cwd: project,
      stdio: 'pipe',
    });
    const [, body = ''] =
      /<!-- example -->\n```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];
    writeFileSync(join(project, 'example.mjs'), body);
    expect(execFileSync(process.execPath, ['example.mjs'], { cwd: project, encoding: 'utf8' })).toBe('10000ed\n');
  });

  it('name only files that exist', () => {
    for (const name of markdown())
      for (const [, target = ''] of readFileSync(join(root, name), 'utf8').matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        expect(existsSync(resolve(root, dirname(name), target)), `${name}: ${target}`).toBe(true);
      }
    for (const name of markdown())
      for (const [path] of readFileSync(join(root, name), 'utf8').matchAll(
        /\b(?:assembly|bench|demo|docs|examples|host|scripts|test)\/[\w./-]+\.(?:json|jsonl|md|mjs|ts)\b/g,
      ))
        expect(existsSync(join(root, path)) || existsSync(resolve(root, dirname(name), path)), `${name}: ${path}`).toBe(
          true,
        );
  });
});
