// vfio-ccw through its descriptor: lifecycle, information, regions (spec ccw sections 1 to 3). One test per rule.
import { beforeEach, describe, expect, it } from 'vitest';
import { EAGAIN, EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOTTY, EOPNOTSUPP, EUSERS } from '../../assembly/abi.ts';
import { ScriptedSubchannel } from '../../host/devices/scripted.ts';
import { bindVfioCcw, subchannelPath } from '../../host/drivers/ccw/vfio_ccw.ts';
import { CAP_HEADER_SIZE } from '../../host/uapi/caps.ts';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
} from '../../host/uapi/ioctl.ts';
import { VfioDeviceFeature, VfioDeviceInfo, VfioIrqInfo, VfioRegionInfo } from '../../host/uapi/structs.ts';
import {
  type CcwMachine,
  ccwMachine,
  FCTL_START,
  NOTHING,
  ORB_WORD1,
  PROGRAM,
  request,
  SUBCHANNEL,
  UUID,
  u32be,
} from '../support/ccw_machine.ts';

const IO = 0x000;
const CMD = 0x400;
const SCHIB = 0x800;
const CRW = 0xc00;

let machine: CcwMachine;
beforeEach(async () => {
  machine = await ccwMachine();
  machine.putProgram();
});

const write = (fd: number, data: Uint8Array, offset: number): number => machine.vfio.writeRaw(fd, data, offset);
const read = (fd: number, size: number, offset: number): Uint8Array | number => {
  const buffer = new Uint8Array(size);
  const result = machine.vfio.readRaw(fd, buffer, offset);
  return result < 0 ? result : buffer.subarray(0, result);
};

describe('the mediated device', () => {
  it('has the type directory of an I/O subchannel, one instance', () => {
    const type = `${subchannelPath(SUBCHANNEL)}/mdev_supported_types/vfio_ccw-io`;
    const { sysfs } = machine.vfio.kernel;
    const show = (name: string) => sysfs.read(machine.vfio.task, `${type}/${name}`);
    expect(show('name')).toBe('I/O subchannel (Non-QDIO)\n');
    expect(show('device_api')).toBe('vfio-ccw\n');
    expect(show('available_instances')).toBe('0\n');
  });

  it('EUSERS: a second instance on the subchannel', () => {
    const { kernel } = machine.vfio;
    const type = kernel.mdev.parents[0]?.types[0];
    expect(kernel.mdev.create(type!, UUID.replace('1', '2'))).toBe(-EUSERS);
  });

  it('ENODEV: a QDIO subchannel, or one that cannot be stored', () => {
    const { kernel } = machine.vfio;
    expect(bindVfioCcw(kernel, new ScriptedSubchannel({ busId: '0.0.0001', qdio: true }))).toBe(-ENODEV);
    const gone = new ScriptedSubchannel({ busId: '0.0.0002' });
    gone.stored = 3;
    expect(bindVfioCcw(kernel, gone)).toBe(-ENODEV);
  });

  it('open enables the subchannel, close disables it and leaves nothing', () => {
    const fd = machine.open();
    expect(machine.hardware.enabled).toBe(true);
    expect(write(fd, request(), IO)).toBe(24);
    machine.vfio.close(fd);
    expect(machine.hardware.enabled).toBe(false);
    expect(machine.device.state).toBe('STANDBY');
    machine.vfio.close(machine.group);
    machine.vfio.close(machine.container);
    expect(machine.leftovers()).toEqual(NOTHING);
  });

  it('EINVAL: open when the subchannel cannot be enabled; the subchannel is unregistered', () => {
    machine.hardware.enableResult = -ENODEV;
    expect(machine.openRaw()).toBe(-EINVAL);
    machine.work();
    expect(machine.openRaw()).toBe(-ENODEV);
  });

  it('a second descriptor shares the device; only the last close ends it', () => {
    const [first, second] = [machine.open(), machine.open()];
    expect(write(first, request(), IO)).toBe(24);
    machine.vfio.close(first);
    expect(machine.device.state).toBe('CP_PENDING');
    machine.vfio.close(second);
    expect(machine.device.state).toBe('STANDBY');
  });
});

