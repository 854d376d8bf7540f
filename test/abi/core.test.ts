import { describe, expect, it } from 'vitest';
import { coreSource, freshCore } from '../support/core.ts';

describe('the core as a binary', () => {
  it('imports nothing but its memory, and the import has no maximum', async () => {
    const module = await coreSource();
    expect(WebAssembly.Module.imports(module)).toEqual([{ module: 'env', name: 'memory', kind: 'memory' }]);
    await expect(
      WebAssembly.instantiate(module, { env: { memory: new WebAssembly.Memory({ initial: 1 }) } }),
    ).resolves.toBeDefined();
  });

  it('exports functions only', async () => {
    for (const { kind } of WebAssembly.Module.exports(await coreSource())) expect(kind).toBe('function');
  });

  it('two cores live side by side in one memory', async () => {
    const memory = new WebAssembly.Memory({ initial: 32 });
    const first = await freshCore({ memory, base: 0, length: 0x100000 });
    const second = await freshCore({ memory, base: 0x100000, length: 0x100000 });
    expect(first.exports.arena_alloc(first.arena, 100)).toBeGreaterThan(0);
    expect(first.liveBytes).toBe(112);
    expect(second.liveBytes).toBe(0);
  });

  it('answers 0, never a trap, when the heap is full', async () => {
    const core = await freshCore({ length: 0x40000, heapSize: 0x10000 });
    let blocks = 0;
    while (core.exports.arena_alloc(core.arena, 4096) !== 0) blocks++;
    expect(blocks).toBeGreaterThan(8);
    expect(blocks).toBeLessThan(17);
  });
});
