// Interrupts of a PCI device: what SET_IRQS does with each index once the common check has passed, and how a line or a message of the
// hardware reaches the user's eventfd. Kernel counterpart: vfio_pci_intrs.c. Source: spec pci section 6.
//
//   index   INTX 0   MSI 1   MSIX 2   ERR 3   REQ 4;   at most one of the first three is active
import { EBUSY, EINVAL, ENODEV, ENOTTY, ERANGE } from '../../../assembly/abi.ts';
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MEMORY } from '../../devices/pci_config.ts';
import {
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from '../../devices/pci_msi.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../../uapi/constants.ts';
import type { EventFd } from '../../vfio/eventfd.ts';
import { EventFdSlot, eventFdOf, type IrqSet } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import type { VfioPciDevice } from './device.ts';

/** Where the host's messages go; the value of a message is the vector. Anything else is blocked by interrupt remapping. */
const MESSAGE_ADDRESS = 0xfee00000n;

type IrqType = 'none' | 'intx' | 'msi' | 'msix';

export class IrqState {
  type: IrqType = 'none';
  /** INTx is held back: by itself after it fired, by the user, or by the virtual INTx disable bit. */
  masked = false;
  /** log2 of the MSI vectors that SET_IRQS enabled. */
  msiQueueMax = 0;
  readonly err = new EventFdSlot();
  readonly req = new EventFdSlot();
  readonly #device: VfioPciDevice;
  readonly #intx = new EventFdSlot();
  #unmask: { eventfd: EventFd; stop: () => void } | null = null;
  /** Bound vectors of MSI or MSI-X. */
  readonly #vectors = new Map<number, EventFdSlot>();
  /** Vectors that were allocated when the type was enabled. */
  #allocated = 0;

  constructor(device: VfioPciDevice) {
    this.#device = device;
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

  /** MSI-X vectors can be added while others are in use. */
  get dynamicMsix(): boolean {
    return this.#device.hw.msix !== null && this.#device.options.dynamicMsix !== false;
  }

  /** Dispatch by index and action. @returns 0, a positive number of available vectors, or -errno: ENOTTY no such action, or the action's. */
  set(task: Task, request: IrqSet): number {
    const { index, action } = request;
    if (index === VFIO_PCI_INTX_IRQ_INDEX) {
      if (action === VFIO_IRQ_SET_ACTION_MASK) return this.#setIntxMask(task, request);
      if (action === VFIO_IRQ_SET_ACTION_UNMASK) return this.#setIntxUnmask(task, request);
      if (action === VFIO_IRQ_SET_ACTION_TRIGGER) return this.#setIntxTrigger(task, request);
    } else if (action === VFIO_IRQ_SET_ACTION_TRIGGER) {
      if (index === VFIO_PCI_MSI_IRQ_INDEX) return this.#setMessageTrigger(task, request, 'msi');
      if (index === VFIO_PCI_MSIX_IRQ_INDEX) return this.#setMessageTrigger(task, request, 'msix');
      if (index === VFIO_PCI_ERR_IRQ_INDEX) return setSingle(task, request, this.err);
      if (index === VFIO_PCI_REQ_IRQ_INDEX) return setSingle(task, request, this.req);
    }
    return task.fail(ENOTTY, `interrupt index ${index} has no such action`);
  }

  /** The hardware's line changed. */
  intxLine(level: boolean): void {
    if (level && this.type === 'intx' && !this.masked) this.#fireIntx();
  }

  /** A message of the hardware arrived. */
  message(address: bigint, data: number): void {
    if (address === MESSAGE_ADDRESS && this.type !== 'intx') this.#vectors.get(data)?.signal();
  }

  /** Mask by the user or by the INTx disable bit. Without INTx in use the hardware's bit just follows. */
  maskIntx(): void {
    if (this.type === 'intx') this.masked = true;
    this.#disableLine(true);
  }

  /** Unmask; ineffective while the virtual INTx disable bit is set, and signals at once when the line is still wanted. */
  unmaskIntx(): void {
    if (this.type !== 'intx') {
      this.#disableLine(false);
      return;
    }
    if (!this.masked || this.#device.config!.virqDisabled) return;
    if (this.#device.hw.intxPending) {
      this.#intx.signal();
      return;
    }
    this.masked = false;
    this.#disableLine(false);
  }

  /** After a reset that the host made: what it had programmed is programmed again. */
  restore(): void {
    if (this.type === 'msi') this.#programMsi();
    if (this.type === 'msix') {
      this.#setMsixControl(PCI_MSIX_FLAGS_ENABLE);
      for (const vector of this.#vectors.keys()) this.#programEntry(vector, true);
    }
  }

  /** Everything off; the descriptors' references are given back. */
  disable(): void {
    if (this.type === 'intx') this.#disableIntx();
    else this.#disableMessages();
    this.err.unbind();
    this.req.unbind();
  }

  #disableLine(disabled: boolean): void {
    const { hw } = this.#device;
    const command = hw.configRead(PCI_COMMAND, 2);
    hw.configWrite(PCI_COMMAND, 2, disabled ? command | PCI_COMMAND_INTX_DISABLE : command & ~PCI_COMMAND_INTX_DISABLE);
  }

  #fireIntx(): void {
    this.masked = true;
    this.#disableLine(true);
    this.#intx.signal();
  }

  #setIntxMask(task: Task, request: IrqSet): number {
    if (this.type !== 'intx' || request.start !== 0 || request.count !== 1)
      return task.fail(EINVAL, 'INTx is not active, or not exactly its one interrupt');
    if (request.data === VFIO_IRQ_SET_DATA_EVENTFD) return task.fail(ENOTTY, 'an eventfd cannot mask');
    if (request.data === VFIO_IRQ_SET_DATA_NONE || request.bool(0)) this.maskIntx();
    return 0;
  }

  #setIntxUnmask(task: Task, request: IrqSet): number {
    if (this.type !== 'intx' || request.start !== 0 || request.count !== 1)
      return task.fail(EINVAL, 'INTx is not active, or not exactly its one interrupt');
    if (request.data === VFIO_IRQ_SET_DATA_EVENTFD) return this.#setUnmaskEventfd(task, request.fd(0));
    if (request.data === VFIO_IRQ_SET_DATA_NONE || request.bool(0)) this.unmaskIntx();
    return 0;
  }

  #setUnmaskEventfd(task: Task, fd: number): number {
    if (fd < 0) {
      this.#dropUnmask();
      return 0;
    }
    const eventfd = eventFdOf(task, fd);
    if (typeof eventfd === 'number') return eventfd;
    if (this.#unmask !== null) return task.fail(EBUSY, 'an eventfd that unmasks is set already');
    const stop = eventfd.onSignal(() => {
      eventfd.take();
      this.unmaskIntx();
    });
    this.#unmask = { eventfd: eventfd.get(), stop };
    if (eventfd.count > 0n) this.unmaskIntx();
    return 0;
  }

  #dropUnmask(): void {
    this.#unmask?.stop();
    this.#unmask?.eventfd.put();
    this.#unmask = null;
  }

  #setIntxTrigger(task: Task, request: IrqSet): number {
    const { data, start, count } = request;
    const active = this.type === 'intx';
    if (active && data === VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.#disableIntx();
      return 0;
    }
    if ((!active && this.type !== 'none') || start !== 0 || count !== 1)
      return task.fail(EINVAL, `${this.type} is active, or not exactly the one INTx interrupt`);
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      const eventfd = request.fd(0) < 0 ? null : eventFdOf(task, request.fd(0));
      if (typeof eventfd === 'number') return eventfd;
      if (!active && !this.#device.hasInterruptLine) return task.fail(ENODEV, 'the platform gave no interrupt line');
      if (eventfd === null) this.#intx.unbind();
      else this.#intx.bind(eventfd);
      if (!active) this.#enableIntx();
      return 0;
    }
    if (!active) return task.fail(EINVAL, 'INTx is not active');
    // The user's own INTx disable bit holds back a loop back too.
    const held = this.#device.config!.virqDisabled;
    if (!held && (data === VFIO_IRQ_SET_DATA_NONE || request.bool(0))) this.#intx.signal();
    return 0;
  }

  #enableIntx(): void {
    this.type = 'intx';
    // What waited since a restore is the line itself, which is looked at below.
    this.#device.migration?.releaseInterrupt(0);
    this.masked = this.#device.config!.virqDisabled;
    this.#disableLine(this.masked);
    if (!this.masked && this.#device.hw.intxPending) this.#fireIntx();
  }

  #disableIntx(): void {
    this.#dropUnmask();
    this.#intx.unbind();
    this.masked = false;
    this.type = 'none';
  }

  #setMessageTrigger(task: Task, request: IrqSet, type: 'msi' | 'msix'): number {
    const { data, start, count } = request;
    const active = this.type === type;
    if (active && data === VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.#disableMessages();
      return 0;
    }
    if (!active && this.type !== 'none') return task.fail(EINVAL, `${this.type} is active`);
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      if (active) return this.#setBlock(task, request);
      const available = this.#enableMessages(task, type, start + count);
      if (available !== 0) return available;
      const result = this.#setBlock(task, request);
      if (result < 0) this.#disableMessages();
      return result;
    }
    if (!active) return task.fail(EINVAL, `${type} is not active`);
    for (let i = 0; i < count; i++)
      if (data !== VFIO_IRQ_SET_DATA_BOOL || request.bool(i)) this.#vectors.get(start + i)?.signal();
    return 0;
  }

  /** @returns 0; -ERANGE for no vectors; or how many there are when that is less than `wanted`, with nothing enabled. */
  #enableMessages(task: Task, type: 'msi' | 'msix', wanted: number): number {
    if (wanted === 0) return task.fail(ERANGE, 'no vectors');
    const available = this.#device.options.hostVectors ?? Number.POSITIVE_INFINITY;
    if (available < wanted) return available;
    this.type = type;
    this.#allocated = wanted;
    if (type === 'msi') {
      this.msiQueueMax = Math.ceil(Math.log2(wanted));
      this.#programMsi();
    } else this.#setMsixControl(PCI_MSIX_FLAGS_ENABLE);
    return 0;
  }

  #disableMessages(): void {
    for (const vector of [...this.#vectors.keys()]) this.#bind(vector, null);
    const { hw } = this.#device;
    if (this.type === 'msi') {
      const at = hw.msi!.offset + PCI_MSI_FLAGS;
      hw.configWrite(at, 2, hw.configRead(at, 2) & ~PCI_MSI_FLAGS_ENABLE);
      hw.msi!.program(0n, 0);
    }
    if (this.type === 'msix') this.#setMsixControl(0);
    this.#allocated = 0;
    this.type = 'none';
  }

  /** Binds the requested range; the first error unbinds all of it, also what was bound before. */
  #setBlock(task: Task, request: IrqSet): number {
    const { start, count } = request;
    for (let i = 0; i < count; i++) {
      const result = this.#setVector(task, start + i, request.fd(i));
      if (result === 0) continue;
      for (let j = 0; j < count; j++) this.#bind(start + j, null);
      return result;
    }
    return 0;
  }

  #setVector(task: Task, vector: number, fd: number): number {
    this.#bind(vector, null);
    if (fd < 0) return 0;
    const dynamic = this.type === 'msix' && this.dynamicMsix;
    if (vector >= this.#allocated && !dynamic)
      return task.fail(EINVAL, `vector ${vector}: ${this.#allocated} are allocated, more needs disabling first`);
    const eventfd = eventFdOf(task, fd);
    if (typeof eventfd === 'number') return eventfd;
    this.#bind(vector, eventfd);
    return 0;
  }

  #bind(vector: number, eventfd: EventFd | null): void {
    if (eventfd === null) {
      const slot = this.#vectors.get(vector);
      if (slot === undefined) return;
      if (this.type === 'msix') this.#programEntry(vector, false);
      slot.unbind();
      this.#vectors.delete(vector);
      return;
    }
    const slot = new EventFdSlot();
    slot.bind(eventfd);
    this.#vectors.set(vector, slot);
    if (this.type === 'msix') this.#programEntry(vector, true);
    if (this.#device.migration?.releaseInterrupt(vector) === true) slot.signal();
  }

  #programMsi(): void {
    const { hw } = this.#device;
    const msi = hw.msi!;
    msi.program(MESSAGE_ADDRESS, 0);
    const at = msi.offset + PCI_MSI_FLAGS;
    const flags = hw.configRead(at, 2) & ~PCI_MSI_FLAGS_QSIZE;
    hw.configWrite(at, 2, flags | PCI_MSI_FLAGS_ENABLE | (this.msiQueueMax << 4));
  }

  #setMsixControl(bits: number): void {
    const { hw } = this.#device;
    const at = hw.msix!.offset + PCI_MSIX_FLAGS;
    const flags = hw.configRead(at, 2) & ~(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    hw.configWrite(at, 2, flags | bits);
  }

  /** Writes a table entry as the host's kernel does: with memory decoding forced on, whatever the user's command register says. */
  #programEntry(vector: number, bound: boolean): void {
    const { hw } = this.#device;
    const msix = hw.msix!;
    const entry = new Uint8Array(PCI_MSIX_ENTRY_SIZE);
    const view = new DataView(entry.buffer);
    if (bound) {
      view.setBigUint64(0, MESSAGE_ADDRESS, true);
      view.setUint32(8, vector, true);
    }
    view.setUint32(12, bound ? 0 : 1, true);
    const command = hw.configRead(PCI_COMMAND, 2);
    hw.configWrite(PCI_COMMAND, 2, command | PCI_COMMAND_MEMORY);
    const at = msix.tableOffset + vector * PCI_MSIX_ENTRY_SIZE;
    // Masking comes before the message is taken away, and unmasking after it is there.
    for (const word of bound ? [0, 4, 8, 12] : [12, 8, 4, 0]) hw.store(msix.bar, at + word, 4, entry, word);
    hw.configWrite(PCI_COMMAND, 2, command);
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
