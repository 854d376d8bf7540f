// The heap of records: blocks never overlap, everything comes back, a full heap is an answer.
import { beforeEach, describe, expect, it } from 'vitest';
import type { Core } from '../../host/core.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs } from '../support/counts.ts';

describe('arena', () => {
  let core: Core;
  const alloc = (size: number): number => core.exports.arena_alloc(core.arena, size) >>> 0;
  const free = (address: number, size: number): void => core.exports.arena_free(core.arena, address, size);

  beforeEach(async () => {
    core = await freshCore({ length: 0x1000000, heapSize: 0x400000 });
  });

  /** The largest block that can be had now, to a page. */
  const largest = (): number => {
    let low = 0;
    let high = 0x400000;
    while (high - low > 4096) {
      const middle = ((low + high) >>> 13) * 4096;
      const block = alloc(middle);
      if (block === 0) high = middle;
      else {
        free(block, middle);
        low = middle;
      }
    }
    return low;
  };

  it('gives blocks aligned to 16 bytes inside the heap, and counts them rounded', () => {
    for (const size of [1, 16, 17, 100, 255, 256, 1024, 2048, 2049, 4096, 5000, 100_000]) {
      const before = core.liveBytes;
      const block = alloc(size);
      expect(block % 16).toBe(0);
      expect(block).toBeGreaterThan(core.arena);
      expect(block + size).toBeLessThanOrEqual(core.pages);
      expect(core.liveBytes - before).toBe(size <= 2048 ? Math.ceil(size / 16) * 16 : Math.ceil(size / 4096) * 4096);
      free(block, size);
      expect(core.liveBytes).toBe(before);
    }
  });

  it('slots of 1 KiB do not lie a power of two apart', () => {
    const blocks = Array.from({ length: 8 }, () => alloc(1024));
    const distances = new Set(blocks.slice(1).map((block, i) => block - blocks[i]!));
    expect(distances).not.toContain(1024);
  });

  it('random blocks never overlap, keep their bytes, and all come back', () => {
    const random = new Random();
    const whole = largest();
    const blocks: Array<{ address: number; size: number; stamp: number }> = [];
    const { u8 } = core;
    for (let i = 0; i < runs(20_000); i++) {
      if (random.int(100) < (i % 2000 < 1000 ? 65 : 35)) {
        const size = 1 + random.int(random.pick([64, 512, 2100, 3000, 60_000]));
        const address = alloc(size);
        if (address === 0) continue;
        const stamp = i & 0xff;
        u8.fill(stamp, address, address + size);
        blocks.push({ address, size, stamp });
      } else if (blocks.length > 0) {
        const at = random.int(blocks.length);
        const { address, size, stamp } = blocks[at]!;
        blocks[at] = blocks[blocks.length - 1]!;
        blocks.pop();
        const bytes = u8.subarray(address, address + size);
        if (bytes[0] !== stamp || bytes[size - 1] !== stamp || bytes[size >> 1] !== stamp) expect(bytes).toBe(stamp);
        free(address, size);
      }
    }
    for (const { address, size } of blocks) free(address, size);
    expect(core.liveBytes).toBe(0);
    // Kept slabs of a page or four may sit anywhere until somebody needs their room.
    expect(largest()).toBe(whole);
  });

  it('a full heap answers 0 and recovers', () => {
    const blocks: number[] = [];
    for (let block = alloc(1000); block !== 0; block = alloc(1000)) blocks.push(block);
    expect(blocks.length).toBeGreaterThan(3500);
    expect(alloc(1000)).toBe(0);
    for (const block of blocks) free(block, 1000);
    expect(core.liveBytes).toBe(0);
    expect(alloc(3_000_000)).not.toBe(0);
  });

  it('fails the n-th allocation from now, once', () => {
    core.failAllocation(3);
    const results = [alloc(16), alloc(5000), alloc(16), alloc(16)];
    expect(results.map((address) => address !== 0)).toEqual([true, true, false, true]);
  });
});
