// A channel program whose n-th allocation, pin or read fails, for every n: the right errno, nothing left, and the next try works.
import { describe, expect, it } from 'vitest';
import { ARENA_FAIL_NTH, EFAULT, ENOMEM, IOMMU_PIN_NTH, IOMMU_READ_NTH, MM_LIMIT } from '../../../assembly/abi.ts';
import { ChannelProgram } from '../../../host/ccw/channel_program.ts';
import { GuestPages } from '../../../host/ccw/guest_pages.ts';
import type { Core } from '../../../host/core.ts';
import { VfioError } from '../../../host/errno.ts';
import { ccw1 } from '../../support/ccw_programs.ts';
import { freshCore } from '../../support/core.ts';

/** 64-bit IDAWs, 2 KiB blocks. */
const WORD1 = 0x00c3ff00;
const PROGRAM = 0x10000;
const IDAL = 0x20000n;
const DATA = [0x100000n, 0x140000n, 0x100001000n];
const CHAINS = 4;
const CCWS = 64;
const WORDS = 33;

/** Pages for four chains of 64 CCWs with 33 IDAWs each: a program that does not fit into the record. */
function addPages(guest: GuestPages): void {
  const chains = Array.from({ length: CHAINS }, (_, index) => BigInt(PROGRAM + index * 4096));
  guest.add([...chains, IDAL, ...DATA]);
  const idal = new Uint8Array(WORDS * 8);
  const view = new DataView(idal.buffer);
  for (let i = 0; i < WORDS; i++) view.setBigUint64(i * 8, (DATA[i % DATA.length] as bigint) + 0x7ffn);
  guest.write(IDAL, idal);
  chains.forEach((head, index) => {
    for (let i = 0; i < CCWS; i++) guest.write(head + BigInt(i) * 8n, ccw1(0x02, 0x44, 65535, Number(IDAL)));
    const next = index === CHAINS - 1 ? ccw1(0x03, 0, 0, 0) : ccw1(0x08, 0, 0, PROGRAM + (index + 1) * 4096);
    guest.write(head + BigInt(CCWS) * 8n, next);
  });
}

function start(cp: ChannelProgram, guest: GuestPages): number {
  const result = cp.init(guest.iommu, WORD1, PROGRAM);
  return result < 0 ? result : cp.prefetch();
}

const PINS = BigInt(CHAINS * CCWS * WORDS);

/**
 * Fails the n-th time, n = 1, 2, ... until there is no n-th time. @param counter address of the core's countdown.
 * @returns how many programs failed.
 */
function sweep(core: Core, errno: number, counter: (guest: GuestPages) => number): number {
  const guest = new GuestPages(core);
  const cp = new ChannelProgram(core);
  let failures = 0;
  for (let nth = 1; ; nth++) {
    guest.clear();
    addPages(guest);
    const at = counter(guest);
    core.view.setUint32(at, nth, true);
    const result = start(cp, guest);
    const reached = core.view.getUint32(at, true) === 0;
    core.view.setUint32(at, 0, true);
    if (result !== 0) {
      failures++;
      expect(result, `n = ${nth}`).toBe(-errno);
      cp.free();
      expect([nth, guest.pins, guest.pinnedPages]).toEqual([nth, 0n, 0]);
      expect(start(cp, guest), `after n = ${nth}`).toBe(0);
    }
    expect(guest.pins).toBe(PINS);
    cp.free();
    expect([nth, guest.pins, guest.pinnedPages]).toEqual([nth, 0n, 0]);
    if (reached) continue;
    cp.destroy();
    guest.destroy();
    expect(core.liveBytes).toBe(0);
    return failures;
  }
}

describe('a channel program with a fault', () => {
  it('the n-th allocation: ENOMEM', async () => {
    const core = await freshCore();
    // Further chains, and blocks of IDALs and pins. A leaf of page entries is tried twice, so that a single failure is survived.
    expect(sweep(core, ENOMEM, () => core.arena + ARENA_FAIL_NTH)).toBeGreaterThan(50);
  });

  it('the n-th page that is newly pinned: ENOMEM', async () => {
    const core = await freshCore();
    expect(sweep(core, ENOMEM, ({ iommu }) => iommu + IOMMU_PIN_NTH)).toBe(DATA.length);
  });

  it('the n-th read: EFAULT', async () => {
    const core = await freshCore();
    const reads = sweep(core, EFAULT, ({ iommu }) => iommu + IOMMU_READ_NTH);
    // Each chain, and for each CCW the first word and the list; further words of one piece do not count.
    expect(reads).toBeGreaterThanOrEqual(CHAINS + CHAINS * CCWS);
  });

  it('a limit of locked pages: ENOMEM below what the program needs', async () => {
    const core = await freshCore();
    const guest = new GuestPages(core);
    const cp = new ChannelProgram(core);
    addPages(guest);
    for (let limit = 0; limit <= DATA.length; limit++) {
      core.view.setUint32(guest.mm + MM_LIMIT, limit, true);
      expect(start(cp, guest)).toBe(limit < DATA.length ? -ENOMEM : 0);
      cp.free();
      expect([guest.pins, guest.pinnedPages]).toEqual([0n, 0]);
    }
  });

  it('a heap of any size: it works, or it is ENOMEM, and never a trap', async () => {
    const outcomes = new Set<string>();
    for (let heapSize = 0x3000; heapSize <= 0x80000; heapSize += heapSize < 0x10000 ? 0x1000 : 0x7000) {
      const core = await freshCore({ length: 0x200000, heapSize });
      let cp: ChannelProgram | undefined;
      try {
        const guest = new GuestPages(core);
        addPages(guest);
        cp = new ChannelProgram(core);
        const result = start(cp, guest);
        expect([0, -ENOMEM]).toContain(result);
        outcomes.add(result === 0 ? 'works' : 'refused');
        cp.free();
        expect([guest.pins, guest.pinnedPages]).toEqual([0n, 0]);
        cp.destroy();
        guest.destroy();
        expect(core.liveBytes).toBe(0);
      } catch (error) {
        if (!(error instanceof VfioError)) throw error;
        expect(error.code).toBe('ENOMEM');
        outcomes.add('no program');
      }
    }
    expect([...outcomes].sort()).toEqual(['no program', 'refused', 'works']);
  });
});
