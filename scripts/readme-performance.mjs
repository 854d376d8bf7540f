// Writes the README's performance table from the newest saved bench run: `npm run bench -- --save && node scripts/readme-performance.mjs`.
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
const lines = [
  `Measured on ${date}, ${machine}, Node ${node}; median times, and how many times longer each peer took in the same run.`,
  '',
];
for (const table of new Set(rows.map((row) => row.table))) {
  lines.push(`| ${table} | ours | peers | goal |`, '|---|---|---|---|');
  for (const row of rows.filter((candidate) => candidate.table === table)) {
    const [, ours] = Object.entries(row.ns)[0];
    const peers = Object.entries(row.ratio).map(([name, ratio]) => `${name} ${ratio.toFixed(ratio < 10 ? 1 : 0)}×`);
    const note = row.note === '' ? '' : ` (${row.note})`;
    lines.push(
      `| ${row.row}${note} | ${time(ours)} per ${row.unit} | ${peers.join(', ')} | ${row.goal.replace(/\|/g, '/')} |`,
    );
  }
  lines.push('');
}
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const begin = readme.indexOf('<!-- performance -->');
const end = readme.indexOf('<!-- /performance -->');
writeFileSync(
  join(root, 'README.md'),
  `${readme.slice(0, begin)}<!-- performance -->\n${lines.join('\n')}${readme.slice(end)}`,
);
