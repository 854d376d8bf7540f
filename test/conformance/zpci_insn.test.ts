import { describe, expect, it } from 'vitest';
import { createVfio } from '../../host/inline.ts';
import { decodeInsn, encodeInsn, INSN_NAMES } from '../../host/vmm/cpu.ts';
import { walkTables } from '../../host/vmm/zpci/tables.ts';
import { Guest, twoIsms } from '../support/zpci.ts';

const net = async (options: { dma_entry_limit?: number } = {}): Promise<Guest> => {
  const vfio = await createVfio({
    machine: { ...options, devices: [{ bus: 'pci', model: 'zpci-net', name: '0003:00:00.0', group: 5 }] },
  });
  return new Guest(vfio, '5', '0003:00:00.0');
};
const ism = async (): Promise<Guest> => new Guest(await twoIsms(), '3', '0001:00:00.0');

const SPECIFICATION = { pgm: 6 };
const OPERAND = { pgm: 0x15 };
const status = (guest: Guest, register = 2): number => Number(((guest.registers[register] as bigint) >> 24n) & 0xffn);

describe('PCISTB (zdev section 3.2)', () => {
  it('strict: offset, length and address are multiples of 8, 16 to 128 bytes', async () => {
    const guest = await net();
    expect(guest.storeBlock(0, 0x1000, 0x100n, 128)).toEqual({ cc: 0 });
    expect(guest.storeBlock(0, 0x1000, 0x100n, 16)).toEqual({ cc: 0 });
    for (const [offset, gaddr, length] of [
      [0x1004, 0x100n, 16],
      [0x1000, 0x104n, 16],
      [0x1000, 0x100n, 8],
      [0x1000, 0x100n, 20],
      [0x1000, 0x100n, 136],
      [0x1ff8, 0x100n, 16],
    ] as const)
      expect(guest.storeBlock(0, offset, gaddr, length), `${offset} ${gaddr} ${length}`).toEqual(SPECIFICATION);
    expect(guest.storeBlock(0, 0x1ff0, 0x100n, 16), 'ending at the edge').toEqual({ cc: 0 });
  });

  it('relaxed: any alignment, 1 to 4096 bytes, one page', async () => {
    const guest = await ism();
    // No buffer is attached: what passes the checks reaches the function, which refuses it.
    for (const [offset, gaddr, length, expected] of [
      [0x1001, 0x103n, 0, SPECIFICATION],
      [0x1001, 0x103n, 4096, SPECIFICATION],
      [0x1ffe, 0x103n, 3, SPECIFICATION],
      [0x1001, 0x103n, 3, OPERAND],
      [0x1000, 0x103n, 4096, OPERAND],
    ] as const)
      expect(guest.storeBlock(0, offset, gaddr, length), `${offset} ${length}`).toEqual(expected);
  });

  it('order: handle, state, address space, rules, BAR, then the source', async () => {
    const guest = await net();
    const call = (request: bigint, offset: bigint, gaddr: bigint) =>
      guest.run('PCISTB', { r1: 2, r3: 3, b2: 6 }, { 2: request, 3: offset, 6: gaddr });
    expect(call(0x7fn << 32n, 4n, 0x104n)).toEqual({ cc: 3 });
    expect(call(guest.request(15, 16), 4n, 0x104n)).toEqual({ cc: 1 });
    expect(status(guest)).toBe(20);
    expect(call(guest.request(1, 16), 4n, 0x104n)).toEqual(SPECIFICATION);
    expect(call(guest.request(1, 16), 0n, 0x7fff0000n)).toEqual(OPERAND);
    expect(call(guest.request(0, 16), 0x1000n, 0x7fff0000n)).toEqual({ pgm: 5 });
    guest.fn.state = 'error';
    expect(call(guest.request(15, 16), 4n, 0x104n)).toEqual({ cc: 1 });
    expect(status(guest)).toBe(12);
  });

  it('keeps the order of bytes in storage', async () => {
    const guest = await net();
    guest.vm.storage.store(
      0x100n,
      Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    );
    guest.storeBlock(0, 0x1000, 0x100n, 16);
    guest.run('PCILG', { r1: 2, r2: 4 }, { 4: guest.request(0, 8), 5: 0x1000n });
    expect(guest.registers[2]).toBe(0x0102030405060708n);
  });
});

