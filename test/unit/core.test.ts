// A core's life: regions in an embedder's memory, refusals, faults.
import { describe, expect, it } from 'vitest';
import { CoreFault } from '../../host/core.ts';
import { Container, createVfio, deviceAction } from '../../host/inline.ts';
import { freshCore } from '../support/core.ts';

const MiB = 1024 * 1024;

describe('the region of a core', () => {
  it('lies where the embedder says and nowhere else', async () => {
    const memory = new WebAssembly.Memory({ initial: 64 });
    new Uint8Array(memory.buffer).fill(0xa5);
    const core = await freshCore({ memory, base: MiB, length: 2 * MiB });
    for (let i = 0; i < 100; i++) expect(core.exports.arena_alloc(core.arena, 1000)).toBeGreaterThan(0);
    const bytes = new Uint8Array(memory.buffer);
    expect(bytes.subarray(0, MiB).every((byte) => byte === 0xa5)).toBe(true);
    expect(bytes.subarray(3 * MiB).every((byte) => byte === 0xa5)).toBe(true);
    expect(core.userBase).toBeGreaterThan(core.arena);
    expect(core.userEnd).toBe(3 * MiB);
  });

  it('follows an embedder memory that grows', async () => {
    const memory = new WebAssembly.Memory({ initial: 32 });
    const core = await freshCore({ memory, length: MiB });
    expect(core.u8.length).toBe(32 * 65536);
    memory.grow(1);
    expect(core.u8.length).toBe(33 * 65536);
    expect(core.liveBytes).toBe(0);
  });

  it.each([
    [{ base: 4096 }, 'base goes with memory'],
    [{ length: 100 }, 'multiple of 4096'],
    [{ length: 0 }, '128 KiB'],
    [{ length: 2 ** 32 }, 'just under 4 GiB'],
    [{ length: MiB, heapSize: 2 * MiB }, 'does not fit'],
    [{ memory: new WebAssembly.Memory({ initial: 4 }), length: MiB }, 'beyond the memory'],
    [{ memory: new WebAssembly.Memory({ initial: 4 }), base: 12, length: 65536 }, 'multiple of 4096'],
  ])('is refused with the reason: %o', async (options, reason) => {
    await expect(freshCore(options)).rejects.toThrow(reason);
  });

  it('is refused in a shared memory', async () => {
    if (typeof SharedArrayBuffer === 'undefined') return;
    const memory = new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true });
    await expect(freshCore({ memory })).rejects.toThrow(TypeError);
  });
});

describe('a trap', () => {
  it('marks that core dead, and no other', async () => {
    const [dead, alive] = [await freshCore(), await freshCore()];
    expect(() => dead.fault(new WebAssembly.RuntimeError('unreachable'))).toThrow(CoreFault);
    expect(() => dead.assertAlive()).toThrow('unreachable');
    expect(() => alive.assertAlive()).not.toThrow();
  });

  it('is not what any other error is taken for', async () => {
    const core = await freshCore();
    expect(() => core.fault(new TypeError('ours'))).toThrow(TypeError);
    expect(() => core.assertAlive()).not.toThrow();
  });
});

describe('an embedder whose RAM is the guest memory', () => {
  const RAM = 2 * MiB;
  const HEAP = MiB;

  it('finds its own bytes where devices look, and theirs where it looks: nothing is copied', async () => {
    const memory = new WebAssembly.Memory({ initial: 96 });
    const ram = new Uint8Array(memory.buffer, RAM, MiB);
    ram.fill(0x5a);
    const vfio = await createVfio({ memory, base: RAM - HEAP, heapSize: HEAP, length: HEAP + 2 * MiB });
    expect(vfio.core.userBase).toBe(RAM);
    const address = vfio.mmap(MiB, { linear: RAM });
    const container = new Container(vfio);
    const device = container.attach(1).device('0000:00:01.0');
    container.map(0n, MiB, { address });
    expect(ram.every((byte) => byte === 0x5a)).toBe(true);
    device.region(7).set(4, 7, 2);
    const done = deviceAction(vfio, '0000:00:01.0', 'dma_write', { iova: 0x1234, data: 'c0ffee' });
    expect(done).toBe(0);
    expect([...ram.subarray(0x1233, 0x1238)]).toEqual([0x5a, 0xc0, 0xff, 0xee, 0x5a]);
    container.close();
    vfio.munmap(address, MiB);
    expect(ram[0x1234]).toBe(0xc0);
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('is told what cannot be its RAM', async () => {
    const memory = new WebAssembly.Memory({ initial: 96 });
    const vfio = await createVfio({ memory, base: RAM - HEAP, heapSize: HEAP, length: HEAP + 2 * MiB });
    for (const linear of [0, RAM - 4096, RAM + 1, RAM + 2 * MiB, -4096, 2 ** 32])
      expect(() => vfio.mmap(4096, { linear }), String(linear)).toThrow('EINVAL');
    expect(() => vfio.mmap(3 * MiB, { linear: RAM })).toThrow(/EINVAL|ENOMEM/);
    const address = vfio.mmap(8192, { linear: RAM + 4096 });
    expect(() => vfio.mmap(8192, { linear: RAM })).toThrow('EEXIST');
    vfio.munmap(address, 8192);
    vfio.munmap(vfio.mmap(8192, { linear: RAM }), 8192);
  });
});
