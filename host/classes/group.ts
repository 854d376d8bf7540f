// A group, over the public calls.
import type { VfioProcess } from '../process.ts';
import { VFIO_GROUP_FLAGS_VIABLE } from '../uapi/constants.ts';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
} from '../uapi/ioctl.ts';
import { S32, VfioGroupStatus } from '../uapi/structs.ts';
import { Device } from './device.ts';

/** An open group: the devices that cannot be isolated from each other. */
export class Group {
  /** The process that makes the calls. */
  readonly vfio: VfioProcess;
  /** Its descriptor, for calls that have no method. */
  readonly fd: number;
  readonly #devices: Device[] = [];

  /** Opens /dev/vfio/<group>. @param group its number, or `noiommu-<n>`. @throws VfioError ENOENT, EBUSY, EPERM. */
  constructor(vfio: VfioProcess, group: number | string) {
    this.vfio = vfio;
    this.fd = vfio.open(`/dev/vfio/${group}`);
  }

  /** VFIO_GROUP_GET_STATUS: nothing but vfio drivers does DMA in the group. */
  get viable(): boolean {
    const status = new VfioGroupStatus();
    this.vfio.ioctl(this.fd, VFIO_GROUP_GET_STATUS, status);
    return (status.flags & VFIO_GROUP_FLAGS_VIABLE) !== 0;
  }

  /** VFIO_GROUP_SET_CONTAINER. @param container descriptor of a container or an iommufd. */
  setContainer(container: number): void {
    this.vfio.ioctl(this.fd, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
  }
  /** VFIO_GROUP_UNSET_CONTAINER. */
  unsetContainer(): void {
    this.vfio.ioctl(this.fd, VFIO_GROUP_UNSET_CONTAINER);
  }

  /** VFIO_GROUP_GET_DEVICE_FD. @throws VfioError ENODEV no such device in the group; EINVAL no container, or no IOMMU. */
  device(name: string): Device {
    const device = new Device(this.vfio, this.vfio.ioctl(this.fd, VFIO_GROUP_GET_DEVICE_FD, name));
    this.#devices.push(device);
    return device;
  }

  /** Closes the devices it gave, then the group. */
  close(): void {
    for (const device of this.#devices.splice(0)) device.close();
    this.vfio.close(this.fd);
  }
}
