// vfio-ccw through its own node and an address space of an iommufd: the provider's errnos, and an address space that changes under a program (spec ccw
// section 6).
import { beforeEach, describe, expect, it } from 'vitest';
import { ENOENT, EPERM } from '../../assembly/abi.ts';
import type { Device } from '../../host/classes/device.ts';
import { Iommufd } from '../../host/classes/iommufd.ts';
import { ManualClock } from '../../host/clock.ts';
import { ScriptedSubchannel } from '../../host/devices/scripted.ts';
import type { CcwDevice } from '../../host/drivers/ccw/device.ts';
import { bindVfioCcw } from '../../host/drivers/ccw/vfio_ccw.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance } from '../../host/source.ts';
import { VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_IOMMUFD_PT } from '../../host/uapi/ioctl.ts';
import { VfioDeviceAttachIommufdPt, VfioDeviceDetachIommufdPt } from '../../host/uapi/structs.ts';
import { DATA, PROGRAM, RAM, request, SUBCHANNEL, UUID } from '../support/ccw_machine.ts';
import { ccw1 } from '../support/ccw_programs.ts';

let vfio: VfioInstance;
let iommufd: Iommufd;
let ioas: number;
let ram: bigint;
let device: Device;
let driver: CcwDevice;
let hardware: ScriptedSubchannel;

beforeEach(async () => {
  vfio = await createVfio({ clock: new ManualClock(), machine: { devices: [] } });
  hardware = new ScriptedSubchannel({ busId: SUBCHANNEL });
  const parent = bindVfioCcw(vfio.kernel, hardware);
  if (typeof parent === 'number') throw new Error(`vfio-ccw: ${parent}`);
  const mdev = vfio.kernel.mdev.create(parent.types[0]!, UUID);
  if (typeof mdev === 'number') throw new Error(`mdev: ${mdev}`);
  driver = mdev.device as CcwDevice;
  iommufd = new Iommufd(vfio);
  ioas = iommufd.createIoas();
  ram = vfio.mmap(RAM);
  vfio.view(ram, RAM).set(ccw1(0x02, 0, 0x1800, DATA), PROGRAM);
  iommufd.map(ioas, ram, RAM, 0n);
  device = iommufd.device(0, ioas);
});

const start = (cpa = PROGRAM): number => vfio.writeRaw(device.fd, request(undefined, cpa), 0);
const attach = (id: number): number =>
  vfio.ioctlRaw(device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, new VfioDeviceAttachIommufdPt({ pt_id: id }));
const detach = (): number => vfio.ioctlRaw(device.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, new VfioDeviceDetachIommufdPt());

describe('vfio-ccw over an iommufd', () => {
  it('ENOENT: storage or data that are not mapped; EPERM: data that may not be written', () => {
    expect(start(0x1000000)).toBe(-ENOENT);
    vfio.view(ram, RAM).set(ccw1(0x02, 0, 1, 0x1000000), PROGRAM);
    expect(start()).toBe(-ENOENT);
    iommufd.map(ioas, ram, 0x1000, 0x1000000n, 'r');
    expect(start()).toBe(-EPERM);
  });

  it('ENOENT: not attached to any address space', () => {
    expect(detach()).toBe(0);
    expect(start()).toBe(-ENOENT);
    expect(attach(ioas)).toBe(0);
    expect(start()).toBe(24);
  });

  it('unmapping pages of the program ends it', () => {
    expect(start()).toBe(24);
    iommufd.unmap(ioas, 0n, RAM);
    expect([driver.state, driver.program?.held]).toEqual(['IDLE', false]);
  });

  it.each([
    ['another address space', () => attach(iommufd.createIoas())],
    ['none', detach],
  ] as const)('a program ends when the device moves to %s; the old one can be destroyed', (_name, move) => {
    expect(start()).toBe(24);
    expect(driver.program?.pinCount).toBe(2);
    expect(move()).toBe(0);
    expect([driver.state, driver.program?.held, vfio.task.mm.lockedPages]).toEqual(['IDLE', false, 0]);
    iommufd.destroy(ioas);
    expect(start()).toBe(-ENOENT);
  });

  it('a program whose subchannel is gone is released before its address space goes', () => {
    start();
    hardware.valid = false;
    hardware.examine();
    expect(driver.program?.pinCount).toBe(2);
    expect(detach()).toBe(0);
    expect([driver.program?.held, vfio.task.mm.lockedPages]).toEqual([false, 0]);
    iommufd.destroy(ioas);
  });

  it('closing leaves nothing', () => {
    start();
    vfio.close(device.fd);
    vfio.close(iommufd.fd);
    expect([vfio.core.liveBytes, vfio.task.openFiles, vfio.task.mm.lockedPages]).toEqual([0, 0, 0]);
  });
});
