// The three interrupts of a vfio-ccw device. Each index has one eventfd; only triggers exist. Kernel counterpart: vfio_ccw_ops.c. Source: spec ccw
// section 3. Differs from PCI: BOOL and EVENTFD read their datum even when count is 0, and NONE never disables.
import { EFAULT, EINVAL } from '../../../assembly/abi.ts';
import {
  VFIO_CCW_CRW_IRQ_INDEX,
  VFIO_CCW_IO_IRQ_INDEX,
  VFIO_CCW_NUM_IRQS,
  VFIO_CCW_REQ_IRQ_INDEX,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_NONE,
} from '../../uapi/constants.ts';
import { type EventFdSlot, IRQ_SET_SIZE, validateIrqSet } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import type { CcwDevice } from './device.ts';

const SLOTS: Readonly<Record<number, (device: CcwDevice) => EventFdSlot>> = {
  [VFIO_CCW_IO_IRQ_INDEX]: (device) => device.ioIrq,
  [VFIO_CCW_CRW_IRQ_INDEX]: (device) => device.crwIrq,
  [VFIO_CCW_REQ_IRQ_INDEX]: (device) => device.reqIrq,
};

/** @returns 0, or the common check's errno; -EINVAL without TRIGGER or descriptor < -1; -EFAULT datum; -EBADF, -EINVAL of the descriptor. */
export function setIrqs(device: CcwDevice, task: Task, arg: UserArg): number {
  const header = validateIrqSet(task, arg, VFIO_CCW_NUM_IRQS, 1);
  if (typeof header === 'number') return header;
  if ((header.action & VFIO_IRQ_SET_ACTION_TRIGGER) === 0)
    return task.fail(EINVAL, 'only triggers are supported, not masking');
  const slot = SLOTS[header.index]!(device);
  if (header.data === VFIO_IRQ_SET_DATA_NONE) {
    slot.signal();
    return 0;
  }
  const bool = header.data === VFIO_IRQ_SET_DATA_BOOL;
  const datum = arg.copyIn(IRQ_SET_SIZE, bool ? 1 : 4);
  if (datum === null) return task.fail(EFAULT, 'the datum is not readable');
  if (!bool) {
    const result = slot.set(task, viewOf(datum).getInt32(0, true));
    // What a restored device had to say before anybody could hear it.
    if (slot.bound && device.migration?.releaseInterrupt(header.index) === true) slot.signal();
    return result;
  }
  if (datum[0] !== 0) slot.signal();
  return 0;
}