describe('information', () => {
  it('GET_INFO: CCW and RESET, 4 regions, 3 interrupts; 16 bytes are written', () => {
    const fd = machine.open();
    const info = new VfioDeviceInfo({ argsz: 24, cap_offset: 77, pad: 88 });
    machine.vfio.ioctl(fd, VFIO_DEVICE_GET_INFO, info);
    const { flags, num_regions, num_irqs, cap_offset, pad } = info;
    expect({ flags, num_regions, num_irqs, cap_offset, pad }).toEqual({
      flags: 0x11,
      num_regions: 4,
      num_irqs: 3,
      cap_offset: 77,
      pad: 88,
    });
  });

  it.each([
    [0, 124n, 3, 0n, null],
    [1, 8n, 0xb, 0x400n, 1],
    [2, 52n, 9, 0x800n, 2],
    [3, 8n, 9, 0xc00n, 3],
  ] as const)('GET_REGION_INFO of region %i', (index, size, flags, offset, subtype) => {
    const fd = machine.open();
    const info = new VfioRegionInfo({ index, argsz: 48, cap_offset: 99 });
    machine.vfio.ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, info);
    expect([info.size, info.flags, info.offset]).toEqual([size, flags, offset]);
    expect(info.cap_offset).toBe(subtype === null ? 99 : 32);
    const cap = new Uint8Array(16);
    if (subtype !== null) {
      cap.set([2, 0, 1, 0]);
      cap.set([2, 0, 0, 0, subtype], CAP_HEADER_SIZE);
    }
    expect(info.bytes.subarray(32, 48)).toEqual(cap);
  });

  it('GET_REGION_INFO without room for the capability succeeds and says how much', () => {
    const fd = machine.open();
    const info = new VfioRegionInfo({ index: 1, cap_offset: 99 });
    machine.vfio.ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, info);
    expect([info.argsz, info.cap_offset]).toEqual([48, 0]);
  });

  it('EINVAL before anything else: argsz below the minimum; then: no such index', () => {
    const fd = machine.open();
    const { vfio } = machine;
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_INFO, new VfioDeviceInfo({ argsz: 15 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_REGION_INFO, new VfioRegionInfo({ argsz: 31 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_REGION_INFO, new VfioRegionInfo({ index: 4 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_IRQ_INFO, new VfioIrqInfo({ argsz: 15 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(fd, VFIO_DEVICE_GET_IRQ_INFO, new VfioIrqInfo({ index: 3 }))).toBe(-EINVAL);
  });

  it('EFAULT: an argument that is not there', () => {
    const fd = machine.open();
    for (const call of [VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_GET_IRQ_INFO])
      expect(machine.vfio.ioctlRaw(fd, call, 0)).toBe(-EFAULT);
  });

  it('ENOTTY: other requests and every feature', () => {
    const fd = machine.open();
    expect(machine.vfio.ioctlRaw(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO)).toBe(-ENOTTY);
    const probe = new VfioDeviceFeature({ flags: 0x40000 | 4 });
    expect(machine.vfio.ioctlRaw(fd, VFIO_DEVICE_FEATURE, probe)).toBe(-ENOTTY);
  });

  it('EINVAL: no region can be mapped', () => {
    const fd = machine.open();
    expect(machine.vfio.mmapRaw(4096, { fd, offset: 0 })).toBe(BigInt(-EINVAL));
  });
});

describe('regions', () => {
  it('EINVAL: an offset in no region, or a range that leaves its region', () => {
    const fd = machine.open();
    for (const offset of [0x1000, 2 ** 40])
      expect([read(fd, 1, offset), write(fd, new Uint8Array(1), offset)]).toEqual([-EINVAL, -EINVAL]);
    expect(read(fd, 125, IO)).toBe(-EINVAL);
    expect(read(fd, 2, CMD + 7)).toBe(-EINVAL);
    expect(read(fd, 0, IO + 200)).toBe(-EINVAL);
    expect(write(fd, new Uint8Array(9), CMD)).toBe(-EINVAL);
  });

  it('EAGAIN before EFAULT: a write while the I/O mutex is held; reads do not mind', () => {
    const fd = machine.open();
    const nowhere = machine.vfio.task.buffer(0n, 4);
    machine.device.ioMutexHeld = true;
    expect([write(fd, request(), IO), machine.vfio.writeRaw(fd, nowhere, CMD)]).toEqual([-EAGAIN, -EAGAIN]);
    expect(read(fd, 4, IO)).toEqual(new Uint8Array(4));
    machine.device.ioMutexHeld = false;
    expect(machine.vfio.writeRaw(fd, nowhere, CMD)).toBe(-EFAULT);
    expect(machine.device.cmdRetCode).toBe(0);
  });

  it('a write answers with its count when ret_code is 0, else with ret_code', () => {
    const fd = machine.open();
    expect(write(fd, request(ORB_WORD1 | 0x00040000), IO)).toBe(-EOPNOTSUPP);
    expect(new DataView((read(fd, 4, IO + 120) as Uint8Array).buffer).getInt32(0, true)).toBe(-EOPNOTSUPP);
    expect(write(fd, request(), IO)).toBe(24);
    expect(write(fd, request(), IO)).toBe(-EBUSY);
  });

  it('every write raises the event, whichever bytes it touches', () => {
    const fd = machine.open();
    expect(write(fd, request().subarray(0, 12), IO)).toBe(12);
    expect(machine.device.state).toBe('IDLE');
    expect(write(fd, u32be(FCTL_START), IO + 12)).toBe(4);
    expect(machine.device.state).toBe('CP_PENDING');
  });

  it('without a function bit the ret_code is what the caller left there', () => {
    const fd = machine.open();
    expect(write(fd, new Uint8Array(Int32Array.of(-EIO).buffer), IO + 120)).toBe(-EIO);
    expect(write(fd, u32be(0), IO + 12)).toBe(-EIO);
    expect(write(fd, new Uint8Array(4), IO + 120)).toBe(4);
  });

  it('the schib is stored at every read, ENODEV when it cannot be; it cannot be written', () => {
    const fd = machine.open();
    const schib = read(fd, 52, SCHIB) as Uint8Array;
    expect([schib[5], schib[8]]).toEqual([0x81, 0xf0]);
    machine.hardware.valid = false;
    expect(read(fd, 4, SCHIB)).toBe(-ENODEV);
    machine.hardware.valid = true;
    machine.hardware.stored = 3;
    expect(read(fd, 4, SCHIB)).toBe(-ENODEV);
    expect(write(fd, new Uint8Array(4), SCHIB)).toBe(-EINVAL);
  });

  it('a read of the crw region takes one report, even one that faults; then zeros; it cannot be written', () => {
    const fd = machine.open();
    for (const chpid of [0x10, 0x11, 0x12]) machine.hardware.channelPath('offline', chpid, 0x40);
    expect(read(fd, 8, CRW)).toEqual(u32be(0x04060010, 0));
    expect(machine.vfio.readRaw(fd, machine.vfio.task.buffer(0n, 8), CRW)).toBe(-EFAULT);
    expect(read(fd, 4, CRW)).toEqual(u32be(0x04060012));
    expect(read(fd, 8, CRW)).toEqual(new Uint8Array(8));
    expect(write(fd, new Uint8Array(8), CRW)).toBe(-EINVAL);
  });

  it('the last two hundred bytes of a mapped window refuse a program: 2 KiB are read, always', () => {
    const fd = machine.open();
    machine.vfio.view(machine.ram, 0x40000).copyWithin(0x3fff0, PROGRAM + 8, PROGRAM + 16);
    expect(write(fd, request(ORB_WORD1, 0x3fff0), IO)).toBe(-EINVAL);
    expect(machine.device.program?.held).toBe(false);
  });
});

describe('RESET', () => {
  it('ends the program and gives an idle device', () => {
    const fd = machine.open();
    write(fd, request(), IO);
    expect(machine.vfio.ioctl(fd, VFIO_DEVICE_RESET)).toBe(0);
    expect([machine.device.state, machine.device.program?.held]).toEqual(['IDLE', false]);
  });

  it('EINVAL: the subchannel is not operational afterwards', () => {
    const fd = machine.open();
    machine.hardware.disableResults = [-EIO];
    expect(machine.vfio.ioctlRaw(fd, VFIO_DEVICE_RESET)).toBe(-EINVAL);
    expect(write(fd, request(), IO)).toBe(-EIO);
  });
});
