// Stage one of the 2016 request: what the flat buffer holds, and the way back (spec ccw section 11).
import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, EOPNOTSUPP } from '../../assembly/abi.ts';
import { CCW_LISTS_SIZE, type FlatArea, flattenProgram, type GuestStorage } from '../../host/ccw/flatten.ts';
import { VfioError } from '../../host/errno.ts';
import { ccw1 } from '../support/ccw_programs.ts';

const LISTS = 0x7f0000001000n;
const READ = 0x02;
const NOP = 0x03;
const TIC = 0x08;
const CC = 0x40;
const CD = 0x80;
const SKIP = 0x10;
const IDA = 0x04;

/** Guest storage of 1 MiB; each page lies somewhere else in the caller, except that 0x80000 to 0x9ffff lie side by side. */
class Guest implements GuestStorage {
  readonly bytes = new Uint8Array(0x100000);
  vaddr(address: bigint): bigint | null {
    if (address >= 0x100000n) return null;
    if (address >= 0x80000n && address < 0xa0000n) return 0x100000000000n + address;
    return 0x200000000000n + (address >> 12n) * 0x10000n + (address & 0xfffn);
  }
  read(address: bigint, into: Uint8Array): boolean {
    if (address + BigInt(into.length) > 0x100000n) return false;
    into.set(this.bytes.subarray(Number(address), Number(address) + into.length));
    return true;
  }
  put(address: number, ...parts: Uint8Array[]): this {
    let at = address;
    for (const part of parts) {
      this.bytes.set(part, at);
      at += part.length;
    }
    return this;
  }
}

const orb = (cpa: number, flags = 0x00c2ff00): Uint8Array => {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setUint32(4, flags);
  new DataView(bytes.buffer).setUint32(8, cpa);
  return bytes;
};

function idaws(...words: number[]): Uint8Array {
  const bytes = new Uint8Array(8 * words.length);
  words.forEach((word, i) => {
    new DataView(bytes.buffer).setBigUint64(8 * i, BigInt(word));
  });
  return bytes;
}

function flatten(guest: Guest, cpa: number, flags?: number) {
  const area: FlatArea = {
    buffer: new Uint8Array(4096),
    lists: new Uint8Array(CCW_LISTS_SIZE),
    listsAddress: LISTS,
  };
  const program = flattenProgram(guest, orb(cpa, flags), area);
  const buffer = new DataView(area.buffer.buffer);
  const lists = new DataView(area.lists.buffer);
  return {
    program,
    ccw: (i: number) => [...area.buffer.subarray(8 * i, 8 * i + 8)],
    cda: (i: number) => buffer.getUint32(8 * i + 4),
    slot: (i: number) => buffer.getBigUint64(2048 + 8 * i, true),
    list: (i: number, n: number) => Array.from({ length: n }, (_, k) => lists.getBigUint64(i + 8 * k)),
  };
}

const errnoOf = (call: () => unknown): number => {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error.errno;
    throw error;
  }
  return 0;
};

