import { describe, expect, it } from 'vitest';
import { EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EINVAL, EIO, ENODEV, ENOSPC, ENOTTY } from '../../assembly/abi.ts';
import { SumDevice } from '../../examples/sum_device.ts';
import { PciDevice, type Width } from '../../host/devices/pci_device.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import type { PlugOptions } from '../../host/drivers/pci/plug.ts';
import type { VfioInstance } from '../../host/source.ts';
import { walkCaps } from '../../host/uapi/caps.ts';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_GROUP_GET_DEVICE_FD,
} from '../../host/uapi/ioctl.ts';
import { VfioDeviceIoeventfd, VfioPciHotReset, VfioPciHotResetInfo, VfioRegionInfo } from '../../host/uapi/structs.ts';
import {
  CONFIG,
  get,
  instance,
  irqInfo,
  type Opened,
  open,
  openDevice,
  REGION,
  readRegion,
  regionInfo,
  set,
  setIrqs,
  taken,
  writeRegion,
} from '../support/opened.ts';

const NONE = 1;
const EVENTFD = 4;
const UNMASK = 16;
const TRIGGER = 32;
const MSIX = 2;
const MSIX_0 = '0000:00:02.0';
const MSIX_1 = '0000:00:02.1';

const deviceOf = ({ vfio }: Opened, name: string) =>
  [...vfio.kernel.nodes.values()].find((device) => device.name === name) as VfioPciDevice;
const bind = (opened: Opened, index: number, fds: number[], start = 0) =>
  setIrqs(opened, { flags: EVENTFD | TRIGGER, index, start, fds });
const enableMaster = (opened: Opened) => set(opened, CONFIG + 4n, 6, 2);

async function plugged(hw: PciDevice, options: PlugOptions = {}): Promise<Opened & { device: VfioPciDevice }> {
  const { vfio, clock } = await instance({ devices: [] });
  const device = vfio.plug(hw, options);
  return { ...open(vfio, clock, device.group.name, device.name), device };
}

/** Remembers the widths of its accesses. */
class Widths extends PciDevice {
  readonly log: string[] = [];
  constructor() {
    super({ vendor: 1, device: 2, classCode: 0, bars: { 0: { size: 4096 } }, rom: Uint8Array.of(0x55, 0xaa, 1) });
  }
  protected override read(_bar: number, offset: number, width: Width): number {
    this.log.push(`${width}@${offset}`);
    return offset;
  }
  protected override read64(_bar: number, offset: number): bigint {
    this.log.push(`8@${offset}`);
    return BigInt(offset);
  }
}

describe('BAR access', () => {
  it('is made of the widest aligned pieces, 8 bytes at most', async () => {
    const hw = new Widths();
    const opened = await plugged(hw);
    for (const [offset, length, pieces] of [
      [6, 10, ['2@6', '8@8']],
      [3, 5, ['1@3', '4@4']],
      [1, 7, ['1@1', '2@2', '4@4']],
      [0, 15, ['8@0', '4@8', '2@12', '1@14']],
      [4092, 9, ['4@4092']],
    ] as const) {
      hw.log.length = 0;
      readRegion(opened, offset, length);
      expect(hw.log).toEqual(pieces);
    }
  });

  it('shows all ones in the MSI-X table and drops writes there, around it the registers', async () => {
    const opened = await openDevice(2, MSIX_0);
    const base = REGION(2);
    writeRegion(opened, base + 0x7cn, new Array(12).fill(0x11));
    const bytes = readRegion(opened, base + 0x78n, 16) as Uint8Array;
    expect([...bytes]).toEqual([...new Array(8).fill(0xff), ...new Array(8).fill(0x11)]);
    const { msix } = deviceOf(opened, MSIX_0).hw;
    expect(msix!.table.subarray(0x70, 0x80)).toEqual(Uint8Array.from([...new Array(12).fill(0), 1, 0, 0, 0]));
  });

  it('reads the ROM image with all ones behind it, and never writes it', async () => {
    const opened = await plugged(new Widths());
    expect(regionInfo(opened, 6)).toMatchObject({ flags: 1, size: 2048n });
    expect([...(readRegion(opened, REGION(6), 5) as Uint8Array)]).toEqual([0x55, 0xaa, 1, 0xff, 0xff]);
    expect(writeRegion(opened, REGION(6), [1])).toBe(-EINVAL);
    expect(readRegion(opened, REGION(6) + 2048n, 1)).toBe(-EINVAL);
    set(opened, CONFIG + 4n, 0, 2);
    expect(readRegion(opened, REGION(6), 1)).toBe(-EIO);
  });

  it('reaches the MSI-X table through a mapping, and marks that BAR as such', async () => {
    const opened = await openDevice(2, MSIX_0);
    const info = new VfioRegionInfo({ argsz: 64, index: 2 });
    opened.vfio.ioctl(opened.fd, VFIO_DEVICE_GET_REGION_INFO, info);
    expect([info.flags & 4, walkCaps(info.bytes, info.cap_offset).map((cap) => cap.id)]).toEqual([4, [3]]);
    const table = opened.vfio.mmap(4096, { fd: opened.fd, offset: REGION(2) });
    set(opened, CONFIG + 4n, 2, 2);
    opened.vfio.poke(table + 8n, Uint8Array.of(7));
    expect(opened.vfio.peek(table + 8n, 4)).toEqual(Uint8Array.of(7, 0, 0, 0));
  });
});

