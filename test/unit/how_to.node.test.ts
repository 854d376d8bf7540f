import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';

it('docs/how-to/write-a-device.md quotes the example as it runs, in fewer than 60 lines', async () => {
  const example = await readFile(new URL('../../examples/sum_device.ts', import.meta.url), 'utf8');
  const page = await readFile(new URL('../../docs/how-to/write-a-device.md', import.meta.url), 'utf8');
  const quoted = /```ts\n(\/\/ A complete PCI device[\s\S]*?)```/.exec(page)?.[1];
  expect(quoted).toBe(example.replace("'../host/inline.ts'", "'vfio-wasm'"));
  expect(example.trimEnd().split('\n').length).toBeLessThan(60);
});

it('docs/how-to/write-a-channel-device.md quotes the example as it runs, in fewer than 80 lines', async () => {
  const example = await readFile(new URL('../../examples/console_device.ts', import.meta.url), 'utf8');
  const page = await readFile(new URL('../../docs/how-to/write-a-channel-device.md', import.meta.url), 'utf8');
  const quoted = /```ts\n(\/\/ A complete channel device[\s\S]*?)```/.exec(page)?.[1];
  expect(quoted).toBe(example.replace("'../host/inline.ts'", "'vfio-wasm'"));
  expect(example.trimEnd().split('\n').length).toBeLessThan(80);
});
