// Rules of guest instructions that no recorded sequence of the sample shows, each from its sheet's sentence.
import { describe, expect, it } from 'vitest';
import { EACCES, EAGAIN, EBUSY, EFAULT, EINVAL, EIO, ENODEV, EPERM } from '../../assembly/abi.ts';
import { createVfio } from '../../host/inline.ts';
import { VirtualSubchannel } from '../../host/vmm/css/subchannel.ts';
import { startResult } from '../../host/vmm/css/vfio_backend.ts';
import { runLine } from '../../host/vmm/recorded/runner.ts';
import { recordedMachine } from '../support/recorded_machine.ts';
import { Guest } from '../support/zpci.ts';

const OPERAND = { pgm: 0x15 };
const ADDRESSING = { pgm: 5 };

const net = async (): Promise<Guest> => {
  const vfio = await createVfio({
    machine: { devices: [{ bus: 'pci', model: 'zpci-net', name: '0003:00:00.0', group: 5 }] },
  });
  return new Guest(vfio, '5', '0003:00:00.0');
};
const status = (guest: Guest, register: number): bigint => ((guest.registers[register] as bigint) >> 24n) & 0xffn;

describe('PCILG and PCISTG of 3, 5, 6 and 7 bytes (zdev section 3.1)', () => {
  const WINDOW = 0x1000;
  const pcistg = (guest: Guest, offset: number, length: number, value: bigint) =>
    guest.run('PCISTG', { r1: 2, r2: 4 }, { 2: value, 4: guest.request(0, length), 5: BigInt(offset) });
  const pcilg = (guest: Guest, offset: number, length: number) =>
    guest.run('PCILG', { r1: 2, r2: 4 }, { 2: 0xaaan, 4: guest.request(0, length), 5: BigInt(offset) });

  it('move the lowest power of two in the length: 1, 1, 2 and 1 bytes', async () => {
    const guest = await net();
    for (const [length, moved] of [
      [3, 0x88n],
      [5, 0x88n],
      [6, 0x7788n],
      [7, 0x88n],
    ] as const) {
      expect(pcistg(guest, WINDOW, 8, 0n)).toEqual({ cc: 0 });
      expect(pcistg(guest, WINDOW, length, 0x1122334455667788n)).toEqual({ cc: 0 });
      const width = length === 6 ? 2 : 1;
      expect(guest.load(0, WINDOW, 8) & 0xffffn, `${length} stored`).toBe(width === 2 ? 0x8877n : 0x88n);
      expect(pcilg(guest, WINDOW, length)).toEqual({ cc: 0 });
      expect(guest.registers[2], `${length} loaded`).toBe(moved);
    }
  });

  it('stay inside a doubleword, and are aligned to what they move', async () => {
    const guest = await net();
    expect(pcilg(guest, WINDOW + 5, 3)).toEqual({ cc: 0 });
    expect(pcilg(guest, WINDOW + 6, 3)).toEqual(OPERAND);
    expect(pcilg(guest, WINDOW + 2, 6)).toEqual({ cc: 0 });
    expect(pcilg(guest, WINDOW + 1, 6)).toEqual(OPERAND);
    expect(pcilg(guest, WINDOW + 1, 7)).toEqual({ cc: 0 });
    expect(pcilg(guest, WINDOW + 2, 7)).toEqual(OPERAND);
  });
});