describe('MSI-X', () => {
  it('keeps an interrupt of an unbound vector and delivers it once when the vector is bound', async () => {
    const opened = await openDevice(2, MSIX_0);
    enableMaster(opened);
    const { hw } = deviceOf(opened, MSIX_0);
    const [a, b] = [opened.vfio.eventfd(), opened.vfio.eventfd()];
    expect(bind(opened, MSIX, [a])).toBe(0);
    hw.interrupt(5);
    hw.interrupt(0);
    expect([taken(opened, a), taken(opened, b)]).toEqual([1, 0]);
    expect(bind(opened, MSIX, [b], 5)).toBe(0);
    expect([taken(opened, a), taken(opened, b)]).toEqual([0, 1]);
    hw.interrupt(5);
    expect(taken(opened, b)).toBe(1);
  });

  it('unbinds the whole requested range when one descriptor is wrong', async () => {
    const opened = await openDevice(2, MSIX_0);
    enableMaster(opened);
    const [a, b] = [opened.vfio.eventfd(), opened.vfio.eventfd()];
    expect(bind(opened, MSIX, [a, a, b])).toBe(0);
    expect(bind(opened, MSIX, [b, 999])).toBe(-EBADF);
    expect(setIrqs(opened, { flags: NONE | TRIGGER, index: MSIX, count: 3 })).toBe(0);
    expect([taken(opened, a), taken(opened, b)]).toEqual([0, 1]);
  });

  it('works while the user’s memory bit is off, and a message that the user forged goes nowhere', async () => {
    const opened = await openDevice(2, MSIX_0);
    const { hw } = deviceOf(opened, MSIX_0);
    const e = opened.vfio.eventfd();
    set(opened, CONFIG + 4n, 4, 2);
    expect(bind(opened, MSIX, [e, e])).toBe(0);
    hw.interrupt(1);
    expect(taken(opened, e)).toBe(1);
    set(opened, CONFIG + 4n, 6, 2);
    const table = opened.vfio.mmap(4096, { fd: opened.fd, offset: REGION(2) });
    opened.vfio.poke(table, Uint8Array.of(0, 0, 0xe1, 0xfe));
    hw.interrupt(0);
    expect(taken(opened, e)).toBe(0);
  });

  it('cannot grow without dynamic allocation, and says how many vectors the host has', async () => {
    const opened = await plugged(new SumDevice(), { dynamicMsix: false });
    const e = opened.vfio.eventfd();
    expect((irqInfo(opened, MSIX) as { flags: number }).flags).toBe(9);
    expect(bind(opened, MSIX, [e])).toBe(0);
    expect(bind(opened, MSIX, [e], 1)).toBe(-EINVAL);
    const scarce = await plugged(new SumDevice(), { hostVectors: 1 });
    expect(bind(scarce, MSIX, [scarce.vfio.eventfd(), -1])).toBe(1);
    expect(setIrqs(scarce, { flags: NONE | TRIGGER, index: MSIX, count: 1 })).toBe(-EINVAL);
    expect(bind(scarce, 0, [-1])).toBe(-EINVAL);
  });

  it('survives a reset of the function', async () => {
    const opened = await openDevice(2, MSIX_0);
    enableMaster(opened);
    const e = opened.vfio.eventfd();
    bind(opened, MSIX, [-1, e]);
    expect(opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_RESET)).toBe(0);
    deviceOf(opened, MSIX_0).hw.interrupt(1);
    expect(taken(opened, e)).toBe(1);
    expect(get(opened, CONFIG + 4n, 2)).toBe(6);
  });
});

