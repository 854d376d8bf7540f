// DMA logging: the FEATURE calls that make a device note which pages it wrote, and a log that devices of ours keep. Independent of the migration
// state; reads are not logged. Kernel counterpart: vfio_ioctl_device_feature_logging_*. Source: spec migration section B.8.
import { E2BIG, EFAULT, EINVAL, ENOTTY, EOVERFLOW, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_SET,
} from '../uapi/constants.ts';
import {
  VfioDeviceFeatureDmaLoggingControl,
  VfioDeviceFeatureDmaLoggingRange,
  VfioDeviceFeatureDmaLoggingReport,
} from '../uapi/structs.ts';
import type { VfioDevice } from './device.ts';
import { checkFeature } from './feature.ts';
import type { FeatureRequest, LogRange, VfioLogOps } from './ops.ts';
import type { Task } from './task.ts';
import type { UserArg } from './user.ts';

const LIMIT = 1n << 64n;
const PAGE = BigInt(PAGE_SIZE_4K);
const MAX_RANGES = PAGE_SIZE_4K / VfioDeviceFeatureDmaLoggingRange.size;
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/**
 * FEATURE 6, 7 and 8. -ENOTTY without a log, even for PROBE. START: -EFAULT; -EINVAL no range, a range off the page size, overlapping ranges; -E2BIG
 * more than 256; -EOVERFLOW a range up to 2^64; the driver's. REPORT: -EFAULT; -EINVAL page size; -EOVERFLOW; the driver's.
 * undefined: not one of these ids.
 */
export function loggingFeature(device: VfioDevice, task: Task, feature: FeatureRequest): number | undefined {
  const { id } = feature;
  if (id < VFIO_DEVICE_FEATURE_DMA_LOGGING_START || id > VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) return undefined;
  const { log } = device.ops;
  if (log === undefined) return task.fail(ENOTTY, 'the device keeps no log of its DMA');
  if (id === VFIO_DEVICE_FEATURE_DMA_LOGGING_START) return start(device, log, task, feature);
  if (id === VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP) {
    const go = checkFeature(task, feature, VFIO_DEVICE_FEATURE_SET, 0);
    return go <= 0 ? go : log.stop(device);
  }
  return report(device, log, task, feature);
}

function start(device: VfioDevice, log: VfioLogOps, task: Task, feature: FeatureRequest): number {
  const go = checkFeature(task, feature, VFIO_DEVICE_FEATURE_SET, VfioDeviceFeatureDmaLoggingControl.size);
  if (go <= 0) return go;
  const bytes = feature.data.copyIn(0, VfioDeviceFeatureDmaLoggingControl.size);
  if (bytes === null) return task.fail(EFAULT, 'the data are not readable');
  const control = new VfioDeviceFeatureDmaLoggingControl(bytes);
  const { page_size: pageSize, num_ranges: count } = control;
  if (count === 0) return task.fail(EINVAL, 'no ranges');
  if (count > MAX_RANGES) return task.fail(E2BIG, `${count} ranges, at most ${MAX_RANGES}`);
  const ranges: LogRange[] = [];
  const list = task.pointer(control.ranges);
  for (let i = 0; i < count; i++) {
    const one = list.copyIn(i * VfioDeviceFeatureDmaLoggingRange.size, VfioDeviceFeatureDmaLoggingRange.size);
    if (one === null) return task.fail(EFAULT, `range ${i} is not readable`);
    const { iova, length } = new VfioDeviceFeatureDmaLoggingRange(one);
    if (((iova | length) & u64(pageSize - 1n)) !== 0n)
      return task.fail(EINVAL, `range ${i} is not a multiple of the page size ${pageSize}`);
    if (iova + length >= LIMIT) return task.fail(EOVERFLOW, `range ${i} reaches 2^64`);
    // `last` of an empty range wraps as in the kernel's interval tree; at 0 it then covers everything.
    const last = u64(iova + length - 1n);
    if (ranges.some((other) => iova <= u64(other.iova + other.length - 1n) && other.iova <= last))
      return task.fail(EINVAL, `range ${i} overlaps an earlier one`);
    ranges.push({ iova, length });
  }
  const chosen = log.start(device, ranges, pageSize);
  if (chosen < 0n) return task.fail(Number(-chosen), 'the device does not start logging');
  control.page_size = chosen;
  const copied = task.copyOut(feature.data, 0, control.bytes);
  if (copied < 0) log.stop(device);
  return copied;
}

