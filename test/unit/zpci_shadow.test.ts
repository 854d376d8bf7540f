// A guest whose tables name pages without storage cannot make the layer remember more of them than the container has mappings.
import { describe, expect, it } from 'vitest';
import type { FunctionBackend } from '../../host/vmm/zpci/backend.ts';
import { DmaShadow } from '../../host/vmm/zpci/shadow.ts';

const PAGE = 4096n;
const START = 0x100000000n;
const LIMIT = 8;

/** One region-third, one segment and one page table; every page translates to its own number. */
const read = (address: bigint): bigint => {
  if (address < 0x10000n) return 0x10000n | 0x4n | 0x3n;
  if (address < 0x20000n) return 0x20000n;
  return 0x40000000n + ((address - 0x20000n) / 8n) * PAGE;
};

describe('translations of a zPCI function', () => {
  it('pages without storage count across refreshes and come back with clear()', () => {
    const backend = { available: () => LIMIT, map: () => 0, unmap: () => undefined } as unknown as FunctionBackend;
    const shadow = new DmaShadow(backend, () => false);
    const refresh = (page: bigint, count: bigint) =>
      shadow.refresh(read, 0n, START + page * PAGE, START + (page + count) * PAGE - 1n).kind;
    expect(refresh(0n, 5n)).toBe('done');
    expect(shadow.size).toBe(5);
    expect(refresh(5n, 5n)).toBe('exhausted');
    expect(shadow.size).toBe(LIMIT);
    shadow.clear();
    expect(shadow.size).toBe(0);
    expect(refresh(5n, 5n)).toBe('done');
  });
});
