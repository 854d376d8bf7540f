// assembly/ccw through its exports: what a channel program promises to those who hold, ask and release one.
import { beforeEach, describe, expect, it } from 'vitest';
import {
  EBUSY,
  EINVAL,
  ENOENT,
  FLAVOUR_IOAS,
  IOMMU_DIRTY_ON,
  IOMMU_FLAVOUR,
  UNMAP_ALL,
} from '../../../assembly/abi.ts';
import { ChannelProgram } from '../../../host/ccw/channel_program.ts';
import { GuestPages } from '../../../host/ccw/guest_pages.ts';
import type { Core } from '../../../host/core.ts';
import { ccw0, ccw1 } from '../../support/ccw_programs.ts';
import { freshCore } from '../../support/core.ts';

const FORMAT1 = 0x00c2ff00;
const _FORMAT0 = 0x0042ff00;
const PROGRAM = 0x10000n;
const DATA = 0x20000n;
const PAGES = [PROGRAM, PROGRAM + 0x1000n, DATA, DATA + 0x1000n, DATA + 0x2000n];

const READ = 0x02;
const TIC = 0x08;
const CC = 0x40;
const IDA = 0x04;

let core: Core;
let guest: GuestPages;
let cp: ChannelProgram;

beforeEach(async () => {
  core = await freshCore();
  guest = new GuestPages(core);
  guest.add(PAGES);
  cp = new ChannelProgram(core);
});

function store(at: bigint, ...ccws: Uint8Array[]): void {
  ccws.forEach((ccw, index) => {
    guest.write(at + BigInt(index) * 8n, ccw);
  });
}

function start(word1 = FORMAT1): void {
  expect(cp.init(guest.iommu, word1, Number(PROGRAM))).toBe(0);
  expect(cp.prefetch()).toBe(0);
}

