// npm run test:nodes: the package under the oldest Node it supports and the newest of every later line: installed from a tarball into a project
// and used in every way Node offers, then (without --quick) the unit suites. The binaries are npm packages, kept in build/nodes; where they
// cannot be had, the run says so and ends well. `--tarball FILE` takes a packed package instead of packing one.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The lower end of `engines`, to the letter, and the newest of the other lines that are maintained. */
const VERSIONS = ['20.19.0', '22', '24'];
const PLATFORM = 'linux-x64';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const quick = process.argv.includes('--quick');
const given = process.argv.indexOf('--tarball');

/** Runs to the end. @returns its standard output. @throws Error with all it said when it fails. */
function run(cwd, command, args, env = {}) {
  const result = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')}: exit status ${result.status}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** A registry that does not answer is tried twice. */
const INSTALL =
  '--prefer-offline --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-retry-mintimeout=1000';
const install = (cwd, ...packages) => run(cwd, 'npm', ['install', ...INSTALL.split(' '), ...packages]);

/** The binaries by version, or why there are none. */
function binaries() {
  if (`${process.platform}-${process.arch}` !== PLATFORM) return `the binaries are for ${PLATFORM} only`;
  const folder = join(root, 'build/nodes');
  mkdirSync(folder, { recursive: true });
  if (!existsSync(join(folder, 'package.json'))) writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  try {
    install(folder, ...VERSIONS.map((version) => `node-${version}@npm:node-${PLATFORM}@${version}`));
  } catch (error) {
    return `npm cannot install them: ${error.message.split('\n').find((line) => /npm err/i.test(line)) ?? error.message}`;
  }
  return VERSIONS.map((version) => join(folder, 'node_modules', `node-${version}`, 'bin/node'));
}

const CALLS = `
  const vfio = await createVfio();
  const version = vfio.ioctl(vfio.open('/dev/vfio/vfio'), VFIO_GET_API_VERSION);
  vfio.exit();
  console.log('version ' + version + ', live bytes ' + vfio.core.liveBytes);`;
const CALLED = 'version 0, live bytes 0\n';

const SCRIPT = `{"op": "open", "as": "c", "path": "/dev/vfio/vfio"}
{"op": "ioctl", "fd": "$c", "request": "VFIO_GET_API_VERSION", "expect": {"ret": 0}}
{"op": "ioctl", "fd": "$c", "request": "VFIO_SET_IOMMU", "value": 3, "expect": {"errno": "EINVAL"}}
`;

/** What a consumer does, each answering what is wrong, or nothing. */
const STORIES = {
  import: (node, project) => differs(run(project, node, ['esm.mjs']), CALLED),
  'require()': (node, project) => differs(run(project, node, ['cjs.cjs']), CALLED),
  './inline': (node, project) => differs(run(project, node, ['inline.mjs']), CALLED),
  'vfio-wasm run': (node, project) =>
    differs(
      run(project, node, [command(project), 'run', 'script.jsonl'])
        .trim()
        .split('\n').length,
      3,
    ),
  'vfio-wasm ccw replay': (node, project) => {
    const folder = join(root, 'test/data/ccw-real');
    const names = quick ? ['3390.jsonl.gz'] : readdirSync(folder);
    const recordings = names.map((name) => join(folder, name));
    const lines = run(project, node, [command(project), 'ccw', 'replay', '--json', ...recordings])
      .trim()
      .split('\n');
    return lines.some((line) => JSON.parse(line).ok === true) ? undefined : 'no program was compared';
  },
};
const command = (project) => join(project, 'node_modules/vfio-wasm/dist/host/cli/main.js');
const differs = (seen, expected) => (seen === expected ? undefined : `${seen} instead of ${expected}`);

/** A project that has the package installed. */
function consumer(folder) {
  const packed = () => {
    run(root, process.execPath, ['scripts/build.mjs', '--if-needed']);
    const text = run(root, 'npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
    return join(folder, JSON.parse(text)[0].filename);
  };
  const project = join(folder, 'consumer');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
  install(project, given === -1 ? packed() : resolve(process.argv[given + 1]));
  for (const [file, from] of [
    ['esm.mjs', 'vfio-wasm'],
    ['inline.mjs', 'vfio-wasm/inline'],
  ])
    writeFileSync(join(project, file), `import { createVfio, VFIO_GET_API_VERSION } from '${from}';${CALLS}\n`);
  writeFileSync(
    join(project, 'cjs.cjs'),
    `const { createVfio, VFIO_GET_API_VERSION } = require('vfio-wasm');\n(async () => {${CALLS}\n})();\n`,
  );
  writeFileSync(join(project, 'script.jsonl'), SCRIPT);
  return project;
}

/** Prints what is done and how long it took. @returns whether it went well. */
function step(name, action) {
  process.stdout.write(`  ${name} ... `);
  const start = Date.now();
  let wrong;
  try {
    wrong = action();
  } catch (error) {
    wrong = error.message;
  }
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  process.stdout.write(wrong === undefined ? `${seconds} s\n` : `FAILED after ${seconds} s\n${wrong}\n`);
  return wrong === undefined;
}

const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
if (engines.node !== `>=${VERSIONS[0].replace(/\.0$/, '')}`)
  throw new Error(`package.json supports Node ${engines.node}, this tries ${VERSIONS.join(', ')}`);
console.log(`Node ${VERSIONS.join(', ')}: getting the binaries`);
const nodes = binaries();
if (typeof nodes === 'string') console.log(`SKIPPED, other versions of Node are not tried: ${nodes}`);
else {
  const folder = mkdtempSync(join(tmpdir(), 'nodes-'));
  let ok = true;
  try {
    const project = consumer(folder);
    for (const node of nodes) {
      console.log(`Node ${run(root, node, ['--version']).trim()}`);
      for (const [name, story] of Object.entries(STORIES)) ok = step(name, () => story(node, project)) && ok;
      if (quick) continue;
      const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'node', 'test/unit', 'test/abi'];
      // The suites start further Nodes by name.
      const env = { PATH: `${dirname(node)}:${process.env.PATH}` };
      ok = step('unit suites', () => void run(root, node, args, env)) && ok;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  process.exitCode = ok ? 0 : 1;
}
