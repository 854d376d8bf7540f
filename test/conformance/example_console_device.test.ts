// The example of docs/how-to/write-a-channel-device.md, used as its reader would use it.
import { expect, it } from 'vitest';
import { ConsoleDevice } from '../../examples/console_device.ts';
import { Container, createVfio, ManualClock } from '../../host/inline.ts';

const START = 0x4000;

it('a channel device of one’s own is written to, interrupts, and is read', async () => {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock, machine: { devices: [] } });
  const console3215 = new ConsoleDevice();
  const plugged = vfio.plugChannelDevice(console3215);

  const container = new Container(vfio);
  const device = container.attach(plugged.groupName).device(plugged.name);
  const memory = container.map(0n, 4096);
  const view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset, 4096);
  const [interrupt] = device.irq(0).enable(1);
  const io = device.region(0);

  /** Starts the format-1 program at 0 and waits for its end. @returns unit status, channel status, residual. */
  const run = (...ccws: Array<[command: number, flags: number, count: number, address: number]>) => {
    ccws.forEach(([command, flags, count, address], i) => {
      view.setUint32(8 * i, ((command << 24) | (flags << 16) | count) >>> 0);
      view.setUint32(8 * i + 4, address);
    });
    const request = new DataView(new ArrayBuffer(24));
    request.setUint32(4, 0x00c28000);
    request.setUint32(12, START);
    io.write(0, new Uint8Array(request.buffer));
    clock.advance(1);
    const irb = io.read(24, 64);
    return [irb[8], irb[9], (irb[10]! << 8) | irb[11]!];
  };

  memory.bytes.set([0xc8, 0xc5, 0xd3, 0xd3, 0xd6], 0x100);
  expect(run([0x01, 0x60, 5, 0x100], [0x03, 0x20, 1, 0])).toEqual([0x0c, 0, 1]);
  expect([...console3215.written[0]!]).toEqual([0xc8, 0xc5, 0xd3, 0xd3, 0xd6]);

  console3215.type(Uint8Array.of(0xe8, 0xc5, 0xe2));
  clock.advance(1);
  expect(await interrupt!.next()).toBeGreaterThan(0n);
  expect(io.read(32, 1)[0]).toBe(0x80);
  expect(run([0x0a, 0x20, 80, 0x200])).toEqual([0x0c, 0, 77]);
  expect([...memory.bytes.subarray(0x200, 0x203)]).toEqual([0xe8, 0xc5, 0xe2]);
  expect(run([0x0a, 0x20, 80, 0x200])[0]).toBe(0x0d);
  expect(run([0x41, 0x20, 1, 0x200])[0]).toBe(0x0e);
  expect(run([0x04, 0x20, 1, 0x200])).toEqual([0x0c, 0, 0]);
  expect(memory.bytes[0x200]).toBe(0x80);

  container.close();
  device.close();
  vfio.exit();
  expect([vfio.core.liveBytes, vfio.kernel.pages.usedBytes]).toEqual([0, 0]);
});

it('a subchannel that is taken, or none, is refused', async () => {
  const vfio = await createVfio();
  const plug = (options: Parameters<typeof vfio.plugChannelDevice>[1]) => () =>
    vfio.plugChannelDevice(new ConsoleDevice(), options);
  expect(plug({ subchannel: '0.0.0313' })).toThrow(/0\.0\.0313.*has a driver/);
  expect(plug({ subchannel: '313' })).toThrow(/no bus id/);
  expect(plug({ uuid: '11111111-1111-4111-8111-111111111111' })).toThrow(/taken/);
  expect(plug({ chpids: [] })).toThrow(/0 channel paths/);
  const [first, second] = [vfio.plugChannelDevice(new ConsoleDevice()), vfio.plugChannelDevice(new ConsoleDevice())];
  expect([first.subchannel.busId, second.subchannel.busId]).toEqual(['0.0.0400', '0.0.0401']);
});
