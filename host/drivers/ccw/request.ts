// The 2016 form of a request: one call carries a program of user virtual addresses and comes back with its IRB. A face on the same state machine: while
// a request runs the device is CP_PENDING, and what ends a program from outside (close, reset, a subchannel that goes) ends the request with
// EIO. The regions, their ret_code and the eventfds stay untouched. Source: spec ccw section 11; what is ours: docs/uapi/ccw.md.
import {
  EAGAIN,
  EBUSY,
  EFAULT,
  EINVAL,
  EIO,
  EOPNOTSUPP,
  ORB_C64,
  ORB_FMT,
  ORB_I2K,
  ORB_PFCH,
} from '../../../assembly/abi.ts';
import { userSpaceOf } from '../../ccw/user_space.ts';
import { ORB_FLAGS, ORB_TRANSPORT, SCSW_FCTL_CLEAR, SCSW_FCTL_HALT, SCSW_FCTL_START } from '../../css/schib.ts';
import { CCW_BUFFER_MAX, CCW_BUFFER_SIZE, VfioCcwCmdRequest } from '../../uapi/ccw_request.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import type { CcwDevice, RunningRequest } from './device.ts';

const IRB_AREA = VfioCcwCmdRequest.offsets.irb_area;

/** A request that passed the checks, copied. */
interface Prepared {
  readonly word1: number;
  readonly count: number;
  /** The program buffer, 4096 bytes. */
  readonly buffer: Uint8Array;
}

/**
 * VFIO_DEVICE_CCW_CMD_REQUEST. @returns 0 with the IRB in the argument, or, in this order: -EFAULT argument; -EINVAL argsz, CCW count;
 * -EOPNOTSUPP anything but start, or an ORB that is not format-1 with prefetch and 64-bit IDAWs of 4 KiB; -EIO not operational; -EBUSY a
 * program is pending; -EFAULT buffer; -EAGAIN the device does not end within the call, nothing was started; what translating says (-EINVAL,
 * -EFAULT, -ENOMEM); what starting says (-EBUSY, -EACCES, -ENODEV); -EFAULT writing the IRB back.
 */
export function cmdRequest(device: CcwDevice, task: Task, arg: UserArg): number {
  const prepared = prepare(device, task, arg);
  if (typeof prepared === 'number') return prepared;
  const { hardware } = device.subchannel;
  if (!hardware.immediate)
    return task.fail(EAGAIN, 'the device does not end within the call: use the asynchronous form');
  const outcomes: Array<Uint8Array | number> = [];
  const started = launch(device, task, prepared, (outcome) => outcomes.push(outcome));
  if (started < 0) return started;
  hardware.settle();
  device.ioWork.flush();
  const outcome = outcomes[0];
  if (outcome === undefined) {
    // A program that loops: the caller cannot wait for it, so it is ended.
    device.freeProgram();
    device.state = 'IDLE';
    return task.fail(EAGAIN, 'the program did not end within the call');
  }
  return deliver(task, arg, outcome);
}

/** The same for a caller that waits. The promise is settled by the program's final interruption, or by what ends the device before. */
export function cmdRequestAsync(device: CcwDevice, task: Task, arg: UserArg): Promise<number> {
  const prepared = prepare(device, task, arg);
  if (typeof prepared === 'number') return Promise.resolve(prepared);
  return new Promise<Uint8Array | number>((resolve) => {
    const started = launch(device, task, prepared, resolve);
    if (started < 0) resolve(started);
  }).then((outcome) => deliver(task, arg, outcome));
}

function prepare(device: CcwDevice, task: Task, arg: UserArg): Prepared | number {
  const bytes = task.copyArgsz(arg, VfioCcwCmdRequest.size);
  if (typeof bytes === 'number') return bytes;
  const request = new VfioCcwCmdRequest(bytes);
  const count = request.ccwchain_nr;
  if (count === 0 || count > CCW_BUFFER_MAX) return task.fail(EINVAL, `${count} CCWs: 1 to ${CCW_BUFFER_MAX} fit`);
  const functions = viewOf(request.scsw_area).getUint32(0) & (SCSW_FCTL_START | SCSW_FCTL_HALT | SCSW_FCTL_CLEAR);
  if (functions !== SCSW_FCTL_START) return task.fail(EOPNOTSUPP, 'only the start function is supported');
  const word1 = viewOf(request.orb_area).getUint32(ORB_FLAGS);
  const needed = ORB_FMT | ORB_PFCH | ORB_C64;
  if ((word1 & (ORB_TRANSPORT | ORB_I2K)) !== 0 || (word1 & needed) !== needed)
    return task.fail(EOPNOTSUPP, 'the ORB must have format-1 CCWs, prefetch, 64-bit IDAWs and 4 KiB blocks');
  if (device.state !== 'IDLE')
    return device.state === 'CP_PENDING'
      ? task.fail(EBUSY, 'a program is pending')
      : task.fail(EIO, 'the subchannel is not operational');
  if (device.ioMutexHeld) return task.fail(EAGAIN, 'a request or an interruption is being worked on');
  const buffer = task.pointer(request.u_ccwchain).copyIn(0, CCW_BUFFER_SIZE);
  return buffer === null ? task.fail(EFAULT, 'the program buffer is not readable') : { word1, count, buffer };
}

/** Translates and starts. @param end called once, with the IRB or -errno, if this answers 0. On failure nothing is left. */
function launch(device: CcwDevice, task: Task, prepared: Prepared, end: RunningRequest['end']): number {
  const { program, subchannel } = device;
  if (program === null) return task.fail(EIO, 'the device is not open');
  const { core } = device.vfio;
  const iommu = userSpaceOf(core, task.mm);
  if (iommu < 0) return task.fail(-iommu, 'the heap is full');
  device.state = 'CP_PROCESSING';
  let result = program.initFlat(iommu, prepared.word1, prepared.buffer, prepared.count);
  if (result === 0) {
    const host = program.orbBytes(device.intparm, subchannel.lpm);
    result = host === null ? -EIO : subchannel.start(host);
    if (result < 0) program.free();
  }
  if (result < 0) {
    core.exports.iommu_destroy(iommu);
    device.state = 'IDLE';
    return task.fail(-result, 'the program could not be translated or started');
  }
  device.state = 'CP_PENDING';
  device.request = { iommu, outcome: -EIO, cancelled: false, end };
  return 0;
}

function deliver(task: Task, arg: UserArg, outcome: Uint8Array | number): number {
  if (typeof outcome === 'number') return task.fail(-outcome, 'the program was ended before its interruption');
  return task.copyOut(arg, IRB_AREA, outcome);
}
