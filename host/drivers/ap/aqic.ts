// Interruptions of a queue: PQAP(AQIC) with the guest's notification byte pinned through vfio. Kernel counterpart: vfio_ap_irq_enable,
// vfio_ap_irq_disable. Source: spec ap section 8.
import { PROT_READ, PROT_WRITE } from '../../../assembly/abi.ts';
import {
  AP_RC_BUSY,
  AP_RC_INVALID_ADDRESS,
  AP_RC_NORMAL,
  AP_RC_OTHERWISE_CHANGED,
  AP_RC_RESET_IN_PROGRESS,
  AP_STATUS_IRQ,
  responseCode,
} from '../../devices/ap/queue.ts';
import { type ApDevice, type ApQueue, NO_ISC } from './device.ts';

const PAGE_MASK = 0xfffn;
const DISABLE_TRIES = 5;
/** What the hardware leaves in the notification byte. */
const NOTIFIED = 1;

const status = (code: number): number => (code << 16) >>> 0;

/** Gives the subclass and the pin of a queue back. */
export function freeIrq(queue: ApQueue): void {
  const { mdev } = queue;
  if (mdev !== null && queue.savedIsc !== NO_ISC) mdev.guest?.unregisterIsc(queue.savedIsc);
  if (mdev !== null && queue.savedIova !== 0n) mdev.unpinPages(queue.savedIova & ~PAGE_MASK, 1);
  queue.savedIova = 0n;
  queue.savedIsc = NO_ISC;
  queue.pfn = 0;
  queue.hardware.onReply = null;
}

/** AQIC with the enable bit off. The subclass and the pin are given back whatever the hardware says. */
export function irqDisable(queue: ApQueue): number {
  let result = queue.hardware.aqic(false);
  for (let tries = 0; tries < DISABLE_TRIES; tries++) {
    const code = responseCode(result);
    if (code === AP_RC_NORMAL || code === AP_RC_OTHERWISE_CHANGED) {
      if ((queue.hardware.tapq() & AP_STATUS_IRQ) === 0) break;
    } else if (code === AP_RC_RESET_IN_PROGRESS || code === AP_RC_BUSY) {
      queue.hardware.tapq();
      result = queue.hardware.aqic(false);
    } else break;
  }
  freeIrq(queue);
  return result;
}

/** AQIC with the enable bit on. @param nib guest absolute address of the notification byte, which is an I/O virtual address. @returns the status. */
export function irqEnable(device: ApDevice, queue: ApQueue, nib: bigint, isc: number): number {
  const pfns = new Uint32Array(1);
  const page = nib & ~PAGE_MASK;
  if (nib === 0n || device.pinPages(page, 1, PROT_READ | PROT_WRITE, pfns) !== 1) return status(AP_RC_INVALID_ADDRESS);
  if ((device.guest?.registerIsc(isc) ?? 0) < 0) {
    device.unpinPages(page, 1);
    return status(AP_RC_INVALID_ADDRESS);
  }
  const result = queue.hardware.aqic(true);
  switch (responseCode(result)) {
    case AP_RC_NORMAL:
      freeIrq(queue);
      queue.savedIova = nib;
      queue.savedIsc = isc;
      queue.pfn = pfns[0] as number;
      queue.hardware.onReply = () => notify(device, queue);
      if (queue.hardware.repliesWaiting) notify(device, queue);
      return result;
    case AP_RC_OTHERWISE_CHANGED:
      device.guest?.unregisterIsc(isc);
      device.unpinPages(page, 1);
      return result;
    default:
      device.guest?.unregisterIsc(isc);
      device.unpinPages(page, 1);
      irqDisable(queue);
      return result;
  }
}

/** A reply is ready: the notification byte is set and the guest hears of it. */
function notify(device: ApDevice, queue: ApQueue): void {
  if (queue.savedIova === 0n) return;
  device.vfio.core.u8[queue.pfn * 4096 + Number(queue.savedIova & PAGE_MASK)] = NOTIFIED;
  device.guest?.interrupt(queue.savedIsc);
}
