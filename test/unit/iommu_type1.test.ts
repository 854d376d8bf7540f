// Rules of type1 that no recorded script can show: pins and copies by drivers, several tasks, memory that goes while it is pinned, drivers that do
// not let go, peer-to-peer mappings.
import { describe, expect, it } from 'vitest';
import { EACCES, EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOMEM, EPERM, ERANGE } from '../../assembly/abi.ts';
import { VFIO_IOMMU_DIRTY_PAGES, VFIO_IOMMU_GET_INFO } from '../../host/uapi/ioctl.ts';
import type { IoMapping } from '../../host/vfio/mm.ts';
import { NOTHING, PAGE, Type1Bench, UNIT } from '../support/type1.ts';

const IOVA = 0x100000n;

describe('pins of a driver', () => {
  it('are refused in order: version 1, an invalid vaddr, no device', async () => {
    const v1 = (await Type1Bench.make(1)).mediated();
    expect(v1.map({ iova: IOVA, size: PAGE, vaddr: v1.mmap(1) })).toBe(0);
    expect(v1.pin(IOVA, 1)).toBe(-EACCES);
    expect(v1.close()).toEqual(NOTHING);

    const bench = await Type1Bench.make();
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(0);
    expect(bench.map({ iova: IOVA, size: PAGE, vaddr: bench.mmap(1) })).toBe(0);
    expect(bench.pin(IOVA, 1)).toBe(-EINVAL);
    expect(bench.unmap(IOVA, PAGE, 4)).toBe(PAGE);
    expect(bench.pin(IOVA, 1)).toBe(-EBUSY);
    expect(bench.iommu.dmaRw(IOVA, new Uint8Array(1), false)).toBe(-EBUSY);
    expect(bench.iommu.attachGroup(bench.emulated, bench.task)).toBe(-EBUSY);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('count per page; a page costs one locked page however often it is pinned', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: 4n * PAGE, vaddr: bench.mmap(4) });
    expect(bench.pin(IOVA, 1)).toBe(1);
    expect(bench.pin(IOVA, 2)).toBe(2);
    expect(bench.task.mm.lockedPages).toBe(2);
    bench.iommu.unpinPages(IOVA, 1);
    expect(bench.ledger()).toMatchObject({ locked: 2, pinnedPages: 2, pins: 2 });
    bench.iommu.unpinPages(IOVA, 1);
    bench.iommu.unpinPages(IOVA, 1);
    expect(bench.ledger()).toMatchObject({ locked: 1, pinnedPages: 1, pins: 1 });
  });

  it('end at the first page without the permission, with nothing pinned', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const vaddr = bench.mmap(4);
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr });
    bench.map({ iova: IOVA + 2n * PAGE, size: 2n * PAGE, vaddr: vaddr + 2n * PAGE, flags: 1 });
    expect(bench.pin(IOVA, 4, 1)).toBe(4);
    expect(bench.pin(IOVA, 4, 3)).toBe(-EPERM);
    expect(bench.ledger()).toMatchObject({ pinnedPages: 4, pins: 4 });
    expect(bench.pin(IOVA + PAGE, 4, 1)).toBe(-EINVAL);
    expect(bench.ledger()).toMatchObject({ pinnedPages: 4, pins: 4 });
  });

  it('of an unaligned address take the page that contains it, if a whole page from there is mapped', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr: bench.mmap(2) });
    expect(bench.pin(IOVA + 8n, 1)).toBe(1);
    expect(bench.pin(IOVA + PAGE + 8n, 1)).toBe(-EINVAL);
    expect(bench.pin(IOVA + 8n, 2)).toBe(-EINVAL);
    expect(bench.iommu.pinnedPages).toBe(1);
  });

  it('of memory that is gone keep the page until the last unpin, and pin the old page again', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const vaddr = bench.mmap(2);
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr });
    expect(bench.pin(IOVA, 1)).toBe(1);
    expect(bench.task.mm.unmap(vaddr, 2n * PAGE)).toBe(0);
    expect(bench.vfio.pages.usedBytes).toBe(4096);
    expect(bench.pin(IOVA, 1)).toBe(1);
    expect(bench.pin(IOVA + PAGE, 1)).toBe(-EFAULT);
    expect(bench.iommu.dmaRw(IOVA, new Uint8Array(4), false)).toBe(-EFAULT);
    // New memory at the same address is another page: reads see it, the pin stays where it is.
    expect(bench.mmap(2, { addr: vaddr })).toBe(vaddr);
    bench.task.mm.write(vaddr, Uint8Array.of(7));
    const byte = new Uint8Array(1);
    expect(bench.iommu.dmaRw(IOVA, byte, false)).toBe(0);
    expect(byte[0]).toBe(7);
    bench.letGo(IOVA, PAGE);
    expect(bench.vfio.pages.usedBytes).toBe(2 * 4096);
    expect(bench.close()).toEqual(NOTHING);
  });
});

