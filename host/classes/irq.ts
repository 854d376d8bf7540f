// The interrupts of one index of a device, over the public calls: eventfds with callbacks, masking, disabling.
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
} from '../uapi/constants.ts';
import { VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS } from '../uapi/ioctl.ts';
import { VfioIrqInfo, VfioIrqSet } from '../uapi/structs.ts';
import type { EventFd } from '../vfio/eventfd.ts';
import type { Device } from './device.ts';

const HEADER = 20;

/** One interrupt index of a device. */
export class Irq {
  /** The device it belongs to. */
  readonly device: Device;
  /** VFIO_*_IRQ_INDEX. */
  readonly index: number;
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  /** Subindexes: vectors of MSI, 1 of INTx, 0: the index is not implemented. */
  readonly count: number;
  /** Descriptors of the eventfds by subindex. */
  #eventfds: number[] = [];

  constructor(device: Device, index: number) {
    const info = new VfioIrqInfo({ index });
    device.vfio.ioctl(device.fd, VFIO_DEVICE_GET_IRQ_INFO, info);
    this.device = device;
    this.index = index;
    this.flags = info.flags;
    this.count = info.count;
  }

  /**
   * Makes an eventfd for each of the first `vectors` subindexes and enables the index with them; what was enabled before is disabled first.
   * @param onSignal called synchronously with the subindex whenever the device interrupts. @returns the eventfds: counters, async iterators.
   */
  enable(vectors = 1, onSignal?: (subindex: number) => void): EventFd[] {
    this.disable();
    const { vfio } = this.device;
    this.#eventfds = Array.from({ length: vectors }, () => vfio.eventfd());
    try {
      this.#set(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, vectors, this.#eventfds);
    } catch (error) {
      this.closeEventfds();
      throw error;
    }
    const eventfds = this.#eventfds.map((fd) => vfio.eventfdOf(fd));
    if (onSignal !== undefined)
      for (const [subindex, eventfd] of eventfds.entries()) eventfd.onSignal(() => onSignal(subindex));
    return eventfds;
  }

  /** Disables the index when `enable` enabled it, and closes its eventfds. */
  disable(): void {
    if (this.#eventfds.length === 0) return;
    this.#set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0);
    this.closeEventfds();
  }

  /** Masks one subindex. @throws VfioError ENOTTY the index cannot be masked. */
  mask(subindex = 0): void {
    this.#set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, subindex, 1);
  }
  /** Unmasks it; a level that is still high fires at once. @throws VfioError ENOTTY. */
  unmask(subindex = 0): void {
    this.#set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, subindex, 1);
  }
  /** Fires the interrupt as the device would: a loop back, to try a handler. */
  trigger(subindex = 0): void {
    this.#set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, subindex, 1);
  }

  /** Closes the eventfds that `enable` made. */
  closeEventfds(): void {
    for (const fd of this.#eventfds.splice(0)) this.device.vfio.close(fd);
  }

  #set(flags: number, start: number, count: number, fds: readonly number[] = []): void {
    const set = new VfioIrqSet({ argsz: HEADER + 4 * fds.length, flags, index: this.index, start, count });
    for (const [index, fd] of fds.entries()) set.view.setInt32(HEADER + 4 * index, fd, true);
    this.device.vfio.ioctl(this.device.fd, VFIO_DEVICE_SET_IRQS, set);
  }
}
