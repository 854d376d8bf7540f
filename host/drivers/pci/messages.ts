// MSI and MSI-X of a PCI device: vectors bound to eventfds, and the host's side of the hardware's message registers. Source: spec pci section
// 6.2.
import { EINVAL, ERANGE } from '../../../assembly/abi.ts';
import { PCI_COMMAND, PCI_COMMAND_MEMORY } from '../../devices/pci_config.ts';
import {
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from '../../devices/pci_msi.ts';
import { VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE } from '../../uapi/constants.ts';
import type { EventFd } from '../../vfio/eventfd.ts';
import { EventFdSlot, eventFdOf, type IrqSet } from '../../vfio/irqs.ts';
import type { Task } from '../../vfio/task.ts';
import type { VfioPciDevice } from './device.ts';

/** Where the host's messages go; the value of a message is the vector. Anything else is blocked by interrupt remapping. */
const MESSAGE_ADDRESS = 0xfee00000n;

export class MessageState {
  type: 'none' | 'msi' | 'msix' = 'none';
  /** log2 of the MSI vectors that SET_IRQS enabled. */
  msiQueueMax = 0;
  readonly #device: VfioPciDevice;
  /** Bound vectors. */
  readonly #vectors = new Map<number, EventFdSlot>();
  /** Vectors that were allocated when the type was enabled. */
  #allocated = 0;

  constructor(device: VfioPciDevice) {
    this.#device = device;
  }

  /** MSI-X vectors can be added while others are in use. */
  get dynamicMsix(): boolean {
    return this.#device.hw.msix !== null && this.#device.options.dynamicMsix !== false;
  }

  /** A message of the hardware arrived. */
  message(address: bigint, data: number): void {
    if (address === MESSAGE_ADDRESS) this.#vectors.get(data)?.signal();
  }

  /** After a reset that the host made: what it had programmed is programmed again. */
  restore(): void {
    if (this.type === 'msi') this.#programMsi();
    if (this.type === 'msix') {
      this.#setMsixControl(PCI_MSIX_FLAGS_ENABLE);
      for (const vector of this.#vectors.keys()) this.#programEntry(vector, true);
    }
  }

  /** TRIGGER of SET_IRQS. @param intx INTx is active. */
  setTrigger(task: Task, request: IrqSet, type: 'msi' | 'msix', intx: boolean): number {
    const { data, start, count } = request;
    const active = this.type === type;
    if (active && data === VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.disable();
      return 0;
    }
    if (intx || (!active && this.type !== 'none')) return task.fail(EINVAL, 'another type is active');
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      if (active) return this.#setBlock(task, request);
      const available = this.#enable(task, type, start + count);
      if (available !== 0) return available;
      const result = this.#setBlock(task, request);
      if (result < 0) this.disable();
      return result;
    }
    if (!active) return task.fail(EINVAL, `${type} is not active`);
    for (let i = 0; i < count; i++)
      if (data !== VFIO_IRQ_SET_DATA_BOOL || request.bool(i)) this.#vectors.get(start + i)?.signal();
    return 0;
  }

  /** @returns 0; -ERANGE for no vectors; or how many there are when that is less than `wanted`, with nothing enabled. */
  #enable(task: Task, type: 'msi' | 'msix', wanted: number): number {
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

  /** Off; the descriptors' references are given back. */
  disable(): void {
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
