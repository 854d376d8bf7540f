// Which pages were written since the last look: by devices (their own logs, or the container's bitmap) and by the guest's processors. Nothing that may
// have been written is ever missed; when a source of knowledge fails, everything counts as dirty.
import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { VfioProcess } from '../process.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
} from '../uapi/constants.ts';
import { VFIO_IOMMU_DIRTY_PAGES } from '../uapi/ioctl.ts';
import {
  VfioDeviceFeatureDmaLoggingControl,
  VfioDeviceFeatureDmaLoggingReport,
  VfioIommuType1DirtyBitmap,
  VfioIommuType1DirtyBitmapGet,
} from '../uapi/structs.ts';
import type { DeviceHandle } from './devices.ts';
import type { PageSet, RamBlock } from './ram.ts';
import type { CpuDirtyLog } from './types.ts';

const PAGE = BigInt(PAGE_SIZE_4K);

export class DirtyTracker {
  readonly #process: VfioProcess;
  readonly #blocks: readonly RamBlock[];
  readonly #cpu: CpuDirtyLog | undefined;
  /** Devices that log for themselves, and containers of those that do not. */
  readonly #logging: DeviceHandle[];
  readonly #containers: number[];
  /** A page of memory for bitmaps and range lists. */
  #scratch = 0n;
  readonly #scratchSize: number;
  /** Something cannot be tracked: everything is dirty, always. */
  blind = false;
  #on = false;

  constructor(
    process: VfioProcess,
    blocks: readonly RamBlock[],
    devices: readonly DeviceHandle[],
    cpu: CpuDirtyLog | undefined,
  ) {
    this.#process = process;
    this.#blocks = blocks;
    this.#cpu = cpu;
    const containers = new Set(devices.filter((device) => !device.logs).map((device) => device.container));
    this.#containers = [...containers].filter((fd) => fd !== undefined);
    this.#logging = devices.filter((device) => device.logs);
    this.blind = containers.has(undefined);
    const largest = Math.max(0, ...blocks.map((block) => block.pages));
    const bytes = Math.max(Math.ceil(largest / 64) * 8, blocks.length * 16);
    this.#scratchSize = Math.ceil(bytes / PAGE_SIZE_4K) * PAGE_SIZE_4K;
  }

  start(): void {
    this.#scratch = this.#process.mmap(this.#scratchSize);
    this.#on = true;
    for (const container of this.#containers)
      if (this.#dirtyPages(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START) < 0) this.blind = true;
    const mapped = this.#blocks.filter((block) => block.iova !== null);
    if (mapped.length > 0)
      for (const device of this.#logging) if (this.#startLog(device, mapped) < 0) this.blind = true;
    this.#cpu?.start();
  }

  /** Adds what was written since the last call to the sets, one per block. */
  harvest(into: readonly PageSet[]): void {
    const blocks = this.#blocks;
    if (this.blind) {
      for (const set of into) set.fill();
      return;
    }
    this.#cpu?.harvest((address, length) => {
      blocks.forEach((block, i) => {
        const from = Number(address - block.address);
        if (from < block.size && from + length > 0)
          into[i]!.add(Math.floor(from / PAGE_SIZE_4K), Math.ceil((from + length) / PAGE_SIZE_4K));
      });
    });
    blocks.forEach((block, i) => {
      if (block.iova === null) return;
      const bytes = Math.ceil(block.pages / 64) * 8;
      const bitmap = this.#process.view(this.#scratch, bytes);
      bitmap.fill(0);
      let fine = true;
      for (const container of this.#containers) fine = this.#readContainer(container, block, bytes) >= 0 && fine;
      if (fine) into[i]!.merge(bitmap);
      bitmap.fill(0);
      for (const device of this.#logging) fine = this.#readLog(device, block) >= 0 && fine;
      if (fine) into[i]!.merge(bitmap);
      else into[i]!.fill();
    });
  }

  stop(): void {
    if (!this.#on) return;
    this.#on = false;
    this.#cpu?.stop();
    for (const device of this.#logging)
      device.feature(VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, new Uint8Array(0));
    for (const container of this.#containers) this.#dirtyPages(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
    this.#process.munmap(this.#scratch, this.#scratchSize);
  }

  #dirtyPages(container: number, flags: number): number {
    return this.#process.ioctlRaw(container, VFIO_IOMMU_DIRTY_PAGES, new VfioIommuType1DirtyBitmap({ flags }));
  }

  #readContainer(container: number, block: RamBlock, bytes: number): number {
    const head = VfioIommuType1DirtyBitmap.size;
    const argument = new VfioIommuType1DirtyBitmap(
      { argsz: head + VfioIommuType1DirtyBitmapGet.size, flags: VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP },
      VfioIommuType1DirtyBitmapGet.size,
    );
    const get = new VfioIommuType1DirtyBitmapGet({
      iova: block.iova!,
      size: BigInt(block.size),
      bitmap: { pgsize: PAGE, size: BigInt(bytes), data: this.#scratch },
    });
    argument.bytes.set(get.bytes, head);
    return this.#process.ioctlRaw(container, VFIO_IOMMU_DIRTY_PAGES, argument);
  }

  #startLog(device: DeviceHandle, blocks: readonly RamBlock[]): number {
    const list = new BigUint64Array(blocks.flatMap((block) => [block.iova!, BigInt(block.size)]));
    this.#process.view(this.#scratch, list.byteLength).set(new Uint8Array(list.buffer));
    const control = new VfioDeviceFeatureDmaLoggingControl({
      page_size: PAGE,
      num_ranges: blocks.length,
      ranges: this.#scratch,
    });
    return device.feature(VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, control.bytes).result;
  }

  #readLog(device: DeviceHandle, block: RamBlock): number {
    const report = new VfioDeviceFeatureDmaLoggingReport({
      iova: block.iova!,
      length: BigInt(block.size),
      page_size: PAGE,
      bitmap: this.#scratch,
    });
    return device.feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, report.bytes).result;
  }
}
