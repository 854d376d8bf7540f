// The plain executor's side of a zPCI function: everything through VFIO calls on the device's and the container's descriptors. A process that has
// no VM could make each of these calls itself.

import type { VfioProcess } from '../../process.ts';
import { walkCaps } from '../../uapi/caps.ts';
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../uapi/ioctl.ts';
import {
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIommuType1Info,
  VfioIrqInfo,
  VfioIrqSet,
  VfioRegionInfo,
} from '../../uapi/structs.ts';
import { deviceInfoOf } from '../kind.ts';
import type { GuestStorage } from '../storage.ts';
import type { BarRegion, FunctionBackend } from './backend.ts';
import { IsmRegion } from './ism_region.ts';
import { findMsix, MSIX_ENABLE, MSIX_MASK_ALL, MsixTable } from './msix.ts';

export interface VfioFunctionOptions {
  /** Descriptors of the device and of its container. */
  readonly device: number;
  readonly container: number;
  /** What a BAR takes, where it is not simply all of it at any natural width. */
  readonly regions?: ReadonlyMap<number, readonly BarRegion[]>;
}

interface Region {
  readonly size: bigint;
  readonly offset: bigint;
}

const MSIX_BITS = MSIX_ENABLE | MSIX_MASK_ALL;
const ALL_SIZES: readonly number[] = [1, 2, 4, 8];

export class VfioFunctionBackend implements FunctionBackend {
  readonly #process: VfioProcess;
  readonly #storage: GuestStorage;
  readonly #device: number;
  readonly #container: number;
  readonly #regions: ReadonlyMap<number, readonly BarRegion[]>;
  readonly #bars: Region[] = [];
  readonly #config: Region;
  readonly #canReset: boolean;
  readonly #msix: MsixTable | null;
  readonly #ism: IsmRegion | null;
  /** The MSI-X control byte of config space, -1 without one, and its bits as the guest wrote them: through VFIO they are read-only. */
  #control = -1;
  #controlBits = 0;
  #eventfds: number[] = [];
  #irqIndex = -1;
  /** Where messages go while interrupts are connected. */
  #raised: (message: number) => void = () => {};