describe('INTx', () => {
  it('signals at once when it is enabled while the line is high', async () => {
    const opened = await openDevice(1, '0000:00:01.0');
    const e = opened.vfio.eventfd();
    set(opened, 0x60, 1);
    expect(bind(opened, 0, [e])).toBe(0);
    expect(taken(opened, e)).toBe(1);
    setIrqs(opened, { flags: NONE | UNMASK, index: 0, count: 1 });
    expect(taken(opened, e)).toBe(1);
  });

  it('is not there for a device whose INTx is broken', async () => {
    const opened = await plugged(new Widths(), { noIntx: true });
    expect(get(opened, CONFIG + 0x3dn, 1)).toBe(0);
    expect(irqInfo(opened, 0)).toMatchObject({ count: 0, flags: 7 });
    expect(bind(opened, 0, [-1])).toBe(-EINVAL);
  });
});

describe('resets over a bus', () => {
  const hotReset = (opened: Opened, groups: number[]) => {
    const arg = new VfioPciHotReset({ argsz: 12 + 4 * groups.length, count: groups.length });
    groups.forEach((fd, i) => {
      arg.view.setInt32(12 + 4 * i, fd, true);
    });
    return opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_PCI_HOT_RESET, arg);
  };

  it('lists both functions and resets both, with the proof of their group', async () => {
    const opened = await openDevice(2, MSIX_0);
    const short = new VfioPciHotResetInfo({ argsz: 27 });
    expect(opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, short)).toBe(-ENOSPC);
    expect(short.count).toBe(2);
    const list = new VfioPciHotResetInfo({ argsz: 28 });
    expect(opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, list)).toBe(0);
    expect([...list.bytes.subarray(12)]).toEqual([2, 0, 0, 0, 0, 0, 0, 0x10, 2, 0, 0, 0, 0, 0, 0, 0x11]);
    const other = { ...opened, fd: opened.vfio.ioctl(opened.group, VFIO_GROUP_GET_DEVICE_FD, MSIX_1) };
    enableMaster(other);
    set(other, 0x10, 0x1234);
    expect(hotReset(opened, [])).toBe(-EINVAL);
    expect(hotReset(opened, [opened.group, opened.group, opened.group])).toBe(-EINVAL);
    expect(hotReset(opened, [999])).toBe(-EBADF);
    expect(hotReset(opened, [opened.container])).toBe(-EINVAL);
    deviceOf(opened, MSIX_1).resetLocked = true;
    expect(hotReset(opened, [opened.group])).toBe(-EBUSY);
    expect(opened.vfio.ioctlRaw(other.fd, VFIO_DEVICE_RESET)).toBe(-EAGAIN);
    expect(get(other, 0x10)).toBe(0x1234);
    deviceOf(opened, MSIX_1).resetLocked = false;
    expect(hotReset(opened, [opened.group])).toBe(0);
    expect(get(other, 0x10)).toBe(0);
    expect(get(other, CONFIG + 4n, 2)).toBe(6);
  });

  it('refuses while another driver’s device is behind it, and without a bus reset at all', async () => {
    const opened = await openDevice(2, MSIX_0);
    const domain = deviceOf(opened, MSIX_0).options.resetDomain!;
    domain.foreign.push({ segment: 0, bus: 0, devfn: 0x12, groupName: '2' });
    expect(hotReset(opened, [opened.group])).toBe(-EINVAL);
    const edu = await openDevice(1, '0000:00:01.0');
    expect(hotReset(edu, [edu.group])).toBe(-ENODEV);
    expect(hotReset({ ...edu, fd: edu.fd }, [])).toBe(-EINVAL);
  });

  it('is made once nobody uses the bus any more, for devices that cannot reset themselves', async () => {
    let resets = 0;
    class Counting extends PciDevice {
      protected override onReset(): void {
        resets++;
      }
    }
    const { device, vfio, fd, group } = await plugged(new Counting({ vendor: 1, device: 2, classCode: 0 }), {
      busReset: true,
    });
    const second = vfio.plug(new Counting({ vendor: 1, device: 3, classCode: 0 }), {
      name: '0000:00:11.0',
      group: Number(device.group.name),
      resetDomain: device.options.resetDomain!,
    });
    resets = 0;
    const other = vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, second.name);
    vfio.close(fd);
    expect(resets).toBe(0);
    vfio.close(other);
    expect(resets).toBe(2);
    expect([device.needsReset, second.needsReset]).toEqual([false, false]);
  });
});

