// What a stopped device allows, and what becomes of the rest. Source: spec migration section C.2.
import { describe, expect, it } from 'vitest';
import { EBUSY, EINVAL } from '../../assembly/abi.ts';
import { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS } from '../../host/uapi/ioctl.ts';
import { accessAllowed, type Violation } from '../../host/vfio/access.ts';
import { stateName } from '../../host/vfio/migration_states.ts';
import { DirectBuffer, ValueArg } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';
import { BANK, CONFIG, OPERATE, openBank, REGS, REQUEST } from '../support/migratable.ts';

const STATES: Array<[name: string, state: number, live: boolean]> = [
  ['STOP', 1, false],
  ['RUNNING', 2, true],
  ['STOP_COPY', 3, false],
  ['RESUMING', 4, false],
  ['RUNNING_P2P', 5, true],
  ['PRE_COPY', 6, true],
  ['PRE_COPY_P2P', 7, true],
];

async function inState(state: number) {
  const u = openBank(await freshCore(), 7);
  u.device.regs.fill(0x5a);
  u.device.config.fill(0x6b);
  const mapping = u.file.mmap(u.task, { offset: REGS, length: 4096n, read: true, write: true });
  if (typeof mapping === 'number' || mapping.kind !== 'io') throw new Error('no mapping');
  if (u.device.migration!.set(state).result !== 0) throw new Error('no way');
  const violations: Violation[] = [];
  u.device.gate!.onViolation = (violation) => violations.push(violation);
  const read = (offset: bigint, length = 4) => {
    const bytes = new Uint8Array(length);
    const ret = u.file.read(u.task, new DirectBuffer(bytes), offset);
    return ret < 0 ? ret : [...bytes.subarray(0, ret)];
  };
  const write = (offset: bigint, ...bytes: number[]) =>
    u.file.write(u.task, new DirectBuffer(new Uint8Array(bytes)), offset);
  return { ...u, io: mapping.io, violations, read, write };
}

describe('the access matrix', () => {
  it.each(STATES)('%s', async (name, state, live) => {
    const u = await inState(state);
    // Registers: plain access
    expect(u.read(REGS)).toEqual(live ? [0x5a, 0x5a, 0x5a, 0x5a] : [0xff, 0xff, 0xff, 0xff]);
    expect(u.write(REGS, 1)).toBe(1);
    expect(u.device.regs[0]).toBe(live ? 1 : 0x5a);
    // and through a mapping made before
    const byte = new Uint8Array(1);
    expect(u.io.read(1, byte)).toBe(live);
    expect(u.io.write(1, new Uint8Array([9]))).toBe(live);
    expect(u.device.regs[1]).toBe(live ? 9 : 0x5a);
    // Requests and operations
    expect(u.write(REQUEST, 1)).toBe(live ? 1 : -EBUSY);
    expect(u.device.requests).toBe(live ? 1 : 0);
    expect(u.file.ioctl(u.task, OPERATE, new ValueArg(0n))).toBe(live ? 0 : -EBUSY);
    expect(u.device.operations).toBe(live ? 1 : 0);
    // Configuration, interrupts, information
    expect(u.read(CONFIG)).toEqual([0x6b, 0x6b, 0x6b, 0x6b]);
    expect(u.write(CONFIG, 1)).toBe(1);
    expect(u.device.config[0]).toBe(1);
    expect(u.file.ioctl(u.task, VFIO_DEVICE_SET_IRQS, new ValueArg(0n))).toBe(0);
    expect(u.file.ioctl(u.task, VFIO_DEVICE_GET_INFO, new ValueArg(0n))).toBe(0);
    // The device's own DMA
    expect(u.device.gate!.dma()).toBe(name === 'RUNNING' || name === 'PRE_COPY');
    expect(u.violations.map(({ what }) => what)).toEqual(
      live ? (name.endsWith('P2P') ? ['dma'] : []) : ['read', 'write', 'mmap', 'mmap', 'request', 'operation', 'dma'],
    );
    for (const violation of u.violations) expect(violation).toMatchObject({ device: 'bank', state: name });
    expect(u.file.ioctl(u.task, VFIO_DEVICE_RESET, new ValueArg(0n))).toBe(0);
    expect(stateName(u.device.migration!.state)).toBe('RUNNING');
  });

  it('the error state tolerates what STOP tolerates', () => {
    for (const kind of ['mmio', 'request', 'operation'] as const) expect(accessAllowed(0, kind)).toBe(false);
    for (const kind of ['config', 'irqs', 'info', 'reset'] as const) expect(accessAllowed(0, kind)).toBe(true);
  });

  it('forbidden accesses keep the bounds of the region, and places outside keep their own errno', async () => {
    const u = await inState(1);
    expect(u.read(REGS + BigInt(BANK - 2), 8)).toEqual([0xff, 0xff]);
    expect(u.write(REGS + BigInt(BANK - 2), 1, 2, 3, 4)).toBe(2);
    expect(u.violations).toHaveLength(2);
    expect(u.device.regs[BANK - 1]).toBe(0x5a);
  });

  it('mappings come back when the device runs again', async () => {
    const u = await inState(1);
    expect(u.io.read(0, new Uint8Array(1))).toBe(false);
    u.device.migration!.set(2);
    const byte = new Uint8Array(1);
    expect(u.io.read(0, byte)).toBe(true);
    expect(byte[0]).toBe(0x5a);
    expect(u.device.gate!.count('mmap')).toBe(1);
  });

  it('a device without DMA provider cannot master the bus', async () => {
    const u = await inState(2);
    expect(u.device.busMaster(0n, new Uint8Array(4), true)).toBe(-EINVAL);
  });
});