  /** @throws VfioError when the descriptors are not a PCI device and its container. */
  constructor(process: VfioProcess, storage: GuestStorage, options: VfioFunctionOptions) {
    this.#process = process;
    this.#storage = storage;
    this.#device = options.device;
    this.#container = options.container;
    this.#regions = options.regions ?? new Map();
    const info = deviceInfoOf(process, this.#device, VFIO_DEVICE_FLAGS_PCI);
    this.#canReset = (info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0;
    for (let bar = 0; bar < 6; bar++) this.#bars.push(this.#region(bar));
    this.#config = this.#region(VFIO_PCI_CONFIG_REGION_INDEX);
    const msix = findMsix((offset, size) => this.readConfig(offset, size));
    this.#control = msix?.control ?? -1;
    // Where the BAR is described, its device keeps the table like any other registers.
    this.#msix = msix === null || this.#regions.has(msix.bar) ? null : new MsixTable(msix);
    this.#ism = IsmRegion.find(process, this.#device, info.num_regions);
  }

  barSize(bar: number): bigint {
    return this.#bars[bar]?.size ?? 0n;
  }

  accepts(bar: number, offset: bigint, size: number): boolean {
    const end = offset + BigInt(size);
    if (offset % BigInt(size) !== 0n || end > this.barSize(bar)) return false;
    const window = this.#msix?.window(bar, offset);
    if (window != null) return fits(this.#msix?.[window] as BarRegion, offset, end, size);
    const regions = this.#regions.get(bar);
    return regions === undefined ? ALL_SIZES.includes(size) : regions.some((region) => fits(region, offset, end, size));
  }

  readBar(bar: number, offset: bigint, size: number): Uint8Array | null {
    const window = this.#msix?.window(bar, offset);
    if (window != null) return this.#msix?.read(window, offset, size) ?? null;
    return this.loadBar(bar, offset, size);
  }

  writeBar(bar: number, offset: bigint, bytes: Uint8Array): boolean {
    const window = this.#msix?.window(bar, offset);
    if (window == null) return this.storeBar(bar, offset, bytes);
    for (const message of this.#msix?.write(window, offset, bytes) ?? []) this.#raised(message);
    return true;
  }

  storeBlock(bar: number, offset: bigint, gaddr: bigint, bytes: Uint8Array): boolean {
    const { location } = this.#msix ?? {};
    if (location?.bar !== bar && location?.pbaBar !== bar) return this.storeWhole(bar, offset, gaddr, bytes);
    for (let at = 0; at < bytes.length; at += 8)
      if (!this.writeBar(bar, offset + BigInt(at), bytes.subarray(at, at + 8))) return false;
    return true;
  }

  /** One load of the device's own registers, outside the table that the layer keeps. */
  protected loadBar(bar: number, offset: bigint, size: number): Uint8Array | null {
    if (this.#ism !== null) return this.#ism.load(bar, offset, size);
    const bytes = new Uint8Array(size);
    const result = this.#process.readRaw(this.#device, bytes, (this.#bars[bar] as Region).offset + offset);
    return result === size ? bytes : null;
  }

  protected storeBar(bar: number, offset: bigint, bytes: Uint8Array): boolean {
    const at = (this.#bars[bar] as Region).offset + offset;
    return this.#process.writeRaw(this.#device, bytes, at) === bytes.length;
  }

  /** A block for a BAR without a table in it. */
  protected storeWhole(bar: number, offset: bigint, gaddr: bigint, bytes: Uint8Array): boolean {
    if (this.#ism !== null) return this.#ism.store(bar, offset, this.#storage, gaddr, bytes);
    return this.storeBar(bar, offset, bytes);
  }

  readConfig(offset: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size).fill(0xff);
    if (offset + size > Number(this.#config.size)) return bytes;
    const result = this.#process.readRaw(this.#device, bytes, this.#config.offset + BigInt(offset));
    if (result !== size) return bytes.fill(0xff);
    const control = bytes[this.#control - offset];
    if (control !== undefined) bytes[this.#control - offset] = (control & ~MSIX_BITS) | this.#controlBits;
    return bytes;
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    const control = bytes[this.#control - offset];
    if (control !== undefined) {
      this.#controlBits = control & MSIX_BITS;
      const released = this.#msix?.maskAll((control & MSIX_MASK_ALL) !== 0) ?? [];
      for (const message of released) this.#raised(message);
    }
    if (offset + bytes.length <= Number(this.#config.size))
      this.#process.writeRaw(this.#device, bytes, this.#config.offset + BigInt(offset));
  }

  map(iova: bigint, absolute: bigint, write: boolean): number {
    const map = new VfioIommuType1DmaMap({
      flags: VFIO_DMA_MAP_FLAG_READ | (write ? VFIO_DMA_MAP_FLAG_WRITE : 0),
      vaddr: this.#storage.vaddr + absolute,
      iova,
      size: 4096n,
    });
    return this.#process.ioctlRaw(this.#container, VFIO_IOMMU_MAP_DMA, map);
  }

  unmap(iova: bigint, size: bigint): void {
    const unmap = new VfioIommuType1DmaUnmap({ iova, size });
    this.#process.ioctlRaw(this.#container, VFIO_IOMMU_UNMAP_DMA, unmap);
  }

  available(): number {
    const info = new VfioIommuType1Info({ argsz: 512 });
    if (this.#process.ioctlRaw(this.#container, VFIO_IOMMU_GET_INFO, info) < 0) return 0;
    const cap = walkCaps(info.bytes, info.cap_offset).find(({ id }) => id === VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
    // Before the capability existed nobody could tell: then only a failing map does.
    return cap === undefined ? Number.MAX_SAFE_INTEGER : new DataView(cap.data.slice().buffer).getUint32(0, true);
  }

  enableInterrupts(count: number, raised: (vector: number) => void): boolean {
    const index = this.#msix === null ? VFIO_PCI_MSI_IRQ_INDEX : VFIO_PCI_MSIX_IRQ_INDEX;
    const info = new VfioIrqInfo({ index });
    if (this.#process.ioctlRaw(this.#device, VFIO_DEVICE_GET_IRQ_INFO, info) < 0) info.count = 0;
    const vectors = Math.min(count, info.count);
    if (vectors === 0) return true;
    this.#raised = raised;
    this.#eventfds = Array.from({ length: vectors }, () => this.#process.eventfd());
    this.#eventfds.forEach((fd, vector) => {
      this.#process.eventfdOf(fd).onSignal(() => {
        const message = this.#msix === null ? vector : this.#msix.message(vector);
        if (message !== null) raised(message);
      });
    });
    const set = new VfioIrqSet(
      {
        argsz: 20 + 4 * vectors,
        flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        index,
        start: 0,
        count: vectors,
      },
      4 * vectors,
    );
    this.#eventfds.forEach((fd, i) => {
      set.view.setInt32(20 + 4 * i, fd, true);
    });
    this.#irqIndex = index;
    if (this.#process.ioctlRaw(this.#device, VFIO_DEVICE_SET_IRQS, set) === 0) return true;
    this.disableInterrupts();
    return false;
  }

  disableInterrupts(): void {
    if (this.#irqIndex < 0) return;
    const set = new VfioIrqSet({
      flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
      index: this.#irqIndex,
      start: 0,
      count: 0,
    });
    this.#process.ioctlRaw(this.#device, VFIO_DEVICE_SET_IRQS, set);
    for (const fd of this.#eventfds) this.#process.closeRaw(fd);
    this.#eventfds = [];
    this.#irqIndex = -1;
    this.#raised = () => {};
  }

  reset(): void {
    this.#msix?.reset();
    this.#controlBits = 0;
    if (this.#canReset) this.#process.ioctlRaw(this.#device, VFIO_DEVICE_RESET);
  }

  close(): void {
    this.disableInterrupts();
    this.#ism?.close();
    this.#process.closeRaw(this.#device);
  }

  #region(index: number): Region {
    const info = new VfioRegionInfo({ index });
    if (this.#process.ioctlRaw(this.#device, VFIO_DEVICE_GET_REGION_INFO, info) < 0) return { size: 0n, offset: 0n };
    return { size: info.size, offset: info.offset };
  }
}

const fits = (region: BarRegion, offset: bigint, end: bigint, size: number): boolean =>
  offset >= BigInt(region.at) && end <= BigInt(region.at + region.length) && region.sizes.includes(size);
