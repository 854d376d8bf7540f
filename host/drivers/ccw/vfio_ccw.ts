// vfio-ccw: I/O subchannels given to a user as mediated devices. One constant ops table; the behaviour is in the files around. Kernel counterpart:
// vfio_ccw_ops.c and the probe of vfio_ccw_drv.c. Source: spec ccw sections 1 and 3, mdev.
import { EINVAL, ENODEV, ENOTTY } from '../../../assembly/abi.ts';
import type { SubchannelHardware } from '../../css/subchannel.ts';
import { VFIO_DEVICE_CCW_CMD_REQUEST } from '../../uapi/ccw_request.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../../uapi/ioctl.ts';
import type { Mdev, MdevDriver, MdevParent } from '../../vfio/mdev.ts';
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { CcwDevice, type CcwDeviceOptions } from './device.ts';
import { raise, reset } from './fsm.ts';
import { ccwInfo, ccwIrqInfo, ccwRegionInfo } from './info.ts';
import { crwWork, ioWork, notOperWork } from './interrupt.ts';
import { setIrqs } from './irqs.ts';
import { ccwAccess, ccwMigration } from './migration.ts';
import { listen } from './paths.ts';
import { readRegion, writeRegion } from './regions.ts';
import { cmdRequest, cmdRequestAsync } from './request.ts';
import { IoSubchannel } from './subchannel.ts';

/** The driver's side of every vfio-ccw device. */
export const vfioCcwOps: VfioDeviceOps<CcwDevice> = {
  name: 'vfio-ccw',

  /** @returns 0; -EINVAL the subchannel is not operational, or could not be enabled; -ENOMEM no room for a channel program. */
  openDevice(device) {
    if (device.state === 'NOT_OPER') return -EINVAL;
    const created = device.createProgram();
    if (created < 0) return created;
    device.capabilityRegions = true;
    raise(device, 'OPEN');
    // raise() may have changed the state, which the compiler does not see
    if ((device.state as string) !== 'NOT_OPER') return 0;
    device.capabilityRegions = false;
    return -EINVAL;
  },

  /** Interrupts and reports that are still to be worked on are lost; queued reports and the eventfds stay for the next open. */
  closeDevice(device) {
    raise(device, 'CLOSE');
    device.ioWork.cancel();
    device.crwWork.cancel();
    device.notOperWork.flush();
    device.capabilityRegions = false;
    device.destroyProgram();
  },

  read: readRegion,
  write: writeRegion,
  migration: ccwMigration,
  access: ccwAccess,

  ioctl(device, task, request, arg) {
    switch (request) {
      case VFIO_DEVICE_GET_INFO:
        return ccwInfo(device, task, arg);
      case VFIO_DEVICE_GET_REGION_INFO:
        return ccwRegionInfo(device, task, arg);
      case VFIO_DEVICE_GET_IRQ_INFO:
        return ccwIrqInfo(task, arg);
      case VFIO_DEVICE_SET_IRQS:
        return setIrqs(device, task, arg);
      case VFIO_DEVICE_RESET:
        return reset(device) === 0 ? 0 : task.fail(EINVAL, 'the subchannel is not operational');
      case VFIO_DEVICE_CCW_CMD_REQUEST:
        return cmdRequest(device, task, arg);
      default:
        return task.fail(ENOTTY, 'vfio-ccw knows no such request');
    }
  },

  ioctlAsync(device, task, request, arg) {
    return request === VFIO_DEVICE_CCW_CMD_REQUEST ? cmdRequestAsync(device, task, arg) : null;
  },

  request(device) {
    device.reqIrq.signal();
  },

  /** Pages of the program go away: as a reset, which ends the program. Pages that hold only its CCWs and IDALs do not matter. */
  dmaUnmap(device, iova, length) {
    // A 2016 request pins the caller's pages, not iovas.
    if (device.request === null && device.program?.iovaPinned(iova, length)) reset(device);
  },

  /** The subchannel of a pinned program is gone: the work that releases it is queued. */
  flushWork(device) {
    device.notOperWork.flush();
  },

  release(device) {
    const { hardware } = device.subchannel;
    hardware.listener = null;
    hardware.ledger = null;
    for (const work of [device.ioWork, device.crwWork, device.notOperWork, device.unregisterWork]) work.cancel();
    for (const irq of [device.ioIrq, device.crwIrq, device.reqIrq]) irq.unbind();
    device.destroyProgram();
  },
};

/** Makes the device on a subchannel; the caller registers it. The subchannel tells it everything from now on. */
export function createCcwDevice(
  vfio: Vfio,
  name: string,
  hardware: SubchannelHardware,
  options: CcwDeviceOptions = {},
): CcwDevice {
  const work = { io: ioWork, crw: crwWork, notOper: notOperWork };
  const device = new CcwDevice(vfio, name, vfioCcwOps, hardware, work, options);
  hardware.ledger = { isPinned: (address) => device.program?.linearPinned(address) ?? false };
  listen(device);
  return device;
}

/** Directory of a subchannel in sysfs. */
export const subchannelPath = (busId: string): string => `/sys/devices/css0/${busId}`;

/**
 * Binds the vfio-ccw driver to a subchannel: it can then make its one mediated device, type `vfio_ccw-io`.
 * @returns the mdev parent; -ENODEV the subchannel cannot be stored or is a QDIO one; -EEXIST it has a driver already.
 */
export function bindVfioCcw(
  vfio: Vfio,
  hardware: SubchannelHardware,
  options: Pick<CcwDeviceOptions, 'bigEndian'> = {},
): MdevParent | number {
  const subchannel = new IoSubchannel(hardware);
  if (!subchannel.valid || subchannel.qdio) return -ENODEV;
  return vfio.mdev.registerParent({
    path: subchannelPath(hardware.busId),
    driver: ccwMdevDriver(hardware, options),
    types: [{ sysfsName: 'io', prettyName: 'I/O subchannel (Non-QDIO)' }],
    maxInstances: 1,
  });
}

function ccwMdevDriver(hardware: SubchannelHardware, options: Pick<CcwDeviceOptions, 'bigEndian'>): MdevDriver {
  return {
    name: 'vfio_ccw',
    deviceApi: 'vfio-ccw',
    probe(mdev: Mdev): number {
      const { vfio } = mdev;
      const { parent } = mdev.type;
      const onUnregister = () => {
        if (vfio.mdev.parents.includes(parent)) vfio.mdev.unregisterParent(parent);
      };
      const device = createCcwDevice(vfio, mdev.name, hardware, { ...options, onUnregister });
      vfio.registerDevice(device, mdev.groupName, 'emulated');
      mdev.device = device;
      return 0;
    },
  };
}
