import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../host/script/values.ts';
import { describeMismatches, run } from '../../support/scripts.ts';

const script = (...ops: JsonObject[]) => ops.map((op) => JSON.stringify(op)).join('\n');
const open: JsonObject = { op: 'open', as: 'c', path: '/dev/vfio/vfio' };

describe('running a script', () => {
  it('gives one result per operation; a failing call is a normal result', async () => {
    const { results, mismatches } = await run(
      script(
        open,
        { op: 'ioctl', fd: '$c', request: 'VFIO_SET_IOMMU', value: 3 },
        { op: 'close', fd: '$c' },
        { op: 'close', fd: '$c' },
      ),
    );
    expect(results).toEqual([
      { op: 'open', ret: 3 },
      { op: 'ioctl', ret: -22, errno: 'EINVAL' },
      { op: 'close', ret: 0 },
      { op: 'close', ret: -9, errno: 'EBADF' },
    ]);
    expect(mismatches).toEqual([]);
  });

  it('skips blank lines and comments, and counts them', async () => {
    const { mismatches } = await run(`# first\n\n${JSON.stringify({ op: 'idle', expect: { ret: 1 } })}\n`);
    expect(describeMismatches(mismatches)).toEqual(['3: idle: ret is 0, expected 1']);
  });

  it('a saved failure holds its negative errno', async () => {
    const { results } = await run(script({ op: 'open', as: 'x', path: '/nosuch' }, { op: 'close', fd: '$x' }));
    expect(results[1]).toEqual({ op: 'close', ret: -9, errno: 'EBADF' });
  });

  it('expect: null says absent; null errno is success whatever the number', async () => {
    const { mismatches } = await run(
      script({ ...open, expect: { errno: null } }, { op: 'open', path: '/nosuch', expect: { errno: null } }),
    );
    expect(describeMismatches(mismatches)).toEqual(['2: open: errno is "ENOENT", expected none']);
  });

  it('goes on after a mismatch and names every field that differs', async () => {
    const { mismatches, results } = await run(
      script(
        { op: 'mmap', as: 'm', length: 4096 },
        { op: 'poke', addr: '$m+1', data: '0102', expect: { ret: 5, errno: 'EIO' } },
        { op: 'peek', addr: '$m', length: 4, expect: { ret: 0, data: '00010200' } },
      ),
    );
    expect(describeMismatches(mismatches)).toEqual([
      '2: poke: ret is 0, expected 5',
      '2: poke: errno is absent, expected "EIO"',
    ]);
    expect(results).toHaveLength(3);
  });

  it('compares bytes in either case of the digits', async () => {
    const { mismatches } = await run(
      script(
        { op: 'mmap', as: 'm', length: 4096 },
        { op: 'poke', addr: '$m', data: 'abCD' },
        { op: 'peek', addr: '$m', length: 2, expect: { data: 'ABcd' } },
      ),
    );
    expect(mismatches).toEqual([]);
  });

  it('an address is printed in hex, its failure as a number', async () => {
    const { results } = await run(script({ op: 'mmap', length: 4096 }, { op: 'mmap', length: 0 }));
    expect(results[0]?.ret).toMatch(/^0x[0-9a-f]+$/);
    expect(results[1]).toEqual({ op: 'mmap', ret: -22, errno: 'EINVAL' });
  });

  it('memory: prot, fixed addresses, no memory behind, unmapping', async () => {
    const { results } = await run(
      script(
        { op: 'mmap', as: 'r', length: 4096, prot: 'r' },
        { op: 'poke', addr: '$r', data: '00' },
        { op: 'mmap', as: 'u', length: '0x10000000000', backed: false },
        { op: 'peek', addr: '$u', length: 1 },
        { op: 'mmap', length: 4096, addr: '0x10000' },
        { op: 'peek', addr: '0x10000', length: 1 },
        { op: 'munmap', addr: '0x10000', length: 4096 },
        { op: 'peek', addr: '0x10000', length: 1 },
      ),
    );
    const fault = { ret: -14, errno: 'EFAULT' };
    expect(results.map(({ ret }) => ret)).toEqual([results[0]?.ret, -14, results[2]?.ret, -14, '0x10000', 0, 0, -14]);
    expect(results[7]).toEqual({ op: 'peek', ...fault });
  });

  it('eventfds: writing 8 bytes adds, wait reads and resets, EAGAIN at 0, semaphores count down', async () => {
    const { results } = await run(
      script(
        { op: 'eventfd', as: 'e', initval: 1 },
        { op: 'write', fd: '$e', data: '0200000000000000' },
        { op: 'wait', fd: '$e' },
        { op: 'wait', fd: '$e' },
        { op: 'eventfd', as: 's', initval: 2, semaphore: true },
        { op: 'wait', fd: '$s' },
        { op: 'read', fd: '$s', length: 8 },
        { op: 'read', fd: '$s', length: 8 },
        { op: 'write', fd: '$e', data: '00' },
      ),
    );
    expect(results.slice(1)).toEqual([
      { op: 'write', ret: 8 },
      { op: 'wait', ret: 0, count: 3 },
      { op: 'wait', ret: -11, errno: 'EAGAIN' },
      { op: 'eventfd', ret: 4 },
      { op: 'wait', ret: 0, count: 1 },
      { op: 'read', ret: 8, data: '0100000000000000' },
      { op: 'read', ret: -11, errno: 'EAGAIN' },
      { op: 'write', ret: -22, errno: 'EINVAL' },
    ]);
  });

  it('time: wait lets 3 ms pass, idle 220', async () => {
    const { vfio } = await run(script({ op: 'eventfd', as: 'e' }, { op: 'wait', fd: '$e' }, { op: 'idle' }));
    expect(vfio.clock.now()).toBe(223);
  });

  it('a $ in a text means nothing; what is expected may refer to the own result', async () => {
    const { results, mismatches } = await run(
      script(
        { op: 'sysfs_write', path: '/sys/$nothing', data: '$nothing' },
        { ...open, expect: { ret: '$c' } },
        { op: 'open', path: '$c' },
      ),
    );
    expect(results.map(({ ret }) => ret)).toEqual([-2, 3, -2]);
    expect(mismatches).toEqual([]);
  });

  it('rlimit: bytes; "unlimited", -1 and the largest number are no limit', async () => {
    for (const [memlock, limit] of [
      [8191, 4096],
      ['unlimited', Number.POSITIVE_INFINITY],
      [-1, Number.POSITIVE_INFINITY],
      ['0xffffffffffffffff', Number.POSITIVE_INFINITY],
      ['0x1000000000000000', 2 ** 60],
    ] as const) {
      const { vfio } = await run(script({ op: 'rlimit', memlock, lock_cap: false }));
      expect(vfio.task.limits, String(memlock)).toEqual({ memlock: limit, lockCap: false });
    }
  });

  it('an eventfd has no positions; a region is mapped from the start of a page', async () => {
    const { results } = await run(
      script(
        { op: 'eventfd', as: 'e', initval: 1 },
        { op: 'read', fd: '$e', offset: 0, length: 8 },
        { op: 'write', fd: '$e', offset: 8, data: '0100000000000000' },
        { op: 'read', fd: '$e', length: 8 },
        { op: 'mmap', fd: 99, offset: 1, length: 4096 },
        { op: 'mmap', fd: 99, length: 4096 },
        { op: 'mmap', length: -1 },
        { op: 'munmap', addr: '0x10000', length: -1 },
      ),
    );
    const errnos = results.map(({ errno }) => errno);
    expect(errnos).toEqual([undefined, 'ESPIPE', 'ESPIPE', undefined, 'EINVAL', 'EBADF', 'ENOMEM', 'EINVAL']);
    expect(results[3]?.['data']).toBe('0100000000000000');
  });

  it('a buffer argument comes back as it is afterwards; what lies behind it is zeros, not a fault', async () => {
    const { results } = await run(
      script(
        { op: 'open', as: 'g', path: '/dev/vfio/1' },
        { op: 'ioctl', fd: '$g', request: 'VFIO_GROUP_GET_STATUS', arg: '08000000ffffffff' },
        { op: 'ioctl', fd: '$g', request: '0x3b67', arg: '08000000' },
        { op: 'ioctl', fd: '$g', request: 'VFIO_GROUP_GET_STATUS' },
        { op: 'ioctl', fd: '$g', request: 'VFIO_GROUP_GET_STATUS', value: '0x10' },
      ),
    );
    expect(results.slice(1)).toEqual([
      { op: 'ioctl', ret: 0, arg: '0800000001000000' },
      { op: 'ioctl', ret: 0, arg: '08000000' },
      { op: 'ioctl', ret: -14, errno: 'EFAULT' },
      { op: 'ioctl', ret: -14, errno: 'EFAULT' },
    ]);
  });

  it('machine: devices, memory and limits of the description', async () => {
    const { results, vfio } = await run(
      script(
        {
          op: 'machine',
          devices: [{ bus: 'pci', model: 'edu', name: '0000:05:00.0', group: 42 }],
          memory: 1 << 25,
          seed: 3,
        },
        { op: 'open', path: '/dev/vfio/42' },
        { op: 'open', path: '/dev/vfio/1' },
        { op: 'open', path: '/dev/vfio/devices/vfio0' },
      ),
    );
    expect(results.map(({ ret }) => ret)).toEqual([0, 3, -2, 4]);
    expect(vfio.core.memory.buffer.byteLength).toBe(1 << 25);
  });

  it('driver: a function with a host driver makes its group not viable; one that does no DMA does not count', async () => {
    const entry = (fn: number, driver: string, group: number) => ({
      bus: 'pci',
      model: 'edu',
      name: `0000:05:00.${fn}`,
      group,
      driver,
    });
    const status = (as: string, group: number, flags: number): JsonObject[] => [
      { op: 'open', as, path: `/dev/vfio/${group}` },
      {
        op: 'ioctl',
        fd: `$${as}`,
        request: 'VFIO_GROUP_GET_STATUS',
        struct: { type: 'vfio_group_status' },
        expect: { struct: { flags } },
      },
    ];
    const { mismatches } = await run(
      script(
        {
          op: 'machine',
          devices: [
            entry(0, 'vfio-pci', 40),
            entry(1, 'e1000e', 40),
            entry(2, 'pcieport', 41),
            entry(3, 'vfio-pci', 41),
          ],
        },
        ...status('a', 40, 0),
        ...status('b', 41, 1),
        { op: 'open', path: '/dev/vfio/devices/vfio1', expect: { errno: null } },
        { op: 'open', path: '/dev/vfio/devices/vfio2', expect: { errno: 'ENOENT' } },
      ),
    );
    expect(describeMismatches(mismatches)).toEqual([]);
  });

  it('device: the hardware is asked for what a driver cannot do', async () => {
    const { results } = await run(
      script(
        { op: 'device', name: '0000:00:01.0', action: 'dma_read', iova: 0, length: 4 },
        { op: 'device', name: '0000:00:01.0', action: 'irq', index: 9 },
      ),
    );
    expect(results[0]?.ret).toBeLessThan(0);
    expect(results[1]).toEqual({ op: 'device', ret: -22, errno: 'EINVAL' });
  });

  it.each([
    ['{"op": "close"', 1, /not JSON/],
    ['[]', 1, /not an object/],
    ['{"path": "x"}', 1, /no "op"/],
    ['\n{"op": "jump"}', 2, /unknown operation "jump"/],
    ['{"op": "open"}', 1, /open needs "path"/],
    ['{"op": "open", "path": 5}', 1, /path: a text is needed/],
    ['{"op": "open", "path": "x", "mode": 1}', 1, /open has no field "mode"/],
    ['{"op": "close", "fd": "$x"}', 1, /nothing was saved as "x"/],
    ['{"op": "close", "fd": "three"}', 1, /fd: "three" is neither/],
    ['{"op": "ioctl", "fd": 3, "request": "VFIO_NOSUCH"}', 1, /unknown request "VFIO_NOSUCH"/],
    ['{"op": "ioctl", "fd": 3, "request": 1, "value": 1, "arg": ""}', 1, /one argument, not value and arg/],
    ['{"op": "ioctl", "fd": 3, "request": 1, "struct": {"type": "x"}}', 1, /unknown structure type "x"/],
    ['{"op": "write", "fd": 3, "data": "0"}', 1, /bytes in hex/],
    ['{"op": "idle"}\n{"op": "machine"}', 2, /"machine" must be the first/],
    ['{"op": "machine", "colour": 1}', 1, /machine has no field "colour"/],
    ['{"op": "machine", "devices": [{"bus": "pci", "model": "x", "name": "y"}]}', 1, /unknown model "x"/],
    ['{"op": "machine", "memory": 5}', 1, /machine: .*4096/],
    ['{"op": "idle", "as": "9"}', 1, /is not a name/],
    ['{"op": "idle", "expect": 5}', 1, /expect: an object/],
    ['{"op": "device", "name": "nosuch", "action": "irq"}', 1, /no device "nosuch"/],
    ['{"op": "device", "name": "0000:00:01.0", "action": "fly"}', 1, /no action "fly"; it has .*irq/],
    ['{"op": "device", "name": "0000:00:01.0", "action": "irq"}', 1, /the action needs "index"/],
    [
      '{"op": "device", "name": "0000:00:01.0", "action": "dma_read", "iova": 0, "length": "0x1000000000000"}',
      1,
      /dma_read/,
    ],
    ['{"op": "mmap", "length": 4096, "prot": "x"}', 1, /prot/],
    ['{"op": "rlimit", "memlock": "lots"}', 1, /"unlimited"/],
    ['{"op": "idle", "ms": -1}', 1, /ms -1/],
    ['{"op": "idle"}\n{"op": "idle", "expect": {"ret": "$later"}}', 2, /nothing was saved as "later"/],
    ['{"op": "machine", "dma_entry_limit": -1}', 1, /dma_entry_limit: -1/],
    ['{"op": "machine", "devices": [{"bus": "isa", "model": "edu", "name": "0000:00:01.0"}]}', 1, /unknown bus "isa"/],
    [
      '{"op": "machine", "devices": [{"bus": "pci", "model": "edu", "name": "0000:00:01.0"}, {"bus": "pci", "model": "edu", "name": "0000:00:01.0"}]}',
      1,
      /two devices "0000:00:01.0"/,
    ],
    [
      '{"op": "machine", "devices": [{"bus": "pci", "model": "edu", "name": "0000:00:01.0", "group": 6}, {"bus": "mdev", "model": "mtty", "name": "22222222-2222-4222-8222-222222222222", "group": 6}]}',
      1,
      /group 6 belongs to another device/,
    ],
    [
      '{"op": "machine", "devices": [{"bus": "pci", "model": "ism", "name": "0001:00:00.0", "group": 3}, {"bus": "pci", "model": "edu", "name": "0000:00:01.0", "group": 3}]}',
      1,
      /group 3 belongs to another device/,
    ],
  ])('%s is malformed', async (text, line, reason) => {
    await expect(run(text)).rejects.toMatchObject({ name: 'ScriptError', line, reason: expect.stringMatching(reason) });
  });
});
