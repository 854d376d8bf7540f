// Every driver that migrates, through the public calls: every ordered pair of states goes as the table says, with a descriptor exactly where a transfer
// begins, and RESET always gives RUNNING. Source: spec migration sections B.3 to B.7.
import { describe, expect, it } from 'vitest';
import { EINVAL, ENODEV, ENOTTY } from '../../assembly/abi.ts';
import type { DeviceDescription } from '../../host/devices/model.ts';
import { createVfio } from '../../host/inline.ts';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import { VfioDeviceFeature } from '../../host/uapi/structs.ts';
import { isSaving, nextState, stateName, stateSupported } from '../../host/vfio/migration_states.ts';
import { openMachine } from '../support/machines.ts';

const DRIVER = 'vfio-pci-migratable';
const DEVICES: ReadonlyArray<[string, DeviceDescription, number, bigint]> = [
  ['mtty', { bus: 'mdev', model: 'mtty', name: '22222222-2222-4222-8222-222222222222', group: 6 }, 7, 0n],
  ['edu', { bus: 'pci', model: 'edu', name: '0000:00:01.0', group: 1, driver: DRIVER }, 3, 0n],
  ['pci-msix', { bus: 'pci', model: 'pci-msix', name: '0000:00:02.0', group: 2, driver: DRIVER }, 3, 0n],
  ['ism', { bus: 'pci', model: 'ism', name: '0001:00:00.0', group: 3, driver: DRIVER }, 3, 0x100000000n],
  ['zpci-net', { bus: 'pci', model: 'zpci-net', name: '0002:00:00.0', group: 4, driver: DRIVER }, 3, 0x100000000n],
  [
    'vfio-ccw',
    {
      bus: 'ccw',
      model: 'dasd-3390',
      name: '11111111-1111-4111-8111-111111111111',
      group: 5,
      subchannel: '0.0.0313',
      device: '0.0.0120',
    },
    3,
    0n,
  ],
];
const RUNNING = 2;
const STOP = 1;
const STOP_COPY = 3;
const RESUMING = 4;