describe('who may open', () => {
  const TOKEN = '00112233-4455-6677-8899-aabbccddeeff';
  const getFd = (vfio: VfioInstance, group: number, name: string) =>
    vfio.ioctlRaw(group, VFIO_GROUP_GET_DEVICE_FD, name);

  it('takes the address, then one vf_token and nothing else', async () => {
    const { vfio, group } = await openDevice(1, '0000:00:01.0');
    const name = '0000:00:01.0';
    expect(getFd(vfio, group, `${name}x`)).toBe(-ENODEV);
    expect(getFd(vfio, group, `${name} `)).toBeGreaterThan(0);
    expect(getFd(vfio, group, `${name} other=1`)).toBe(-EINVAL);
    expect(getFd(vfio, group, `${name} vf_token=${TOKEN.slice(1)}`)).toBe(-EINVAL);
    expect(getFd(vfio, group, `${name} vf_token=${TOKEN}`)).toBe(-EINVAL);
  });

  it('shares a token between a physical function and the users of its virtual ones', async () => {
    const opened = await plugged(new Widths(), { hasVirtualFunctions: true });
    const { vfio, device, container } = opened;
    const feature = new Uint8Array(24);
    const view = new DataView(feature.buffer);
    view.setUint32(0, 24, true);
    view.setUint32(4, 0x20000, true);
    feature.set(
      TOKEN.replaceAll('-', '')
        .match(/../g)!
        .map((pair) => Number.parseInt(pair, 16)),
      8,
    );
    expect(vfio.ioctl(opened.fd, VFIO_DEVICE_FEATURE, feature)).toBe(0);
    const virtual = vfio.plug(new Widths(), { virtualFunctionOf: device });
    const group = vfio.open(`/dev/vfio/${virtual.group.name}`);
    const arg = new Uint8Array(4);
    new DataView(arg.buffer).setInt32(0, container, true);
    vfio.ioctl(group, 0x3b68, arg);
    expect(getFd(vfio, group, virtual.name)).toBe(-EACCES);
    const fd = getFd(vfio, group, `${virtual.name} vf_token=${TOKEN}`);
    expect(fd).toBeGreaterThan(0);
    expect(getFd(vfio, opened.group, device.name)).toBe(-EACCES);
    expect(getFd(vfio, opened.group, `${device.name} vf_token=${TOKEN}`)).toBeGreaterThan(0);
    vfio.close(fd);
    expect(getFd(vfio, opened.group, device.name)).toBeGreaterThan(0);
    const orphan = vfio.plug(new Widths(), { virtualFunctionOf: null, group: Number(virtual.group.name) });
    expect(getFd(vfio, group, `${orphan.name} vf_token=${TOKEN}`)).toBe(-EINVAL);
    expect(getFd(vfio, group, orphan.name)).toBeGreaterThan(0);
  });
});

