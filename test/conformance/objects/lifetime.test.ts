// Who keeps whom alive, in every order of closing, and what is left when all are closed: nothing.
import { describe, expect, it } from 'vitest';
import { EBUSY } from '../../../assembly/abi.ts';
import { Container } from '../../../host/classes/container.ts';
import { VFIO_GROUP_GET_DEVICE_FD, VFIO_IOMMU_GET_INFO } from '../../../host/uapi/ioctl.ts';
import { VfioIommuType1Info } from '../../../host/uapi/structs.ts';
import { type Objects, objects, opened } from '../../support/objects.ts';

const orders = <T>(items: readonly T[]): T[][] =>
  items.length <= 1
    ? [[...items]]
    : items.flatMap((item, i) => orders(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));

function expectNothingLeft({ vfio, hw, md }: Objects): void {
  expect(vfio.task.openFiles).toBe(0);
  for (const device of [hw, md]) {
    expect([device.openCount, device.files, device.pins.size]).toEqual([0, 0, 0]);
    expect([device.group.file, device.group.container, device.group.iommufd, device.group.containerUsers]).toEqual([
      null,
      null,
      null,
      0,
    ]);
    expect(device.group.dmaOwned).toBe(false);
  }
  vfio.exit();
  expect(vfio.core.liveBytes).toBe(0);
}

describe('container, group and device may be closed in any order', () => {
  it.each(orders(['container', 'group', 'device', 'second'] as const))('%s, %s, %s, %s', async (...order) => {
    const all = await objects();
    const { vfio, hw } = all;
    const fds = opened(vfio, 1, 'hw');
    const second = vfio.ioctl(fds.group, VFIO_GROUP_GET_DEVICE_FD, 'hw');
    const ram = vfio.mmap(0x10000);
    new Uint8Array(vfio.view(ram, 8)).fill(1);
    const left = new Set<string>(order);
    for (const name of order) {
      vfio.close(name === 'second' ? second : fds[name]);
      left.delete(name);
      const open = left.has('device') || left.has('second');
      expect(hw.notes.at(-1), `after ${name}`).toBe(open ? 'open' : 'close');
      if (!open && !left.has('group')) expect(hw.group.file).toBeNull();
      if (open || left.has('group')) expect(vfio.openRaw('/dev/vfio/1')).toBe(-EBUSY);
    }
    expect(hw.notes).toEqual(['open', 'close']);
    expectNothingLeft(all);
  });

  it('a mapping keeps device, group and container when all descriptors are closed', async () => {
    const all = await objects();
    const { vfio, hw } = all;
    const { container, group, device } = opened(vfio, 1, 'hw');
    const address = vfio.mmap(8192, { fd: device });
    for (const fd of [container, group, device]) vfio.close(fd);
    expect([hw.openCount, hw.group.container === null]).toEqual([1, false]);
    vfio.munmap(address, 4096);
    expect(hw.openCount).toBe(1);
    vfio.munmap(address + 4096n, 4096);
    expect(hw.openCount).toBe(0);
    expectNothingLeft(all);
  });

  it('exit closes and unmaps everything', async () => {
    const all = await objects();
    const { vfio } = all;
    const { device, container } = opened(vfio, 2, 'md');
    vfio.mmap(4096, { fd: device });
    vfio.ioctl(container, VFIO_IOMMU_GET_INFO, new VfioIommuType1Info());
    vfio.exit();
    expectNothingLeft(all);
  });
});

describe('several processes against one instance', () => {
  it('have their own descriptors, memory and limits; groups are shared', async () => {
    const { vfio } = await objects();
    const other = vfio.process({ memlock: 8192, lockCap: false });
    const mine = new Container(vfio);
    const theirs = new Container(other);
    expect(theirs.fd).toBe(mine.fd);
    mine.attach(1);
    expect(() => theirs.attach(1)).toThrow(/EBUSY/);
    theirs.attach(2);
    expect(theirs.info().ranges).toEqual([]);
    expect(mine.info().ranges).toHaveLength(2);
    expect(() => other.view(mine.map(0, 4096).address, 4096)).toThrow(RangeError);
    theirs.close();
    mine.close();
    other.exit();
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('a limit on locked memory binds who lacks the privilege', async () => {
    const { vfio } = await objects();
    const poor = vfio.process({ memlock: 8192, lockCap: false });
    const container = new Container(poor);
    container.attach(1);
    container.map(0, 4096).free();
    expect(() => container.map(0, 0x10000)).toThrow(/ENOMEM/);
    poor.rlimit({ lockCap: true });
    expect(container.map(0, 0x10000).bytes).toHaveLength(0x10000);
  });
});

describe('the host wants a device back', () => {
  it('asks with 0, 1, 2, ... at once and every 10 s until the last file is closed', async () => {
    const { vfio, clock, hw } = await objects();
    const { device } = opened(vfio, 1, 'hw');
    let gone = false;
    const promise = vfio.unplug('hw').then(() => {
      gone = true;
    });
    expect(hw.notes).toEqual(['open', 'request 0']);
    clock.advance(25_000);
    expect(hw.notes.slice(2)).toEqual(['request 1', 'request 2']);
    await Promise.resolve();
    expect(gone).toBe(false);
    vfio.close(device);
    await promise;
    expect(hw.notes.slice(4)).toEqual(['close', 'release']);
    clock.advance(60_000);
    expect(hw.notes).toHaveLength(6);
  });

  it('an open node keeps the device registered, bound or not; without an open there is nobody to ask', async () => {
    const { vfio, hw } = await objects();
    const node = vfio.open('/dev/vfio/devices/vfio0');
    const promise = vfio.unplug('hw');
    expect(vfio.openRaw('/dev/vfio/devices/vfio0')).toBe(-2);
    expect(hw.notes).not.toContain('release');
    vfio.close(node);
    await promise;
    expect(hw.notes.at(-1)).toBe('release');
  });
});
