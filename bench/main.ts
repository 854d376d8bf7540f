// `npm run bench -- [FILTER…] [--json] [--save]`: measures every row module, prints one table per operation; --save writes
// bench/results/<date>.json.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import type { Row } from './harness.ts';

const here = dirname(fileURLToPath(import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, save: { type: 'boolean', default: false } },
});

const NOT_ROWS = new Set(['main.ts', 'harness.ts', 'native.ts', 'core_build.ts', 'iommu_support.ts']);
const modules = readdirSync(here)
  .filter((name) => name.endsWith('.ts') && !NOT_ROWS.has(name))
  .filter((name) => positionals.length === 0 || positionals.some((filter) => name.includes(filter)));

const rows: Row[] = [];
for (const name of modules) {
  process.stderr.write(`bench/${name} …\n`);
  const module = (await import(pathToFileURL(join(here, name)).href)) as { rows(): Promise<Row[]> };
  rows.push(...(await module.rows()));
}

const report = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores`,
  node: process.version,
  v8: process.versions.v8,
  rows,
};

if (values.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
else print();
if (values.save) {
  mkdirSync(join(here, 'results'), { recursive: true });
  writeFileSync(join(here, 'results', `${report.date}.json`), `${JSON.stringify(report, null, 2)}\n`);
}

function print(): void {
  const number = (value: number) =>
    value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(3);
  process.stdout.write(`\n${report.date}  ${report.machine}  node ${report.node}\n`);
  for (const name of new Set(rows.map((row) => row.table))) {
    const head = [name, 'unit', 'ours', 'peers (their time / ours)', 'goal', ''];
    const table = new Table({ head, style: { head: [], border: [] } });
    for (const row of rows.filter((candidate) => candidate.table === name)) {
      const [ours, ...peers] = Object.entries(row.ns);
      table.push([
        row.row,
        row.unit,
        `${number(ours?.[1] ?? Number.NaN)} ns`,
        peers
          .map(([peer, ns]) => `${peer} ${number(ns)} ns (${(row.ratio[peer] ?? Number.NaN).toFixed(2)}x)`)
          .join('\n'),
        row.goal,
        row.note,
      ]);
    }
    process.stdout.write(`\n${table.toString()}\n`);
  }
}
