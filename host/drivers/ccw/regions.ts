// The regions behind the device's file offsets. Kernel counterpart: the read and write parts of vfio_ccw_ops.c, _async.c, _chp.c. Source: spec
// ccw section 2.
//
//   index  offset   size   name    read                                     write
//   0      0x000    124    io      copy                                     copy, event IO_REQ; ret_code if not 0, else the count
//   1      0x400    8      cmd     copy                                     copy, event ASYNC_REQ; the same
//   2      0x800    52     schib   stores the subchannel first (ENODEV)     EINVAL
//   3      0xC00    8      crw     takes one report off the queue           EINVAL
//
// Every access: EINVAL no such region, or reaching beyond it. Then a write of 0 or 1 finds the I/O mutex free (EAGAIN) and copies (EFAULT).
import { EAGAIN, EFAULT, EINVAL, ENODEV } from '../../../assembly/abi.ts';
import { SCHIB_SIZE } from '../../css/schib.ts';
import {
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD,
  VFIO_REGION_SUBTYPE_CCW_CRW,
  VFIO_REGION_SUBTYPE_CCW_SCHIB,
} from '../../uapi/constants.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserBuffer, viewOf } from '../../vfio/user.ts';
import { type CcwDevice, CMD_REGION_SIZE, IO_REGION_SIZE } from './device.ts';
import { type CcwEvent, raise } from './fsm.ts';

/** A region's file offset is its index shifted by this. */
export const REGION_SHIFT = 10;
const REGION_MASK = (1 << REGION_SHIFT) - 1;
const CRW_REGION_SIZE = 8;

export interface CcwRegion {
  readonly size: number;
  /** VFIO_REGION_INFO_FLAG_*; CAPS comes with the capability. */
  readonly flags: number;
  /** Subtype of the capability; null for region 0, which needs none. */
  readonly subtype: number | null;
  read(device: CcwDevice, task: Task, buffer: UserBuffer, pos: number): number;
  write(device: CcwDevice, task: Task, buffer: UserBuffer, pos: number): number;
}

const io: CcwRegion = {
  size: IO_REGION_SIZE,
  flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
  subtype: null,
  read: (device, task, buffer, pos) => copyOut(task, buffer, device.ioRegion, pos),
  write: (device, task, buffer, pos) =>
    requestWrite(device, task, buffer, device.ioRegion, pos, 'IO_REQ', () => device.ioRetCode),
};

const asyncCommand: CcwRegion = {
  size: CMD_REGION_SIZE,
  flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
  subtype: VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD,
  read: (device, task, buffer, pos) => copyOut(task, buffer, device.cmdRegion, pos),
  write: (device, task, buffer, pos) =>
    requestWrite(device, task, buffer, device.cmdRegion, pos, 'ASYNC_REQ', () => device.cmdRetCode),
};

const schib: CcwRegion = {
  size: SCHIB_SIZE,
  flags: VFIO_REGION_INFO_FLAG_READ,
  subtype: VFIO_REGION_SUBTYPE_CCW_SCHIB,
  read(device, task, buffer, pos) {
    if (!device.subchannel.store()) return task.fail(ENODEV, 'the subchannel cannot be stored');
    return copyOut(task, buffer, device.subchannel.schib, pos);
  },
  write: readOnly,
};

const crw: CcwRegion = {
  size: CRW_REGION_SIZE,
  flags: VFIO_REGION_INFO_FLAG_READ,
  subtype: VFIO_REGION_SUBTYPE_CCW_CRW,
  read(device, task, buffer, pos) {
    const bytes = new Uint8Array(CRW_REGION_SIZE);
    // Taken whichever bytes are read, and lost when they cannot be handed over.
    viewOf(bytes).setUint32(0, device.crws.shift() ?? 0);
    const result = copyOut(task, buffer, bytes, pos);
    if (device.crws.length > 0) device.signalCrw();
    return result;
  },
  write: readOnly,
};

const REGIONS: readonly CcwRegion[] = [io, asyncCommand, schib, crw];

/** Regions of a device now: one while it is closed, all while it is open. */
export const regionCount = (device: CcwDevice): number => (device.capabilityRegions ? REGIONS.length : 1);

/** The region with this index, if the device has it now. */
export const regionAt = (device: CcwDevice, index: number): CcwRegion | undefined =>
  index < regionCount(device) ? REGIONS[index] : undefined;

export function readRegion(device: CcwDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  const at = locate(device, task, buffer, offset);
  return typeof at === 'number' ? at : at.region.read(device, task, buffer, at.pos);
}

export function writeRegion(device: CcwDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  const at = locate(device, task, buffer, offset);
  return typeof at === 'number' ? at : at.region.write(device, task, buffer, at.pos);
}

function locate(
  device: CcwDevice,
  task: Task,
  buffer: UserBuffer,
  offset: bigint,
): { region: CcwRegion; pos: number } | number {
  const index = offset >> BigInt(REGION_SHIFT);
  const region = index >= 0n && index < 4n ? regionAt(device, Number(index)) : undefined;
  if (region === undefined) return task.fail(EINVAL, `offset 0x${offset.toString(16)} lies in no region`);
  const pos = Number(offset & BigInt(REGION_MASK));
  if (pos + buffer.length > region.size)
    return task.fail(EINVAL, `${buffer.length} bytes at ${pos}: region ${index} has ${region.size}`);
  return { region, pos };
}

function requestWrite(
  device: CcwDevice,
  task: Task,
  buffer: UserBuffer,
  storage: Uint8Array,
  pos: number,
  event: CcwEvent,
  retCode: () => number,
): number {
  if (device.ioMutexHeld) return task.fail(EAGAIN, 'a request or an interruption is being worked on');
  const bytes = buffer.copyIn(0, buffer.length);
  if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
  device.ioMutexHeld = true;
  storage.set(bytes, pos);
  raise(device, event);
  device.ioMutexHeld = false;
  const result = retCode();
  if (result < 0) return task.fail(-result, `the ${event === 'IO_REQ' ? 'start' : 'command'} was refused (ret_code)`);
  return result === 0 ? buffer.length : result;
}

function copyOut(task: Task, buffer: UserBuffer, storage: Uint8Array, pos: number): number {
  const bytes = storage.slice(pos, pos + buffer.length);
  return buffer.copyOut(0, bytes) ? buffer.length : task.fail(EFAULT, 'the buffer is not writable');
}

function readOnly(_device: CcwDevice, task: Task): number {
  return task.fail(EINVAL, 'the region is read-only');
}
