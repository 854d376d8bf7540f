import { describe, expect, it } from 'vitest';
import { EAGAIN, EEXIST, EINVAL, ENODEV, ENOSPC, EUSERS } from '../../assembly/abi.ts';
import { ManualClock } from '../../host/clock.ts';
import { VfioProcess } from '../../host/process.ts';
import { VfioDevice } from '../../host/vfio/device.ts';
import type { Mdev, MdevDriver, MdevParent } from '../../host/vfio/mdev.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { freshCore } from '../support/core.ts';

const A = '55555555-5555-4555-8555-5555555555aa';
const B = '55555555-5555-4555-8555-5555555555bb';

async function setup(override: Partial<MdevDriver> = {}, maxInstances = 2) {
  const clock = new ManualClock();
  const vfio = new Vfio(await freshCore(), { clock, iommuDrivers: () => [] });
  const requests: number[] = [];
  const ops = { name: 'sample', request: (_device: VfioDevice, count: number) => requests.push(count) };
  const driver: MdevDriver = {
    name: 'sample',
    deviceApi: 'vfio-pci',
    probe(mdev: Mdev) {
      mdev.device = new VfioDevice(vfio, mdev.name, ops);
      vfio.registerDevice(mdev.device, mdev.groupName, 'emulated');
      return 0;
    },
    ...override,
  };
  const options = { path: '/sys/devices/x/p', driver, types: [{ sysfsName: 'a', prettyName: 'Type A' }], maxInstances };
  const parent = vfio.mdev.registerParent(options) as MdevParent;
  const process = new VfioProcess(vfio);
  const types = '/sys/devices/x/p/mdev_supported_types/sample-a';
  const create = (text: string) => process.sysfsWriteRaw(`${types}/create`, text);
  return { clock, vfio, parent, options, process, types, create, requests };
}

describe('mdev', () => {
  it('checks length, form, uuid and counter of create in this order', async () => {
    const { create, vfio } = await setup({}, 1);
    expect(create('')).toBe(0);
    expect(create('5')).toBe(-EINVAL);
    expect(create(`${A}\n\n`)).toBe(-EINVAL);
    expect(create(A.replaceAll('-', '_'))).toBe(-EINVAL);
    expect(create(`${A}\n`)).toBe(37);
    expect(create(A.toUpperCase())).toBe(-EEXIST);
    expect(create(B)).toBe(-EUSERS);
    expect(vfio.groups.get('8')?.devices[0]?.name).toBe(A);
  });

  it('gives back uuid and counter when probe fails', async () => {
    const { create, parent, vfio } = await setup({ probe: () => -ENOSPC });
    expect(create(A)).toBe(-ENOSPC);
    expect(create(A)).toBe(-ENOSPC);
    expect(parent.availableInstances).toBe(2);
    expect(vfio.mdev.devices.size).toBe(0);
    expect(vfio.sysfs.exists(`/sys/devices/x/p/${A}`)).toBe(false);
  });

  it('keeps the slot and the uuid of a removed device until the last close, and asks the user every 10 s', async () => {
    const { create, clock, parent, process, requests, vfio } = await setup({}, 1);
    expect(create(A)).toBe(36);
    const mdev = vfio.mdev.devices.get(A)!;
    mdev.device!.get();
    expect(process.sysfsWrite(`/sys/devices/x/p/${A}/remove`, '1\n')).toBe(2);
    expect(process.sysfsWriteRaw(`/sys/devices/x/p/${A}/remove`, '1')).toBe(-2);
    expect(vfio.mdev.removeDevice(mdev)).toBe(-EAGAIN);
    expect(create(A)).toBe(-EEXIST);
    expect(create(B)).toBe(-EUSERS);
    clock.advance(25_000);
    expect(requests).toEqual([0, 1, 2]);
    mdev.device!.put();
    clock.advance(25_000);
    expect(requests).toEqual([0, 1, 2]);
    expect(parent.availableInstances).toBe(1);
    expect(vfio.mdev.removeDevice(mdev)).toBe(-ENODEV);
    expect(create(B)).toBe(36);
  });

  it('takes any base of kstrtoul in remove; 0 does nothing', async () => {
    const { create, process, vfio } = await setup();
    create(A);
    const path = `/sys/devices/x/p/${A}/remove`;
    for (const zero of ['0', '00', '0x0\n', '+0']) expect(process.sysfsWriteRaw(path, zero)).toBe(zero.length);
    for (const bad of ['-1', '08', '1 ', '0x', '1\n\n', 'x', '18446744073709551616'])
      expect(process.sysfsWriteRaw(path, bad)).toBe(-EINVAL);
    expect(vfio.mdev.devices.size).toBe(1);
    expect(process.sysfsWriteRaw(path, '017')).toBe(3);
    expect(vfio.mdev.devices.size).toBe(0);
  });

  it('refuses a parent without a device_api, and the same parent twice', async () => {
    const { options, vfio } = await setup();
    expect(vfio.mdev.registerParent(options)).toBe(-EEXIST);
    const driver = { ...options.driver, deviceApi: '' as 'vfio-pci' };
    expect(vfio.mdev.registerParent({ ...options, path: '/sys/q', driver })).toBe(-EINVAL);
  });

  it('links device, type and parent, lists attributes, and takes everything away with the parent', async () => {
    const { create, process, types, parent, vfio } = await setup({
      showDescription: () => 'a sample',
      attributes: (mdev) => ({ who: { show: () => `${mdev.name}\n` } }),
    });
    const events: string[] = [];
    vfio.mdev.onEvent = (_parent, state) => events.push(state);
    create(A);
    expect(process.sysfsRead(`${types}/devices/${A}/mdev_type/description`)).toBe('a sample\n');
    expect(process.sysfsRead(`/sys/class/mdev_bus/p/${A}/who`)).toBe(`${A}\n`);
    expect(process.sysfsReadRaw(`${types}/devices`)).toBe(-21);
    expect(process.sysfsReadRaw(`${types}/name/x`)).toBe(-20);
    expect(vfio.sysfs.list(types)).toEqual([
      'available_instances',
      'create',
      'description',
      'device_api',
      'devices',
      'name',
    ]);
    vfio.mdev.unregisterParent(parent);
    expect(vfio.sysfs.list('/sys/devices/x/p')).toEqual([]);
    expect(vfio.groups.size).toBe(0);
    expect(events).toEqual(['unregistered']);
  });

  it('stores the uuid in guid byte order', async () => {
    const { create, vfio } = await setup();
    create('00112233-4455-6677-8899-aabbccddeeff');
    const { guid } = [...vfio.mdev.devices.values()][0]!;
    expect([...guid].map((byte) => byte.toString(16).padStart(2, '0')).join('')).toBe(
      '33221100554477668899aabbccddeeff',
    );
  });
});
