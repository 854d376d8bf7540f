import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { migrate } from '../../examples/migrate.ts';

it('docs/how-to/migrate-a-guest.md quotes the example as it runs', async () => {
  const example = await readFile(new URL('../../examples/migrate.ts', import.meta.url), 'utf8');
  const page = await readFile(new URL('../../docs/how-to/migrate-a-guest.md', import.meta.url), 'utf8');
  expect(/```ts\n([\s\S]*?)```/.exec(page)?.[1]).toBe(example.replace("'../host/inline.ts'", "'vfio-wasm'"));
  const { bytes } = await migrate();
  expect(new TextDecoder().decode(bytes)).toBe('hello other side');
});