describe('function states (zdev sections 3.3 to 3.6)', () => {
  it('a permanent error: loads 1/12, STPCIFC 1/8, MPCIFC and RPCIT 3', async () => {
    const guest = await net();
    guest.fn.state = 'permanent-error';
    expect(guest.run('PCILG', { r1: 2, r2: 4 }, { 4: guest.request(0, 4) })).toEqual({ cc: 1 });
    expect(status(guest, 4)).toBe(12);
    expect(guest.run('STPCIFC', { r1: 2, b2: 6 }, { 2: guest.request(0, 0), 6: 0x9000n })).toEqual({ cc: 1 });
    expect(status(guest)).toBe(8);
    expect(guest.modify(7, {})).toEqual({ cc: 3 });
    expect(guest.run('RPCIT', { r1: 2, r2: 4 }, { 2: guest.request(0, 0), 4: 1n << 32n, 5: 4096n })).toEqual({ cc: 3 });
  });

  it('reserved functions are not there: STPCIFC 3, not listed', async () => {
    const guest = await net();
    guest.fn.disable();
    guest.fn.state = 'reserved';
    expect(guest.run('STPCIFC', { r1: 2, b2: 6 }, { 2: guest.request(0, 0), 6: 0x9000n })).toEqual({ cc: 3 });
  });

  it('on a real machine the handle changes when the function is disabled, and the old one is no handle', async () => {
    const guest = await net();
    const { fn } = guest;
    Object.assign(fn.options, { countInstances: true });
    const old = fn.fh;
    fn.disable();
    fn.enable();
    expect(fn.fh).not.toBe(old);
    const request = (BigInt(old) << 32n) | 0xf0004n;
    expect(guest.run('PCILG', { r1: 2, r2: 4 }, { 4: request })).toEqual({ cc: 3 });
  });

  it('an address space outside the function, or beyond the reach of its tables, is an operand exception', async () => {
    const guest = await net();
    const iota = 0x10804n;
    const pba = 0x100000000n;
    for (const fib of [
      { pba: 0n, pal: 0xfffn, iota },
      { pba: pba + 0x2000n, pal: pba + 0xfffn, iota },
      { pba, pal: 1n << 42n, iota },
      { pba, pal: pba + 0xfffn, iota: 0x10004n },
      { pba, pal: pba + 0xfffn, iota: 0x10808n },
    ])
      expect(guest.modify(4, fib)).toEqual(OPERAND);
    expect(guest.modify(5, {})).toEqual({ cc: 1 });
    expect(status(guest)).toBe(24);
  });
});

describe('RPCIT within the budget of mappings (zdev section 3.5)', () => {
  it('out of mappings is 1/16; the guest frees some and tries again', async () => {
    const guest = await net({ dma_entry_limit: 8 });
    expect(guest.mapPages(0x100000n, 16)).toEqual({ cc: 1 });
    expect(status(guest)).toBe(16);
    expect(guest.fn.shadow.size).toBe(8);
    expect(guest.fn.state).toBe('enabled');
    expect(guest.mapPages(0x100000n, 8)).toEqual({ cc: 0 });
    expect(guest.fn.backend.available()).toBe(0);
    expect(guest.mapPages(0x100000n, 2)).toEqual({ cc: 0 });
    expect(guest.fn.backend.available()).toBe(6);
    expect(guest.mapPages(0x180000n, 8)).toEqual({ cc: 0 });
  });

  it('what a pass frees behind the point of exhaustion serves the pages before it', async () => {
    const guest = await net({ dma_entry_limit: 4 });
    const put = (index: number, entry: bigint) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, entry);
      guest.vm.storage.store(0x18000n + BigInt(8 * index), bytes);
    };
    guest.mapPages(0x100000n, 0);
    for (let i = 4; i < 8; i++) put(i, 0x100000n + BigInt(4096 * i));
    const refresh = () => guest.run('RPCIT', { r1: 2, r2: 4 }, { 2: guest.request(0, 0), 4: 1n << 32n, 5: 0x8000n });
    expect(refresh()).toEqual({ cc: 0 });
    for (let i = 0; i < 4; i++) put(i, 0x100000n + BigInt(4096 * i));
    for (let i = 4; i < 8; i++) put(i, 0x400n);
    expect(refresh()).toEqual({ cc: 0 });
    expect(guest.fn.shadow.find(0x100000000n)).toMatchObject({ address: 0x100000n });
    expect(guest.fn.shadow.size).toBe(4);
  });

  it('protected pages are mapped for reading, changed ones moved, unchanged ones left alone', async () => {
    const guest = await net();
    expect(guest.mapPages(0x100000n, 4, false)).toEqual({ cc: 0 });
    expect(guest.fn.shadow.find(0x100001000n)).toMatchObject({ address: 0x101000n, write: false });
    expect(guest.mapPages(0x110000n, 4)).toEqual({ cc: 0 });
    expect(guest.fn.shadow.find(0x100001000n)).toMatchObject({ address: 0x111000n, write: true });
    expect(guest.modify(5, {})).toEqual({ cc: 0 });
    expect([guest.fn.shadow.size, guest.fn.backend.available()]).toEqual([0, 65535]);
  });

  it('tables that point at themselves end', async () => {
    const guest = await net({ dma_entry_limit: 64 });
    const put = (address: bigint, value: bigint) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value);
      guest.vm.storage.store(address, bytes);
    };
    for (let i = 0n; i < 2048n; i++) put(0x10000n + 8n * i, 0x10007n);
    guest.modify(4, { pba: 1n << 32n, pal: (1n << 42n) - 1n, iota: 0x10804n });
    const outcome = guest.run('RPCIT', { r1: 2, r2: 4 }, { 2: guest.request(0, 0), 4: 1n << 32n, 5: 1n << 41n });
    expect(outcome).toEqual({ cc: 1 });
    expect(guest.fn.shadow.size).toBeLessThanOrEqual(64);
  });
});

