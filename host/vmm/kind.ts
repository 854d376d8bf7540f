// Is a descriptor what a guest device needs behind it? Asked before anything else is done with it.
import { ENODEV } from '../../assembly/abi.ts';
import { VfioError } from '../errno.ts';
import type { VfioProcess } from '../process.ts';
import { VFIO_DEVICE_GET_INFO } from '../uapi/ioctl.ts';
import { VfioDeviceInfo } from '../uapi/structs.ts';

/** @param flag VFIO_DEVICE_FLAGS_... of the kind. @returns the device's info. @throws VfioError of GET_INFO; ENODEV another kind of device. */
export function deviceInfoOf(process: VfioProcess, device: number, flag: number): InstanceType<typeof VfioDeviceInfo> {
  const info = new VfioDeviceInfo();
  process.ioctl(device, VFIO_DEVICE_GET_INFO, info);
  if ((info.flags & flag) !== 0) return info;
  throw new VfioError('ioctl(VFIO_DEVICE_GET_INFO)', ENODEV, `descriptor ${device} is another kind of device`);
}