describe('RPCIT: the end of the range is computed modulo 2^64 (zdev section 3.5)', () => {
  const PBA = 1n << 32n;
  const rpcit = (guest: Guest, start: bigint, length: bigint) =>
    guest.run('RPCIT', { r1: 2, r2: 4 }, { 2: guest.request(0, 0), 4: start, 5: length });

  it('a range that ends below the registered one is out of range, one that ends at 2^64 too', async () => {
    for (const [start, length] of [
      [PBA, (1n << 64n) - PBA],
      [PBA, (1n << 64n) - 1n],
      [PBA + 0x5000n, (1n << 64n) - PBA],
    ] as const) {
      const guest = await net();
      guest.mapPages(0x100000n, 4);
      expect(rpcit(guest, start, length)).toEqual({ cc: 1 });
      expect([status(guest, 2), guest.fn.state, guest.vm.errorEvents.at(-1)?.code]).toEqual([8n, 'error', 2]);
    }
  });

  it('a range that ends before it starts, but not below the registered one, refreshes nothing', async () => {
    const guest = await net();
    guest.mapPages(0x100000n, 4);
    guest.vm.storage.store(0x18000n, new Uint8Array(64));
    expect(rpcit(guest, PBA + 0x2000n, (1n << 64n) - 0x1000n)).toEqual({ cc: 0 });
    expect([guest.fn.state, guest.fn.shadow.size]).toEqual(['enabled', 4]);
    expect(rpcit(guest, PBA, 0n)).toEqual({ cc: 0 });
  });
});

describe('function states (zdev section 3.6)', () => {
  const disable = (guest: Guest) => {
    const block = new Uint8Array(64);
    const view = new DataView(block.buffer);
    view.setUint16(0, 32);
    view.setUint16(2, 5);
    view.setUint32(16, guest.fn.fh);
    block[22] = 1;
    view.setUint16(32, 32);
    guest.vm.storage.store(0x9000n, block);
    expect(guest.run('CLP', { r1: 2, r2: 3 }, { 3: 0x9000n })).toEqual({ cc: 0 });
    return new DataView(guest.vm.storage.fetch(0x9000n, 64).buffer).getUint16(34);
  };

  it('a permanent error is left by deconfiguring only', async () => {
    const guest = await net();
    guest.fn.state = 'permanent-error';
    expect(disable(guest)).toBe(0x0102);
    expect(guest.fn.state).toBe('permanent-error');
    expect(guest.vm.deconfigure(0x21)).toBe(0x20);
    expect(guest.vm.configure(0x21)).toBe(0x20);
    expect(guest.fn.state).toBe('disabled');
  });
});

describe('CLP list functions', () => {
  it('a response block that cannot hold the header is a bad length', async () => {
    const guest = await net();
    const list = (length: number): [unknown, number] => {
      const block = new Uint8Array(512);
      const view = new DataView(block.buffer);
      view.setUint16(0, 32);
      view.setUint16(2, 2);
      view.setUint16(32, length);
      guest.vm.storage.store(0x9000n, block);
      const outcome = guest.run('CLP', { r1: 2, r2: 3 }, { 3: 0x9000n });
      return [outcome, new DataView(guest.vm.storage.fetch(0x9000n, 64).buffer).getUint16(34)];
    };
    for (const length of [8, 16, 24, 40, 56]) expect(list(length), `${length}`).toEqual([{ cc: 3 }, 0x0050]);
    for (const length of [32, 48, 64]) expect(list(length), `${length}`).toEqual([{ cc: 0 }, 0x0010]);
  });
});

