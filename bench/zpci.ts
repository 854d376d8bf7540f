// PCI stores: chunking and copy in the core against TypeScript (optimised, idiomatic; bench/peers) and C with memcpy for each piece
// (bench/native/zpci.c). One unit is a byte: ns per byte below 0.033 is 30 GB/s.
import { readFileSync } from 'node:fs';
import { createCore } from '../host/core.ts';
import { packStoreRules } from '../host/zpci.ts';
import { type Candidate, measure, type Row, rowOf } from './harness.ts';
import { buildNative, runNative } from './native.ts';
import * as idiomatic from './peers/zpci_idiomatic.ts';
import { OptimisedStore } from './peers/zpci_optimised.ts';

const GOAL = '>= 30 GB/s, idiomatic >= 15x, optimised >= 4x, C >= 1x';
const CASES: ReadonlyArray<readonly [row: string, length: number, io: number, goal: string]> = [
  ['4 KiB in blocks of 128', 4096, 0, GOAL],
  ['64 KiB in blocks of 128', 65536, 0, GOAL],
  ['one block of 128', 128, 0, ''],
  ['4 KiB from offset 0xfc0 (64, 31 x 128, 64)', 4096, 0xfc0, ''],
  ['1000 bytes from offset 3, singles only', 1000, 3, ''],
];

export async function rows(): Promise<Row[]> {
  const binary = readFileSync(new URL('../host/core.wasm', import.meta.url));
  const core = await createCore(() => WebAssembly.compile(binary));
  const rules = packStoreRules({});
  const bar = core.userBase;
  const source = core.userBase + (1 << 20);
  const { zpci_store } = core.exports;
  const buffer = new ArrayBuffer(4 << 20);
  const optimised = new OptimisedStore(buffer);
  const [to, from] = [new Uint8Array(1 << 20), new Uint8Array(1 << 20)];
  const native = buildNative('zpci');
  const result: Row[] = [];
  for (const [row, length, io, goal] of CASES) {
    const wanted = idiomatic.plan(io, 0, length, 128).length;
    const candidate = (name: string, one: () => number): Candidate => ({
      name,
      run(n) {
        let pieces = 0;
        for (let i = 0; i < n; i++) pieces += one();
        if (pieces !== n * wanted) throw new Error(`${name}: ${pieces / n} pieces, not ${wanted}`);
      },
    });
    const measured = await measure({
      table: 'zPCI stores',
      row,
      unit: 'byte',
      goal,
      per: length,
      candidates: [
        candidate('core', () => zpci_store(bar, io, source, length, rules)),
        candidate('optimised TypeScript', () => optimised.store(0, io, 2 << 20, length)),
        candidate('idiomatic TypeScript', () => idiomatic.store(to, io, from, 0, length)),
      ],
    });
    const ns = { ...measured.ns };
    if (native !== null)
      ns['C, memcpy'] = (runNative(native, [String(length), String(io)])['store'] as number) / length;
    const speed = 1 / (ns['core'] as number);
    result.push(rowOf({ table: 'zPCI stores', row, unit: 'byte', goal, note: `${speed.toFixed(1)} GB/s` }, ns));
  }
  return result;
}