describe('several tasks in one container', () => {
  it('each is charged for what it mapped; one that is gone can be pinned no more', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr: bench.mmap(2) });
    const other = bench.vfio.task({ memlock: 4096, lockCap: false });
    const mine = bench.task;
    Object.assign(bench, { task: other });
    expect(bench.map({ iova: IOVA + 2n * PAGE, size: 2n * PAGE, vaddr: bench.mmap(2) })).toBe(0);
    Object.assign(bench, { task: mine });
    expect(bench.pin(IOVA, 3)).toBe(3);
    expect([mine.mm.lockedPages, other.mm.lockedPages]).toEqual([2, 1]);
    // The other task may lock one page.
    expect(bench.pin(IOVA, 4)).toBe(-ENOMEM);
    expect([mine.mm.lockedPages, other.mm.lockedPages]).toEqual([2, 1]);
    bench.letGo(IOVA, 4n * PAGE);
    expect([mine.mm.lockedPages, other.mm.lockedPages]).toEqual([0, 0]);
    other.exit();
    expect(bench.pin(IOVA + 2n * PAGE, 1)).toBe(-ENODEV);
    expect(bench.iommu.dmaRw(IOVA + 2n * PAGE, new Uint8Array(1), false)).toBe(-EPERM);
    expect(bench.pin(IOVA, 1)).toBe(1);
    expect(bench.close()).toEqual(NOTHING);
  });
});

describe('unmapping what is pinned', () => {
  it('asks with the whole map, then removes it', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr: bench.mmap(2) });
    bench.map({ iova: IOVA + 2n * PAGE, size: PAGE, vaddr: bench.mmap(1) });
    bench.pin(IOVA + PAGE, 1);
    expect(bench.unmap(IOVA, 3n * PAGE)).toBe(3n * PAGE);
    expect(bench.notified).toEqual([{ iova: IOVA, length: 2n * PAGE }]);
  });

  it('survives a driver that unmaps something else meanwhile', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: PAGE, vaddr: bench.mmap(1) });
    bench.map({ iova: IOVA + PAGE, size: 2n * PAGE, vaddr: bench.mmap(2) });
    bench.map({ iova: 0n, size: 4n * PAGE });
    bench.pin(IOVA + PAGE, 2);
    bench.onUnmap = (iova, length) => {
      expect(bench.unmap(0n, 4n * PAGE)).toBe(4n * PAGE);
      bench.letGo(iova, length);
    };
    expect(bench.unmap(IOVA, 3n * PAGE)).toBe(3n * PAGE);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('gives a driver eleven chances, then takes the pins and says EIO', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: PAGE, vaddr: bench.mmap(1) });
    bench.map({ iova: IOVA + PAGE, size: PAGE, vaddr: bench.mmap(1) });
    bench.pin(IOVA, 1);
    bench.onUnmap = () => {};
    expect(bench.unmap(IOVA, 2n * PAGE)).toBe(BigInt(-EIO));
    expect(bench.notified.length).toBe(11);
    expect(bench.ledger()).toMatchObject({ maps: 0, pinnedPages: 0, pins: 0, locked: 0 });
    expect(bench.close()).toEqual(NOTHING);
  });

  it('reports the dirty bits of maps as they go', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const vaddr = bench.mmap(4);
    const data = bench.mmap(1);
    bench.map({ iova: IOVA, size: 2n * PAGE, vaddr });
    bench.map({ iova: IOVA + 3n * PAGE, size: PAGE, vaddr: vaddr + 3n * PAGE });
    bench.dirty(1);
    bench.pin(IOVA + PAGE, 1);
    bench.iommu.dmaRw(IOVA + 3n * PAGE, new Uint8Array(1), true);
    expect(bench.unmap(IOVA, 4n * PAGE, 1, { length: 8n, data })).toBe(3n * PAGE);
    expect(bench.task.mm.view(data, 8)?.[0]).toBe(0b1010);
    expect(bench.iommu.mapCount).toBe(0);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('a bitmap that cannot be written keeps its map', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const data = bench.mmap(1, { write: false });
    bench.map({ iova: IOVA, size: PAGE, vaddr: bench.mmap(1) });
    bench.dirty(1);
    expect(bench.unmap(IOVA, PAGE, 1, { length: 8n, data })).toBe(BigInt(-EFAULT));
    expect(bench.iommu.mapCount).toBe(1);
  });
});

