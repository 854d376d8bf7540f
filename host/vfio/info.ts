// The three INFO ioctls of a device: the driver says what there is, the checks, the copies and the capability chain are the same for all.
// Source: spec vfio-core section 6. Errors of all three, in order: EFAULT the argument is not readable; EINVAL argsz is smaller than the
// mandatory part; EINVAL unknown index; EFAULT the argument is not writable.
import { EINVAL } from '../../assembly/abi.ts';
import { capsSize, chainCaps, type InfoCap } from '../uapi/caps.ts';
import {
  VFIO_DEVICE_FLAGS_CAPS,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_CAP_TYPE,
  VFIO_REGION_INFO_FLAG_CAPS,
} from '../uapi/constants.ts';
import { getU32, setU32, setU64 } from '../uapi/words.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

const DEVICE_INFO_MINSZ = 16;
const DEVICE_INFO_SIZE = 24;
const REGION_INFO_SIZE = 32;
const IRQ_INFO_SIZE = 16;

export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*, without CAPS. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
  readonly caps?: readonly InfoCap[];
  /** Bytes that the driver writes at most; default all 24. */
  readonly length?: number;
}

export interface RegionInfo {
  /** VFIO_REGION_INFO_FLAG_*, without CAPS. */
  readonly flags: number;
  /** Bytes; 0 is an unimplemented region. */
  readonly size: bigint;
  /** Where it lies on the descriptor. */
  readonly offset: bigint;
  readonly caps?: readonly InfoCap[];
}

export interface IrqInfo {
  readonly flags: number;
  readonly count: number;
}

/** GET_INFO: 16 bytes are mandatory, at most 24 are written. */
export function getDeviceInfo(task: Task, arg: UserArg, info: DeviceInfo): number {
  const bytes = task.copyArgsz(arg, DEVICE_INFO_MINSZ);
  if (typeof bytes === 'number') return bytes;
  const argsz = getU32(bytes, 0);
  const out = new Uint8Array(DEVICE_INFO_SIZE);
  setU32(out, 0, argsz);
  setU32(out, 4, info.flags);
  setU32(out, 8, info.numRegions);
  setU32(out, 12, info.numIrqs);
  return replyInfo(task, arg, out, {
    length: Math.min(argsz, info.length ?? DEVICE_INFO_SIZE),
    capsFlag: VFIO_DEVICE_FLAGS_CAPS,
    capOffsetAt: 16,
    caps: info.caps ?? [],
  });
}

/** GET_REGION_INFO. @param describe the region of an index, or null when there is none. */
export function getRegionInfo(task: Task, arg: UserArg, describe: (index: number) => RegionInfo | null): number {
  const bytes = task.copyArgsz(arg, REGION_INFO_SIZE);
  if (typeof bytes === 'number') return bytes;
  const info = describe(getU32(bytes, 8));
  if (info === null) return task.fail(EINVAL, `there is no region ${getU32(bytes, 8)}`);
  setU32(bytes, 4, info.flags);
  setU64(bytes, 16, info.size);
  setU64(bytes, 24, info.offset);
  return replyInfo(task, arg, bytes, {
    length: REGION_INFO_SIZE,
    capsFlag: VFIO_REGION_INFO_FLAG_CAPS,
    capOffsetAt: 12,
    caps: info.caps ?? [],
  });
}

/** GET_IRQ_INFO. @param describe the interrupts of an index, or null when there is none. */
export function getIrqInfo(task: Task, arg: UserArg, describe: (index: number) => IrqInfo | null): number {
  const bytes = task.copyArgsz(arg, IRQ_INFO_SIZE);
  if (typeof bytes === 'number') return bytes;
  const info = describe(getU32(bytes, 8));
  if (info === null) return task.fail(EINVAL, `there is no interrupt index ${getU32(bytes, 8)}`);
  setU32(bytes, 4, info.flags);
  setU32(bytes, 12, info.count);
  return task.copyOut(arg, 0, bytes);
}

/**
 * Writes an information structure and its capabilities. With too little room for the chain the call still succeeds: argsz becomes what is
 * needed and cap_offset 0; otherwise the chain lies behind the structure and cap_offset says where.
 * @param fixed the structure with argsz@0 and flags@4 filled in. @param how.length bytes of it to write.
 */
export function replyInfo(
  task: Task,
  arg: UserArg,
  fixed: Uint8Array,
  how: { length: number; capsFlag: number; capOffsetAt: number; caps: readonly InfoCap[] },
): number {
  const { caps, capOffsetAt } = how;
  if (caps.length > 0) {
    setU32(fixed, 4, getU32(fixed, 4) | how.capsFlag);
    const needed = fixed.length + capsSize(caps);
    if (getU32(fixed, 0) < needed) {
      setU32(fixed, 0, needed);
      setU32(fixed, capOffsetAt, 0);
    } else {
      const copied = task.copyOut(arg, fixed.length, chainCaps(fixed.length, caps));
      if (copied < 0) return copied;
      setU32(fixed, capOffsetAt, fixed.length);
    }
  }
  return task.copyOut(arg, 0, how.length < fixed.length ? fixed.subarray(0, how.length) : fixed);
}

/** VFIO_REGION_INFO_CAP_TYPE. */
export function regionTypeCap(type: number, subtype: number): InfoCap {
  const data = new Uint8Array(8);
  viewOf(data).setUint32(0, type, true);
  viewOf(data).setUint32(4, subtype, true);
  return { id: VFIO_REGION_INFO_CAP_TYPE, version: 1, data };
}

/** VFIO_REGION_INFO_CAP_SPARSE_MMAP: only these areas (bytes into the region, page aligned) can be mapped. */
export function sparseMmapCap(areas: ReadonlyArray<{ offset: bigint; size: bigint }>): InfoCap {
  const data = new Uint8Array(8 + 16 * areas.length);
  const view = viewOf(data);
  view.setUint32(0, areas.length, true);
  areas.forEach((area, i) => {
    view.setBigUint64(8 + 16 * i, area.offset, true);
    view.setBigUint64(16 + 16 * i, area.size, true);
  });
  return { id: VFIO_REGION_INFO_CAP_SPARSE_MMAP, version: 1, data };
}
