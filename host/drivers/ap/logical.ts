// The queue operations of a matrix device for a plain caller: what the processors of a VM do with NQAP, DQAP and PQAP, by ioctl on the device's
// descriptor. Only queues of the shadow exist. Requests and structure: uapi/zdev.ts, docs/uapi/ap.md. Source: spec ap section 10.
import { EFAULT, EINVAL } from '../../../assembly/abi.ts';
import { AP_RC_MESSAGE_TOO_BIG, AP_RC_NOT_AVAILABLE } from '../../devices/ap/queue.ts';
import * as uapi from '../../uapi/zdev.ts';
import { EventFdSlot } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserArg } from '../../vfio/user.ts';
import type { ApControl } from '../../vfio/vm.ts';
import { irqDisable, irqEnable } from './aqic.ts';
import type { ApDevice, ApQueue } from './device.ts';

const ISC_MASK = 7;

const status = (code: number): number => (code << 16) >>> 0;

/** Stands where a VM would: a device that was opened without one. Interruptions go to the eventfds that AQIC named. */
export class LogicalGuest implements ApControl {
  owner: ApDevice | null = null;
  /** By subclass. */
  readonly #slots = Array.from({ length: 8 }, () => new EventFdSlot());
  setMasks(): void {}
  clearMasks(): void {
    for (const slot of this.#slots) slot.unbind();
  }
  registerIsc(): number {
    return 0;
  }
  unregisterIsc(): void {}
  interrupt(isc: number): void {
    this.#slots[isc]?.signal();
  }
  /** @returns 0 or -errno of the descriptor. */
  bind(task: Task, isc: number, fd: number): number {
    return (this.#slots[isc] as EventFdSlot).set(task, fd);
  }
}

/** Is this request one of ours? */
export const isLogicalOp = (request: number): boolean =>
  request === uapi.VFIO_AP_NQAP || request === uapi.VFIO_AP_DQAP || request === uapi.VFIO_AP_PQAP;

/**
 * One operation. @returns 0 with the status word in the structure, whatever its response code; -EFAULT the argument or a buffer; -EINVAL argsz,
 * flags, an APQN over 16 bits, an unknown function; of AQIC's eventfd -EBADF, -EINVAL. A device that is
 * not running answers -EBUSY before it comes here (the gate of host/vfio/access.ts).
 */
export function logicalOp(device: ApDevice, task: Task, request: number, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, uapi.VfioApOp.size);
  if (typeof bytes === 'number') return bytes;
  const op = new uapi.VfioApOp(bytes);
  if (op.flags !== 0) return task.fail(EINVAL, `unknown flags 0x${op.flags.toString(16)}`);
  if (op.apqn > 0xffff) return task.fail(EINVAL, `${op.apqn} is no APQN`);
  const result = perform(device, task, request, op);
  return result < 0 ? result : task.copyOut(arg, 0, bytes);
}

type Op = InstanceType<typeof uapi.VfioApOp>;

function perform(device: ApDevice, task: Task, request: number, op: Op): number {
  if (request === uapi.VFIO_AP_PQAP && op.function === uapi.VFIO_AP_QCI) return queryConfiguration(device, task, op);
  if (request === uapi.VFIO_AP_PQAP && op.function > uapi.VFIO_AP_QCI)
    return task.fail(EINVAL, `PQAP has no function ${op.function}`);
  const queue = device.shadow.has(op.apqn) ? device.queues.get(op.apqn) : undefined;
  if (queue === undefined) {
    op.status = status(AP_RC_NOT_AVAILABLE);
    return 0;
  }
  if (request === uapi.VFIO_AP_NQAP) return enqueue(queue, task, op);
  if (request === uapi.VFIO_AP_DQAP) return dequeue(queue, task, op);
  switch (op.function) {
    case uapi.VFIO_AP_TAPQ:
      op.status = queue.hardware.tapq();
      return 0;
    case uapi.VFIO_AP_RAPQ:
      op.status = queue.hardware.rapq();
      return 0;
    case uapi.VFIO_AP_ZAPQ:
      op.status = queue.hardware.zapq();
      return 0;
    case uapi.VFIO_AP_AQIC:
      return interruptions(device, queue, task, op);
    default:
      return -EINVAL;
  }
}

function enqueue(queue: ApQueue, task: Task, op: Op): number {
  if (op.length > uapi.VFIO_AP_MESSAGE_MAX) {
    op.status = status(AP_RC_MESSAGE_TOO_BIG);
    return 0;
  }
  const message = task.buffer(op.addr, op.length).copyIn(0, op.length);
  if (message === null) return task.fail(EFAULT, 'the message is not readable');
  op.status = queue.hardware.nqap(op.psmid, message);
  return 0;
}

/** The reply leaves the queue only when it could be copied out. */
function dequeue(queue: ApQueue, task: Task, op: Op): number {
  const buffer = task.buffer(op.addr, op.length);
  const peeked = queue.hardware.peek(op.length);
  if (peeked !== null && !buffer.copyOut(0, peeked.message)) return task.fail(EFAULT, 'the buffer is not writable');
  const { status: word, reply } = queue.hardware.dqap(op.length);
  op.status = word;
  if (reply !== null) {
    op.psmid = reply.psmid;
    op.length = reply.message.length;
  }
  return 0;
}

function interruptions(device: ApDevice, queue: ApQueue, task: Task, op: Op): number {
  if ((op.control & uapi.VFIO_AP_AQIC_ENABLE) === 0) {
    op.status = irqDisable(queue);
    return 0;
  }
  if (device.guest === null) {
    op.status = status(AP_RC_NOT_AVAILABLE);
    return 0;
  }
  const isc = op.control & ISC_MASK;
  if (device.guest instanceof LogicalGuest) {
    const bound = device.guest.bind(task, isc, op.eventfd);
    if (bound < 0) return bound;
  }
  op.status = irqEnable(device, queue, op.addr, isc);
  return 0;
}

/** The configuration as the guest sees it, 128 bytes: the masks at 16, 48 and 80, the highest numbers in front of them. */
export function configurationOf({ shadow, matrixDevice }: ApDevice): Uint8Array {
  const info = new Uint8Array(uapi.VFIO_AP_QCI_SIZE);
  // Extended addressing, and na, nd.
  info[0] = matrixDevice.bus.apxa ? 0x40 : 0;
  info[2] = matrixDevice.apmMax;
  info[3] = matrixDevice.aqmMax;
  info.set(shadow.apm.bytes, 16);
  info.set(shadow.aqm.bytes, 48);
  info.set(shadow.adm.bytes, 80);
  return info;
}

function queryConfiguration(device: ApDevice, task: Task, op: Op): number {
  const copied = task.buffer(op.addr, uapi.VFIO_AP_QCI_SIZE).copyOut(0, configurationOf(device));
  op.status = 0;
  return copied ? 0 : task.fail(EFAULT, 'the block is not writable');
}
