// The ccw device of the default machine through scripts: the calls of a user, and what a script may ask of the hardware (spec script, `device`).
import { describe, expect, it } from 'vitest';
import { describeMismatches, run } from '../support/scripts.ts';

const NAME = '11111111-1111-4111-8111-111111111111';
const TYPE = '/sys/devices/css0/0.0.0313/mdev_supported_types/vfio_ccw-io';

/** Container, group and device; one page of a program at 0x1000, data at 0x3000; interrupt 0 on `$irq`. */
const OPEN = [
  { op: 'open', as: 'c', path: '/dev/vfio/vfio' },
  { op: 'open', as: 'g', path: '/dev/vfio/5' },
  {
    op: 'ioctl',
    fd: '$g',
    request: 'VFIO_GROUP_SET_CONTAINER',
    struct: { type: 's32', value: '$c' },
    expect: { ret: 0 },
  },
  { op: 'ioctl', fd: '$c', request: 'VFIO_SET_IOMMU', value: 3, expect: { ret: 0 } },
  { op: 'mmap', as: 'ram', length: 0x10000 },
  {
    op: 'ioctl',
    fd: '$c',
    request: 'VFIO_IOMMU_MAP_DMA',
    struct: { type: 'vfio_iommu_type1_dma_map', flags: 3, vaddr: '$ram', iova: 0, size: 0x10000 },
    expect: { ret: 0 },
  },
  { op: 'ioctl', as: 'd', fd: '$g', request: 'VFIO_GROUP_GET_DEVICE_FD', string: NAME, expect: { errno: null } },
  { op: 'eventfd', as: 'irq' },
  {
    op: 'ioctl',
    fd: '$d',
    request: 'VFIO_DEVICE_SET_IRQS',
    struct: { type: 'vfio_irq_set', argsz: 24, flags: 36, index: 0, start: 0, count: 1, data: ['$irq'] },
    expect: { ret: 0 },
  },
];

/** Sense ID of 7 bytes (E4, SLI) to 0x3000. */
const PROGRAM = { op: 'poke', addr: '$ram+0x1000', data: 'e420000700003000', expect: { ret: 0 } };
const START = { op: 'write', fd: '$d', offset: 0, data: '0000000000c2800000001000000040000000000000000000' };
const script = (lines: readonly unknown[]): Promise<string[]> =>
  run(lines.map((line) => JSON.stringify(line)).join('\n')).then(({ mismatches }) => describeMismatches(mismatches));

