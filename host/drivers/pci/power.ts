// Power: the state that a user asks for in the power management capability, and the low-power features. Source: spec pci sections 3.4 (PM)
// and 8, vfio-core section 9 (features 3 to 5).
import { EFAULT, EINVAL } from '../../../assembly/abi.ts';
import { PM_CTRL, PM_CTRL_STATE } from '../../devices/pci_express.ts';
import {
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_SET,
} from '../../uapi/constants.ts';
import type { EventFd } from '../../vfio/eventfd.ts';
import { checkFeature } from '../../vfio/feature.ts';
import { eventFdOf } from '../../vfio/irqs.ts';
import type { FeatureRequest } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import { viewOf } from '../../vfio/user.ts';
import type { VfioPciDevice } from './device.ts';

const D3HOT = 3;

/** Moves the hardware to D0 ... D3hot. On the way to D3hot mappings are zapped. */
export function setPowerState(device: VfioPciDevice, state: number): void {
  const { hw } = device;
  const pm = hw.config.find(0x01);
  if (pm === 0 || device.powerState === state) return;
  if (state === D3HOT) device.zaps++;
  device.powerState = state;
  hw.configWrite(pm + PM_CTRL, 2, (hw.configRead(pm + PM_CTRL, 2) & ~PM_CTRL_STATE) | state);
}

/**
 * LOW_POWER_ENTRY, ENTRY_WITH_WAKEUP, EXIT. Entry: EINVAL when it is engaged already; with wake-up also EINVAL (fd < 0), EBADF, EINVAL (not an
 * eventfd), EFAULT. Exit always succeeds.
 */
export function lowPowerFeature(device: VfioPciDevice, task: Task, feature: FeatureRequest): number {
  const wakeup = feature.id === VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
  const check = checkFeature(task, feature, VFIO_DEVICE_FEATURE_SET, wakeup ? 8 : 0);
  if (check !== 1) return check;
  if (wakeup) {
    const bytes = feature.data.copyIn(0, 8);
    if (bytes === null) return task.fail(EFAULT, 'the data are not readable');
    const fd = viewOf(bytes).getInt32(0, true);
    if (fd < 0) return task.fail(EINVAL, `${fd} is not a descriptor`);
    const eventfd = eventFdOf(task, fd);
    return typeof eventfd === 'number' ? eventfd : enter(device, task, eventfd);
  }
  if (feature.id === VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY) return enter(device, task, null);
  leaveLowPower(device);
  return 0;
}

function enter(device: VfioPciDevice, task: Task, wake: EventFd | null): number {
  device.zaps++;
  if (device.lowPower) return task.fail(EINVAL, 'low power is engaged already');
  device.lowPower = true;
  device.wakeEventfd = wake;
  return 0;
}

export function leaveLowPower(device: VfioPciDevice): void {
  device.lowPower = false;
  device.wakeEventfd = null;
}

/**
 * In front of every ioctl, read and write: the device is awake for its duration. Entered with a wake-up eventfd, the first wake signals it
 * and leaves low power for good.
 */
export function wake(device: VfioPciDevice): void {
  if (!device.lowPower || device.wakeEventfd === null) return;
  device.wakeEventfd.signal();
  leaveLowPower(device);
}
