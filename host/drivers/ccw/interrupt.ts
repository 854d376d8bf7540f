// What happens after an interruption, outside of it: the guest's view of the IRB, the end of the program, the signal; and the same for channel
// reports and for a subchannel that is gone. Kernel counterpart: vfio_ccw_sch_io_todo, _crw_todo, _notoper_todo. Source: spec ccw section 7.
import {
  SCSW_ACTL_DEVICE_ACTIVE,
  SCSW_ACTL_SUBCHANNEL_ACTIVE,
  SCSW_CC,
  SCSW_CPA,
  SCSW_STCTL,
  SCSW_STCTL_ALERT,
  SCSW_STCTL_PENDING,
} from '../../css/schib.ts';
import { viewOf } from '../../vfio/user.ts';
import { type CcwDevice, IO_IRB, IRB_AREA_SIZE } from './device.ts';

/**
 * The work for the last saved IRB; interrupts that came in between are lost in it, as in the kernel. An unsolicited interrupt is only shown.
 * A solicited one gets the guest's CPA; when it is final and a program is pending, the program is released and the device is idle.
 */
export function ioWork(device: CcwDevice): void {
  const { irb } = device;
  const view = viewOf(irb);
  const word = view.getUint32(0);
  const final = (word & (SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE)) === 0;
  const solicited = (word & SCSW_CC) !== 0 || (word & SCSW_STCTL) !== (SCSW_STCTL_ALERT | SCSW_STCTL_PENDING);
  let finished = false;
  const { request } = device;
  if (request !== null && solicited) {
    // A 2016 request hears of its end only; the regions do not belong to it.
    if (!final || device.state !== 'CP_PENDING') return;
    translateCpa(device, view);
    if (!request.cancelled) request.outcome = Uint8Array.from({ length: IRB_AREA_SIZE }, (_, i) => irb[i] ?? 0);
    device.state = 'IDLE';
    device.freeProgram();
    return;
  }
  device.ioMutexHeld = true;
  if (solicited) {
    translateCpa(device, view);
    if (final && device.state === 'CP_PENDING') {
      device.freeProgram();
      finished = true;
    }
  }
  device.ioRegion.set(irb, IO_IRB);
  device.ioMutexHeld = false;
  if (finished) device.state = 'IDLE';
  device.signalIo();
}

/** The host's channel-program address becomes the guest's; one that lies in no chain of ours stays. */
function translateCpa(device: CcwDevice, irb: DataView): void {
  const cpa = device.program?.guestCpa(irb.getUint32(SCSW_CPA)) ?? null;
  if (cpa !== null) irb.setUint32(SCSW_CPA, cpa);
}

export function crwWork(device: CcwDevice): void {
  if (device.crws.length > 0) device.signalCrw();
}

export function notOperWork(device: CcwDevice): void {
  device.freeProgram();
}
