// The older migration region: state word, window protocol, and the same machine behind it. Source: spec migration sections A, C.6, D.8.
import { describe, expect, it } from 'vitest';
import { EINVAL, EIO } from '../../assembly/abi.ts';
import { VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import { DirectBuffer, ValueArg } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';
import { BANK, OLD_MIGRATION, openBank } from '../support/migratable.ts';

const STOP = 0;
const RUNNING = 1;
const SAVING = 2;
const PRE_COPY = 3;
const RESUMING = 4;
const ERROR = 6;
const WINDOW = 48;

async function user(features = 7) {
  const u = openBank(await freshCore(), features);
  const read = (at: number, length: number) => {
    const bytes = new Uint8Array(length);
    const ret = u.file.read(u.task, new DirectBuffer(bytes), OLD_MIGRATION + BigInt(at));
    return ret < 0 ? ret : bytes;
  };
  const write = (at: number, bytes: Uint8Array) =>
    u.file.write(u.task, new DirectBuffer(bytes), OLD_MIGRATION + BigInt(at));
  const u64 = (at: number) => {
    const bytes = read(at, 8);
    return typeof bytes === 'number' ? bytes : Number(new DataView(bytes.buffer).getBigUint64(0, true));
  };
  const state = () => (read(0, 4) as Uint8Array)[0]!;
  const set = (value: number) => write(0, new Uint8Array(new Uint32Array([value]).buffer));
  const size = (value: number) => write(24, new Uint8Array(new BigUint64Array([BigInt(value)]).buffer));
  /** One whole stream, as its buffers; what the source's device gives until pending_bytes is 0. */
  const buffers = () => {
    const list: Uint8Array[] = [];
    while (u64(8) !== 0) {
      const at = u64(16);
      list.push((read(at, u64(24)) as Uint8Array).slice());
    }
    return list;
  };
  const load = (chunk: Uint8Array) => {
    const at = u64(16);
    const done = write(at, chunk);
    return done < 0 ? done : size(chunk.length);
  };
  const reset = () => u.file.ioctl(u.task, VFIO_DEVICE_RESET, new ValueArg(0n));
  return { ...u, read, write, u64, state, set, size, buffers, load, reset };
}

describe('the older migration region', () => {
  it('legal states follow each other freely, the others are refused', async () => {
    const u = await user();
    expect(u.state()).toBe(RUNNING);
    for (const value of [5, 6, 7]) expect(u.set(value)).toBe(-EINVAL);
    expect(u.state()).toBe(RUNNING);
    const legal = [STOP, RUNNING, SAVING, PRE_COPY];
    for (const from of legal)
      for (const to of legal) {
        expect(u.set(from)).toBe(4);
        expect(u.set(to)).toBe(4);
        expect(u.state()).toBe(to);
      }
    u.set(SAVING);
    u.set(STOP);
    expect(u.set(RESUMING)).toBe(4);
    expect(u.state()).toBe(RESUMING);
  });

  it('the state of the machine is the one of the table', async () => {
    const u = await user();
    for (const [value, machine] of [
      [STOP, 1],
      [RUNNING, 2],
      [SAVING, 3],
      [PRE_COPY, 6],
      [RESUMING, 4],
    ]) {
      u.set(value!);
      expect(u.device.migration!.state).toBe(machine);
      if (value === RESUMING) u.reset();
    }
    expect(u.state()).toBe(RUNNING);
  });

  it('fields have one width and one place', async () => {
    const u = await user();
    expect(u.read(0, 8)).toBe(-EINVAL);
    expect(u.read(1, 1)).toBe(-EINVAL);
    expect(u.read(8, 4)).toBe(-EINVAL);
    expect(u.write(8, new Uint8Array(8))).toBe(-EINVAL);
    expect(u.write(16, new Uint8Array(8))).toBe(-EINVAL);
    expect(u.write(4, new Uint8Array(4).fill(7))).toBe(4);
    expect(u.read(4, 4)).toEqual(new Uint8Array(4));
    expect(u.u64(16)).toBe(32);
    expect(u.set(0xfffffff8 + RUNNING)).toBe(4);
    expect(u.state()).toBe(RUNNING);
  });

  it('a window is offered, read again without effect, and confirmed by pending_bytes', async () => {
    const u = await user();
    u.set(SAVING);
    expect(u.u64(24)).toBe(-EINVAL);
    expect(u.u64(16)).toBe(-EINVAL);
    expect(u.u64(8)).toBe(BANK + 1);
    expect(u.u64(8)).toBe(BANK + 1);
    expect(u.u64(24)).toBe(-EINVAL);
    expect(u.u64(16)).toBe(32);
    expect(u.u64(16)).toBe(32);
    expect(u.u64(24)).toBe(WINDOW);
    expect(u.u64(24)).toBe(WINDOW);
    expect(u.read(32 + WINDOW - 1, 2)).toBe(-EINVAL);
    expect((u.read(32, 1) as Uint8Array)[0]).toBe(0xff);
    expect(u.u64(8)).toBe(BANK + 1 - WINDOW);
    expect(u.read(32, 1)).toBe(-EINVAL);
    expect(u.u64(16)).toBe(32);
    expect(u.u64(24)).toBe(BANK + 1 - WINDOW);
    expect(u.u64(8)).toBe(0);
    expect(u.u64(8)).toBe(0);
  });

  it('a live save moves the device to another one', async () => {
    const source = await user();
    const target = await user();
    source.device.regs.set([1, 2, 3]);
    source.set(PRE_COPY);
    const first = source.buffers();
    source.device.regs[3] = 4;
    source.device.changed.push(3);
    const second = source.buffers();
    source.set(SAVING);
    const last = source.buffers();
    target.set(RESUMING);
    for (const chunk of [...first, ...second, ...last]) expect(target.load(chunk)).toBe(8);
    expect(target.set(RUNNING)).toBe(4);
    expect(target.device.regs).toEqual(source.device.regs);
    expect(target.state()).toBe(RUNNING);
  });

  it('011 to 010 in the middle of an iteration loses no buffer and doubles none', async () => {
    for (const fetch of [false, true]) {
      const source = await user();
      const target = await user();
      source.device.regs.set([9, 8, 7]);
      source.set(PRE_COPY);
      expect(source.u64(8)).toBeGreaterThan(0);
      source.u64(16);
      const size = source.u64(24) as number;
      const first = fetch ? [source.read(32, size) as Uint8Array] : [];
      expect(source.set(SAVING)).toBe(4);
      target.set(RESUMING);
      for (const chunk of [...first, ...source.buffers()]) expect(target.load(chunk)).toBe(8);
      expect(target.set(RUNNING)).toBe(4);
      expect(target.device.regs).toEqual(source.device.regs);
    }
  });

  it('a refused state leaves the buffer that was offered as it is', async () => {
    const u = await user();
    u.set(SAVING);
    u.u64(8);
    u.u64(16);
    const whole = u.read(32, WINDOW);
    expect(u.set(7)).toBe(-EINVAL);
    expect(u.read(32, WINDOW)).toEqual(whole);
    expect(u.set(SAVING)).toBe(4);
    expect(u.u64(24)).toBe(WINDOW);
  });

  it('pre-copy works, and has nothing to say, on a device without it', async () => {
    const u = await user(1);
    expect(u.set(PRE_COPY)).toBe(4);
    expect(u.state()).toBe(PRE_COPY);
    expect(u.u64(8)).toBe(0);
    expect(u.device.migration!.state).toBe(2);
    u.reset();
    expect(u.state()).toBe(RUNNING);
  });

  it('resuming takes chunks in order only', async () => {
    const u = await user();
    u.set(RESUMING);
    expect(u.write(32, new Uint8Array(4))).toBe(-EINVAL);
    expect(u.size(0)).toBe(-EINVAL);
    expect(u.u64(8)).toBe(0);
    expect(u.u64(16)).toBe(32);
    expect(u.u64(24)).toBe(-EINVAL);
    expect(u.size(1)).toBe(-EINVAL);
    expect(u.write(36, new Uint8Array(4))).toBe(-EINVAL);
    expect(u.write(32, new Uint8Array(4).fill(0xff))).toBe(4);
    expect(u.write(36, new Uint8Array(4).fill(0xff))).toBe(4);
    expect(u.size(8)).toBe(8);
    expect(u.size(0)).toBe(-EINVAL);
  });

  it('data that the device refuses lead to the error state, which only RESET leaves', async () => {
    const u = await user();
    u.set(RESUMING);
    u.load(new Uint8Array(4).fill(0xff));
    expect(u.set(RUNNING)).toBe(-EINVAL);
    expect(u.state()).toBe(ERROR);
    for (let value = 0; value < 8; value++) expect(u.set(value)).toBe(-EINVAL);
    u.reset();
    expect(u.state()).toBe(RUNNING);
    expect(u.set(STOP)).toBe(4);
  });

  it('a failing transition leaves the state before it', async () => {
    const u = await user();
    u.device.failArc = { from: 1, to: 3, errno: EIO };
    expect(u.set(SAVING)).toBe(-EIO);
    expect(u.state()).toBe(RUNNING);
    expect(u.device.migration!.state).toBe(2);
    u.device.failArc = { from: 5, to: 1, errno: EIO, error: true };
    expect(u.set(SAVING)).toBe(-EIO);
    expect(u.state()).toBe(ERROR);
  });
});
