// SET_IRQS with random headers, for every size of index: the common check against the sheet's list of refusals (spec vfio-core section 7.1), and the
// vfio-ccw device, which must not mind.
import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL } from '../../assembly/abi.ts';
import { VFIO_DEVICE_SET_IRQS } from '../../host/uapi/ioctl.ts';
import { readIrqSet } from '../../host/vfio/irqs.ts';
import { DirectBuffer } from '../../host/vfio/user.ts';
import { ccwMachine, NOTHING } from '../support/ccw_machine.ts';
import { Random, runs, seed } from '../support/counts.ts';

const CALLS = runs(100_000);

interface Header {
  argsz: number;
  flags: number;
  index: number;
  start: number;
  count: number;
}

/** Near the limits most of the time. */
function randomHeader(random: Random): Header {
  const edge = (...values: number[]): number =>
    random.int(12) === 0 ? (random.next() * 2 ** 32) >>> 0 : random.pick(values);
  return {
    argsz: edge(0, 19, 20, 21, 23, 24, 28, 32, 40, 0xffffffff),
    flags: edge(0x21, 0x22, 0x24, 0x24, 0x09, 0x12, 0x20, 0x03, 0x06, 0x25, 0x3f, 0x40, 0x64, 0),
    index: edge(0, 0, 1, 2, 3, 4, 5, 0xffffffff),
    start: edge(0, 0, 0, 1, 2, 3, 4, 8, 0xffffffff),
    count: edge(0, 1, 1, 1, 2, 3, 4, 5, 8, 0xfffffffe, 0xffffffff),
  };
}

function bytesOf({ argsz, flags, index, start, count }: Header, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(20 + data.length);
  const view = new DataView(bytes.buffer);
  [argsz, flags, index, start, count].forEach((word, i) => {
    view.setUint32(4 * i, word, true);
  });
  bytes.set(data, 20);
  return bytes;
}

/** The refusals one after the other; 0: none. `room` bytes of data are there. */
function refusal({ argsz, flags, index, start, count }: Header, num: readonly number[], room: number): number {
  if (argsz < 20) return EINVAL;
  if (index >= num.length) return EINVAL;
  if (BigInt(start) + BigInt(count) >= 0xffffffffn) return EINVAL;
  if (flags > 0x3f) return EINVAL;
  const limit = num[index] as number;
  if (start >= limit || start + count > limit) return EINVAL;
  const kinds = [flags & 1, flags & 2, flags & 4].filter((bit) => bit !== 0);
  if (kinds.length !== 1) return EINVAL;
  const size = count * (kinds[0] === 4 ? 4 : kinds[0] === 2 ? 1 : 0);
  if (size > argsz - 20) return EINVAL;
  return size > room ? EFAULT : 0;
}

describe('SET_IRQS', () => {
  it(`the common check: ${CALLS} headers, seed ${seed}`, async () => {
    const { vfio } = await ccwMachine();
    const random = new Random();
    const seen = new Map<number, number>();
    for (let i = 0; i < CALLS; i++) {
      const header = randomHeader(random);
      const num = random.pick([[1], [1, 1, 1], [1, 8, 0, 4, 1], [0], []]);
      const data = Uint8Array.from({ length: random.pick([0, 0, 1, 4, 16]) }, () => random.int(256));
      const result = readIrqSet(vfio.task, new DirectBuffer(bytesOf(header, data)), num.length, (index) => num[index]!);
      const expected = -refusal(header, num, data.length);
      const errno = typeof result === 'number' ? result : 0;
      if (errno !== expected)
        expect.fail(`${JSON.stringify({ header, num, room: data.length })}: ${errno}, not ${expected}`);
      if (typeof result !== 'number') expect([result.index, result.count]).toEqual([header.index, header.count]);
      seen.set(errno, (seen.get(errno) ?? 0) + 1);
    }
    for (const errno of [0, -EINVAL, -EFAULT]) expect(seen.get(errno) ?? 0, `${errno}`).toBeGreaterThan(CALLS / 1000);
  });

  it(`a vfio-ccw device takes ${CALLS} of them and keeps its eventfds in order`, async () => {
    const machine = await ccwMachine();
    const { vfio } = machine;
    const fd = machine.open();
    const eventfd = vfio.eventfd();
    const random = new Random(seed + 1);
    for (let i = 0; i < CALLS; i++) {
      const data = new Uint8Array(Int32Array.of(random.pick([-2, -1, 0, fd, eventfd, eventfd, 99])).buffer);
      const bytes = bytesOf(randomHeader(random), data.subarray(0, random.pick([0, 1, 4, 4, 4])));
      const result = vfio.ioctlRaw(fd, VFIO_DEVICE_SET_IRQS, bytes);
      if (result > 0 || result < -133) expect.fail(`answered ${result}`);
      for (const { eventfd: bound } of [machine.device.ioIrq, machine.device.crwIrq, machine.device.reqIrq])
        if (bound !== null && bound !== vfio.eventfdOf(eventfd)) expect.fail('something else is bound');
    }
    for (const open of [fd, eventfd, machine.group, machine.container]) vfio.close(open);
    expect(machine.leftovers()).toEqual(NOTHING);
  });
});
