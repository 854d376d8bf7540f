// The migration calls of a device as its user meets them: states, transfers, RESET, pre-copy information. Source: spec migration sections B and D.
import { describe, expect, it } from 'vitest';
import { EBADF, EFAULT, EINVAL, EIO, ENODEV, ENOMSG, ENOTTY, ESPIPE } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE_GET as GET,
  VFIO_DEVICE_FEATURE_PROBE as PROBE,
  VFIO_DEVICE_FEATURE_SET as SET,
} from '../../host/uapi/constants.ts';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET, VFIO_MIG_GET_PRECOPY_INFO } from '../../host/uapi/ioctl.ts';
import { VfioPrecopyInfo } from '../../host/uapi/structs.ts';
import { DirectBuffer, ValueArg } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';
import { BANK, openBank } from '../support/migratable.ts';

const ERROR = 0;
const STOP = 1;
const RUN = 2;
const SCOPY = 3;
const RESUM = 4;
const P2P = 5;
const PRE = 6;
const PRE_P2P = 7;

async function user(features = 7) {
  const opened = openBank(await freshCore(), features);
  const { task, fd } = opened;
  const ioctl = (request: number, bytes?: Uint8Array, on = fd) =>
    task.file(on)!.ioctl(task, request, bytes === undefined ? new ValueArg(0n) : new DirectBuffer(bytes));
  const feature = (flags: number, data: Uint8Array, argsz = 8 + data.length) => {
    const bytes = new Uint8Array(8 + data.length);
    new DataView(bytes.buffer).setUint32(0, argsz, true);
    new DataView(bytes.buffer).setUint32(4, flags, true);
    bytes.set(data, 8);
    const ret = ioctl(VFIO_DEVICE_FEATURE, bytes);
    return { ret, data: bytes.subarray(8) };
  };
  const words = (...values: number[]) => new Uint8Array(new Int32Array(values).buffer);
  const set = (state: number) => {
    const { ret, data } = feature(SET | 2, words(state, 77));
    const view = new DataView(data.buffer, data.byteOffset);
    expect(view.getInt32(0, true)).toBe(state);
    return { ret, fd: view.getInt32(4, true) };
  };
  const state = () => {
    const { ret, data } = feature(GET | 2, words(99, 99));
    expect(ret).toBe(0);
    const view = new DataView(data.buffer, data.byteOffset);
    expect(view.getInt32(4, true)).toBe(-1);
    return view.getInt32(0, true);
  };
  const read = (on: number, length: number, offset: bigint | null = null) => {
    const bytes = new Uint8Array(length);
    const ret = task.file(on)!.read(task, new DirectBuffer(bytes), offset);
    return ret < 0 ? ret : [...bytes.subarray(0, ret)];
  };
  const write = (on: number, bytes: Uint8Array, offset: bigint | null = null) =>
    task.file(on)!.write(task, new DirectBuffer(bytes), offset);
  return { ...opened, ioctl, feature, set, state, read, write };
}

describe('migration states', () => {
  it('a device without P2P refuses RUNNING_P2P and stops on the way to STOP_COPY', async () => {
    const u = await user(1);
    expect(u.set(P2P)).toEqual({ ret: -EINVAL, fd: -1 });
    const { ret, fd } = u.set(SCOPY);
    expect(ret).toBe(0);
    expect(fd).toBeGreaterThan(2);
    expect(u.device.arcs).toEqual(['2>1', '1>3']);
  });

  it('a running transfer goes on into STOP_COPY under the same descriptor', async () => {
    const u = await user();
    const { fd } = u.set(PRE);
    u.device.arcs.length = 0;
    expect(u.set(SCOPY)).toEqual({ ret: 0, fd: -1 });
    expect(u.device.arcs).toEqual(['6>7', '7>3']);
    expect(u.read(fd, 200)).toHaveLength(16 + 1 + BANK);
    expect(u.read(fd, 1)).toEqual([]);
    expect(u.read(fd, 1)).toEqual([]);
  });

  it('STOP_COPY never leads back to pre-copy, and its transfer survives the attempt', async () => {
    const u = await user();
    const { fd } = u.set(SCOPY);
    expect(u.set(PRE)).toEqual({ ret: -EINVAL, fd: -1 });
    expect(u.state()).toBe(SCOPY);
    expect(u.read(fd, 1)).toEqual([0xff]);
  });

  it('half of the data leaves the device resuming; the rest completes it', async () => {
    const u = await user();
    const { fd } = u.set(RESUM);
    expect(u.write(fd, new Uint8Array(20).fill(0xff))).toBe(20);
    expect(u.set(STOP).ret).toBe(-EINVAL);
    expect(u.state()).toBe(RESUM);
    expect(u.write(fd, new Uint8Array(BANK + 1 - 20).fill(0xff))).toBe(BANK + 1 - 20);
    expect(u.set(STOP)).toEqual({ ret: 0, fd: -1 });
    expect(u.device.regs[7]).toBe(0xff);
  });

  it('only RESET leaves the error state', async () => {
    const u = await user();
    u.device.failArc = { from: P2P, to: STOP, errno: EIO, error: true };
    expect(u.set(STOP)).toEqual({ ret: -EIO, fd: -1 });
    expect(u.state()).toBe(ERROR);
    for (let state = 0; state < 9; state++) expect(u.set(state).ret).toBe(-EINVAL);
    expect(u.ioctl(VFIO_DEVICE_RESET)).toBe(0);
    expect(u.state()).toBe(RUN);
    expect(u.device.restarts).toBe(1);
  });

  it('a step that fails leaves the device at the last step that was done', async () => {
    const u = await user();
    u.device.failArc = { from: STOP, to: SCOPY, errno: EIO };
    expect(u.set(SCOPY)).toEqual({ ret: -EIO, fd: -1 });
    expect(u.state()).toBe(STOP);
    u.device.failArc = null;
    expect(u.set(SCOPY).ret).toBe(0);
  });

  it('asking for the present state does nothing', async () => {
    const u = await user();
    u.set(STOP);
    u.device.arcs.length = 0;
    expect(u.set(STOP)).toEqual({ ret: 0, fd: -1 });
    expect(u.device.arcs).toEqual([]);
  });

  it('too little data is refused before anything happens', async () => {
    const u = await user();
    expect(u.feature(SET | 2, new Uint8Array([3, 0, 0, 0])).ret).toBe(-EINVAL);
    expect(u.state()).toBe(RUN);
    expect(u.feature(PROBE | GET | SET | 2, new Uint8Array(0)).ret).toBe(0);
    expect(u.feature(PROBE | SET | 9, new Uint8Array(0)).ret).toBe(-EINVAL);
  });

  it('a RESET from inside a transition waits for its end, then wins before the caller returns', async () => {
    const u = await user();
    const seen: number[] = [];
    u.device.inArc = (from, to) => {
      if (from === P2P && to === STOP) expect(u.ioctl(VFIO_DEVICE_RESET)).toBe(0);
      seen.push(u.device.migration!.state);
    };
    const { ret, fd } = u.set(SCOPY);
    expect(ret).toBe(0);
    expect(seen).toEqual([RUN, P2P, STOP]);
    expect(u.state()).toBe(RUN);
    expect(u.read(fd, 1)).toBe(-ENODEV);
  });

  it('leaving a state, RESET and the last close end the transfer; the descriptor stays', async () => {
    const u = await user();
    const first = u.set(SCOPY).fd;
    u.set(STOP);
    expect(u.read(first, 1)).toBe(-ENODEV);
    const second = u.set(RESUM).fd;
    u.ioctl(VFIO_DEVICE_RESET);
    expect(u.write(second, new Uint8Array(1))).toBe(-ENODEV);
    const third = u.set(SCOPY).fd;
    u.task.close(u.fd);
    expect(u.read(third, 1)).toBe(-ENODEV);
    expect(u.device.migration!.state).toBe(RUN);
    u.task.exit();
    expect(u.task.openFiles).toBe(0);
  });
});

