// Writes docs/performance.md (every row) and the README's excerpt from the newest saved bench run: `npm run bench -- --save && node scripts/readme-performance.mjs`.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const results = join(root, 'bench/results');
const newest = readdirSync(results).sort().at(-1);
const { date, machine, node, rows } = JSON.parse(readFileSync(join(results, newest), 'utf8'));

const time = (ns) =>
  ns >= 1e6
    ? `${(ns / 1e6).toFixed(1)} ms`
    : ns >= 1000
      ? `${(ns / 1000).toFixed(1)} µs`
      : ns >= 10
        ? `${ns.toFixed(0)} ns`
        : `${ns.toFixed(2)} ns`;
const measured = `Measured on ${date}, ${machine}, Node ${node}; median times, and how many times longer each peer took in the same run.`;
const peersOf = (row) =>
  Object.entries(row.ratio)
    .map(([name, ratio]) => `${name} ${ratio.toFixed(ratio < 10 ? 1 : 0)}×`)
    .join(', ');

/** Puts text between a file's two marks. */
function fill(path, text) {
  const file = join(root, path);
  const old = readFileSync(file, 'utf8');
  const begin = old.indexOf('<!-- performance -->');
  const end = old.indexOf('<!-- /performance -->');
  writeFileSync(file, `${old.slice(0, begin)}<!-- performance -->\n${text}\n${old.slice(end)}`);
}

// Every row, a table for each subject.
const all = [measured, ''];
for (const table of new Set(rows.map((row) => row.table))) {
  all.push(`| ${table} | ours | peers | goal |`, '|---|---|---|---|');
  for (const row of rows.filter((candidate) => candidate.table === table)) {
    const [, ours] = Object.entries(row.ns)[0];
    const note = row.note === '' ? '' : ` (${row.note})`;
    all.push(
      `| ${row.row}${note} | ${time(ours)} per ${row.unit} | ${peersOf(row)} | ${row.goal.replace(/\|/g, '/')} |`,
    );
  }
  all.push('');
}
fill('docs/performance.md', all.join('\n').trimEnd());

// What most readers ask for.
const SHOWN = [
  ['ccw translate + release', /./],
  ['page translation', /64k/],
  ['range table', /64k|many at once, 1M/],
  ['pin + unpin', /./],
  ['dirty bitmaps', /./],
  ['zPCI stores', /^4 KiB in/],
  ['migration stream', /both sides/],
  ['whole calls', /./],
  ['boundary', /^direct call$/],
];
const short = [measured, '', '| operation | ours | peers |', '|---|---|---|'];
for (const [table, wanted] of SHOWN)
  for (const row of rows.filter((candidate) => candidate.table === table && wanted.test(candidate.row))) {
    const [, ours] = Object.entries(row.ns)[0];
    short.push(`| ${table}: ${row.row} | ${time(ours)} per ${row.unit} | ${peersOf(row)} |`);
  }
fill('README.md', short.join('\n'));
