// The boundary between host and core: what a direct call costs.
import { readFile } from 'node:fs/promises';
import { createCore } from '../host/core.ts';
import { measure, type Row } from './harness.ts';

export async function rows(): Promise<Row[]> {
  const binary = await readFile(new URL('../host/core.wasm', import.meta.url));
  const core = await createCore(() => WebAssembly.compile(binary));
  const { core_abi: call } = core.exports;
  let sum = 0;
  const direct = {
    name: 'core',
    run(n: number) {
      for (let i = 0; i < n; i++) sum += call();
      if (sum < n) throw new Error('the call answered 0');
    },
  };
  const { zpci_plan: plan } = core.exports;
  const six = {
    name: 'core',
    run(n: number) {
      for (let i = 0; i < n; i++) sum += plan(0, 0, i, i, 128, 128);
    },
  };
  const row = (name: string, candidate: typeof direct) =>
    measure({ table: 'boundary', row: name, unit: 'call', goal: '<= 5 ns', candidates: [candidate] });
  return [await row('direct call', direct), await row('direct call, six integers', six)];
}