describe('transfer files', () => {
  it('are streams of one direction', async () => {
    const u = await user();
    const saving = u.set(SCOPY).fd;
    expect(u.read(saving, 1, 0n)).toBe(-ESPIPE);
    expect(u.write(saving, new Uint8Array(1))).toBe(-EBADF);
    u.set(STOP);
    const resuming = u.set(RESUM).fd;
    expect(u.write(resuming, new Uint8Array(1), 0n)).toBe(-ESPIPE);
    expect(u.read(resuming, 1)).toBe(-EBADF);
    expect(u.ioctl(VFIO_MIG_GET_PRECOPY_INFO, new VfioPrecopyInfo().bytes, resuming)).toBe(-ENOTTY);
  });

  it('pre-copy ends with ENOMSG until the device has something new', async () => {
    const u = await user();
    const { fd } = u.set(PRE);
    expect(u.read(fd, 100)).toHaveLength(16);
    expect(u.read(fd, 100)).toBe(-ENOMSG);
    u.write(u.fd, new Uint8Array([5]), 3n);
    expect(u.read(fd, 100)).toEqual([3, 5]);
    expect(u.read(fd, 100)).toBe(-ENOMSG);
    expect(u.set(SCOPY)).toEqual({ ret: 0, fd: -1 });
    expect(u.read(fd, 100)).toHaveLength(BANK + 1);
    expect(u.read(fd, 100)).toEqual([]);
  });

  it('PRECOPY_INFO: request, fault, size, state, life - in this order', async () => {
    const u = await user();
    const { fd } = u.set(PRE);
    const info = () => {
      const argument = new VfioPrecopyInfo();
      const ret = u.ioctl(VFIO_MIG_GET_PRECOPY_INFO, argument.bytes, fd);
      return ret < 0 ? ret : [argument.initial_bytes, argument.dirty_bytes];
    };
    expect(u.ioctl(VFIO_DEVICE_RESET, undefined, fd)).toBe(-ENOTTY);
    expect(u.ioctl(VFIO_MIG_GET_PRECOPY_INFO, undefined, fd)).toBe(-EFAULT);
    expect(u.ioctl(VFIO_MIG_GET_PRECOPY_INFO, new VfioPrecopyInfo({ argsz: 23 }).bytes, fd)).toBe(-EINVAL);
    expect(info()).toEqual([16n, 0n]);
    u.read(fd, 10);
    u.write(u.fd, new Uint8Array([5, 6]), 3n);
    expect(info()).toEqual([6n, 4n]);
    u.read(fd, 6);
    expect(info()).toEqual([0n, 4n]);
    u.set(SCOPY);
    expect(info()).toBe(-EINVAL);
    u.set(RUN);
    u.set(PRE_P2P);
    expect(info()).toBe(-ENODEV);
  });

  it('a transfer that cannot get a descriptor leaves no open file behind', async () => {
    const u = await user();
    while (u.task.openFiles < 1024) u.task.install(u.file);
    const before = u.task.openFiles;
    expect(u.feature(SET | 2, new Uint8Array([SCOPY, 0, 0, 0, 0, 0, 0, 0])).ret).toBeLessThan(0);
    expect(u.task.openFiles).toBe(before);
    expect(u.state()).toBe(SCOPY);
  });
});
