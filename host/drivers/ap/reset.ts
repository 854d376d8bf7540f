// Queue reset: zeroize, then wait by testing. Used by the RESET ioctl, close, removal, unassignment and filtering. Kernel counterpart:
// vfio_ap_mdev_reset_queue and its worker. Source: spec ap section 7.

import { EIO } from '../../../assembly/abi.ts';
import {
  AP_RC_BUSY,
  AP_RC_CHECKSTOPPED,
  AP_RC_DECONFIGURED,
  AP_RC_NORMAL,
  AP_RC_NOT_AVAILABLE,
  AP_RC_RESET_IN_PROGRESS,
  AP_RC_STATE_CHANGE,
  responseCode,
} from '../../devices/ap/queue.ts';
import { freeIrq } from './aqic.ts';
import type { ApQueue } from './device.ts';

/** Calls are synchronous, so a wait is a poll; hardware that never gets ready must not hold the caller for good. */
const MAX_POLLS = 4096;
/** The queue is not there: what it held is free. */
const GONE: readonly number[] = [AP_RC_NOT_AVAILABLE, AP_RC_DECONFIGURED, AP_RC_CHECKSTOPPED];

/** Codes after which the reset has to be asked for again once the queue answers. */
const unfinished = (code: number): boolean =>
  code === AP_RC_RESET_IN_PROGRESS || code === AP_RC_BUSY || code === AP_RC_STATE_CHANGE;

function start(queue: ApQueue): void {
  queue.resetStatus = responseCode(queue.hardware.zapq());
}

function wait(queue: ApQueue): void {
  const { resetStatus } = queue;
  if (resetStatus !== AP_RC_NORMAL && !unfinished(resetStatus)) {
    if (GONE.includes(resetStatus)) freeIrq(queue);
    return;
  }
  for (let poll = 0; poll < MAX_POLLS; poll++) {
    const code = responseCode(queue.hardware.tapq());
    if (code === AP_RC_RESET_IN_PROGRESS || code === AP_RC_BUSY) continue;
    const done = code === AP_RC_NORMAL || code === AP_RC_DECONFIGURED || code === AP_RC_CHECKSTOPPED;
    if (done && unfinished(queue.resetStatus)) {
      start(queue);
      continue;
    }
    if (done || code === AP_RC_NOT_AVAILABLE) freeIrq(queue);
    return;
  }
}

/** Resets queues: all are started, then waited for. @returns 0, or -EIO when one did not end normally (a deconfigured one did not). */
export function resetQueues(queues: readonly ApQueue[]): number {
  for (const queue of queues) start(queue);
  for (const queue of queues) wait(queue);
  return queues.some((queue) => queue.resetStatus !== AP_RC_NORMAL) ? -EIO : 0;
}
