// The configuration space of a function as its hardware has it: bytes, which of them software can change, and the chain of capabilities.
// Little-endian. Offsets are those of the PCI specification; what a user of vfio-pci sees of it is the driver's business.
import { viewOf } from '../vfio/user.ts';

export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_INTX_DISABLE = 0x400;
export const PCI_STATUS = 0x06;
export const PCI_STATUS_INTERRUPT = 0x08;
export const PCI_STATUS_CAP_LIST = 0x10;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_ROM_ADDRESS = 0x30;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;
export const PCI_HEADER_SIZE = 0x40;
export const PCI_CFG_SPACE_SIZE = 0x100;
export const PCI_CFG_SPACE_EXP_SIZE = 0x1000;

export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_VPD = 0x03;
export const PCI_CAP_ID_MSI = 0x05;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_CAP_ID_AF = 0x13;

/** Who the function is. */
export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** 1 is INTA; 0 has no pin. */
  readonly interruptPin?: number;
  readonly multifunction?: boolean;
  readonly size?: typeof PCI_CFG_SPACE_SIZE | typeof PCI_CFG_SPACE_EXP_SIZE;
}

const COMMAND_WRITABLE =
  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 0x100 /* SERR */ | PCI_COMMAND_INTX_DISABLE;

/** A function's configuration space on the hardware's side: its bytes, the bits that software can change, its capabilities. */
export class PciConfigSpace {
  readonly bytes: Uint8Array;
  /** Bits that a configuration write changes. */
  readonly writable: Uint8Array;
  readonly view: DataView;
  /** Where each capability lies: [offset, length] by offset, standard and extended. */
  readonly capabilities: Array<{ id: number; extended: boolean; offset: number; length: number }> = [];
  #powerOn: Uint8Array | null = null;
  #lastLink = PCI_CAPABILITY_LIST;
  #free = PCI_HEADER_SIZE;
  #lastExtended = 0;
  #freeExtended = PCI_CFG_SPACE_SIZE;

  constructor(identity: PciIdentity) {
    const size = identity.size ?? PCI_CFG_SPACE_SIZE;
    this.bytes = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.view = viewOf(this.bytes);
    const { view } = this;
    view.setUint16(0x00, identity.vendor, true);
    view.setUint16(0x02, identity.device, true);
    view.setUint32(0x08, (identity.classCode << 8) | (identity.revision ?? 0), true);
    view.setUint8(PCI_HEADER_TYPE, identity.multifunction === true ? 0x80 : 0);
    view.setUint16(0x2c, identity.subsystemVendor ?? identity.vendor, true);
    view.setUint16(0x2e, identity.subsystem ?? identity.device, true);
    view.setUint8(PCI_INTERRUPT_PIN, identity.interruptPin ?? 0);
    this.allowWrites(PCI_COMMAND, 2, COMMAND_WRITABLE);
    this.writable[0x0c] = 0xff; // cache line size
    this.writable[PCI_INTERRUPT_LINE] = 0xff;
  }

  get size(): number {
    return this.bytes.length;
  }

  /** Little-endian, 1, 2 or 4 bytes. */
  read(offset: number, width: number): number {
    const { view } = this;
    return width === 4
      ? view.getUint32(offset, true)
      : width === 2
        ? view.getUint16(offset, true)
        : view.getUint8(offset);
  }

  /** Changes the writable bits only. */
  write(offset: number, width: number, value: number): void {
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      const mask = this.writable[at]!;
      this.bytes[at] = (this.bytes[at]! & ~mask) | ((value >>> (8 * i)) & mask);
    }
  }

  /** Stores whatever the mask says: the hardware's own side. */
  set(offset: number, width: 1 | 2 | 4, value: number): void {
    for (let i = 0; i < width; i++) this.bytes[offset + i] = value >>> (8 * i);
  }

  /** Lets software change these bits of a field of `width` bytes. */
  allowWrites(offset: number, width: number, mask: number): void {
    for (let i = 0; i < width; i++) this.writable[offset + i] = mask >>> (8 * i);
  }

  /** Appends a capability of `length` bytes (header included) to the standard chain. @param at its offset; default the next free dword. */
  addCapability(id: number, length: number, at: number = this.#free): number {
    this.bytes[at] = id;
    this.bytes[this.#lastLink] = at;
    this.#lastLink = at + 1;
    this.#free = Math.max(this.#free, (at + length + 3) & ~3);
    if (this.#free > PCI_CFG_SPACE_SIZE) throw new RangeError('the capabilities do not fit into 256 bytes');
    this.bytes[PCI_STATUS] = this.bytes[PCI_STATUS]! | PCI_STATUS_CAP_LIST;
    this.capabilities.push({ id, extended: false, offset: at, length });
    return at;
  }

  /** Appends an extended capability; needs a space of 4096 bytes. */
  addExtendedCapability(id: number, version: number, length: number): number {
    const at = this.#freeExtended;
    if (at + length > this.size) throw new RangeError('the extended capability does not fit');
    this.view.setUint32(at, id | (version << 16), true);
    if (this.#lastExtended !== 0) {
      const header = this.view.getUint32(this.#lastExtended, true);
      this.view.setUint32(this.#lastExtended, ((header & 0xfffff) | (at << 20)) >>> 0, true);
    }
    this.#lastExtended = at;
    this.#freeExtended = (at + length + 3) & ~3;
    this.capabilities.push({ id, extended: true, offset: at, length });
    return at;
  }

  /** Offset of a standard capability, or 0. */
  find(id: number): number {
    return this.capabilities.find((cap) => cap.id === id && !cap.extended)?.offset ?? 0;
  }

  /** What the capabilities hold now is what a reset brings back. Taken when the function is built and again when it is plugged in. */
  markPowerOn(): void {
    this.#powerOn = this.bytes.slice();
  }

  /** Writable header fields empty, capabilities as at power-on; plain storage between and behind them keeps its value. */
  reset(): void {
    for (let at = 0; at < PCI_HEADER_SIZE; at++) this.bytes[at] = this.bytes[at]! & ~this.writable[at]!;
    if (this.#powerOn === null) return;
    for (const { offset, length } of this.capabilities)
      this.bytes.set(this.#powerOn.subarray(offset, offset + length), offset);
  }
}