describe('translation tables (zdev section 3.7)', () => {
  const tables = (entries: Record<number, bigint>) => (address: bigint) => entries[Number(address)] ?? 0n;
  const good = { 65552: 0x14007n, 81920: 0x18000n, 98304: 0x5000n };
  const walk = (entries: Record<number, bigint>) => walkTables(tables({ ...good, ...entries }), 0x10804n, 0x100000000n);

  it('every error has its event', () => {
    expect(walk({})).toEqual({ kind: 'page', address: 0x5000n, write: true });
    for (const [entries, event] of [
      [{ 65552: 0n }, 7],
      [{ 65552: 0x1400bn }, 9],
      [{ 65552: 0x14006n }, 8],
      [{ 65552: 0x14047n }, 8],
      [{ 65552: 0x7n }, 9],
      [{ 81920: 0n }, 7],
      [{ 81920: 0x18004n }, 9],
      [{ 81920: 0x200n }, 9],
      [{ 98304: 0n }, 7],
    ] as const)
      expect(
        walk(entries),
        JSON.stringify(entries, (_k, v) => (typeof v === 'bigint' ? `${v}` : v)),
      ).toEqual({ kind: 'error', event });
  });

  it('invalid entries map nothing in their span, whatever else they hold', () => {
    expect(walk({ 65552: 0x2fn })).toEqual({ kind: 'invalid', size: 1n << 31n });
    expect(walk({ 81920: 0x2cn })).toEqual({ kind: 'invalid', size: 1n << 20n });
    expect(walk({ 98304: 0x400n })).toEqual({ kind: 'invalid', size: 4096n });
  });

  it('protection anywhere on the path makes the page read-only; a segment can be a page of 1 MiB', () => {
    for (const entries of [{ 65552: 0x14207n }, { 81920: 0x18200n }, { 98304: 0x5200n }])
      expect(walk(entries)).toEqual({ kind: 'page', address: 0x5000n, write: false });
    expect(walkTables(tables({ ...good, 81920: 0x300400n }), 0x10804n, 0x100042000n)).toEqual({
      kind: 'page',
      address: 0x342000n,
      write: true,
    });
  });
});

it('every instruction is decoded as it is encoded', () => {
  const fields = { r1: 3, r2: 9, r3: 5, b2: 7, x2: 2, d2: 0x123 };
  for (const name of INSN_NAMES) {
    const insn = decodeInsn(encodeInsn(name, fields));
    expect(insn?.name).toBe(name);
    const used = Object.entries(insn ?? {}).filter(([key, value]) => key !== 'name' && value !== 0);
    for (const [key, value] of used)
      if (key !== 'r1' || value !== 1) expect(value, `${name} ${key}`).toBe(fields[key as keyof typeof fields]);
  }
  expect(decodeInsn(Uint8Array.of(0xe3, 0x20, 0x6f, 0xff, 0xff, 0xd0))?.d2).toBe(-1);
});
