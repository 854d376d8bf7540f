// DMA logging through FEATURE 6, 7, 8: the order of the checks, and the log. Source: spec migration section B.8.
import { describe, expect, it } from 'vitest';
import { E2BIG, EFAULT, EINVAL, EOVERFLOW } from '../../assembly/abi.ts';
import { VFIO_DEVICE_FEATURE } from '../../host/uapi/ioctl.ts';
import {
  VfioDeviceFeatureDmaLoggingControl as Control,
  VfioDeviceFeatureDmaLoggingReport as Report,
} from '../../host/uapi/structs.ts';
import { combineRanges } from '../../host/vfio/dma_logging.ts';
import { DirectBuffer } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';
import { openBank } from '../support/migratable.ts';

const PAGE = 0x1000n;

async function user() {
  const u = openBank(await freshCore(), 7);
  const memory = u.task.mm.mapAnonymous(0x4000n);
  const call = (flags: number, data: Uint8Array) => {
    const bytes = new Uint8Array(8 + data.length);
    new DataView(bytes.buffer).setUint32(0, bytes.length, true);
    new DataView(bytes.buffer).setUint32(4, flags, true);
    bytes.set(data, 8);
    return u.file.ioctl(u.task, VFIO_DEVICE_FEATURE, new DirectBuffer(bytes));
  };
  const start = (ranges: Array<[bigint, bigint]>, pageSize = PAGE, at = memory) => {
    const list = new BigUint64Array(ranges.flat());
    u.task.mm.write(memory, new Uint8Array(list.buffer));
    return call(0x20006, new Control({ page_size: pageSize, num_ranges: ranges.length, ranges: at }).bytes);
  };
  const stop = () => call(0x20007, new Uint8Array(0));
  const bitmap = memory + 0x2000n;
  const report = (iova: bigint, length: bigint, pageSize = PAGE, at = bitmap) =>
    call(0x10008, new Report({ iova, length, page_size: pageSize, bitmap: at }).bytes);
  const bits = (bytes: number) => {
    const out = new Uint8Array(bytes);
    u.task.mm.read(bitmap, out);
    return [...out];
  };
  return { ...u, memory, bitmap, call, start, stop, report, bits };
}

describe('DMA logging', () => {
  it('START checks count, ranges, alignment, end of the address space, overlap', async () => {
    const u = await user();
    expect(u.start([])).toBe(-EINVAL);
    expect(u.start(Array.from({ length: 257 }, (_, i) => [BigInt(i) * PAGE, PAGE]))).toBe(-E2BIG);
    expect(u.start([[0n, PAGE]], PAGE, 0x10n)).toBe(-EFAULT);
    expect(u.start([[0x800n, PAGE]])).toBe(-EINVAL);
    expect(u.start([[PAGE, 0x2000n]], 0x2000n)).toBe(-EINVAL);
    expect(u.start([[0n, PAGE]], 0n)).toBe(-EINVAL);
    expect(u.start([[0xfffffffffffff000n, PAGE]])).toBe(-EOVERFLOW);
    expect(
      u.start([
        [0n, 0x2000n],
        [PAGE, PAGE],
      ]),
    ).toBe(-EINVAL);
    expect(u.device.log.active).toBe(false);
    expect(u.start([[0n, 0x10000n]])).toBe(0);
    expect(u.start([[0n, 0x10000n]])).toBe(-EINVAL);
    expect(u.stop()).toBe(0);
  });

  it('REPORT sets bits, never clears them, and clears the log of its range', async () => {
    const u = await user();
    expect(u.report(0n, PAGE)).toBe(-EINVAL);
    u.start([[0n, 0x20000n]]);
    u.device.log.note(0x1ff0n, 0x20);
    u.device.log.note(0x10000n, 1);
    u.device.log.note(0x40000n, 1);
    u.task.mm.write(u.bitmap, new Uint8Array([0x80]));
    expect(u.report(0n, 0x10000n)).toBe(0);
    expect(u.bits(4)).toEqual([0x86, 0, 0, 0]);
    expect(u.report(0n, 0x20000n, 0x2000n)).toBe(0);
    expect(u.bits(4)).toEqual([0x86, 1, 0, 0]);
    u.task.mm.write(u.bitmap, new Uint8Array(4));
    expect(u.report(0n, 0x20000n)).toBe(0);
    expect(u.bits(4)).toEqual([0, 0, 0, 0]);
  });

  it('REPORT of a part clears that part only, whatever page size was logged with', async () => {
    const u = await user();
    expect(u.start([[0n, 0x400000n]], 0x200000n)).toBe(0);
    u.device.log.note(0x3000n, 0x2000);
    expect(u.report(0n, 0x4000n)).toBe(0);
    expect(u.bits(2)).toEqual([0x08, 0]);
    expect(u.report(0x4000n, 0x4000n, 0x2000n)).toBe(0);
    expect(u.bits(2)).toEqual([0x09, 0]);
    u.task.mm.write(u.bitmap, new Uint8Array(2));
    expect(u.report(0n, 0x400000n, 0x200000n)).toBe(0);
    expect(u.bits(2)).toEqual([0, 0]);
    // A range that begins or ends inside a page shows it and leaves it to the next one.
    u.device.log.note(0x5000n, 1);
    expect(u.report(0x5800n, 0x1000n)).toBe(0);
    expect(u.report(0x5000n, 0x1000n)).toBe(0);
    expect(u.bits(1)).toEqual([0x01]);
  });

  it('REPORT sets runs of bits across pages of the bitmap', async () => {
    const u = await user();
    u.start([[0n, 0x20000000n]]);
    u.device.log.note(0n, 1);
    u.device.log.note(0x7ff8000n, 0x10000);
    expect(u.report(0n, 0x10000000n)).toBe(0);
    const bytes = new Uint8Array(0x2000);
    u.task.mm.read(u.bitmap, bytes);
    expect([bytes[0], bytes[0xfff], bytes[0x1000], bytes[0x1001]]).toEqual([1, 0xff, 0xff, 0]);
  });

  it('REPORT checks page size, end of the address space, and faults only where a bit is set', async () => {
    const u = await user();
    u.start([[0n, 0x20000n]]);
    expect(u.report(0n, PAGE, 0x800n)).toBe(-EINVAL);
    expect(u.report(0n, PAGE, 0x1001n)).toBe(-EINVAL);
    expect(u.report(0xfffffffffffff000n, PAGE)).toBe(-EOVERFLOW);
    expect(u.report(0n, PAGE, PAGE, 0x10n)).toBe(0);
    u.device.log.note(0n, 1);
    expect(u.report(0n, PAGE, PAGE, 0x10n)).toBe(-EFAULT);
  });

  it('the smallest gaps close first when the device has too few ranges', () => {
    const ranges = [
      { iova: 0n, length: 1n },
      { iova: 10n, length: 1n },
      { iova: 13n, length: 1n },
      { iova: 30n, length: 2n },
    ];
    expect(combineRanges(ranges, 3)).toEqual([ranges[0], { iova: 10n, length: 4n }, ranges[3]]);
    expect(combineRanges(ranges, 1)).toEqual([{ iova: 0n, length: 32n }]);
    expect(combineRanges(ranges, 4)).toEqual(ranges);
  });
});
