// A device, its regions and its interrupts, over the public calls.
import type { VfioProcess } from '../process.ts';
import { type InfoCap, walkCaps } from '../uapi/caps.ts';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_RESET,
} from '../uapi/ioctl.ts';
import {
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceFeature,
  VfioDeviceInfo,
} from '../uapi/structs.ts';
import { Irq } from './irq.ts';
import { Region } from './region.ts';

/** What VFIO_DEVICE_GET_INFO tells. */
export interface DeviceDetails {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  /** Highest region index + 1. */
  readonly numRegions: number;
  /** Highest interrupt index + 1. */
  readonly numIrqs: number;
  /** Capabilities, such as those of zPCI functions. */
  readonly caps: readonly InfoCap[];
}

/** An open device: its regions, interrupts and features. */
export class Device {
  /** The process that makes the calls. */
  readonly vfio: VfioProcess;
  /** Its descriptor, for calls that have no method. */
  readonly fd: number;
  readonly #irqs = new Map<number, Irq>();
  #open = true;

  /** @param fd a device's descriptor, which the object owns from now on. */
  constructor(vfio: VfioProcess, fd: number) {
    this.vfio = vfio;
    this.fd = fd;
  }

  /** Opens /dev/vfio/devices/vfio<node>, binds it to an iommufd and, when `ioas` is given, attaches it to that address space. */
  static openNode(vfio: VfioProcess, node: number, iommufd: number, ioas?: number): Device {
    const device = new Device(vfio, vfio.open(`/dev/vfio/devices/vfio${node}`));
    try {
      vfio.ioctl(device.fd, VFIO_DEVICE_BIND_IOMMUFD, new VfioDeviceBindIommufd({ iommufd }));
      if (ioas !== undefined)
        vfio.ioctl(device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, new VfioDeviceAttachIommufdPt({ pt_id: ioas }));
    } catch (error) {
      device.close();
      throw error;
    }
    return device;
  }

  /** VFIO_DEVICE_GET_INFO with its capabilities. */
  info(): DeviceDetails {
    const fixed = new VfioDeviceInfo();
    this.vfio.ioctl(this.fd, VFIO_DEVICE_GET_INFO, fixed);
    const info = new VfioDeviceInfo({ argsz: fixed.argsz });
    this.vfio.ioctl(this.fd, VFIO_DEVICE_GET_INFO, info);
    return {
      flags: info.flags,
      numRegions: info.num_regions,
      numIrqs: info.num_irqs,
      caps: walkCaps(info.bytes, info.cap_offset),
    };
  }

  /** VFIO_DEVICE_GET_REGION_INFO. @throws VfioError EINVAL no such region. */
  region(index: number): Region {
    return new Region(this, index);
  }

  /** VFIO_DEVICE_GET_IRQ_INFO; the same object for the same index. @throws VfioError EINVAL no such index. */
  irq(index: number): Irq {
    const irq = this.#irqs.get(index) ?? new Irq(this, index);
    this.#irqs.set(index, irq);
    return irq;
  }

  /** VFIO_DEVICE_RESET. @throws VfioError EINVAL the device has no reset. */
  reset(): void {
    this.vfio.ioctl(this.fd, VFIO_DEVICE_RESET);
  }

  /**
   * VFIO_DEVICE_FEATURE. @param flags feature id and VFIO_DEVICE_FEATURE_GET, SET or PROBE. @param data the feature's data: what SET passes, room for
   * what GET answers. @returns the data afterwards. @throws VfioError ENOTTY the device does not have the feature; EINVAL; the feature's own.
   */
  feature(flags: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
    const feature = new VfioDeviceFeature({ argsz: 8 + data.length, flags });
    feature.bytes.set(data, 8);
    this.vfio.ioctl(this.fd, VFIO_DEVICE_FEATURE, feature);
    return feature.bytes.slice(8);
  }

  /** Takes its eventfds back and closes the device; again does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.vfio.close(this.fd);
    for (const irq of this.#irqs.values()) irq.closeEventfds();
  }
}
