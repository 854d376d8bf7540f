import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { SCRIPTS } from '../support/script_names.ts';

it('the list of scripts is what lies in test/data/abi', async () => {
  const files = await readdir(new URL('../data/abi/', import.meta.url));
  expect([...SCRIPTS].sort()).toEqual(files.map((file) => file.replace('.jsonl.gz', '')).sort());
});