describe('MSI-X', () => {
  it('a message of a masked entry waits in the pending bits and goes out when the entry is unmasked', async () => {
    const guest = await net();
    const { vm } = guest;
    vm.interrupts.register(guest.fn, {
      format: 0,
      pba: 0n,
      pal: 0n,
      iota: 0n,
      word: 0x30020000,
      aibv: 0x9000n,
      aisb: 0n,
      fmb: 0n,
    });
    guest.store(15, 4, 6n, 2);
    // Entry 1 carries message 1; the frame finds no receive buffer, so only vector 1 is raised.
    guest.store(2, 0x18, 1n);
    guest.store(0, 0x18, 64n);
    guest.store(0, 0x1c, 2n);
    expect(vm.storage.fetch(0x9000n, 1)[0]).toBe(0);
    expect(guest.load(2, 0x800)).toBe(2n);
    guest.store(2, 0x1c, 0n);
    expect(vm.storage.fetch(0x9000n, 1)[0]).toBe(0x40);
    expect(guest.load(2, 0x800)).toBe(0n);
    expect(vm.css.peek()).toMatchObject({ adapter: true, isc: 3 });
    guest.store(2, 0x1c, 1n);
    guest.store(2, 0x1c, 0n);
    expect(guest.load(2, 0x800), 'nothing is sent twice').toBe(0n);
  });

  it("control bits in configuration space are the guest's; masking all makes messages wait", async () => {
    const guest = await net();
    const { vm } = guest;
    const config = (offset: number) => guest.load(15, offset, 1);
    let at = Number(config(0x34));
    while (config(at) !== 0x11n) at = Number(config(at + 1));
    const control = at + 3;
    const before = config(control);
    expect(before & 0xc0n).toBe(0n);
    const fib = { format: 0, pba: 0n, pal: 0n, iota: 0n, word: 0x30020000, aibv: 0x9000n, aisb: 0n, fmb: 0n };
    vm.interrupts.register(guest.fn, fib);
    expect(config(control), "what the host enabled is not the guest's to see").toBe(before);
    guest.store(15, control, 0xffn, 1);
    expect(config(control)).toBe(before | 0xc0n);
    guest.store(2, 0x18, 0n);
    guest.store(2, 0x1c, 0n);
    guest.store(15, 4, 6n, 2);
    guest.store(0, 0x18, 64n);
    guest.store(0, 0x1c, 2n);
    expect([vm.storage.fetch(0x9000n, 1)[0], guest.load(2, 0x800)]).toEqual([0, 2n]);
    guest.store(15, control, 0x80n, 1);
    expect([vm.storage.fetch(0x9000n, 1)[0], guest.load(2, 0x800)]).toEqual([0x80, 0n]);
    guest.fn.disable();
    expect(guest.fn.backend.readConfig(control, 1)[0]).toBe(Number(before));
  });
});

describe('SIC', () => {
  const sic = (guest: Guest, mode: bigint, isc: bigint) =>
    guest.run('SIC', { r1: 2, r3: 3, b2: 6 }, { 2: mode, 3: isc << 27n });

  it('single mode: one interruption, then none until SIC is executed again; the bits are set all the same', async () => {
    const guest = await net();
    const { vm } = guest;
    const fib = { format: 0, pba: 0n, pal: 0n, iota: 0n, word: 0x30020000, aibv: 0x9000n, aisb: 0n, fmb: 0n };
    vm.interrupts.register(guest.fn, fib);
    guest.store(15, 4, 6n, 2);
    guest.store(2, 0x1c, 0n);
    const heard: number[] = [];
    vm.css.onAdapterInterrupt = (isc) => heard.push(isc);
    const send = () => {
      vm.storage.store(0x9000n, new Uint8Array(1));
      guest.store(0, 0x18, 64n);
      guest.store(0, 0x1c, 2n);
      return [vm.storage.fetch(0x9000n, 1)[0], heard.length];
    };
    expect([send(), send()]).toEqual([
      [0x80, 1],
      [0x80, 2],
    ]);
    expect(sic(guest, 1n, 3n)).toEqual({ cc: 0 });
    expect([send(), send()]).toEqual([
      [0x80, 3],
      [0x80, 3],
    ]);
    expect(sic(guest, 0n, 4n), 'another subclass').toEqual({ cc: 0 });
    expect(send()).toEqual([0x80, 3]);
    expect(sic(guest, 0n, 3n)).toEqual({ cc: 0 });
    expect(send()).toEqual([0x80, 4]);
  });

  it('another mode is an operand exception', async () => {
    const guest = await net();
    expect(sic(guest, 2n, 3n)).toEqual(OPERAND);
    expect(sic(guest, 0x10000n, 3n)).toEqual({ cc: 0 });
  });
});

