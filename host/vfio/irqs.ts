// SET_IRQS, the part that every driver shares: the check of the header, the copy of the data, and the slot that holds the eventfd a driver
// signals. What an index then does with mask, unmask and trigger is the driver's. Kernel counterpart: vfio_set_irqs_validate_and_prepare
// and the eventfd contexts of the drivers. Source: spec vfio-core section 7.
//
//   struct vfio_irq_set    argsz u32@0, flags u32@4, index u32@8, start u32@12, count u32@16, data@20: count x u8 (BOOL) or s32 (EVENTFD)
import { EBADF, EFAULT, EINVAL } from '../../assembly/abi.ts';
import {
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
} from '../uapi/constants.ts';
import { EventFd } from './eventfd.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

/** Bytes of the header; the data follow. */
export const IRQ_SET_SIZE = 20;
const U32_MAX = 0xffffffff;

/** A header that passed the checks. */
export interface IrqSetHeader {
  readonly argsz: number;
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** Exactly one of VFIO_IRQ_SET_DATA_NONE, _BOOL, _EVENTFD. */
  readonly data: number;
  /** The ACTION bits of `flags`; none or several are possible, drivers answer ENOTTY then. */
  readonly action: number;
}

/** A checked request with its data copied in. */
export interface IrqSet extends IrqSetHeader {
  /** The i-th BOOL: is this subindex meant? */
  bool(i: number): boolean;
  /** The i-th EVENTFD: a descriptor, or -1. */
  fd(i: number): number;
}

/**
 * Steps 1 to 8 of the common check: copies the header once and judges the copy.
 * @param maxIndex number of irq indexes. @param num subindexes of an index, or a function that tells.
 * @returns the header, or -EFAULT (header not readable) / -EINVAL: argsz < 20; index >= maxIndex; count >= 2^32 - 1 - start; unknown flag
 * bits; start or start + count beyond num (always so with num 0); not exactly one DATA bit; argsz too small for the data.
 */
export function validateIrqSet(
  task: Task,
  arg: UserArg,
  maxIndex: number,
  num: number | ((index: number) => number),
): IrqSetHeader | number {
  const bytes = task.copyArgsz(arg, IRQ_SET_SIZE);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  const index = view.getUint32(8, true);
  const start = view.getUint32(12, true);
  const count = view.getUint32(16, true);
  if (index >= maxIndex) return task.fail(EINVAL, `irq index ${index}: there are ${maxIndex}`);
  if (count >= U32_MAX - start) return task.fail(EINVAL, `start ${start} + count ${count} wraps`);
  if ((flags & ~(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK)) !== 0)
    return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
  const limit = typeof num === 'number' ? num : num(index);
  if (start >= limit || start + count > limit)
    return task.fail(EINVAL, `start ${start}, count ${count}: index ${index} has ${limit}`);
  const data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  if (data !== VFIO_IRQ_SET_DATA_NONE && data !== VFIO_IRQ_SET_DATA_BOOL && data !== VFIO_IRQ_SET_DATA_EVENTFD)
    return task.fail(EINVAL, 'exactly one kind of data is needed');
  if (argsz - IRQ_SET_SIZE < count * elementSize(data))
    return task.fail(EINVAL, `argsz ${argsz} has no room for the data of ${count} interrupts`);
  return { argsz, flags, index, start, count, data, action: flags & VFIO_IRQ_SET_ACTION_TYPE_MASK };
}

/** The whole common check, data included. @returns the request, or what `validateIrqSet` says, or -EFAULT (data not readable). */
export function readIrqSet(
  task: Task,
  arg: UserArg,
  maxIndex: number,
  num: number | ((index: number) => number),
): IrqSet | number {
  const header = validateIrqSet(task, arg, maxIndex, num);
  if (typeof header === 'number') return header;
  const bytes = arg.copyIn(IRQ_SET_SIZE, header.count * elementSize(header.data));
  if (bytes === null) return task.fail(EFAULT, 'the data are not readable');
  const view = viewOf(bytes);
  return { ...header, bool: (i) => bytes[i] !== 0, fd: (i) => view.getInt32(4 * i, true) };
}

const elementSize = (data: number): number =>
  data === VFIO_IRQ_SET_DATA_EVENTFD ? 4 : data === VFIO_IRQ_SET_DATA_BOOL ? 1 : 0;

/** The eventfd behind a descriptor. @returns it, or -EBADF (not open) / -EINVAL (open, but not an eventfd). */
export function eventFdOf(task: Task, fd: number): EventFd | number {
  const file = task.file(fd);
  if (file === undefined) return task.fail(EBADF, `descriptor ${fd} is not open`);
  return file instanceof EventFd ? file : task.fail(EINVAL, `descriptor ${fd} is not an eventfd`);
}

/** Where a driver keeps the eventfd of one interrupt. It lives on when the user closes its descriptor. */
export class EventFdSlot {
  #eventfd: EventFd | null = null;

  get eventfd(): EventFd | null {
    return this.#eventfd;
  }
  get bound(): boolean {
    return this.#eventfd !== null;
  }

  /**
   * What an EVENTFD datum asks for: -1 removes, a descriptor binds or replaces.
   * @returns 0, or -EBADF, -EINVAL (fd < -1, not an eventfd); then the old one stays.
   */
  set(task: Task, fd: number): number {
    if (fd < -1) return task.fail(EINVAL, `${fd} is not a descriptor`);
    if (fd === -1) {
      this.unbind();
      return 0;
    }
    const eventfd = eventFdOf(task, fd);
    if (typeof eventfd === 'number') return eventfd;
    this.bind(eventfd);
    return 0;
  }

  /** Takes this eventfd in place of what was there. */
  bind(eventfd: EventFd): void {
    this.#eventfd = eventfd;
  }

  unbind(): void {
    this.#eventfd = null;
  }

  /** Signals. @returns false when nothing is bound. */
  signal(): boolean {
    this.#eventfd?.signal();
    return this.#eventfd !== null;
  }
}
