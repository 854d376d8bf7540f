// A subchannel with its disk migrates: what runs ends or is halted, its status waits for the other side, nothing starts on a stopped device. Source: spec
// migration section C.5.
import { describe, expect, it } from 'vitest';
import { EBUSY } from '../../assembly/abi.ts';
import { linkPair } from '../../host/migration/link.ts';
import { Migration } from '../../host/migration/migration.ts';
import { VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS } from '../../host/uapi/ioctl.ts';
import { VfioIrqSet } from '../../host/uapi/structs.ts';
import type { SavingFile } from '../../host/vfio/migration_file.ts';
import { type OpenMachine, openMachine } from '../support/machines.ts';

const DASD = {
  bus: 'ccw',
  model: 'dasd-3390',
  name: '11111111-1111-4111-8111-111111111111',
  group: 5,
  subchannel: '0.0.0313',
  device: '0.0.0120',
};
const PROGRAM = 0x2000;
const DATA = 0x3000;
const SENSE_ID = 0xe4;
const IO_IRB = 24;
const STOP = 1;
const RUNNING = 2;
const STOP_COPY = 3;

const device = (m: OpenMachine) => m.vfio.kernel.groups.get('5')!.devices[0]!;

const bind = (m: OpenMachine) => {
  const eventfd = m.vfio.eventfd();
  const request = new VfioIrqSet({ argsz: 24, flags: 0x24, index: 0, start: 0, count: 1 }, 4);
  request.view.setInt32(20, eventfd, true);
  m.vfio.ioctl(m.fds[0]!, VFIO_DEVICE_SET_IRQS, request);
  return m.vfio.eventfdOf(eventfd);
};

/** Starts a program of one command. @returns what the write of the I/O region answers. */
function start(m: OpenMachine, command = SENSE_ID, count = 7): number {
  const ram = m.vfio.view(m.ram.address, m.ram.size);
  const ccw = new DataView(ram.buffer, ram.byteOffset + PROGRAM, 8);
  ccw.setUint8(0, command);
  ccw.setUint8(1, 0x20);
  ccw.setUint16(2, count);
  ccw.setUint32(4, DATA);
  const region = new Uint8Array(124);
  const view = new DataView(region.buffer);
  view.setUint32(4, 0x00c0ff00);
  view.setUint32(8, PROGRAM);
  view.setUint32(12, 0x4000);
  return m.vfio.writeRaw(m.fds[0]!, region, 0);
}

const irb = (m: OpenMachine) => {
  const bytes = new Uint8Array(12);
  m.vfio.read(m.fds[0]!, bytes, IO_IRB);
  const view = new DataView(bytes.buffer);
  return { control: view.getUint32(0), status: view.getUint16(8) };
};

async function move(source: OpenMachine, target: OpenMachine, setup: () => void = () => {}) {
  const [left, right] = linkPair();
  return Promise.all([
    new Migration(source.guest, { clock: source.clock }).send(left),
    new Migration({ ...target.guest, setup }, { clock: target.clock }).receive(right),
  ]);
}

describe('vfio-ccw migrates', () => {
  it('a program that was started ends before the device is stopped; its status is told on the other side', async () => {
    const source = await openMachine([DASD]);
    const target = await openMachine([DASD]);
    const before = bind(source);
    expect(start(source)).toBe(124);
    let after = before;
    await move(source, target, () => {
      after = bind(target);
    });
    expect(before.count).toBe(0n);
    expect(after.count).toBe(1n);
    expect(irb(target)).toEqual({ control: expect.any(Number), status: 0x0c00 });
    expect(target.vfio.view(target.ram.address + BigInt(DATA), 1)[0]).toBe(0xff);
    expect(start(target)).toBe(124);
    target.clock.advance(1);
    expect(after.count).toBe(2n);
  });

  it('a program that does not end is halted', async () => {
    const source = await openMachine([DASD]);
    const target = await openMachine([DASD]);
    source.vfio.actionRaw(DASD.name, 'hold', {
      has: () => true,
      integer: () => 1n,
      number: () => 1,
      bytes: () => new Uint8Array(),
      text: () => '',
    });
    bind(source);
    start(source);
    source.clock.advance(10);
    await move(source, target);
    const late = bind(target);
    expect(late.count).toBe(1n);
    // Halt function, status pending, nothing active.
    expect(irb(target).control & 0x2000).toBe(0x2000);
    expect(irb(target).control & 0x60).toBe(0);
  });

  it('nothing starts on a stopped device, and RESET brings it back', async () => {
    const m = await openMachine([DASD]);
    const machine = device(m).migration!;
    expect(machine.set(STOP).result).toBe(0);
    expect(start(m)).toBe(-EBUSY);
    for (const region of [0, 1, 2, 3]) {
      expect(m.vfio.readRaw(m.fds[0]!, new Uint8Array(4), region << 10)).toBe(-EBUSY);
      if (region < 2) expect(m.vfio.writeRaw(m.fds[0]!, new Uint8Array(4), region << 10)).toBe(-EBUSY);
    }
    expect(device(m).gate!.count('request')).toBe(7);
    m.vfio.ioctl(m.fds[0]!, VFIO_DEVICE_RESET);
    expect(machine.state).toBe(RUNNING);
    const irq = bind(m);
    expect(start(m)).toBe(124);
    m.clock.advance(1);
    expect(irq.count).toBe(1n);
  });

  it('an abandoned stop tells what it held back', async () => {
    const m = await openMachine([DASD]);
    const irq = bind(m);
    start(m);
    const machine = device(m).migration!;
    machine.set(STOP);
    m.clock.advance(100);
    expect(irq.count).toBe(0n);
    machine.set(RUNNING);
    expect(irq.count).toBe(1n);
    expect(m.vfio.kernel.core.liveBytes).toBeGreaterThan(0);
  });

  it('keeps sense and path group, and stays below 1 KiB', async () => {
    const source = await openMachine([DASD]);
    const target = await openMachine([DASD]);
    // An invalid command leaves sense data; SENSE on the other side reads them.
    start(source, 0xff, 1);
    source.clock.advance(1);
    const machine = device(source).migration!;
    const bytes = (machine.set(STOP_COPY).file as SavingFile).peek(4096).length;
    expect(bytes).toBeLessThan(1024);
    expect(Number(machine.dataSize)).toBe(bytes);
    machine.set(RUNNING);
    await move(source, target);
    start(target, 4, 32);
    target.clock.advance(1);
    expect(target.vfio.view(target.ram.address + BigInt(DATA), 1)[0]).toBe(0x80);
  });
});
