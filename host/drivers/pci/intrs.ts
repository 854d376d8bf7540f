// Interrupts of a PCI device: which index and action of SET_IRQS goes where, once the common check has passed. INTx and messages are in files of
// their own. Kernel counterpart: vfio_pci_intrs.c. Source: spec pci section 6.
//
//   index   INTX 0   MSI 1   MSIX 2   ERR 3   REQ 4;   at most one of the first three is active
import { EINVAL, ENOTTY } from '../../../assembly/abi.ts';
import { PCI_MSI_FLAGS, PCI_MSI_FLAGS_QMASK } from '../../devices/pci_msi.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../../uapi/constants.ts';
import { EventFdSlot, type IrqSet } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import type { VfioPciDevice } from './device.ts';
import { IntxState } from './intx.ts';
import { MessageState } from './messages.ts';

export class IrqState {
  readonly intx: IntxState;
  readonly messages: MessageState;
  readonly err = new EventFdSlot();
  readonly req = new EventFdSlot();
  readonly #device: VfioPciDevice;

  constructor(device: VfioPciDevice) {
    this.#device = device;
    this.intx = new IntxState(device);
    this.messages = new MessageState(device);
  }

  /** The type that is active. */
  get type(): 'none' | 'intx' | 'msi' | 'msix' {
    return this.intx.active ? 'intx' : this.messages.type;
  }

  /** Number of subindexes of an index; 0 when the device has none. */
  count(index: number): number {
    const { hw, config } = this.#device;
    switch (index) {
      case VFIO_PCI_INTX_IRQ_INDEX:
        return (config?.interruptPin ?? 0) !== 0 ? 1 : 0;
      case VFIO_PCI_MSI_IRQ_INDEX:
        return hw.msi === null
          ? 0
          : 1 << ((hw.configRead(hw.msi.offset + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1);
      case VFIO_PCI_MSIX_IRQ_INDEX:
        return hw.msix?.vectors ?? 0;
      case VFIO_PCI_ERR_IRQ_INDEX:
        return hw.config.find(0x10) !== 0 ? 1 : 0;
      case VFIO_PCI_REQ_IRQ_INDEX:
        return 1;
      default:
        return 0;
    }
  }

  /** Dispatch by index and action. @returns 0, a positive number of available vectors, or -errno: ENOTTY no such action, or the action's. */
  set(task: Task, request: IrqSet): number {
    const { index, action } = request;
    const { messages } = this;
    if (index === VFIO_PCI_INTX_IRQ_INDEX) {
      if (action === VFIO_IRQ_SET_ACTION_MASK) return this.intx.setMask(task, request);
      if (action === VFIO_IRQ_SET_ACTION_UNMASK) return this.intx.setUnmask(task, request);
      if (action === VFIO_IRQ_SET_ACTION_TRIGGER) return this.intx.setTrigger(task, request, messages.type !== 'none');
    } else if (action === VFIO_IRQ_SET_ACTION_TRIGGER) {
      if (index === VFIO_PCI_MSI_IRQ_INDEX) return messages.setTrigger(task, request, 'msi', this.intx.active);
      if (index === VFIO_PCI_MSIX_IRQ_INDEX) return messages.setTrigger(task, request, 'msix', this.intx.active);
      if (index === VFIO_PCI_ERR_IRQ_INDEX) return setSingle(task, request, this.err);
      if (index === VFIO_PCI_REQ_IRQ_INDEX) return setSingle(task, request, this.req);
    }
    return task.fail(ENOTTY, `interrupt index ${index} has no such action`);
  }

  /** Everything off; the descriptors' references are given back. */
  disable(): void {
    if (this.intx.active) this.intx.disable();
    else this.messages.disable();
    this.err.unbind();
    this.req.unbind();
  }
}

/** ERR and REQ: one eventfd, nothing to enable. */
function setSingle(task: Task, request: IrqSet, slot: EventFdSlot): number {
  const { data, start, count } = request;
  if (start !== 0 || count > 1) return task.fail(EINVAL, 'this index has one interrupt');
  if (data === VFIO_IRQ_SET_DATA_NONE) {
    if (!slot.bound) return task.fail(EINVAL, 'no eventfd is set');
    if (count === 0) slot.unbind();
    else slot.signal();
    return 0;
  }
  if (count === 0) return task.fail(EINVAL, 'nothing to do with count 0');
  if (data === VFIO_IRQ_SET_DATA_EVENTFD) return slot.set(task, request.fd(0));
  if (request.bool(0)) slot.signal();
  return 0;
}