function report(device: VfioDevice, log: VfioLogOps, task: Task, feature: FeatureRequest): number {
  const go = checkFeature(task, feature, VFIO_DEVICE_FEATURE_GET, VfioDeviceFeatureDmaLoggingReport.size);
  if (go <= 0) return go;
  const bytes = feature.data.copyIn(0, VfioDeviceFeatureDmaLoggingReport.size);
  if (bytes === null) return task.fail(EFAULT, 'the data are not readable');
  const { iova, length, page_size: pageSize, bitmap } = new VfioDeviceFeatureDmaLoggingReport(bytes);
  if (pageSize < BigInt(PAGE_SIZE_4K) || (pageSize & (pageSize - 1n)) !== 0n)
    return task.fail(EINVAL, `page size ${pageSize}`);
  if (iova + length >= LIMIT) return task.fail(EOVERFLOW, 'the range reaches 2^64');
  const user = task.pointer(bitmap);
  let fault = false;
  const result = log.readAndClear(device, iova, length, (at, size) => {
    fault ||= !setBits(user, Number((at - iova) / pageSize), Number((at + size - 1n - iova) / pageSize));
  });
  if (result < 0) return task.fail(-result, 'the device has no log to report');
  return fault ? task.fail(EFAULT, 'the bitmap is not writable') : 0;
}

/** Sets bits [first, last] of a user's bitmap, a page of it at a time. @returns false: part of it is not accessible. */
function setBits(user: UserArg, first: number, last: number): boolean {
  const bitOf = (byte: number) => 8 * byte;
  const end = Math.floor(last / 8) + 1;
  for (let from = Math.floor(first / 8); from < end; ) {
    const size = Math.min(PAGE_SIZE_4K, end - from);
    const bytes = user.copyIn(from, size);
    if (bytes === null) return false;
    const begin = Math.max(0, first - bitOf(from));
    const stop = Math.min(bitOf(size), last + 1 - bitOf(from));
    for (let bit = begin; bit < stop; bit++) bytes[bit >> 3]! |= 1 << (bit & 7);
    if (!user.copyOut(from, bytes)) return false;
    from += size;
  }
  return true;
}

/**
 * Joins neighbours until at most `max` ranges are left: always the two with the smallest gap between them. Rounding up what is logged is safe, losing a
 * page is not. @returns ascending ranges.
 */
export function combineRanges(ranges: readonly LogRange[], max: number): LogRange[] {
  const sorted = [...ranges].sort((a, b) => (a.iova < b.iova ? -1 : 1));
  while (sorted.length > Math.max(1, max)) {
    let best = 1;
    const gap = (i: number) => sorted[i]!.iova - (sorted[i - 1]!.iova + sorted[i - 1]!.length);
    for (let i = 2; i < sorted.length; i++) if (gap(i) < gap(best)) best = i;
    const left = sorted[best - 1]!;
    const right = sorted[best]!;
    sorted.splice(best - 1, 2, { iova: left.iova, length: right.iova + right.length - left.iova });
  }
  return sorted;
}

/**
 * The log of a device that notes its own writes. `limit` ranges fit into the hardware; more are joined. It is kept by 4 KiB whatever page size was asked
 * for: a report may then be of any size and place, and clears no more than it shows.
 */
export class DmaLog {
  readonly #limit: number;
  #ranges: LogRange[] | null = null;
  readonly #dirty = new Set<bigint>();

  constructor(limit: number = MAX_RANGES) {
    this.#limit = limit;
  }

  get active(): boolean {
    return this.#ranges !== null;
  }

  /** @returns the page size in force (the asked one, 4 KiB at least), or -EINVAL: logging is on, or no such page size. */
  start(ranges: readonly LogRange[], pageSize: bigint): bigint {
    if (this.#ranges !== null || pageSize <= 0n || (pageSize & (pageSize - 1n)) !== 0n) return BigInt(-EINVAL);
    this.#ranges = combineRanges(
      ranges.filter((range) => range.length > 0n),
      this.#limit,
    );
    return pageSize < PAGE ? PAGE : pageSize;
  }

  stop(): number {
    this.#ranges = null;
    this.#dirty.clear();
    return 0;
  }

  /** The device wrote `length` bytes at `iova`. */
  note(iova: bigint, length: number): void {
    if (this.#ranges === null || length === 0) return;
    const end = iova + BigInt(length);
    for (const range of this.#ranges) {
      const from = iova > range.iova ? iova : range.iova;
      const to = end < range.iova + range.length ? end : range.iova + range.length;
      for (let page = from & ~(PAGE - 1n); page < to; page += PAGE) this.#dirty.add(page);
    }
  }

  /** @returns 0, or -EINVAL: logging is off. */
  readAndClear(iova: bigint, length: bigint, mark: (iova: bigint, length: bigint) => void): number {
    if (this.#ranges === null) return -EINVAL;
    for (const page of [...this.#dirty].sort((a, b) => (a < b ? -1 : 1))) {
      const next = page + PAGE;
      const end = iova + length;
      if (next <= iova || page >= end) continue;
      const from = page < iova ? iova : page;
      mark(from, (next > end ? end : next) - from);
      // A page that sticks out of the range is somebody else's too.
      if (page >= iova && next <= end) this.#dirty.delete(page);
    }
    return 0;
  }
}

/** Log operations over a DmaLog that the device keeps. */
export function dmaLogOps<D extends VfioDevice>(logOf: (device: D) => DmaLog): VfioLogOps<D> {
  return {
    start: (device, ranges, pageSize) => logOf(device).start(ranges, pageSize),
    stop: (device) => logOf(device).stop(),
    readAndClear: (device, iova, length, mark) => logOf(device).readAndClear(iova, length, mark),
  };
}
