// The "pci-msix" function of the default machine: PCI Express and power-management capabilities, 4 KiB of plain registers in BAR0, and a
// 64-bit BAR2 of 64 KiB with the MSI-X table (8 vectors) at 0, the pending bits at 0x8000 and nothing behind the rest of it but storage.
import { PciDevice } from './pci_device.ts';

export class PciMsix extends PciDevice {
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
}