describe('hardware', () => {
  const region = (): { io: IoMapping; bytes: Uint8Array; on: boolean } => {
    const state = { bytes: new Uint8Array(8192), on: true, io: null as unknown as IoMapping };
    state.io = {
      read: (offset, into) => {
        into.set(state.bytes.subarray(offset, offset + into.length));
        return true;
      },
      write: (offset, from) => {
        state.bytes.set(from, offset);
        return true;
      },
      enabled: () => state.on,
    };
    return state;
  };

  it('reaches a mapped region of another device, which pins cannot take', async () => {
    const bench = (await Type1Bench.make()).mediated();
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(0);
    const bar = region();
    const vaddr = bench.task.mm.insert(8192n, { kind: 'io', io: bar.io }, true, true, null);
    bar.on = false;
    expect(bench.map({ iova: IOVA, size: 2n * PAGE, vaddr })).toBe(-EFAULT);
    bar.on = true;
    expect(bench.map({ iova: IOVA, size: 2n * PAGE, vaddr })).toBe(0);
    expect(bench.task.mm.lockedPages).toBe(0);
    expect(bench.iommu.deviceDma(IOVA + PAGE + 4n, Uint8Array.of(1, 2, 3, 4), true)).toBe(0);
    expect([...bar.bytes.subarray(4100, 4104)]).toEqual([1, 2, 3, 4]);
    expect(bench.pin(IOVA, 1)).toBe(-EINVAL);
    // The unmapped range goes on being the region for the hardware.
    expect(bench.task.mm.unmap(vaddr, 8192n)).toBe(0);
    const back = new Uint8Array(4);
    expect(bench.iommu.deviceDma(IOVA + PAGE + 4n, back, false)).toBe(0);
    expect([...back]).toEqual([1, 2, 3, 4]);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('moves nothing when any byte cannot be reached', async () => {
    const bench = await Type1Bench.make();
    bench.iommu.attachGroup(bench.hardware, bench.task);
    const vaddr = bench.mmap(2);
    bench.map({ iova: IOVA, size: PAGE, vaddr });
    bench.map({ iova: IOVA + PAGE, size: PAGE, vaddr: vaddr + PAGE, flags: 1 });
    expect(bench.iommu.deviceDma(IOVA + PAGE - 2n, Uint8Array.of(9, 9, 9, 9), true)).toBe(-EFAULT);
    expect([...(bench.task.mm.view(vaddr + PAGE - 2n, 4) as Uint8Array)]).toEqual([0, 0, 0, 0]);
    expect(bench.iommu.deviceDma(IOVA + 2n * PAGE - 2n, new Uint8Array(4), false)).toBe(-EFAULT);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('pins at map time, once for drivers and hardware together, and re-bases when it leaves', async () => {
    const bench = (await Type1Bench.make()).mediated();
    bench.map({ iova: IOVA, size: 8n * PAGE, vaddr: bench.mmap(8) });
    bench.pin(IOVA, 3);
    expect(bench.task.mm.lockedPages).toBe(3);
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(0);
    expect(bench.task.mm.lockedPages).toBe(8);
    bench.pin(IOVA + 4n * PAGE, 1);
    expect(bench.task.mm.lockedPages).toBe(8);
    bench.iommu.detachGroup(bench.hardware);
    expect(bench.task.mm.lockedPages).toBe(4);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('a new address from the same task leaves the privilege that the map was made with', async () => {
    const bench = await Type1Bench.make();
    bench.iommu.attachGroup(bench.hardware, bench.task);
    const vaddr = bench.mmap(4);
    expect(bench.map({ iova: IOVA, size: 4n * PAGE, vaddr })).toBe(0);
    bench.task.lockCap = false;
    bench.task.memlockPages = 0;
    expect(bench.unmap(IOVA, 4n * PAGE, 4)).toBe(4n * PAGE);
    expect(bench.map({ iova: IOVA, size: 4n * PAGE, vaddr, flags: 4 })).toBe(0);
    bench.mediated();
    bench.iommu.detachGroup(bench.hardware);
    // Joining again pins the map for its hardware: the limit does not bind it.
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(0);
    expect(bench.map({ iova: 0n, size: PAGE, vaddr })).toBe(-ENOMEM);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('a container that lost its hardware keeps the full range, whatever mediated groups come and go', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const { Group } = await import('../../host/vfio/group.ts');
    const ranges = (): bigint[] => {
      const info = new DataView(new ArrayBuffer(128));
      info.setUint32(0, 128, true);
      expect(bench.ioctl(VFIO_IOMMU_GET_INFO, info)).toBe(0);
      // DMA_AVAIL at 56 is the last capability of a container without ranges.
      return info.getUint32(60, true) === 0 ? [] : [info.getBigUint64(88, true), info.getBigUint64(96, true)];
    };
    const full = [0n, (1n << 64n) - 1n];
    expect(ranges()).toEqual([]);
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(0);
    expect(ranges()).toEqual([0n, 0xfedfffffn]);
    bench.iommu.detachGroup(bench.hardware);
    expect(ranges()).toEqual(full);
    const second = new Group('8', 'emulated');
    expect(bench.iommu.attachGroup(second, bench.task)).toBe(0);
    expect(ranges()).toEqual(full);
    bench.iommu.detachGroup(second);
    expect(ranges()).toEqual(full);
    // A map that the full range holds is in the way of the hardware when it comes back.
    expect(bench.map({ iova: 1n << 48n, size: PAGE })).toBe(0);
    expect(bench.iommu.attachGroup(bench.hardware, bench.task)).toBe(-EINVAL);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('what a unit reaches but does not translate is reserved: below, between and behind its ranges', async () => {
    const { Group } = await import('../../host/vfio/group.ts');
    // Like a zPCI function: 2^42 bytes within reach, DMA from start_dma to end_dma.
    const zpci = { ...UNIT, ranges: [{ start: 1n << 32n, last: (1n << 40n) - 1n }], limit: 1n << 42n };
    const join = async (iova: bigint): Promise<number> => {
      const bench = (await Type1Bench.make()).mediated();
      expect(bench.map({ iova, size: PAGE, vaddr: bench.mmap(1) })).toBe(0);
      const result = bench.iommu.attachGroup(new Group('3', 'iommu', zpci), bench.task);
      expect(bench.close()).toEqual(NOTHING);
      return result;
    };
    expect(await join((1n << 32n) - PAGE)).toBe(-EINVAL);
    expect(await join(1n << 32n)).toBe(0);
    expect(await join((1n << 40n) - PAGE)).toBe(0);
    expect(await join(1n << 40n)).toBe(-EINVAL);
    expect(await join((1n << 42n) - PAGE)).toBe(-EINVAL);
    expect(await join(1n << 42n), 'only the replay finds what is out of reach').toBe(-ERANGE);
  });

  it('two units are two domains: the second checks its limit, the pages are pinned once', async () => {
    const bench = await Type1Bench.make();
    bench.iommu.attachGroup(bench.hardware, bench.task);
    bench.map({ iova: 1n << 40n, size: PAGE, vaddr: bench.mmap(1) });
    const { Group } = await import('../../host/vfio/group.ts');
    const small = { ...UNIT, ranges: [{ start: 0n, last: 0xffffffffn }], limit: 1n << 32n };
    expect(bench.iommu.attachGroup(new Group('2', 'iommu', small), bench.task)).toBe(-EINVAL);
    expect(bench.unmap(1n << 40n, PAGE)).toBe(PAGE);
    const elsewhere = { ...UNIT, ranges: [{ start: 1n << 50n, last: (1n << 51n) - 1n }], limit: 1n << 52n };
    expect(bench.iommu.attachGroup(new Group('3', 'iommu', elsewhere), bench.task), 'nothing in common').toBe(-EINVAL);
    const second = new Group('2', 'iommu', small);
    expect(bench.iommu.attachGroup(second, bench.task)).toBe(0);
    expect(bench.map({ iova: 1n << 40n, size: PAGE, vaddr: bench.mmap(1) })).toBe(-EINVAL);
    expect(bench.map({ iova: IOVA, size: PAGE, vaddr: bench.mmap(1) })).toBe(0);
    expect(bench.task.mm.lockedPages).toBe(1);
    bench.iommu.detachGroup(second);
    expect(bench.task.mm.lockedPages).toBe(1);
    expect(bench.map({ iova: 1n << 40n, size: PAGE, vaddr: bench.mmap(1) })).toBe(0);
    expect(bench.close()).toEqual(NOTHING);
  });
});

describe('scale', () => {
  it('a terabyte is one entry; tracking it costs what was touched', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const size = 1n << 40n;
    const vaddr = bench.task.mm.mapAnonymous(size, { backed: false });
    const before = bench.core.liveBytes;
    expect(bench.map({ iova: 0n, size, vaddr })).toBe(0);
    expect(bench.core.liveBytes - before).toBeLessThan(1024);
    expect(bench.dirty(1)).toBe(0);
    expect(bench.core.liveBytes - before).toBeLessThan(1024);
    expect(bench.pin(1n << 39n, 1)).toBe(-EFAULT);
    // 32 MiB of bits, all 0; the bitmap itself lies where nothing is behind the address, which is found at the first word.
    expect(bench.dirty(4, { iova: 0n, size, length: size / 4096n / 8n, data: vaddr })).toBe(-EFAULT);
    expect(bench.unmap(0n, size)).toBe(size);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('a full heap is ENOMEM, and everything is still there afterwards', async () => {
    const { freshCore } = await import('../support/core.ts');
    const bench = new Type1Bench(await freshCore({ length: 0x200000, heapSize: 0x20000 }), 3).mediated();
    let made = 0n;
    while (bench.map({ iova: 2n * made * PAGE, size: PAGE }) === 0) made++;
    expect(made).toBeGreaterThan(1000n);
    expect(bench.map({ iova: 2n * made * PAGE, size: PAGE })).toBe(-ENOMEM);
    expect(bench.unmap(0n, 2n * made * PAGE)).toBe(made * PAGE);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('a mark that finds no memory makes everything dirty until STOP', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const vaddr = bench.mmap(70);
    bench.map({ iova: IOVA, size: 70n * PAGE, vaddr });
    expect(bench.dirty(1)).toBe(0);
    bench.iommu.dmaRw(IOVA, new Uint8Array(1), false);
    bench.core.failAllocation(1);
    expect(bench.iommu.dmaRw(IOVA, new Uint8Array(1), true)).toBe(0);
    bench.core.failAllocation(0);
    const data = bench.mmap(1);
    expect(bench.dirty(4, { iova: IOVA, size: 70n * PAGE, length: 16n, data })).toBe(0);
    const bits = bench.task.mm.view(data, 16) as Uint8Array;
    expect([...bits]).toEqual([255, 255, 255, 255, 255, 255, 255, 255, 63, 0, 0, 0, 0, 0, 0, 0]);
    expect(bench.dirty(2)).toBe(0);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('DIRTY_PAGES of version 1 is refused before the argument is read', async () => {
    const bench = (await Type1Bench.make(1)).mediated();
    expect(bench.ioctl(VFIO_IOMMU_DIRTY_PAGES, new DataView(new ArrayBuffer(0)))).toBe(-EACCES);
  });
});
