// The "pci-msix" function of the default machine: PCI Express and power-management capabilities, 4 KiB of plain registers in BAR0, and a
// 64-bit BAR2 of 64 KiB with the MSI-X table (8 vectors) at 0, the pending bits at 0x8000 and nothing behind the rest of it but storage.
import type { StatefulHardware } from './device_state.ts';
import { PciDevice } from './pci_device.ts';

export class PciMsix extends PciDevice implements StatefulHardware {
  readonly stateModel = 'msix';
  readonly stateVersion = 1;
  /** BAR0, then BAR2 with what stands for storage in it; the MSI-X table and its pending bits belong to the host. */
  readonly stateSize = 0x1000 + 0x10000;

  constructor() {
    super({
      vendor: 0x1af4,
      device: 0x10f5,
      classCode: 0x088000,
      revision: 1,
      multifunction: true,
      bars: {
        0: { size: 0x1000, memory: true },
        2: { size: 0x10000, kind: 'mem64', prefetchable: true, memory: true },
      },
      powerManagement: true,
      msix: { bar: 2, vectors: 8, table: 0, pending: 0x8000 },
      express: { flr: true },
    });
  }

  protected override onReset(): void {
    for (const bar of this.bars) bar?.memory?.fill(0);
  }

  saveState(into: DataView): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, this.stateSize);
    bytes.set(this.bars[0]!.memory!);
    bytes.set(this.bars[2]!.memory!, 0x1000);
  }

  loadState(from: DataView): boolean {
    const bytes = new Uint8Array(from.buffer, from.byteOffset, this.stateSize);
    this.bars[0]!.memory!.set(bytes.subarray(0, 0x1000));
    this.bars[2]!.memory!.set(bytes.subarray(0x1000));
    return true;
  }

  resume(): void {}
}
