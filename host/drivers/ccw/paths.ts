// What the subchannel driver is told from below: interruptions, channel paths that come and go, a subchannel to be looked at again, the end of
// the machine. Kernel counterpart: vfio_ccw_drv.c. Source: spec ccw sections 2.3 and 4.
import { ENODEV } from '../../../assembly/abi.ts';
import { CRW_PATH_OFFLINE, CRW_PATH_ONLINE } from '../../css/schib.ts';
import type { SubchannelListener } from '../../css/subchannel.ts';
import type { CcwDevice } from './device.ts';
import { raise } from './fsm.ts';
import { endTries } from './subchannel.ts';

export type PathEvent = Parameters<SubchannelListener['channelPath']>[0];

/** Listens to the hardware for as long as the device exists. */
export function listen(device: CcwDevice): void {
  device.subchannel.hardware.listener = {
    interrupt: (irb) => raise(device, 'INTERRUPT', irb),
    channelPath: (event, chpid, mask) => void channelPath(device, event, chpid, mask),
    examine: () => examine(device),
  };
}

/** @returns 0 (also for a path that is not the subchannel's), or -ENODEV when the subchannel cannot be stored. */
export function channelPath(device: CcwDevice, event: PathEvent, chpid: number, mask: number): number {
  const { subchannel } = device;
  if (mask === 0) return 0;
  if (!subchannel.store()) return -ENODEV;
  switch (event) {
    case 'vary-off':
      subchannel.opm &= ~mask;
      subchannel.lpm &= ~mask;
      if (subchannel.lastPath === mask) subchannel.cancelHaltClear(endTries());
      break;
    case 'offline':
      if (subchannel.lastPath === mask) subchannel.cancelHaltClear(endTries());
      queueCrw(device, CRW_PATH_OFFLINE | chpid);
      break;
    case 'vary-on':
      subchannel.opm |= mask;
      subchannel.lpm |= mask;
      break;
    case 'online':
      subchannel.lpm |= mask & subchannel.opm;
      queueCrw(device, CRW_PATH_ONLINE | chpid);
      break;
  }
  return 0;
}

/** The subchannel may have gone: it has when it cannot be stored or has no valid device number. */
export function examine(device: CcwDevice): void {
  if (!device.subchannel.store()) raise(device, 'NOT_OPER');
}

/** The machine goes down, or the subchannel loses its driver: what runs is ended, nothing is operational afterwards. */
export function shutdown(device: CcwDevice): void {
  raise(device, 'CLOSE');
  raise(device, 'NOT_OPER');
}

function queueCrw(device: CcwDevice, crw: number): void {
  device.crws.push(crw >>> 0);
  device.crwWork.schedule();
}
