// INTx of a PCI device: a level that fires once, masks itself, and fires again on unmask while it is still wanted. Source: spec pci section 6.1.
import { EBUSY, EINVAL, ENODEV, ENOTTY } from '../../../assembly/abi.ts';
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE } from '../../devices/pci_config.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE } from '../../uapi/constants.ts';
import { EventFdSlot, eventFdOf, type IrqSet } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import type { VfioPciDevice } from './device.ts';

export class IntxState {
  active = false;
  /** Held back: by itself after it fired, by the user, or by the virtual INTx disable bit. */
  masked = false;
  readonly #device: VfioPciDevice;
  readonly #signal = new EventFdSlot();
  /** Takes the eventfd that unmasks away again. */
  #dropUnmask: (() => void) | null = null;

  constructor(device: VfioPciDevice) {
    this.#device = device;
  }

  /** The hardware's line changed. */
  line(level: boolean): void {
    if (level && this.active && !this.masked) this.#fire();
  }

  /** Mask by the user or by the INTx disable bit. Without INTx in use the hardware's bit just follows. */
  mask(): void {
    if (this.active) this.masked = true;
    this.#disableLine(true);
  }

  /** Unmask; ineffective while the virtual INTx disable bit is set, and signals at once when the line is still wanted. */
  unmask(): void {
    if (!this.active) {
      this.#disableLine(false);
      return;
    }
    if (!this.masked || this.#device.config!.virqDisabled) return;
    if (this.#device.hw.intxPending) {
      this.#signal.signal();
      return;
    }
    this.masked = false;
    this.#disableLine(false);
  }

  #disableLine(disabled: boolean): void {
    const { hw } = this.#device;
    const command = hw.configRead(PCI_COMMAND, 2);
    hw.configWrite(PCI_COMMAND, 2, disabled ? command | PCI_COMMAND_INTX_DISABLE : command & ~PCI_COMMAND_INTX_DISABLE);
  }

  #fire(): void {
    this.masked = true;
    this.#disableLine(true);
    this.#signal.signal();
  }

  /** MASK of SET_IRQS. */
  setMask(task: Task, request: IrqSet): number {
    if (!this.active || request.start !== 0 || request.count !== 1)
      return task.fail(EINVAL, 'INTx is not active, or not exactly its one interrupt');
    if (request.data === VFIO_IRQ_SET_DATA_EVENTFD) return task.fail(ENOTTY, 'an eventfd cannot mask');
    if (request.data === VFIO_IRQ_SET_DATA_NONE || request.bool(0)) this.mask();
    return 0;
  }

  /** UNMASK of SET_IRQS. */
  setUnmask(task: Task, request: IrqSet): number {
    if (!this.active || request.start !== 0 || request.count !== 1)
      return task.fail(EINVAL, 'INTx is not active, or not exactly its one interrupt');
    if (request.data === VFIO_IRQ_SET_DATA_EVENTFD) return this.#setUnmaskEventfd(task, request.fd(0));
    if (request.data === VFIO_IRQ_SET_DATA_NONE || request.bool(0)) this.unmask();
    return 0;
  }

  #setUnmaskEventfd(task: Task, fd: number): number {
    if (fd < 0) {
      this.#dropUnmask?.();
      return 0;
    }
    const eventfd = eventFdOf(task, fd);
    if (typeof eventfd === 'number') return eventfd;
    if (this.#dropUnmask !== null) return task.fail(EBUSY, 'an eventfd that unmasks is set already');
    const stop = eventfd.hook(() => {
      eventfd.take();
      this.unmask();
    });
    // An eventfd that nobody has a descriptor of goes by itself; its place is free then.
    const stopClose = eventfd.onClose(() => this.#dropUnmask?.());
    this.#dropUnmask = () => {
      stop();
      stopClose();
      this.#dropUnmask = null;
    };
    if (eventfd.count > 0n) this.unmask();
    return 0;
  }

  /** TRIGGER of SET_IRQS. @param other another type is active. */
  setTrigger(task: Task, request: IrqSet, other: boolean): number {
    const { data, start, count } = request;
    const { active } = this;
    if (active && data === VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.disable();
      return 0;
    }
    if (other || start !== 0 || count !== 1)
      return task.fail(EINVAL, 'another type is active, or not exactly the one INTx interrupt');
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      const eventfd = request.fd(0) < 0 ? null : eventFdOf(task, request.fd(0));
      if (typeof eventfd === 'number') return eventfd;
      if (!active && !this.#device.hasInterruptLine) return task.fail(ENODEV, 'the platform gave no interrupt line');
      if (eventfd === null) this.#signal.unbind();
      else this.#signal.bind(eventfd);
      if (!active) this.#enable();
      return 0;
    }
    if (!active) return task.fail(EINVAL, 'INTx is not active');
    // The user's own INTx disable bit holds back a loop back too.
    const held = this.#device.config!.virqDisabled;
    if (!held && (data === VFIO_IRQ_SET_DATA_NONE || request.bool(0))) this.#signal.signal();
    return 0;
  }

  #enable(): void {
    this.active = true;
    // What waited since a restore is the line itself, which is looked at below.
    this.#device.migration?.releaseInterrupt(0);
    this.masked = this.#device.config!.virqDisabled;
    this.#disableLine(this.masked);
    if (!this.masked && this.#device.hw.intxPending) this.#fire();
  }

  /** Off; the descriptors' references are given back. */
  disable(): void {
    this.#dropUnmask?.();
    this.#signal.unbind();
    this.masked = false;
    this.active = false;
  }
}
