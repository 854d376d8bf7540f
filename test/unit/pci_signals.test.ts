// Eventfds as the calls of a PCI device see them: counters, write-ups that unmask or store, closed descriptors, a stopped device.
import { describe, expect, it } from 'vitest';
import { EBUSY, EINVAL, ENOTTY } from '../../assembly/abi.ts';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_IOEVENTFD } from '../../host/uapi/ioctl.ts';
import { VfioDeviceIoeventfd } from '../../host/uapi/structs.ts';
import { EventFd } from '../../host/vfio/eventfd.ts';
import { CONFIG, get, type Opened, openDevice, REGION, readRegion, set, setIrqs, taken } from '../support/opened.ts';

const EDU = '0000:00:01.0';
const MTTY = '22222222-2222-4222-8222-222222222222';
const EVENTFD = 4;
const UNMASK = 16;
const TRIGGER = 32;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const LIVENESS = 4;
const UNKNOWN_REQUEST = 0x3b64 + 60;

const word = (value: bigint) => new Uint8Array(new BigUint64Array([value]).buffer);

function feature({ vfio, fd }: Opened, flags: number, data: number[] = []): number {
  const bytes = new Uint8Array(8 + 4 * data.length);
  new Int32Array(bytes.buffer).set([bytes.length, flags, ...data]);
  return vfio.ioctlRaw(fd, VFIO_DEVICE_FEATURE, bytes);
}
const toState = (opened: Opened, state: number) => feature(opened, 0x20002, [state, -1]);

const arm = ({ vfio, fd }: Opened, data: number, eventfd: number, register = LIVENESS) =>
  vfio.ioctlRaw(
    fd,
    VFIO_DEVICE_IOEVENTFD,
    new VfioDeviceIoeventfd({ flags: 4, offset: BigInt(register), data: BigInt(data), fd: eventfd }),
  );

/** An edu with INTx bound to `e` and unmasked through `u`. */
async function unmaskable() {
  const opened = await openDevice(1, EDU);
  const { vfio } = opened;
  const [e, u] = [vfio.eventfd(), vfio.eventfd()];
  set(opened, CONFIG + 4n, 2, 2);
  setIrqs(opened, { flags: EVENTFD | TRIGGER, index: 0, fds: [e] });
  const unmaskBy = (fd: number) => setIrqs(opened, { flags: EVENTFD | UNMASK, index: 0, fds: [fd] });
  expect(unmaskBy(u)).toBe(0);
  return { opened, vfio, e, u, unmaskBy };
}

describe('an eventfd', () => {
  it('counts signals of a driver up to 2^64 - 1, one more than a write can reach', () => {
    const eventfd = new EventFd();
    eventfd.signal(0xfffffffffffffffen);
    eventfd.signal();
    eventfd.signal();
    expect(eventfd.take()).toBe(0xffffffffffffffffn);
    expect(eventfd.take()).toBeNull();
  });

  it('calls its user back on every signal, also on one that the callback causes', () => {
    const eventfd = new EventFd();
    const heard: bigint[] = [];
    eventfd.onSignal((count) => {
      heard.push(count);
      if (count < 3n) eventfd.signal();
    });
    eventfd.signal();
    expect(heard).toEqual([1n, 2n, 3n]);
  });

  it('has its hooks run once for each signal, the newest first, those of a signal that they cause after them', () => {
    const [a, b] = [new EventFd(), new EventFd()];
    const ran: string[] = [];
    a.hook(() => ran.push('a1'));
    const stop = a.hook(() => {
      ran.push('a2');
      b.signal();
      b.signal();
    });
    b.hook(() => ran.push('b'));
    a.signal();
    expect(ran).toEqual(['a2', 'a1', 'b', 'b']);
    stop();
    a.signal();
    expect(ran).toEqual(['a2', 'a1', 'b', 'b', 'a1']);
  });

  it('stops going round by itself', () => {
    const [a, b] = [new EventFd(), new EventFd()];
    let ran = 0;
    for (const [from, to] of [
      [a, b],
      [b, a],
      [a, a],
    ] as const)
      from.hook(() => {
        ran++;
        from.take();
        to.signal();
      });
    a.signal();
    expect(ran).toBeGreaterThan(1000);
    expect(ran).toBeLessThan(2100);
  });

  it('wakes who listens on a write of 0, and stays as it was', async () => {
    const { opened, vfio, e, u } = await unmaskable();
    set(opened, RAISE, 1);
    expect(taken(opened, e)).toBe(1);
    expect(vfio.write(u, word(0n))).toBe(8);
    expect([taken(opened, e), taken(opened, u)]).toEqual([1, 0]);
  });
});

