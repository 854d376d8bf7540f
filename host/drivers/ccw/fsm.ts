// The state machine: one table, state x event -> action, then the actions. Kernel counterpart: vfio_ccw_fsm.c. Source: spec ccw section 4.
//
// A table entry is all that happens; an action that fails in a way that makes the subchannel useless raises NOT_OPER itself.
// CP_PROCESSING is left before its request returns, so no second request meets it; its two EAGAIN cells are a safety net.
import { EAGAIN, EBUSY, EINVAL, EIO, ENOENT, EOPNOTSUPP } from '../../../assembly/abi.ts';
import {
  IRB_SIZE,
  ORB_AREA_SIZE,
  ORB_CPA,
  ORB_FLAGS,
  ORB_TRANSPORT,
  SCSW_FCTL_CLEAR,
  SCSW_FCTL_HALT,
  SCSW_FCTL_START,
} from '../../css/schib.ts';
import { viewOf } from '../../vfio/user.ts';
import { type CcwDevice, type CcwState, IO_ORB, IO_SCSW } from './device.ts';
import { endTries } from './subchannel.ts';

export type CcwEvent = 'NOT_OPER' | 'IO_REQ' | 'ASYNC_REQ' | 'INTERRUPT' | 'OPEN' | 'CLOSE';
/** `irb` belongs to INTERRUPT. */
type Action = (device: CcwDevice, irb: Uint8Array) => void;

const NO_IRB = new Uint8Array(IRB_SIZE);

/** Longest sleep of a quiesce for one interruption, milliseconds. */
const QUIESCE_WAIT_MS = 3000;
const CMD_HALT = 1;
const CMD_CLEAR = 2;

const nothing: Action = () => {};
const io =
  (errno: number): Action =>
  (device) => {
    device.ioRetCode = -errno;
  };
const async =
  (errno: number): Action =>
  (device) => {
    device.cmdRetCode = -errno;
  };

export const FSM: Readonly<Record<CcwState, Readonly<Record<CcwEvent, Action>>>> = {
  NOT_OPER: {
    NOT_OPER: nothing,
    IO_REQ: io(EIO),
    ASYNC_REQ: async(EIO),
    INTERRUPT: disableAgain,
    OPEN: nothing,
    CLOSE: nothing,
  },
  STANDBY: {
    NOT_OPER: goNotOper,
    IO_REQ: io(EIO),
    ASYNC_REQ: async(EIO),
    INTERRUPT: disableAgain,
    OPEN: open,
    CLOSE: goNotOper,
  },
  IDLE: {
    NOT_OPER: goNotOper,
    IO_REQ: request,
    ASYNC_REQ: asyncRequest,
    INTERRUPT: interrupt,
    OPEN: goNotOper,
    CLOSE: close,
  },
  CP_PROCESSING: {
    NOT_OPER: goNotOper,
    IO_REQ: io(EAGAIN),
    ASYNC_REQ: async(EAGAIN),
    INTERRUPT: interrupt,
    OPEN: goNotOper,
    CLOSE: close,
  },
  CP_PENDING: {
    NOT_OPER: goNotOper,
    IO_REQ: io(EBUSY),
    ASYNC_REQ: asyncRequest,
    INTERRUPT: interrupt,
    OPEN: goNotOper,
    CLOSE: close,
  },
};

/** Raises an event. What came of it is in the device: its state and the regions' ret_code. */
export function raise(device: CcwDevice, event: CcwEvent, irb: Uint8Array = NO_IRB): void {
  FSM[device.state][event](device, irb);
}

/** CLOSE, then OPEN: ends what runs and gives an idle device, or one that is not operational (-EINVAL). */
export function reset(device: CcwDevice): number {
  raise(device, 'CLOSE');
  raise(device, 'OPEN');
  return device.state === 'NOT_OPER' ? -EINVAL : 0;
}

function goNotOper(device: CcwDevice): void {
  device.unregisterWork.schedule();
  device.state = 'NOT_OPER';
  device.notOperWork.schedule();
}

function disableAgain(device: CcwDevice): void {
  device.subchannel.disable();
}

function open(device: CcwDevice): void {
  if (device.subchannel.enable(device.intparm) === 0) device.state = 'IDLE';
  else raise(device, 'NOT_OPER');
}

function close(device: CcwDevice): void {
  const { subchannel } = device;
  if (device.request !== null) device.request.cancelled = true;
  let result = -EIO;
  if (subchannel.valid && subchannel.enabled) {
    result = subchannel.disable();
    if (result === -EBUSY) result = quiesce(device);
  }
  if (result !== 0) {
    raise(device, 'NOT_OPER');
    return;
  }
  device.state = 'STANDBY';
  device.freeProgram();
}

/** Ends what runs on a subchannel that is too busy to be disabled, and disables it. @returns 0 or -errno (-EIO: out of tries). */
function quiesce(device: CcwDevice): number {
  const { subchannel } = device;
  const tries = endTries();
  for (;;) {
    const step = subchannel.cancelHaltClear(tries);
    if (step === -EIO) return -EIO;
    // The hardware does now what it would do in that time: a synchronous call cannot sleep.
    if (step === -EBUSY) subchannel.hardware.elapse(QUIESCE_WAIT_MS);
    device.ioWork.flush();
    const result = subchannel.disable();
    if (result !== -EBUSY) return result;
  }
}

function request(device: CcwDevice): void {
  device.state = 'CP_PROCESSING';
  // A private copy: the request is judged as it was when it arrived.
  const scsw = device.ioRegion.slice(IO_SCSW, IO_SCSW + 4);
  const functions = viewOf(scsw).getUint32(0);
  let result = device.ioRetCode;
  let started = false;
  if ((functions & SCSW_FCTL_START) !== 0) {
    result = start(device);
    started = result === 0;
  } else if ((functions & (SCSW_FCTL_HALT | SCSW_FCTL_CLEAR)) !== 0) result = -EOPNOTSUPP;
  device.ioRetCode = result;
  device.state = started ? 'CP_PENDING' : 'IDLE';
}

/** Copies, translates and starts the guest's program. On failure nothing of it is left. */
function start(device: CcwDevice): number {
  const { program, subchannel, dma } = device;
  const orb = viewOf(device.ioRegion.slice(IO_ORB, IO_ORB + ORB_AREA_SIZE));
  const word1 = orb.getUint32(ORB_FLAGS);
  if ((word1 & ORB_TRANSPORT) !== 0) return -EOPNOTSUPP;
  if (program === null) return -EIO;
  // Bound to an iommufd, but not attached to an address space.
  if (dma === null) return -ENOENT;
  let result = program.init(dma.iommu, word1, orb.getUint32(ORB_CPA));
  if (result < 0) return result;
  result = program.prefetch();
  if (result === 0) {
    const host = program.orbBytes(device.intparm, subchannel.lpm);
    result = host === null ? -EIO : subchannel.start(host);
  }
  if (result < 0) program.free();
  return result;
}

function asyncRequest(device: CcwDevice): void {
  const { subchannel } = device;
  switch (device.command) {
    case CMD_HALT:
      device.cmdRetCode = subchannel.halt();
      break;
    case CMD_CLEAR:
      device.cmdRetCode = subchannel.clear();
      break;
    default:
      device.cmdRetCode = -EINVAL;
  }
}

function interrupt(device: CcwDevice, irb: Uint8Array): void {
  device.irb.fill(0);
  device.irb.set(irb.subarray(0, IRB_SIZE));
  device.ioWork.schedule();
}