describe('flattenProgram', () => {
  it('a CCW that moves data holds the offset of its slot, the slot the user virtual address', () => {
    const guest = new Guest().put(0x1000, ccw1(READ, CC, 16, 0x3010), ccw1(READ, 0, 16, 0x4020));
    const flat = flatten(guest, 0x1000);
    expect(flat.program.count).toBe(2);
    expect(flat.ccw(0)).toEqual([READ, CC, 0, 16, 0, 0, 0x08, 0]);
    expect([flat.cda(0), flat.cda(1)]).toEqual([2048, 2056]);
    expect([flat.slot(0), flat.slot(1)]).toEqual([0x200000030010n, 0x200000040020n]);
  });

  it('a TIC holds the offset of the CCW it goes to, forward into a chain of its own and back into its own chain', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(READ, CC, 1, 0x3000), ccw1(TIC, 0, 0, 0x2000))
      .put(0x2000, ccw1(READ, CC, 1, 0x3000), ccw1(TIC, 0, 0, 0x2000), ccw1(READ, 0, 1, 0x3000));
    const flat = flatten(guest, 0x1000);
    expect(flat.program.count).toBe(6);
    expect([flat.cda(1), flat.cda(4)]).toEqual([24, 24]);
  });

  it('a chain that two TICs lead to is there once', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(TIC, CC, 0, 0x2000), ccw1(TIC, 0, 0, 0x2008))
      .put(0x2000, ccw1(READ, CC, 1, 0x3000), ccw1(READ, 0, 1, 0x3000));
    const flat = flatten(guest, 0x1000);
    expect(flat.program.count).toBe(5);
    expect([flat.cda(0), flat.cda(1)]).toEqual([24, 32]);
  });

  it('a status modifier that leads behind a chain does not lead into the next: there is no CCW between them', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(0x31, CC, 5, 0x3000), ccw1(TIC, 0, 0, 0x2000))
      .put(0x2000, ccw1(READ, 0, 1, 0x3000));
    const flat = flatten(guest, 0x1000);
    expect([flat.program.count, flat.ccw(2), flat.ccw(3)[0]]).toEqual([4, [0, 0, 0, 0, 0, 0, 0, 0], READ]);
  });

  it('direct data that is not contiguous in the caller becomes a list', () => {
    const guest = new Guest().put(0x1000, ccw1(READ, 0, 0x1800, 0x3800));
    const flat = flatten(guest, 0x1000);
    expect(flat.ccw(0)[1]).toBe(IDA);
    expect(flat.slot(0)).toBe(LISTS);
    expect(flat.list(0, 2)).toEqual([0x200000030800n, 0x200000040000n]);
  });

  it('direct data that is contiguous in the caller stays direct', () => {
    const guest = new Guest().put(0x1000, ccw1(READ, 0, 0x4000, 0x80010));
    const flat = flatten(guest, 0x1000);
    expect(flat.ccw(0)[1]).toBe(0);
    expect(flat.slot(0)).toBe(0x100000080010n);
  });

  it('an IDAL becomes a list of user virtual addresses, whole blocks behind the first', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(READ, IDA | CC, 0x2000, 0x5008), ccw1(READ, IDA, 1, 0x5008))
      .put(0x5008, idaws(0x3800, 0x6000, 0x4000));
    const flat = flatten(guest, 0x1000);
    expect(flat.list(0, 3)).toEqual([0x200000030800n, 0x200000060000n, 0x200000040000n]);
    expect(flat.slot(1)).toBe(LISTS + 24n);
    expect(flat.list(24, 1)).toEqual([0x200000030800n]);
  });

  it('a CCW that moves nothing needs no storage: it gets a list that names itself', () => {
    const guest = new Guest().put(0x1000, ccw1(READ, CC, 0, 0x7fffffff), ccw1(READ, SKIP, 0x1001, 0x7fffffff));
    const flat = flatten(guest, 0x1000);
    expect([flat.ccw(0).slice(0, 4), flat.ccw(1).slice(0, 4)]).toEqual([
      [READ, CC | IDA, 0, 0],
      [READ, SKIP | IDA, 0x10, 1],
    ]);
    expect([flat.slot(0), flat.slot(1)]).toEqual([LISTS, LISTS + 8n]);
    expect(flat.list(0, 3)).toEqual([LISTS, LISTS, LISTS]);
  });

  it('a data-chained CCW takes the command that began the chain', () => {
    const guest = new Guest().put(
      0x1000,
      ccw1(READ, CD, 16, 0x3000),
      ccw1(0, CD, 16, 0x4000),
      ccw1(NOP, 0, 16, 0x5000),
    );
    const flat = flatten(guest, 0x1000);
    expect([flat.ccw(0)[0], flat.ccw(1)[0], flat.ccw(2)[0]]).toEqual([READ, READ, READ]);
  });

  it('a data chain goes on behind a TIC, also round and round', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(READ, CD, 16, 0x3000), ccw1(TIC, 0, 0, 0x2000))
      .put(0x2000, ccw1(NOP, CD, 16, 0x4000), ccw1(0, CD, 16, 0x4000), ccw1(TIC, 0, 0, 0x2000));
    const flat = flatten(guest, 0x1000);
    expect([0, 3, 4].map((i) => flat.ccw(i)[0])).toEqual([READ, READ, READ]);
    const tics = new Guest().put(0x1000, ccw1(READ, CD, 16, 0x3000), ccw1(TIC, 0, 0, 0x1008), ccw1(NOP, 0, 0, 0));
    expect(flatten(tics, 0x1000).program.count).toBe(3);
  });

  it('a data-chained CCW that moves data by its own command keeps it: the program may lead to it from elsewhere', () => {
    const guest = new Guest().put(
      0x1000,
      ccw1(READ, CC, 1, 0x3000),
      ccw1(TIC, CC, 0, 0x1018),
      ccw1(READ, CD, 16, 0x3000),
      ccw1(0x05, 0x10, 16, 0x4000),
    );
    const flat = flatten(guest, 0x1000);
    expect([flat.ccw(2)[0], flat.ccw(3)[0], flat.slot(3)]).toEqual([READ, 0x05, 0x200000040000n]);
  });

  it('a NOP needs no storage at its address', () => {
    const guest = new Guest().put(0x1000, ccw1(NOP, 0, 1, 0x7fffffff));
    expect(flatten(guest, 0x1000).ccw(0)[0]).toBe(NOP);
  });

  it('an offset becomes the guest address: 8 past the CCW that was fetched', () => {
    const guest = new Guest()
      .put(0x1000, ccw1(READ, CC, 1, 0x3000), ccw1(TIC, 0, 0, 0x2000))
      .put(0x2000, ccw1(READ, 0, 1, 0x3000));
    const { program } = flatten(guest, 0x1000);
    expect([0, 8, 16, 32].map((offset) => program.guestCpa(offset))).toEqual([0x1000, 0x1008, 0x1010, 0x2008]);
    expect([24, 40].map((offset) => program.guestCpa(offset))).toEqual([24, 40]);
  });

  it.each([
    ['transport mode', 0x00c6ff00],
    ['format-0 CCWs', 0x0042ff00],
    ['no prefetch', 0x0082ff00],
    ['31-bit IDAWs', 0x00c0ff00],
    ['2 KiB blocks', 0x00c3ff00],
  ])('EOPNOTSUPP: %s', (_name, flags) => {
    const guest = new Guest().put(0x1000, ccw1(NOP, 0, 1, 0));
    expect(errnoOf(() => flatten(guest, 0x1000, flags))).toBe(EOPNOTSUPP);
  });

  it('EINVAL: 257 CCWs; 256 fit', () => {
    const nops = (n: number) => Array.from({ length: n }, (_, i) => ccw1(NOP, i === n - 1 ? 0 : CC, 1, 0));
    expect(flatten(new Guest().put(0x1000, ...nops(256)), 0x1000).program.count).toBe(256);
    expect(errnoOf(() => flatten(new Guest().put(0x1000, ...nops(257)), 0x1000))).toBe(EINVAL);
  });

  it('EINVAL: chains that lead to ever new chains end at 256 CCWs', () => {
    const guest = new Guest();
    for (let i = 0; i < 300; i++) guest.put(0x1000 + 16 * i, ccw1(TIC, 0, 0, 0x1000 + 16 * (i + 1)));
    expect(errnoOf(() => flatten(guest, 0x1000))).toBe(EINVAL);
  });

  it('EFAULT: the program, a list or data lie where the guest has no storage', () => {
    expect(errnoOf(() => flatten(new Guest(), 0x100000))).toBe(EFAULT);
    const list = new Guest().put(0x1000, ccw1(READ, IDA, 1, 0x100000));
    expect(errnoOf(() => flatten(list, 0x1000))).toBe(EFAULT);
    const data = new Guest().put(0x1000, ccw1(READ, 0, 2, 0xfffff));
    expect(errnoOf(() => flatten(data, 0x1000))).toBe(EFAULT);
  });
});