describe('SSCH over vfio-ccw (ccw section 9)', () => {
  for (const [errno, expected] of [
    [EBUSY, 'busy'],
    [EAGAIN, 'busy'],
    [EACCES, 'not-operational'],
    [ENODEV, 'not-operational'],
    [EIO, 'not-operational'],
    [EINVAL, { programCheck: true }],
    [EFAULT, { programCheck: true }],
    [EPERM, { programCheck: true }],
  ] as const)
    it(`-${errno} from the I/O region is ${JSON.stringify(expected)}`, () => {
      expect(startResult(-errno)).toEqual(expected);
    });
});

it('SSCH that is not accepted leaves the subchannel as it was, its interruption parameter too', () => {
  const schib = new Uint8Array(52);
  schib.set([0x80, 0, 0x80], 8);
  schib.set([0xff, 0x80], 14);
  let answer: 'busy' | 'not-operational' | 'started' = 'busy';
  const subchannel = new VirtualSubchannel(
    0x10000,
    {
      schib: () => schib,
      start: () => answer,
      halt: () => 'done',
      clear: () => 'done',
      onInterrupt: () => {},
      close: () => {},
    },
    { pending() {}, withdraw() {}, suppressSuspended: false },
  );
  const block = subchannel.store();
  block.set([1, 2, 3, 4, 0, 0x80]);
  expect(subchannel.modify(block)).toBe(0);
  const before = subchannel.store();
  const orb = Uint8Array.of(9, 9, 9, 9, 0, 0x80, 0xff, 0, 0, 0x10, 2, 0);
  expect(subchannel.start(orb)).toBe(2);
  answer = 'not-operational';
  expect(subchannel.start(orb)).toBe(3);
  expect(subchannel.store()).toEqual(before);
  answer = 'started';
  expect(subchannel.start(orb)).toBe(0);
  expect(subchannel.intparm).toBe(0x09090909);
});

describe('TPI', () => {
  it('nothing is stored when nothing is pending, so the operand is not looked at', async () => {
    const guest = await net();
    const tpi = (address: bigint) => guest.run('TPI', { b2: 6 }, { 6: address });
    expect(tpi(0x7ffffffcn)).toEqual({ cc: 0 });
    expect(tpi(0x7ffffffdn)).toEqual({ pgm: 6 });
    guest.vm.css.adapterInterrupt(3);
    expect(tpi(0x7ffffffcn)).toEqual(ADDRESSING);
    expect(tpi(0x9000n), 'it is pending still').toEqual({ cc: 1 });
    expect(tpi(0x9000n)).toEqual({ cc: 0 });
  });

  it('names the image of the subchannel where images are enabled', async () => {
    const { vfio, machine } = await recordedMachine();
    const msch = {
      set: [['0x100900', `1234567818800000800000000000ff00${'00'.repeat(36)}`]] as const,
      i: 'MSCH',
      op: 'b2326000',
      in: { r1: '0xfe090000', r6: '0x100900' },
    };
    const hsch = { i: 'HSCH', op: 'b2310000', in: { r1: '0x10000' } };
    const tpi = { i: 'TPI', op: 'b2366000', in: { r6: '0x100a00' } };
    const chsc = {
      set: [
        ['0x10f000', '00*4096'],
        ['0x10f000', '04000031000000000000000000000000'],
      ] as const,
      i: 'CHSC',
      op: 'b25f0030',
      in: { r3: '0x10f000' },
    };
    const { steps } = runLine(machine, { id: 'c-sid/images', steps: [chsc, msch, hsch, tpi] });
    expect(steps.map(({ cc }) => cc)).toEqual([0, 0, 0, 1]);
    expect(steps[3]?.st).toEqual([['0x100a00', 'fe09000012345678']]);
    const single = runLine(machine, { id: 'c-sid/image', steps: [msch, hsch, tpi] });
    expect(single.steps[2]?.st).toEqual([['0x100a01', '01000012345678']]);
    machine.vm.destroy();
    vfio.exit();
  });
});
