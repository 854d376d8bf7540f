// The virtual configuration space of an open device: layout, what the user wrote, and the write that most fields have. Source: spec pci
// sections 3 and 3.1.
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MEMORY,
  PCI_ROM_ADDRESS,
} from '../../devices/pci_config.ts';
import type { PciDevice, Width } from '../../devices/pci_device.ts';
import { type Layout, layOut } from './config_layout.ts';
import type { VfioPciDevice } from './device.ts';

const D3HOT = 3;
const barOffsets: readonly number[] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, PCI_ROM_ADDRESS];

export class VirtualConfig {
  readonly layout: Layout;
  /** A user wrote a BAR since the last sizing. */
  barDirty = true;
  /** The user's INTx disable bit is in force. */
  virqDisabled: boolean;
  /** What the real BARs must hold. */
  readonly realBars: number[];

  /** @param irqLine the platform gave the function an interrupt line. */
  constructor(device: VfioPciDevice, irqLine: boolean) {
    const { hw } = device;
    this.layout = layOut(hw.config.bytes);
    const { vconfig } = this.layout;
    if (device.isVirtualFunction || device.options.noIntx === true || !irqLine) vconfig[0x3d] = 0;
    if (device.isVirtualFunction) vconfig[PCI_COMMAND] = vconfig[PCI_COMMAND]! | PCI_COMMAND_MEMORY;
    this.virqDisabled = (this.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) !== 0;
    this.realBars = barOffsets.map((at) => hw.config.read(at, 4));
  }

  get interruptPin(): number {
    return this.layout.vconfig[0x3d]!;
  }
  /** Offset of a visible standard capability, or 0. */
  find(id: number): number {
    return this.layout.caps.get(id) ?? 0;
  }
  word(at: number): number {
    const { vconfig } = this.layout;
    return vconfig[at]! | (vconfig[at + 1]! << 8);
  }
  setWord(at: number, value: number): void {
    this.layout.vconfig[at] = value;
    this.layout.vconfig[at + 1] = value >>> 8;
  }

  /** May the user's accesses reach memory BARs now? */
  memoryEnabled(device: VfioPciDevice): boolean {
    if (device.powerState >= D3HOT) return false;
    if (device.isVirtualFunction || device.hw.alwaysDecodes) return true;
    return (this.layout.vconfig[PCI_COMMAND]! & PCI_COMMAND_MEMORY) !== 0;
  }
}

/** The default write: virtual bits to vconfig, the rest to hardware by read-modify-write. */
export function defaultWrite(device: VfioPciDevice, offset: number, bytes: Uint8Array): void {
  const { virt, write, vconfig } = device.config!.layout;
  const width = bytes.length as Width;
  let mask = 0;
  let value = 0;
  for (let i = 0; i < width; i++) {
    const at = offset + i;
    const toVirtual = write[at]! & virt[at]!;
    vconfig[at] = (vconfig[at]! & ~toVirtual) | (bytes[i]! & toVirtual);
    const toHardware = write[at]! & ~virt[at]!;
    mask |= toHardware << (8 * i);
    value |= (bytes[i]! & toHardware) << (8 * i);
  }
  if (mask !== 0) device.hw.configWrite(offset, width, ((device.hw.configRead(offset, width) & ~mask) | value) >>> 0);
}

/** A reset behind the driver's back took the addresses. */
export const barsLost = (config: VirtualConfig, hw: PciDevice): boolean =>
  barOffsets.some((at, i) => hw.config.read(at, 4) !== config.realBars[i]);

export function restoreBars(config: VirtualConfig, hw: PciDevice): void {
  barOffsets.forEach((at, i) => {
    hw.config.write(at, 4, config.realBars[i]!);
  });
}
