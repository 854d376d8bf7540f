// A device as the VFIO core sees it: who has it open, where its DMA goes, and its own ledger of pins. The files that a user holds of it are in
// device_file.ts. Kernel counterpart: vfio_main.c.
import { E2BIG, EBUSY, EINVAL, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { AccessGate } from './access.ts';
import type { Group } from './group.ts';
import type { IommufdFile } from './iommufd.ts';
import { MigrationMachine } from './migration.ts';
import type { DmaProvider, VfioDeviceOps } from './ops.ts';
import type { Vfio } from './vfio.ts';

export { checkFeature } from './feature.ts';

/** A length that reaches the last page from iova 0; 2^64 does not fit. */
const EVERYTHING = (1n << 64n) - 1n;
const PAGE = BigInt(PAGE_SIZE_4K);
const MAX_PIN_PAGES = PAGE_SIZE_4K / 8;

/** Drivers extend this with their own state. */
export class VfioDevice {
  /** @internal */
  readonly vfio: Vfio;
  readonly name: string;
  /** @internal */
  // biome-ignore lint/suspicious/noExplicitAny: a table is typed by its own device class
  readonly ops: VfioDeviceOps<any>;
  /** Set when the device is registered. */
  group!: Group;
  /** Number of its node, /dev/vfio/devices/vfio<n>; -1 until it is registered. */
  node = -1;
  /** Files that opened it: through its group, or bound through its node. */
  openCount = 0;
  /** Files that refer to it, opened or only to be bound. They keep it registered. @internal */
  files = 0;
  /** Called when the last file is gone; set while the device is being unregistered. @internal */
  onIdle: (() => void) | null = null;
  /** The iommufd that it is bound to, and its id there; null and 0 otherwise. @internal */
  iommufd: IommufdFile | null = null;
  /** @internal */
  devid = 0;
  /** Where DMA goes while the device is open or attached. @internal */
  dma: DmaProvider | null = null;
  /** Pins this device holds, by page iova: the ledger above the container's counts (spec iommu-type1 section 6). @internal */
  readonly pins = new Map<bigint, number>();
  /** The migration state and its transfers; null when the driver does not migrate. @internal */
  readonly migration: MigrationMachine | null;
  /** What a stopped device allows; null when the device never stops. @internal */
  readonly gate: AccessGate | null;

  /** @internal */
  // biome-ignore lint/suspicious/noExplicitAny: see above
  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<any>) {
    this.vfio = vfio;
    this.name = name;
    this.ops = ops;
    this.migration = ops.migration === undefined ? null : new MigrationMachine(this, ops.migration);
    this.gate = this.migration === null ? null : new AccessGate(this);
  }

  /**
   * Pins pages for the device (spec vfio-core section 11). @returns npage or -errno: EINVAL npage 0, not open, or the driver has no dmaUnmap;
   * E2BIG more than 512 pages; otherwise the provider's. On failure nothing is pinned. @internal
   */
  pinPages(iova: bigint, npage: number, prot: number, pfns: Uint32Array): number {
    if (npage === 0 || this.openCount === 0 || this.dma === null || this.ops.dmaUnmap === undefined) return -EINVAL;
    if (npage > MAX_PIN_PAGES && this.iommufd === null) return -E2BIG;
    const result = this.dma.pinPages(this.group, iova, npage, prot, pfns);
    if (result > 0)
      for (let i = 0; i < npage; i++) {
        const page = iova + BigInt(i * PAGE_SIZE_4K);
        this.pins.set(page, (this.pins.get(page) ?? 0) + 1);
      }
    return result;
  }

  /** Gives pins of this device back, one of each page; pages that it does not hold are left alone, so the range may be everything. @internal */
  unpinPages(iova: bigint, npage: number): void {
    const end = iova + BigInt(npage) * PAGE;
    if (npage <= this.pins.size) for (let page = iova; page < end; page += PAGE) this.#unpin(page);
    else for (const page of [...this.pins.keys()]) if (iova <= page && page < end) this.#unpin(page);
  }

  #unpin(page: bigint): void {
    const held = this.pins.get(page);
    if (held === undefined) return;
    if (held === 1) this.pins.delete(page);
    else this.pins.set(page, held - 1);
    this.dma?.unpinPages(page, 1);
  }

  /** CPU access to the device's address space. @returns 0 or -errno (EINVAL: no bytes, or not open). @internal */
  dmaRw(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (bytes.length === 0 || this.openCount === 0 || this.dma === null) return -EINVAL;
    return this.dma.dmaRw(iova, bytes, write);
  }

  /**
   * The device's own DMA, as a bus master. Nothing leaves a device that its migration state has quiesced.
   * @returns 0 or -errno; nothing is moved on failure. -EBUSY: not now; otherwise the provider's, -EINVAL: not open. @internal
   */
  busMaster(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (this.dma === null || this.openCount === 0) return -EINVAL;
    if (this.gate !== null && !this.gate.dma()) return -EBUSY;
    const memory = this.dma.deviceView?.(iova, bytes.length, write) ?? null;
    if (memory === null) return this.dma.deviceDma(iova, bytes, write);
    if (write) memory.set(bytes);
    else bytes.set(memory);
    return 0;
  }

  /** The memory of such an access, without a copy; null: not now, or not as one piece (DmaProvider.deviceView). @internal */
  busMasterView(iova: bigint, length: number, write: boolean): Uint8Array | null {
    if (this.dma === null || this.openCount === 0 || this.gate?.dma() === false) return null;
    return this.dma.deviceView?.(iova, length, write) ?? null;
  }

  /** Opens the device for one more file; openDevice runs on the first. The DMA provider must be in place. @internal */
  open(): number {
    if (this.openCount === 0) {
      this.openCount = 1;
      if (this.ops.dmaUnmap !== undefined) this.dma?.registerDevice(this);
      const result = this.ops.openDevice?.(this) ?? 0;
      if (result < 0) {
        if (this.ops.dmaUnmap !== undefined) this.dma?.unregisterDevice(this);
        this.openCount = 0;
        return result;
      }
    } else this.openCount++;
    return 0;
  }

  /** One file less; closeDevice runs on the last, then the IOMMU is let go. @internal */
  close(): void {
    if (this.openCount === 1) {
      this.migration?.close();
      this.ops.log?.stop(this);
      this.ops.closeDevice?.(this);
      this.dropPins();
      if (this.ops.dmaUnmap !== undefined) this.dma?.unregisterDevice(this);
    }
    this.openCount--;
  }

  /** One more file refers to the device. @internal */
  get(): void {
    this.files++;
  }
  /** One reference less; the last one to go destroys the device. @internal */
  put(): void {
    if (--this.files === 0) this.onIdle?.();
  }

  /** Forgets every pin that is left, as the last close and a change of address space do. @internal */
  dropPins(): void {
    for (const [page, count] of [...this.pins]) for (let i = 0; i < count; i++) this.unpinPages(page, 1);
  }

  /** Moves the device's DMA to another address space (or to none); what it had pinned in the old one is let go. @internal */
  setDma(dma: DmaProvider | null): void {
    if (this.dma === dma) return;
    const pins = this.openCount > 0 && this.ops.dmaUnmap !== undefined;
    // The driver lets go of everything first, also of pins that it made without the ledger.
    if (pins && this.dma !== null) {
      this.ops.dmaUnmap?.(this, 0n, EVERYTHING);
      this.ops.flushWork?.(this);
    }
    this.dropPins();
    if (pins) this.dma?.unregisterDevice(this);
    this.dma = dma;
    if (pins) dma?.registerDevice(this);
  }
}
