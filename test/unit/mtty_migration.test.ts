// The mtty card's own stream: what hostile bytes can do, and interrupts between restore and SET_IRQS. The calls that a kernel answered are in
// the conformance scripts. Source: spec mdev section 8, migration section C.3.
import { describe, expect, it } from 'vitest';
import { MttyDevice } from '../../host/drivers/sample/mtty.ts';
import { VfioProcess } from '../../host/process.ts';
import { VFIO_DEVICE_SET_IRQS } from '../../host/uapi/ioctl.ts';
import { VfioIrqSet } from '../../host/uapi/structs.ts';
import { GroupDeviceFile } from '../../host/vfio/device_file.ts';
import type { ResumingFile, SavingFile } from '../../host/vfio/migration_file.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { freshCore } from '../support/core.ts';
import { Random, runs } from '../support/counts.ts';

const RUNNING = 2;
const STOP = 1;
const STOP_COPY = 3;
const RESUMING = 4;

async function card(ports = 2) {
  const vfio = new Vfio(await freshCore({ length: 1 << 19 }), { iommuDrivers: () => [] });
  const process = new VfioProcess(vfio);
  const device = new MttyDevice(vfio, 'mtty', ports, () => {});
  vfio.registerDevice(device, '6', 'emulated');
  device.open();
  const fd = process.task.install(new GroupDeviceFile(device, () => device.close()));
  const machine = device.migration!;
  const save = () => {
    const { file } = machine.set(STOP_COPY);
    const bytes = (file as SavingFile).peek(1000).slice();
    machine.set(RUNNING);
    return bytes;
  };
  const load = (bytes: Uint8Array) => {
    const { file } = machine.set(RESUMING);
    const fed = (file as ResumingFile).feed(bytes);
    const result = fed < 0 ? fed : machine.set(STOP).result;
    if (result < 0) machine.reset();
    return result;
  };
  return { process, device, fd, machine, save, load };
}

describe('mtty migration', () => {
  it('a stream of random ports never leaves the fifo, and saves again as it was taken', async () => {
    const { device, load, save, process, fd, machine } = await card();
    const random = new Random();
    const header = save().subarray(0, 24).slice();
    for (let i = 0; i < runs(300); i++) {
      const bytes = Uint8Array.from({ length: 96 }, (_, at) => (at < 24 ? header[at]! : random.int(256)));
      expect(load(bytes)).toBe(0);
      machine.set(RUNNING);
      const first = save();
      for (const port of device.ports) {
        expect(port.head).toBeLessThan(16);
        expect(port.tail).toBeLessThan(16);
      }
      expect(load(first)).toBe(0);
      machine.set(RUNNING);
      expect(save()).toEqual(first);
      for (const offset of [0n, 5n, 2n, 1n << 40n]) expect(process.readRaw(fd, new Uint8Array(1), offset)).toBe(1);
    }
  });

  it('an interrupt between restore and SET_IRQS is delivered when the eventfd comes', async () => {
    const { process, fd, machine, save, load } = await card();
    const write = (offset: number, value: number) => process.write(fd, Uint8Array.of(value), offset);
    write(2, 1);
    write(1, 1);
    const stream = save();
    // Without a restore nobody waits for what was raised before.
    write(0, 0x41);
    const early = process.eventfd();
    const bind = (eventfd: number) => {
      const request = new VfioIrqSet({ argsz: 24, flags: 0x24, index: 1, start: 0, count: 1 }, 4);
      request.view.setInt32(20, eventfd, true);
      process.ioctl(fd, VFIO_DEVICE_SET_IRQS, request);
    };
    bind(early);
    expect(process.eventfdOf(early).count).toBe(0n);
    process.ioctl(fd, VFIO_DEVICE_SET_IRQS, new VfioIrqSet({ argsz: 20, flags: 0x21, index: 1, start: 0, count: 0 }));
    expect(load(stream)).toBe(0);
    machine.set(RUNNING);
    write(0, 0x42);
    const late = process.eventfd();
    bind(late);
    expect(process.eventfdOf(late).count).toBe(1n);
    bind(late);
    expect(process.eventfdOf(late).count).toBe(1n);
    // Once it came, switching interrupts off means what it means without a restore.
    process.ioctl(fd, VFIO_DEVICE_SET_IRQS, new VfioIrqSet({ argsz: 20, flags: 0x21, index: 1, start: 0, count: 0 }));
    process.read(fd, new Uint8Array(1), 0);
    write(0, 0x43);
    bind(late);
    expect(process.eventfdOf(late).count).toBe(1n);
  });
});