describe('the disk on subchannel 0.0.0313', () => {
  it('runs a program: Sense ID of a 3390, the CPA 8 bytes behind the CCW', async () => {
    expect(
      await script([
        ...OPEN,
        PROGRAM,
        { ...START, expect: { ret: 24 } },
        { op: 'idle' },
        { op: 'wait', fd: '$irq', expect: { ret: 0, count: 1 } },
        { op: 'read', fd: '$d', offset: 28, length: 8, expect: { data: '000010080c000000' } },
        { op: 'peek', addr: '$ram+0x3000', length: 7, expect: { data: 'ff2107e8339002' } },
      ]),
    ).toEqual([]);
  });

  it('hold keeps a program pending until an interruption is given', async () => {
    expect(
      await script([
        ...OPEN,
        PROGRAM,
        { op: 'device', name: NAME, action: 'hold', value: 1, expect: { ret: 0 } },
        { ...START, expect: { ret: 24 } },
        { op: 'idle' },
        { ...START, expect: { errno: 'EBUSY' } },
        { op: 'device', name: NAME, action: 'interrupt', irb: `00004007${'0'.repeat(8)}0c${'0'.repeat(110)}` },
        { op: 'idle' },
        { op: 'wait', fd: '$irq', expect: { ret: 0, count: 1 } },
        { ...START, expect: { ret: 24 } },
        { op: 'device', name: NAME, action: 'hold', value: 0 },
        { op: 'idle' },
        { op: 'wait', fd: '$irq', expect: { ret: 0, count: 1 } },
      ]),
    ).toEqual([]);
  });

  it('answer gives condition codes from then on, 0 what the hardware would', async () => {
    const command = { op: 'write', fd: '$d', offset: 0x400, data: '01000000' };
    expect(
      await script([
        ...OPEN,
        PROGRAM,
        { op: 'device', name: NAME, action: 'answer', ssch: 2, hsch: 3 },
        { ...START, expect: { errno: 'EBUSY' } },
        { ...command, expect: { errno: 'ENODEV' } },
        { op: 'device', name: NAME, action: 'answer', ssch: 0, hsch: 0 },
        { ...START, expect: { ret: 24 } },
        { op: 'device', name: NAME, action: 'answer', ssch: 4, expect: { errno: 'EINVAL' } },
        { op: 'device', name: NAME, action: 'interrupt', irb: '00', expect: { errno: 'EINVAL' } },
      ]),
    ).toEqual([]);
  });

  it('its one instance can be removed and made again, under another name and group', async () => {
    const other = '99999999-9999-4999-8999-999999999999';
    expect(
      await script([
        { op: 'sysfs_read', path: `${TYPE}/available_instances`, expect: { text: '0\n' } },
        { op: 'sysfs_write', path: `${TYPE}/create`, data: other, expect: { errno: 'EUSERS' } },
        { op: 'sysfs_write', path: `/sys/devices/css0/0.0.0313/${NAME}/remove`, data: '1', expect: { ret: 1 } },
        { op: 'sysfs_write', path: `${TYPE}/create`, data: other, expect: { ret: 36 } },
        { op: 'open', as: 'c', path: '/dev/vfio/vfio' },
        { op: 'open', as: 'g', path: '/dev/vfio/8' },
        { op: 'ioctl', fd: '$g', request: 'VFIO_GROUP_SET_CONTAINER', struct: { type: 's32', value: '$c' } },
        { op: 'ioctl', fd: '$c', request: 'VFIO_SET_IOMMU', value: 3 },
        { op: 'ioctl', fd: '$g', request: 'VFIO_GROUP_GET_DEVICE_FD', string: other, expect: { errno: null } },
      ]),
    ).toEqual([]);
  });
});

describe('a machine with a scripted subchannel', () => {
  const machine = (device: Record<string, unknown>) => ({ op: 'machine', devices: [{ bus: 'ccw', ...device }] });

  it('gives it the paths and the device number that are asked for', async () => {
    expect(
      await script([
        machine({ model: 'scripted', name: NAME, group: 5, subchannel: '0.0.0042', device: '0.0.1234', paths: 0xc0 }),
        ...OPEN,
        { op: 'read', fd: '$d', offset: 0x800, length: 12, expect: { data: '0000000000811234c00080c0' } },
      ]),
    ).toEqual([]);
  });

  it('named by its bus id it has no mediated device yet', async () => {
    const type = '/sys/devices/css0/0.0.0042/mdev_supported_types/vfio_ccw-io';
    expect(
      await script([
        machine({ model: 'scripted', name: '0.0.0042' }),
        { op: 'sysfs_read', path: `${type}/available_instances`, expect: { text: '1\n' } },
        { op: 'sysfs_write', path: `${type}/create`, data: NAME, expect: { ret: 36 } },
      ]),
    ).toEqual([]);
  });

  it.each([
    ['QDIO', { name: NAME, subchannel: '0.0.0042', qdio: true }, /refuses it, ENODEV/],
    ['no bus id', { name: NAME }, /is no bus id/],
    ['path masks that are none', { name: NAME, subchannel: '0.0.0042', paths: 'zz' }, /paths: "zz" is no mask/],
  ])('refuses %s', async (_name, device, reason) => {
    await expect(script([machine({ model: 'scripted', ...device })])).rejects.toThrow(reason);
  });
});