describe('power, removal, hooks', () => {
  const feature = (opened: Opened, id: number, data: number[] = []) => {
    const bytes = new Uint8Array(8 + 4 * data.length);
    const view = new DataView(bytes.buffer);
    [bytes.length, 0x20000 | id, ...data].forEach((word, i) => {
      view.setInt32(4 * i, word, true);
    });
    return opened.vfio.ioctlRaw(opened.fd, VFIO_DEVICE_FEATURE, bytes);
  };

  it('leaves low power and signals on the first wake, when asked to', async () => {
    const opened = await openDevice(1, '0000:00:01.0');
    const e = opened.vfio.eventfd();
    const device = deviceOf(opened, '0000:00:01.0');
    expect(feature(opened, 4, [e, 0])).toBe(0);
    expect([device.lowPower, taken(opened, e)]).toEqual([true, 0]);
    readRegion(opened, CONFIG, 4);
    expect([device.lowPower, taken(opened, e)]).toEqual([false, 1]);
    expect(feature(opened, 3)).toBe(0);
    readRegion(opened, CONFIG, 4);
    expect([device.lowPower, feature(opened, 3), feature(opened, 5)]).toEqual([true, -EINVAL, 0]);
  });

  it('asks the user for the device every 10 s by REQ, and is gone after the last close', async () => {
    const opened = await plugged(new Widths());
    const e = opened.vfio.eventfd();
    expect(bind(opened, 4, [e])).toBe(0);
    let gone = false;
    const promise = opened.vfio.unplug(opened.device.name).then(() => {
      gone = true;
    });
    opened.clock.advance(10_000);
    expect([taken(opened, e), gone]).toEqual([2, false]);
    expect(opened.vfio.ioctlRaw(opened.group, VFIO_GROUP_GET_DEVICE_FD, opened.device.name)).toBe(-ENODEV);
    opened.vfio.close(opened.fd);
    await promise;
    expect([gone, opened.device.hw.host]).toEqual([true, null]);
  });

  it('calls the architecture hook once inside enable and once inside disable; its failure fails the open', async () => {
    const calls: string[] = [];
    let answer = 0;
    const arch = {
      openDevice: () => {
        calls.push('open');
        return answer;
      },
      closeDevice: () => calls.push('close'),
      infoCaps: () => [{ id: 1, version: 2, data: new Uint8Array(32) }],
    };
    const opened = await plugged(new SumDevice(), { arch });
    opened.vfio.close(opened.fd);
    expect(calls).toEqual(['open', 'close']);
    answer = -EAGAIN;
    expect(opened.vfio.ioctlRaw(opened.group, VFIO_GROUP_GET_DEVICE_FD, opened.device.name)).toBe(-EAGAIN);
    expect(calls).toEqual(['open', 'close', 'open']);
  });

  it('writes a register for each signal of an eventfd, at most 1000 of them', async () => {
    const opened = await openDevice(1, '0000:00:01.0');
    const { vfio, fd } = opened;
    const e = vfio.eventfd();
    const arm = (data: number, eventfd = e) =>
      vfio.ioctlRaw(
        fd,
        VFIO_DEVICE_IOEVENTFD,
        new VfioDeviceIoeventfd({ flags: 4, offset: 4n, data: BigInt(data), fd: eventfd }),
      );
    set(opened, CONFIG + 4n, 2, 2);
    for (let n = 0; n < 1000; n++) expect(arm(n)).toBe(0);
    expect([arm(1000), arm(7), arm(1000, -1), arm(7, -1), arm(7)]).toEqual([-ENOSPC, -EEXIST, -ENODEV, 0, 0]);
    vfio.close(fd);
    const again = vfio.ioctl(opened.group, VFIO_GROUP_GET_DEVICE_FD, '0000:00:01.0');
    vfio.eventfdOf(e).signal();
    expect(get({ ...opened, fd: again }, 4)).toBe(0);
    expect(vfio.ioctlRaw(again, 0x3b70 + 2, new Uint8Array(64))).toBe(-ENOTTY);
  });
});
