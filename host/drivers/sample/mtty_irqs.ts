// Interrupts of an mtty card: INTx or MSI, one of each, one active at a time. Source: spec mdev section 7.4.
import { EINVAL, ENOTTY } from '../../../assembly/abi.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
} from '../../uapi/constants.ts';
import { EventFdSlot, eventFdOf, type IrqSet } from '../../vfio/irqs.ts';
import type { MigrationMachine } from '../../vfio/migration.ts';
import type { Task } from '../../vfio/task.ts';

const NONE = -1;

export class MttyIrqs {
  /** VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, or -1. */
  mode = NONE;
  masked = false;
  readonly #slot = new EventFdSlot();
  readonly #migration: MigrationMachine | null;

  /** @param migration remembers what a restored card raises before its user has set interrupts up. */
  constructor(migration: MigrationMachine | null) {
    this.#migration = migration;
  }

  /** The card's interrupt: an INTx masks itself. */
  fire(): void {
    if (this.mode === NONE) this.#migration?.holdInterrupt(0);
    if (this.mode === NONE || (this.mode === VFIO_PCI_INTX_IRQ_INDEX && this.masked)) return;
    if (this.mode === VFIO_PCI_INTX_IRQ_INDEX) this.masked = true;
    this.#slot.signal();
  }

  disable(): void {
    this.mode = NONE;
    this.masked = false;
    this.#slot.unbind();
  }

  set(task: Task, request: IrqSet): number {
    const { index, action } = request;
    if (index === VFIO_PCI_INTX_IRQ_INDEX) {
      if (action === VFIO_IRQ_SET_ACTION_MASK) return this.#setMask(task, request, true);
      if (action === VFIO_IRQ_SET_ACTION_UNMASK) return this.#setMask(task, request, false);
    }
    const known = index === VFIO_PCI_INTX_IRQ_INDEX || index === VFIO_PCI_MSI_IRQ_INDEX;
    if (known && action === VFIO_IRQ_SET_ACTION_TRIGGER) return this.#setTrigger(task, request);
    return task.fail(ENOTTY, `interrupt index ${index} has no such action`);
  }

  #setMask(task: Task, { data, start, count, bool }: IrqSet, masked: boolean): number {
    if (this.mode !== VFIO_PCI_INTX_IRQ_INDEX || start !== 0 || count !== 1)
      return task.fail(EINVAL, 'INTx is not active, or not exactly its one interrupt');
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) return task.fail(ENOTTY, 'no eventfd for this');
    if (data === VFIO_IRQ_SET_DATA_NONE || bool(0)) this.masked = masked;
    return 0;
  }

  #setTrigger(task: Task, { index, data, start, count, bool, fd }: IrqSet): number {
    const active = this.mode === index;
    if (active && data === VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.disable();
      return 0;
    }
    if ((!active && this.mode !== NONE) || start !== 0 || count !== 1)
      return task.fail(EINVAL, 'another mode is active, or not exactly the one interrupt');
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      this.disable();
      if (fd(0) < 0) return 0;
      const eventfd = eventFdOf(task, fd(0));
      if (typeof eventfd === 'number') return eventfd;
      this.#slot.bind(eventfd);
      this.mode = index;
      if (this.#migration?.releaseInterrupt(0)) this.fire();
      return 0;
    }
    if (!active) return task.fail(EINVAL, 'this mode is not active');
    if (data === VFIO_IRQ_SET_DATA_NONE || bool(0)) this.fire();
    return 0;
  }
}
