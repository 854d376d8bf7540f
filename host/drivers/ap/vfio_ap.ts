// vfio-ap: matrices of crypto queues given to a VM. One constant ops table and the mdev driver. Kernel counterpart: vfio_ap_ops.c,
// vfio_ap_drv.c. Source: spec ap sections 2 and 9.
import { EINVAL, EOPNOTSUPP, EPERM } from '../../../assembly/abi.ts';
import type { ApBus } from '../../devices/ap/bus.ts';
import {
  VFIO_DEVICE_FLAGS_AP,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
} from '../../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../../uapi/ioctl.ts';
import { getDeviceInfo, getIrqInfo } from '../../vfio/info.ts';
import { readIrqSet } from '../../vfio/irqs.ts';
import type { MdevDriver, MdevParent } from '../../vfio/mdev.ts';
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserArg } from '../../vfio/user.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { irqDisable } from './aqic.ts';
import { matrixAttributes } from './attributes.ts';
import { ApDevice } from './device.ts';
import { isLogicalOp, LogicalGuest, logicalOp } from './logical.ts';
import { MatrixDevice } from './matrix_dev.ts';
import { resetQueues } from './reset.ts';

/** The one interrupt: the host wants the device back. */
const NUM_IRQS = 1;
export const MATRIX_PATH = '/sys/devices/vfio_ap/matrix';
const MAX_DEVICES = 65536;
/** GET_INFO stops before the capabilities, which the driver does not have. */
const INFO_SIZE = 16;

export interface VfioApOptions {
  /** A device may be opened without a VM; its queues are then used through the logical operations. Default: EINVAL. */
  readonly withoutVm?: boolean;
}

function makeOps(options: VfioApOptions): VfioDeviceOps<ApDevice> {
  return {
    name: 'vfio-ap',

    /** @returns 0; -EINVAL no VM is linked (and none is optional); -EPERM another device has the VM's processors. */
    openDevice(device) {
      const vm = device.vfio.vms.of(device);
      if (vm === null && options.withoutVm !== true) return -EINVAL;
      const control = vm === null ? new LogicalGuest() : vm.ap;
      if (control === null) return 0;
      if (control.owner !== null) return -EPERM;
      control.owner = device;
      device.guest = control;
      device.push();
      return 0;
    },

    closeDevice(device) {
      const { guest } = device;
      if (guest === null) return;
      guest.clearMasks();
      resetQueues([...device.queues.values()]);
      guest.owner = null;
      device.guest = null;
    },

    ioctl(device, task, request, arg) {
      if (isLogicalOp(request)) return logicalOp(device, task, request, arg);
      switch (request) {
        case VFIO_DEVICE_GET_INFO:
          return deviceInfo(task, arg);
        case VFIO_DEVICE_GET_IRQ_INFO:
          return getIrqInfo(task, arg, (index) =>
            index < NUM_IRQS ? { flags: VFIO_IRQ_INFO_EVENTFD, count: 1 } : null,
          );
        case VFIO_DEVICE_SET_IRQS:
          return setIrqs(device, task, arg);
        case VFIO_DEVICE_RESET: {
          const result = resetQueues([...device.queues.values()]);
          return result < 0 ? task.fail(-result, 'a queue did not come back to normal') : 0;
        }
        default:
          return task.fail(EOPNOTSUPP, 'vfio-ap knows no such request');
      }
    },

    request(device) {
      device.reqIrq.signal();
    },

    /** Notification bytes in the range lose their page: their queues' interruptions end. */
    dmaUnmap(device, iova, length) {
      for (const queue of device.queues.values())
        if (queue.savedIova !== 0n && iova <= queue.savedIova && queue.savedIova < iova + length) irqDisable(queue);
    },
  };
}

function deviceInfo(task: Task, arg: UserArg): number {
  return getDeviceInfo(task, arg, {
    flags: VFIO_DEVICE_FLAGS_AP | VFIO_DEVICE_FLAGS_RESET,
    numRegions: 0,
    numIrqs: NUM_IRQS,
    length: INFO_SIZE,
  });
}

/** @returns 0, or the common check's errno; -EINVAL without TRIGGER, for data that are no eventfd, count other than 1, fd < -1; of the descriptor. */
function setIrqs(device: ApDevice, task: Task, arg: UserArg): number {
  const set = readIrqSet(task, arg, NUM_IRQS, 1);
  if (typeof set === 'number') return set;
  if ((set.action & VFIO_IRQ_SET_ACTION_TRIGGER) === 0) return task.fail(EINVAL, 'only triggers are supported');
  if (set.data !== VFIO_IRQ_SET_DATA_EVENTFD) return task.fail(EINVAL, 'only eventfds are supported');
  if (set.count !== 1) return task.fail(EINVAL, 'one descriptor is needed');
  return device.reqIrq.set(task, set.fd(0));
}

/** Loads the driver: it takes the bus's queues and can make devices of type `vfio_ap-passthrough`. @returns the mdev parent or -errno. */
export function loadVfioAp(vfio: Vfio, bus: ApBus, options: VfioApOptions = {}): MdevParent | number {
  const matrixDevice = new MatrixDevice(bus);
  const ops = makeOps(options);
  const driver: MdevDriver = {
    name: 'vfio_ap',
    deviceApi: 'vfio-ap',
    probe(mdev) {
      const device = new ApDevice(vfio, mdev.name, ops, matrixDevice);
      matrixDevice.mdevs.add(device);
      vfio.registerDevice(device, mdev.groupName, 'emulated');
      mdev.device = device;
      return 0;
    },
    remove(mdev) {
      const device = mdev.device as ApDevice;
      resetQueues([...device.queues.values()]);
      for (const queue of device.queues.values()) queue.mdev = null;
      device.queues.clear();
      device.reqIrq.unbind();
      matrixDevice.mdevs.delete(device);
    },
    attributes: (mdev) => matrixAttributes(mdev.device as ApDevice),
  };
  const parent = vfio.mdev.registerParent({
    path: MATRIX_PATH,
    driver,
    types: [{ sysfsName: 'passthrough', prettyName: 'VFIO AP Passthrough Device' }],
    maxInstances: MAX_DEVICES,
  });
  if (typeof parent === 'number') return parent;
  vfio.sysfs.attribute(`${MATRIX_PATH}/features`, { show: () => 'guest_matrix hotplug ap_config\n' });
  bus.listener = matrixDevice;
  return parent;
}