describe('an eventfd that unmasks INTx', () => {
  it('leaves its place when its last descriptor is closed', async () => {
    const { opened, vfio, e, u, unmaskBy } = await unmaskable();
    const other = vfio.eventfd();
    expect(unmaskBy(other)).toBe(-EBUSY);
    vfio.close(u);
    expect(unmaskBy(other)).toBe(0);
    set(opened, RAISE, 1);
    expect(taken(opened, e)).toBe(1);
    set(opened, ACKNOWLEDGE, 1);
    vfio.write(other, word(1n));
    set(opened, RAISE, 1);
    expect(taken(opened, e)).toBe(1);
  });

  it('may be written by the callback that INTx has called, as often as the line is high', async () => {
    const { opened, vfio, e, u } = await unmaskable();
    const heard: number[] = [];
    vfio.eventfdOf(e).onSignal(() => {
      const status = get(opened, 0x24);
      heard.push(status);
      set(opened, ACKNOWLEDGE, status & -status);
      vfio.write(u, word(1n));
    });
    set(opened, CONFIG + 4n, 0x402, 2);
    set(opened, RAISE, 7);
    set(opened, CONFIG + 4n, 2, 2);
    expect(heard).toEqual([7, 6, 4]);
    set(opened, RAISE, 8);
    expect(heard).toEqual([7, 6, 4, 8]);
  });

  it('is not the one that INTx signals: that one works on without a descriptor', async () => {
    const { opened, vfio, e } = await unmaskable();
    const eventfd = vfio.eventfdOf(e);
    vfio.close(e);
    set(opened, RAISE, 1);
    expect(eventfd.take()).toBe(1n);
  });
});

describe('an ioeventfd', () => {
  it('reaches its register while low power is engaged, as read and write do', async () => {
    const opened = await openDevice(1, EDU);
    const e = opened.vfio.eventfd();
    set(opened, CONFIG + 4n, 2, 2);
    expect(arm(opened, 0x55, e)).toBe(0);
    expect(feature(opened, 0x20003)).toBe(0);
    opened.vfio.write(e, word(1n));
    expect(get(opened, LIVENESS)).toBe(~0x55 >>> 0);
  });

  it('that raises the interrupt which signals it does not go round for ever', async () => {
    const opened = await openDevice(1, EDU);
    const { vfio } = opened;
    const e = vfio.eventfd();
    set(opened, CONFIG + 4n, 6, 2);
    setIrqs(opened, { flags: EVENTFD | TRIGGER, index: 1, fds: [e] });
    expect(arm(opened, 1, e, RAISE)).toBe(0);
    vfio.write(e, word(1n));
    expect(get(opened, 0x24)).toBe(1);
    expect(taken(opened, e)).toBe(1);
    set(opened, ACKNOWLEDGE, 1);
    set(opened, RAISE, 2);
    expect(get(opened, 0x24)).toBe(3);
  });

  it('beside another of the same eventfd comes first when it was made last', async () => {
    const opened = await openDevice(1, EDU);
    const e = opened.vfio.eventfd();
    set(opened, CONFIG + 4n, 2, 2);
    expect([arm(opened, 1, e), arm(opened, 2, e)]).toEqual([0, 0]);
    opened.vfio.write(e, word(1n));
    expect(get(opened, LIVENESS)).toBe(~1 >>> 0);
    expect(taken(opened, e)).toBe(0);
  });

  it('is dropped and counted while the device is stopped', async () => {
    const machine = {
      devices: [{ bus: 'pci', model: 'edu', name: EDU, group: 1, driver: 'vfio-pci-migratable' }],
    };
    const opened = await openDevice(1, EDU, machine);
    const { vfio } = opened;
    const e = vfio.eventfd();
    set(opened, CONFIG + 4n, 2, 2);
    expect(arm(opened, 0x55, e)).toBe(0);
    expect(toState(opened, 1)).toBe(0);
    vfio.write(e, word(1n));
    const device = [...vfio.kernel.nodes.values()].find(({ name }) => name === EDU)!;
    expect(device.gate!.count('write')).toBe(1);
    expect(toState(opened, 2)).toBe(0);
    expect(get(opened, LIVENESS)).toBe(0);
    vfio.write(e, word(1n));
    expect(get(opened, LIVENESS)).toBe(~0x55 >>> 0);
  });
});

describe('calls in unusual states', () => {
  it('any ioctl wakes the device from low power, also a feature that it does not have', async () => {
    const opened = await openDevice(1, EDU);
    const e = opened.vfio.eventfd();
    expect(feature(opened, 0x20004, [e, 0])).toBe(0);
    expect(feature(opened, 0x40001)).toBe(-ENOTTY);
    expect(taken(opened, e)).toBe(1);
  });

  it('a request that the driver does not know stays ENOTTY while the device is stopped', async () => {
    const opened = await openDevice(6, MTTY);
    expect(toState(opened, 1)).toBe(0);
    for (const request of [UNKNOWN_REQUEST, VFIO_DEVICE_IOEVENTFD])
      expect(opened.vfio.ioctlRaw(opened.fd, request, new Uint8Array(64))).toBe(-ENOTTY);
  });

  it('a BAR that an mtty does not have is EINVAL beyond its end, what is no BAR is EFAULT', async () => {
    const opened = await openDevice(6, MTTY);
    for (const index of [2, 3, 4, 5]) expect(readRegion(opened, REGION(index), 1)).toBe(-EINVAL);
    for (const index of [6, 8, 9]) expect(readRegion(opened, REGION(index), 1)).toBe(-14);
    expect(readRegion(opened, 8n, 1)).toBe(-EINVAL);
  });
});
