// Recordings of programs that use the calls directly: names, memory, time, limits.
import { describe, expect, it } from 'vitest';
import { Container } from '../../../host/classes/container.ts';
import { ManualClock } from '../../../host/clock.ts';
import { createVfio } from '../../../host/inline.ts';
import { trace } from '../../../host/script/trace.ts';
import type { JsonObject } from '../../../host/script/values.ts';
import type { VfioInstance, VfioOptions } from '../../../host/source.ts';
import { describeMismatches, run } from '../../support/scripts.ts';

async function record(program: (vfio: VfioInstance, clock: ManualClock) => void, options: VfioOptions = {}) {
  const clock = new ManualClock();
  const lines: string[] = [];
  program(
    trace(await createVfio({ clock, ...options }), (line) => lines.push(line)),
    clock,
  );
  const { mismatches } = await run(lines.join('\n'));
  expect(describeMismatches(mismatches)).toEqual([]);
  return lines.map((line) => JSON.parse(line) as JsonObject);
}

describe('trace', () => {
  it('names descriptors and addresses after the calls that made them', async () => {
    const lines = await record((vfio) => {
      const container = new Container(vfio);
      const group = container.attach(1);
      const device = group.device('0000:00:01.0');
      container.map(0x1000n, 4096);
      device.irq(1).enable();
    });
    const text = lines.map((line) => JSON.stringify({ ...line, expect: undefined }));
    expect(text).toEqual([
      '{"op":"open","as":"f1","path":"/dev/vfio/vfio"}',
      '{"op":"open","as":"f2","path":"/dev/vfio/1"}',
      '{"op":"ioctl","fd":"$f2","request":"VFIO_GROUP_SET_CONTAINER","struct":{"type":"s32","value":"$f1"}}',
      '{"op":"ioctl","fd":"$f1","request":"VFIO_SET_IOMMU","value":3}',
      '{"op":"ioctl","as":"f3","fd":"$f2","request":"VFIO_GROUP_GET_DEVICE_FD","string":"0000:00:01.0"}',
      '{"op":"mmap","as":"m4","length":4096}',
      '{"op":"ioctl","fd":"$f1","request":"VFIO_IOMMU_MAP_DMA","struct":{"type":"vfio_iommu_type1_dma_map","argsz":32,"flags":3,"vaddr":"$m4","iova":4096,"size":4096}}',
      '{"op":"ioctl","fd":"$f3","request":"VFIO_DEVICE_GET_IRQ_INFO","struct":{"type":"vfio_irq_info","argsz":16,"flags":0,"index":1,"count":0}}',
      '{"op":"eventfd","as":"f5"}',
      '{"op":"ioctl","fd":"$f3","request":"VFIO_DEVICE_SET_IRQS","struct":{"type":"vfio_irq_set","argsz":24,"flags":36,"index":1,"start":0,"count":1,"data":["$f5"]}}',
    ]);
    expect(lines[6]?.['expect']).toEqual({ ret: 0, struct: { argsz: 32, flags: 3, iova: 4096, size: 4096 } });
    expect(lines[0]?.['expect']).toEqual({ errno: null });
  });

  it('records what the program writes into its memory, and nothing that the device wrote', async () => {
    const lines = await record((vfio, clock) => {
      const container = new Container(vfio);
      const device = container.attach(1).device('0000:00:01.0');
      const ram = container.map(0x100000n, 8192);
      device.region(7).set(4, 0x106, 2);
      ram.bytes.set([1, 2, 3, 4], 0x10);
      const bar0 = device.region(0);
      bar0.set(0x80, 0x100010, 8);
      bar0.set(0x88, 0x40000, 8);
      bar0.set(0x90, 4, 8);
      bar0.set(0x98, 1, 8);
      clock.advance(220);
      bar0.set(0x80, 0x40000, 8);
      bar0.set(0x88, 0x101000, 8);
      bar0.set(0x98, 3, 8);
      clock.advance(100);
      expect([...ram.bytes.subarray(0x1000, 0x1004)]).toEqual([1, 2, 3, 4]);
      vfio.peek(ram.address + 0x1000n, 4);
    });
    const pokes = lines.filter((line) => line['op'] === 'poke');
    expect(pokes[0]).toEqual({ op: 'poke', addr: expect.stringMatching(/^\$m\d+\+0x10$/), data: '01020304' });
    expect(lines.filter((line) => line['op'] === 'idle')).toEqual([{ op: 'idle' }, { op: 'idle', ms: 100 }]);
    expect(lines.at(-1)).toMatchObject({ op: 'peek', expect: { ret: 0, data: '01020304' } });
  });

  it('a look at an eventfd is a wait when time passed, else a read', async () => {
    const lines = await record((vfio, clock) => {
      const fd = vfio.eventfd(5);
      expect(vfio.take(fd)).toBe(5n);
      clock.advance(3);
      expect(() => vfio.take(fd)).toThrow(/EAGAIN/);
      clock.advance(10);
      vfio.takeRaw(fd);
    });
    expect(lines.slice(1).map(({ op, ms }) => [op, ms])).toEqual([
      ['read', undefined],
      ['wait', undefined],
      ['idle', 7],
      ['wait', undefined],
    ]);
  });

  it('machine, limits, attributes, raw buffers, failures and exit are recorded, too', async () => {
    const lines = await record(
      (vfio) => {
        vfio.rlimit({ memlock: 2 ** 60 });
        vfio.rlimit({ memlock: 2 ** 64 });
        expect(() => vfio.open('/dev/vfio/9')).toThrow(/ENOENT/);
        const group = vfio.open('/dev/vfio/3');
        const status = Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0);
        vfio.ioctl(group, 0x3b67, status);
        expect(status[4]).toBe(1);
        expect(vfio.ioctlRaw(group, 0x3b67, 0x10)).toBe(-14);
        expect(vfio.sysfsReadRaw('/sys/nosuch')).toBe(-2);
        expect(vfio.sysfsWriteRaw('/sys/nosuch', 'x')).toBe(-2);
        vfio.exit();
      },
      {
        machine: { devices: [{ bus: 'pci', model: 'edu', name: '0000:01:00.0', group: 3 }], seed: 2 },
        memlock: 8192,
        lockCap: false,
      },
    );
    expect(lines.map(({ op }) => op)).toEqual([
      'machine',
      'rlimit',
      'rlimit',
      'rlimit',
      'open',
      'open',
      'ioctl',
      'ioctl',
      'sysfs_read',
      'sysfs_write',
      'close',
    ]);
    expect(lines[1]).toEqual({ op: 'rlimit', memlock: 8192, lock_cap: false });
    expect(lines.slice(2, 4).map(({ memlock }) => memlock)).toEqual(['0x1000000000000000', 'unlimited']);
    expect(lines[6]).toMatchObject({
      request: 'VFIO_GROUP_GET_STATUS',
      arg: '0800000000000000',
      expect: { ret: 0, arg: '0800000001000000' },
    });
  });

  it('calls on the original are not recorded', async () => {
    const lines: string[] = [];
    const vfio = await createVfio({ clock: new ManualClock() }); // time that passes would be recorded too
    const traced = trace(vfio, (line) => lines.push(line));
    vfio.open('/dev/vfio/vfio');
    expect(lines).toEqual([]);
    expect(traced.open('/dev/vfio/vfio')).toBe(4);
    expect(lines).toHaveLength(1);
  });
});
