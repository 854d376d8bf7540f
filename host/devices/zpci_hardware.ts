// What a PCI function on a mainframe has beyond PCI: how it is known to the machine, the rules of its function group, and block stores. Spec zdev
// sections 1 and 3.
import { PciDevice, type PciDeviceOptions } from './pci_device.ts';

/** Function type of internal shared memory. */
export const PFT_ISM = 5;

export interface ZpciIdentity {
  /** First and last usable I/O address, both inclusive. Default as emulated functions: 0x100000000 to 0x1ffffffffffffff. */
  readonly startDma?: bigint;
  readonly endDma?: bigint;
  /** Physical channel id, virtual function number. */
  readonly pchid?: number;
  readonly vfn?: number;
  /** Bytes of a measurement block. */
  readonly fmbLength?: number;
  /** Function type. */
  readonly pft: number;
  /** Function group. */
  readonly gid: number;
  /** Place in the list of functions; the low part of the handle. */
  readonly index: number;
  /** 64 EBCDIC bytes. */
  readonly util?: Uint8Array;
  /** Internal path segments, 4 bytes. */
  readonly pfip?: Uint8Array;
  /** Longest block the hardware stores with one instruction. */
  readonly maxStoreBlock: number;
  /** Blocks of any alignment and length. */
  readonly relaxed?: boolean;
  readonly dasm?: bigint;
  readonly msiAddress?: bigint;
  /** Measurement update interval, ms. */
  readonly updateInterval?: number;
  /** Most interrupts the function raises. */
  readonly interrupts?: number;
  /** PCI version the group supports. */
  readonly version?: number;
}

export const DEFAULT_START_DMA = 0x100000000n;
export const DEFAULT_END_DMA = 0x1ffffffffffffffn;
export const DEFAULT_MSI_ADDRESS = 0xfe00000000000000n;

/** A function with block stores; models extend it. */
export abstract class ZpciDevice extends PciDevice {
  readonly identity: ZpciIdentity;

  constructor(options: PciDeviceOptions, identity: ZpciIdentity) {
    super({ alwaysDecodes: true, ...options });
    this.identity = identity;
  }

  /** One PCISTB. Default: the pieces of a function without block stores. @returns false when the function refuses it. */
  storeBlock(bar: number, offset: number, block: Uint8Array): boolean {
    for (let at = 0; at < block.length; ) {
      let width: 1 | 2 | 4 | 8 = 8;
      while ((offset + at) % width !== 0 || width > block.length - at) width = (width / 2) as 1 | 2 | 4;
      this.store(bar, offset + at, width, block, at);
      at += width;
    }
    return true;
  }
}