describe('a channel program', () => {
  it('without one: no ORB, no address turned back, nothing pinned, nothing to translate, release does nothing', () => {
    expect(cp.held).toBe(false);
    expect(cp.prefetch()).toBe(-EINVAL);
    expect(cp.orb(1, 0x80)).toBe(0);
    expect(cp.orbBytes(1, 0x80)).toBeNull();
    expect(cp.guestCpa(0x10000)).toBeNull();
    expect(cp.iovaPinned(0n, 0n)).toBe(false);
    expect(cp.linearPinned(guest.linear(DATA) as number)).toBe(false);
    expect(cp.chains()).toEqual([]);
    cp.free();
  });

  it('one at a time: a second copy is EBUSY and leaves the first alone', () => {
    store(PROGRAM, ccw1(READ, 0, 4096, Number(DATA)));
    start();
    const before = [cp.chains(), cp.pinned(), [...(cp.orbBytes(7, 0) ?? [])]];
    expect(cp.init(guest.iommu, FORMAT1, Number(DATA))).toBe(-EBUSY);
    expect([cp.chains(), cp.pinned(), [...(cp.orbBytes(7, 0) ?? [])]]).toEqual(before);
  });

  it('is translated once: a second translation is EINVAL and changes nothing', () => {
    store(PROGRAM, ccw1(READ, 0, 4096, Number(DATA)));
    start();
    expect(cp.prefetch()).toBe(-EINVAL);
    expect(cp.pinCount).toBe(1);
  });

  it('after a failed translation the rest can be asked for and must be released', () => {
    store(PROGRAM, ccw1(READ, CC, 4096, Number(DATA)), ccw1(READ, CC, 1, 0x900000), ccw1(READ, 0, 1, Number(DATA)));
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(0);
    expect(cp.prefetch()).toBe(-EINVAL);
    expect(cp.held).toBe(true);
    expect(cp.chains()[0]).toMatchObject({ len: 3, translated: 1 });
    expect(cp.iovaPinned(DATA, 1n)).toBe(true);
    expect(cp.prefetch()).toBe(-EINVAL);
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(-EBUSY);
    expect(guest.pins).toBe(1n);
    cp.free();
    expect(guest.pins).toBe(0n);
    expect(cp.held).toBe(false);
  });

  it('the ORB: 32 big-endian bytes, interruption parameter and path mask from the host, words 3 to 7 zero', () => {
    store(PROGRAM, ccw0(READ, 0, 8, Number(DATA)));
    start(0x90400088);
    const orb = cp.orbBytes(0xdeadbeef, 0xc0) as Uint8Array;
    const view = new DataView(orb.buffer, orb.byteOffset, 32);
    expect(view.getUint32(0)).toBe(0xdeadbeef);
    // Format 1, 64-bit IDAWs and 2 KiB blocks are ours, the mask is the subchannel's, everything else the guest's.
    expect(view.getUint32(4)).toBe((0x90400088 | 0x00830000 | 0xc000) >>> 0);
    expect(view.getUint32(8)).toBe(cp.chains()[0]?.host);
    expect(orb.subarray(12).every((byte) => byte === 0)).toBe(true);
  });

  it('chains lie below 2 GiB, doubleword aligned, and none begins near where another ends', () => {
    const heads = Array.from({ length: 16 }, (_, index) => Number(PROGRAM) + index * 0x80);
    heads.forEach((head, index) => {
      const next = heads[index + 1];
      const last = next === undefined ? ccw1(READ, 0, 1, Number(DATA)) : ccw1(TIC, 0, 0, next);
      store(BigInt(head), ccw1(READ, CC, 1, Number(DATA)), last);
    });
    start();
    const chains = cp.chains();
    expect(chains.map(({ iova }) => iova)).toEqual(heads);
    const spans = chains.map(({ host, len }) => ({ host, end: host + len * 8 })).sort((a, b) => a.host - b.host);
    spans.forEach(({ host, end }, index) => {
      expect(host % 8).toBe(0);
      expect(end).toBeLessThan(0x80000000);
      const next = spans[index + 1];
      if (next !== undefined) expect(next.host).toBeGreaterThan(end + 8);
    });
    for (const { iova, host, len } of chains) {
      expect(cp.guestCpa(host)).toBe(iova);
      expect(cp.guestCpa(host + len * 8)).toBe(iova + len * 8);
      expect(cp.guestCpa(host + len * 8 + 8)).toBeNull();
      expect(cp.guestCpa(host - 8)).toBeNull();
    }
  });

  it('a 17th chain is EINVAL and nothing is held', () => {
    const heads = Array.from({ length: 17 }, (_, index) => Number(PROGRAM) + index * 0x40);
    heads.forEach((head, index) => {
      store(BigInt(head), ccw1(TIC, 0, 0, heads[index + 1] ?? head));
    });
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(-EINVAL);
    expect(cp.held).toBe(false);
    expect(cp.chains()).toEqual([]);
    expect(cp.init(guest.iommu, FORMAT1, heads[1] as number)).toBe(0);
  });

  it('256 CCWs are a chain, and neighbouring pins of a page are counted one by one', () => {
    for (let i = 0; i < 256; i++)
      store(PROGRAM + BigInt(i) * 8n, ccw1(READ, i === 255 ? 0 : CC, 48, Number(DATA) + i * 48));
    start();
    // 85 CCWs of 48 bytes fit into a page, the next one crosses into the page behind and pins both.
    expect(cp.pinned().map(({ page, count }) => [page << 12n, count])).toEqual([
      [DATA, 86],
      [DATA + 0x1000n, 86],
      [DATA + 0x2000n, 86],
    ]);
    expect(guest.pins).toBe(258n);
  });

  it('says which linear pages are its own, and only while it holds them', () => {
    store(PROGRAM, ccw1(READ, CC, 4096, Number(DATA)), ccw1(READ, 0, 1, Number(DATA) + 0x2000));
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(0);
    expect(cp.linearPinned(guest.linear(DATA) as number)).toBe(false);
    expect(cp.prefetch()).toBe(0);
    expect(cp.linearPinned((guest.linear(DATA) as number) + 4095)).toBe(true);
    expect(cp.linearPinned((guest.linear(DATA) as number) + 4096)).toBe(false);
    expect(cp.linearPinned(guest.linear(DATA + 0x2000n) as number)).toBe(true);
    expect(cp.linearPinned(guest.linear(PROGRAM) as number)).toBe(false);
    cp.free();
    expect(cp.linearPinned(guest.linear(DATA) as number)).toBe(false);
  });

  it('answers for every page of a large program, in any order, and for no other', () => {
    // 16 chains of 256 CCWs, each CCW on another page than the one before: many blocks of pins.
    const heads = Array.from({ length: 16 }, (_, index) => 0x100000n + BigInt(index) * 4096n);
    const data = Array.from({ length: 64 }, (_, index) => 0x400000n + BigInt(index) * 4096n);
    guest.add([...heads, ...data, 0x800000n]);
    heads.forEach((head, chain) => {
      for (let i = 0; i < 255; i++) store(head + BigInt(i) * 8n, ccw1(READ, CC, 8, Number(data[(i * 7 + chain) % 64])));
      const next = heads[chain + 1];
      store(head + 2040n, next === undefined ? ccw1(READ, 0, 8, Number(data[0])) : ccw1(TIC, 0, 0, Number(next)));
    });
    expect(cp.init(guest.iommu, FORMAT1, Number(heads[0]))).toBe(0);
    expect(cp.prefetch()).toBe(0);
    expect(cp.pinCount).toBe(16 * 255 + 1);
    const own = (iova: bigint) => cp.linearPinned(guest.linear(iova) as number);
    for (const order of [data, [...data].reverse(), data.map((_, index) => data[(index * 29) % 64] as bigint)])
      for (const iova of order) expect(own(iova)).toBe(true);
    for (const iova of [...heads, 0x800000n, DATA]) expect(own(iova)).toBe(false);
    expect(own(data[5] as bigint)).toBe(true);
    cp.free();
    expect(own(data[5] as bigint)).toBe(false);
    expect(guest.pins).toBe(0n);
    // Nor does the next program, copied but not translated, own what the last one did.
    expect(cp.init(guest.iommu, FORMAT1, Number(heads[15]))).toBe(0);
    for (const iova of data) expect(own(iova)).toBe(false);
  });

  it.each([
    ['in one page', PROGRAM],
    ['across two', PROGRAM + 0xf00n],
  ])('behind a chain %s there is no CCW, neither of an earlier program nor one of the guest’s', (_where, at) => {
    const nop = ccw1(0x03, CC, 1, 0);
    store(at, ...Array.from({ length: 20 }, () => nop), ccw1(READ, 0, 8, Number(DATA)));
    expect(cp.init(guest.iommu, FORMAT1, Number(at))).toBe(0);
    cp.free();
    store(at + 8n, ccw1(READ, 0, 8, Number(DATA)), ccw1(READ, IDA, 8, Number(DATA)));
    expect(cp.init(guest.iommu, FORMAT1, Number(at))).toBe(0);
    const [chain] = cp.chains();
    expect([chain?.len, core.view.getBigUint64((chain?.host ?? 0) + 16)]).toEqual([2, 0n]);
  });

  it('what the guest writes after the copy changes nothing', () => {
    store(PROGRAM, ccw1(READ, 0, 4096, Number(DATA)));
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(0);
    store(PROGRAM, ccw1(READ, CC, 4096, 0x900000));
    expect(cp.prefetch()).toBe(0);
    expect(cp.chains()[0]).toMatchObject({ len: 1 });
    expect(cp.pinned().map(({ page }) => page << 12n)).toEqual([DATA]);
  });

  it('two programs of one guest hold the same page each for itself', () => {
    store(PROGRAM, ccw1(READ, 0, 4096, Number(DATA)));
    const other = new ChannelProgram(core);
    start();
    expect(other.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(0);
    expect(other.prefetch()).toBe(0);
    expect([guest.pins, guest.pinnedPages]).toEqual([2n, 1]);
    cp.free();
    expect(other.iovaPinned(DATA, 1n)).toBe(true);
    expect(cp.iovaPinned(DATA, 1n)).toBe(false);
    expect([guest.pins, guest.pinnedPages]).toEqual([1n, 1]);
    other.destroy();
    expect([guest.pins, guest.pinnedPages]).toEqual([0n, 0]);
  });

  it('an IDAL across a page is read whole; its words may name any page', () => {
    const idal = new Uint8Array(24);
    const view = new DataView(idal.buffer);
    [DATA + 0x7ffn, DATA + 0x2000n, DATA + 0x1123n].forEach((word, index) => {
      view.setBigUint64(index * 8, word);
    });
    guest.write(PROGRAM + 0xff4n, idal);
    store(PROGRAM, ccw1(READ, IDA, 8192, Number(PROGRAM) + 0xff4));
    start();
    const words = Array.from({ length: 3 }, (_, index) =>
      core.view.getBigUint64((cp.ccws(cp.chains()[0]!)[0]?.cda ?? 0) + index * 8),
    );
    const linear = (iova: bigint) => BigInt(guest.linear(iova) as number);
    expect(words).toEqual([linear(DATA) + 0x7ffn, linear(DATA + 0x2000n), linear(DATA + 0x1000n) + 0x123n]);
  });

  it('with an IOAS the errno of an unmapped page is ENOENT', () => {
    core.view.setUint32(guest.iommu + IOMMU_FLAVOUR, FLAVOUR_IOAS, true);
    expect(cp.init(guest.iommu, FORMAT1, 0x900000)).toBe(-ENOENT);
    store(PROGRAM, ccw1(READ, 0, 1, 0x900000));
    expect(cp.init(guest.iommu, FORMAT1, Number(PROGRAM))).toBe(0);
    expect(cp.prefetch()).toBe(-ENOENT);
  });

  it('pins counted while a translation domain is attached, or while dirty pages are logged, are given back the same', () => {
    store(PROGRAM, ccw1(READ, CC, 4096, Number(DATA)), ccw1(READ, 0, 64, Number(DATA)));
    const run = () => {
      start();
      expect([guest.pins, guest.pinnedPages]).toEqual([2n, 1]);
      cp.free();
      expect([guest.pins, guest.pinnedPages]).toEqual([0n, 0]);
    };
    run();
    expect(core.exports.iommu_attach_domain(guest.iommu, 0n, 0xffffffff)).toBe(0);
    run();
    core.exports.iommu_detach_domain(guest.iommu);
    expect(core.exports.iommu_dirty_start(guest.iommu)).toBe(0);
    expect(core.view.getUint32(guest.iommu + IOMMU_DIRTY_ON, true)).toBe(1);
    run();
    core.exports.iommu_dirty_stop(guest.iommu);
    run();
  });

  it('survives pins that were taken by force: its pages are nobody’s then, and release finds nothing to do', () => {
    store(PROGRAM, ccw1(READ, CC, 4096, Number(DATA)), ccw1(READ, 0, 4096, Number(DATA) + 0x2000));
    start();
    const linear = guest.linear(DATA) as number;
    core.exports.iommu_unpin_all(guest.iommu, 0n, 0xffffffffffffffffn);
    expect(core.exports.iommu_unmap(guest.iommu, 0n, 0xffffffffffffffffn, UNMAP_ALL)).toBe(0);
    expect(cp.linearPinned(linear)).toBe(false);
    cp.free();
    expect([guest.pins, guest.pinnedPages]).toEqual([0n, 0]);
    cp.destroy();
    guest.destroy();
    expect(core.liveBytes).toBe(0);
  });

  it('gives back what a page lost its address range while it was pinned', () => {
    store(PROGRAM, ccw1(READ, 0, 4096, Number(DATA)));
    start();
    guest.unback();
    expect(guest.pins).toBe(1n);
    cp.free();
    expect(guest.pins).toBe(0n);
    guest.destroy();
    cp.destroy();
    expect(core.liveBytes).toBe(0);
    expect(core.usedPages).toBe(0);
  });

  it('lives in an embedder’s memory at a base', async () => {
    const memory = new WebAssembly.Memory({ initial: 64 });
    new Uint8Array(memory.buffer).fill(0xff);
    const before = new Uint8Array(memory.buffer.slice(0, 0x100000));
    core = await freshCore({ memory, base: 0x100000, length: 0x200000 });
    guest = new GuestPages(core);
    guest.add(PAGES);
    cp = new ChannelProgram(core);
    store(PROGRAM, ccw1(READ, CC, 4096, Number(DATA)), ccw1(READ, 0, 0, 0xfffffff8));
    start();
    expect(cp.chains()[0]?.host).toBeGreaterThan(0x100000);
    expect(cp.pinned()[0]?.linear).toBe((guest.linear(DATA) as number) >>> 12);
    cp.destroy();
    guest.destroy();
    expect(core.liveBytes).toBe(0);
    const now = new Uint8Array(memory.buffer);
    expect(before.every((byte, at) => now[at] === byte)).toBe(true);
    expect(now.subarray(0x300000).every((byte) => byte === 0xff)).toBe(true);
  });
});