describe.each(DEVICES)('%s', (_name, description, flags, iova) => {
  it('goes every way of the table', async () => {
    const { vfio, fds } = await openMachine([description], 65536, iova);
    const fd = fds[0]!;
    const call = (feature: number, state = 0) => {
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 16, true);
      view.setUint32(4, feature, true);
      view.setUint32(8, state, true);
      const ret = vfio.ioctlRaw(fd, VFIO_DEVICE_FEATURE, bytes);
      return { ret, state: view.getUint32(8, true), fd: view.getInt32(12, true) };
    };
    const set = (state: number) => call(0x20002, state);
    const get = () => call(0x10002).state;
    expect(call(0x10001)).toMatchObject({ ret: 0, state: flags });
    // A stream of its own, so that RESUMING can be left.
    const saving = set(STOP_COPY);
    const stream = new Uint8Array(200000);
    const length = vfio.read(saving.fd, stream);
    expect(vfio.read(saving.fd, stream.subarray(length))).toBe(0);
    const size = call(0x10009);
    expect(size.ret).toBe(0);
    expect(size.state).toBe(length);
    vfio.close(saving.fd);
    for (let from = 1; from < 8; from++) {
      if (!stateSupported(flags, from)) {
        expect(set(from).ret).toBe(-EINVAL);
        continue;
      }
      for (let to = 0; to < 9; to++) {
        const label = `${stateName(from)} -> ${stateName(to)}`;
        vfio.ioctl(fd, VFIO_DEVICE_RESET);
        const entry = set(from);
        expect(entry.ret, label).toBe(0);
        if (from === RESUMING && to !== RESUMING) vfio.write(entry.fd, stream.subarray(0, length));
        const arcs: Array<[number, number]> = [];
        let expected = 0;
        for (let at = from; at !== to; ) {
          const next = nextState(flags, at, to);
          expected = Math.min(0, next);
          if (next < 0) break;
          arcs.push([at, next]);
          at = next;
        }
        const result = set(to);
        expect(result.ret, label).toBe(expected);
        expect(get(), label).toBe(expected < 0 ? from : to);
        const [a, b] = arcs.at(-1) ?? [to, to];
        const opens = expected === 0 && arcs.length > 0 && ((isSaving(b) && !isSaving(a)) || b === RESUMING);
        expect(result.fd >= 0, label).toBe(opens);
        // The transfer of the state that was left has ended.
        const goesOn = expected < 0 || from === to || (isSaving(from) && isSaving(to));
        if (entry.fd >= 0) {
          const probe = new Uint8Array(1);
          const ret = from === RESUMING ? vfio.writeRaw(entry.fd, probe) : vfio.readRaw(entry.fd, probe);
          expect(ret === -ENODEV, `${label}: ${ret}`).toBe(!goesOn);
          vfio.close(entry.fd);
        }
        if (result.fd >= 0) vfio.close(result.fd);
      }
    }
    vfio.ioctl(fd, VFIO_DEVICE_RESET);
    expect(get()).toBe(RUNNING);
    expect(set(STOP).ret).toBe(0);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('refuses half a stream, bytes behind it, and other devices', async () => {
    const { vfio, fds } = await openMachine([description], 65536, iova);
    const device = vfio.kernel.groups.get(String(description.group))!.devices[0]!;
    const machine = device.migration!;
    const saved = machine.set(STOP_COPY).file as unknown as { peek(n: number): Uint8Array };
    const stream = saved.peek(200000).slice();
    const attempt = (bytes: Uint8Array) => {
      vfio.ioctl(fds[0]!, VFIO_DEVICE_RESET);
      const file = machine.set(RESUMING).file as unknown as { room: number; feed(bytes: Uint8Array): number };
      if (bytes.length > file.room) return -1;
      const fed = file.feed(bytes);
      return fed < 0 ? fed : machine.set(STOP).result;
    };
    for (const length of [0, 1, 15, 16, 23, 24, stream.length - 1])
      if (length < stream.length) expect(attempt(stream.subarray(0, length)), `${length} bytes`).toBeLessThan(0);
    expect(attempt(Uint8Array.of(...stream, 0))).toBeLessThan(0);
    for (const at of [0, 3, 8]) {
      const other = stream.slice();
      other[at]! ^= 0xff;
      if (at < 8 || description.model !== 'dasd-3390') expect(attempt(other), `byte ${at}`).toBeLessThan(0);
    }
    expect(attempt(stream)).toBe(0);
    vfio.exit();
  });
});

describe('devices that do not migrate', () => {
  it.each([
    ['edu on vfio-pci', { bus: 'pci', model: 'edu', name: '0000:00:01.0', group: 1 }],
    [
      'a scripted subchannel',
      {
        bus: 'ccw',
        model: 'scripted',
        name: '44444444-4444-4444-8444-444444444444',
        group: 8,
        subchannel: '0.0.0400',
        device: '0.0.0500',
      },
    ],
  ])('%s knows none of the features, even for PROBE', async (_name, description) => {
    const { vfio, fds } = await openMachine([description]);
    for (const id of [1, 2, 6, 7, 8, 9])
      for (const flags of [0x40000, 0x50000, 0x10000, 0x20000])
        expect(
          vfio.ioctlRaw(fds[0]!, VFIO_DEVICE_FEATURE, new VfioDeviceFeature({ argsz: 48, flags: flags | id }, 40)),
        ).toBe(-ENOTTY);
    // Known since 7.2, but not for a device without pre-copy.
    expect(vfio.ioctlRaw(fds[0]!, VFIO_DEVICE_FEATURE, new VfioDeviceFeature({ argsz: 8, flags: 0x4000c }))).toBe(
      -EINVAL,
    );
  });

  it('vfio-ap has no states and no log', async () => {
    const vfio = await createVfio();
    const device = vfio.kernel.groups.get('7')!.devices[0]!;
    expect(device.ops.name).toMatch(/ap/);
    expect([device.migration, device.gate, device.ops.log]).toEqual([null, null, undefined]);
  });
});
