// GET_INFO, GET_REGION_INFO, GET_IRQ_INFO of a vfio-ccw device. Source: spec ccw section 3.
import {
  VFIO_CCW_NUM_IRQS,
  VFIO_DEVICE_FLAGS_CCW,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_REGION_TYPE_CCW,
} from '../../uapi/constants.ts';
import { getIrqInfo, getRegionInfo, regionTypeCap } from '../../vfio/info.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import type { CcwDevice } from './device.ts';
import { REGION_SHIFT, regionAt, regionCount } from './regions.ts';

const INFO_SIZE = 16;

/** @returns 0; -EFAULT; -EINVAL argsz < 16. Only 16 bytes are written, whatever argsz says (other drivers write up to 24). */
export function ccwInfo(device: CcwDevice, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, INFO_SIZE);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  view.setUint32(4, VFIO_DEVICE_FLAGS_CCW | VFIO_DEVICE_FLAGS_RESET, true);
  view.setUint32(8, regionCount(device), true);
  view.setUint32(12, VFIO_CCW_NUM_IRQS, true);
  return task.copyOut(arg, 0, bytes);
}

/**
 * @returns 0; -EFAULT; -EINVAL argsz < 32, no such region. Regions 1 to 3 carry a capability at byte 32; with argsz < 48 there is none, and argsz
 * says 48.
 */
export function ccwRegionInfo(device: CcwDevice, task: Task, arg: UserArg): number {
  return getRegionInfo(task, arg, (index) => {
    const region = regionAt(device, index);
    if (region === undefined) return null;
    const caps = region.subtype === null ? [] : [regionTypeCap(VFIO_REGION_TYPE_CCW, region.subtype)];
    return { flags: region.flags, size: BigInt(region.size), offset: BigInt(index << REGION_SHIFT), caps };
  });
}

/** @returns 0; -EFAULT; -EINVAL argsz < 16, index >= 3. */
export function ccwIrqInfo(task: Task, arg: UserArg): number {
  return getIrqInfo(task, arg, (index) =>
    index < VFIO_CCW_NUM_IRQS ? { flags: VFIO_IRQ_INFO_EVENTFD, count: 1 } : null,
  );
}
