// A type1 instance without a container around it: a mediated group with a device that can pin, a hardware group, calls by their fields.
import type { Core } from '../../host/core.ts';
import { VFIO_IOMMU_DIRTY_PAGES, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../../host/uapi/ioctl.ts';
import { VfioDevice } from '../../host/vfio/device.ts';
import { Group } from '../../host/vfio/group.ts';
import { type Type1Iommu, type Type1Options, type1Driver } from '../../host/vfio/iommu_type1.ts';
import type { HwIommu } from '../../host/vfio/ops.ts';
import type { Task } from '../../host/vfio/task.ts';
import { DirectBuffer } from '../../host/vfio/user.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { freshCore } from './core.ts';

export const PAGE = 4096n;

/** A unit like that of the default machine. */
export const UNIT: HwIommu = {
  pageSizes: 0x40201000n,
  ranges: [
    { start: 0n, last: 0xfedfffffn },
    { start: 0xfef00000n, last: 0xffffffffffffn },
  ],
  coherent: false,
  msiIsolated: true,
  limit: 1n << 48n,
};

export interface MapFields {
  iova: bigint;
  size: bigint;
  vaddr?: bigint;
  flags?: number;
}

export class Type1Bench {
  readonly core: Core;
  readonly vfio: Vfio;
  readonly task: Task;
  readonly iommu: Type1Iommu;
  readonly emulated = new Group('6', 'emulated');
  readonly hardware = new Group('1', 'iommu', UNIT);
  readonly device: VfioDevice;
  /** Ranges that the driver was asked to let go. */
  readonly notified: Array<{ iova: bigint; length: bigint }> = [];
  /** What the driver does then; by default it unpins what it holds there. */
  onUnmap = (iova: bigint, length: bigint): void => this.letGo(iova, length);
  readonly #held = new Map<bigint, number>();

  constructor(core: Core, extension = 3, options: Type1Options = {}) {
    this.core = core;
    this.vfio = new Vfio(core, { iommuDrivers: () => [] });
    this.task = this.vfio.task();
    const iommu = type1Driver(this.vfio, options).open(this.task, extension);
    if (typeof iommu === 'number') throw new Error(`open: ${iommu}`);
    this.iommu = iommu as Type1Iommu;
    this.device = new VfioDevice(this.vfio, 'test', {
      name: 'test',
      dmaUnmap: (_device, iova, length) => {
        this.notified.push({ iova, length });
        this.onUnmap(iova, length);
      },
    });
    this.device.group = this.emulated;
  }

  static async make(extension = 3, options: Type1Options = {}): Promise<Type1Bench> {
    return new Type1Bench(await freshCore({ length: 0x1000000 }), extension, options);
  }

  /** A mediated group with its device open. */
  mediated(): this {
    this.iommu.attachGroup(this.emulated, this.task);
    this.iommu.registerDevice(this.device);
    return this;
  }

  letGo(iova: bigint, length: bigint): void {
    for (const [at, count] of [...this.#held]) {
      if (at < iova || at >= iova + length) continue;
      for (let i = 0; i < count; i++) this.iommu.unpinPages(at, 1);
      this.#held.delete(at);
    }
  }
  pin(iova: bigint, npage: number, prot = 3): number {
    const frames = new Uint32Array(npage);
    const result = this.iommu.pinPages(this.emulated, iova, npage, prot, frames);
    for (let i = 0; i < result; i++) {
      const at = iova + BigInt(i) * PAGE;
      this.#held.set(at, (this.#held.get(at) ?? 0) + 1);
    }
    return result;
  }
  mmap(
    npage: bigint | number,
    options: { read?: boolean; write?: boolean; backed?: boolean; addr?: bigint } = {},
  ): bigint {
    return this.task.mm.mapAnonymous(BigInt(npage) * PAGE, options);
  }

  map({ iova, size, vaddr = 0n, flags = 3 }: MapFields): number {
    const view = new DataView(new ArrayBuffer(32));
    view.setUint32(0, 32, true);
    view.setUint32(4, flags, true);
    view.setBigUint64(8, vaddr, true);
    view.setBigUint64(16, iova, true);
    view.setBigUint64(24, size, true);
    return this.ioctl(VFIO_IOMMU_MAP_DMA, view);
  }
  /** @returns bytes unmapped or -errno. */
  unmap(iova: bigint, size: bigint, flags = 0, bitmap?: { length: bigint; data: bigint }): bigint {
    const view = new DataView(new ArrayBuffer(48));
    view.setUint32(0, 48, true);
    view.setUint32(4, flags, true);
    view.setBigUint64(8, iova, true);
    view.setBigUint64(16, size, true);
    view.setBigUint64(24, PAGE, true);
    view.setBigUint64(32, bitmap?.length ?? 0n, true);
    view.setBigUint64(40, bitmap?.data ?? 0n, true);
    const result = this.ioctl(VFIO_IOMMU_UNMAP_DMA, view);
    return result < 0 ? BigInt(result) : view.getBigUint64(16, true);
  }
  dirty(flags: number, range?: { iova: bigint; size: bigint; length: bigint; data: bigint; pgsize?: bigint }): number {
    const view = new DataView(new ArrayBuffer(48));
    view.setUint32(0, 48, true);
    view.setUint32(4, flags, true);
    view.setBigUint64(8, range?.iova ?? 0n, true);
    view.setBigUint64(16, range?.size ?? 0n, true);
    view.setBigUint64(24, range?.pgsize ?? PAGE, true);
    view.setBigUint64(32, range?.length ?? 0n, true);
    view.setBigUint64(40, range?.data ?? 0n, true);
    return this.ioctl(VFIO_IOMMU_DIRTY_PAGES, view);
  }
  ioctl(request: number, view: DataView): number {
    return this.iommu.ioctl(this.task, request, new DirectBuffer(new Uint8Array(view.buffer)));
  }

  /** Everything that must be as before after a failure. */
  ledger(): Record<string, number> {
    const { iommu, core } = this;
    return {
      maps: iommu.mapCount,
      available: iommu.available,
      pinnedPages: iommu.pinnedPages,
      pins: Number(iommu.pinCount),
      locked: this.task.mm.lockedPages,
      pages: this.vfio.pages.usedBytes,
      heap: core.liveBytes,
      mm: core.mmBytes,
    };
  }

  /** Closes everything. @returns what is left. */
  close(): Record<string, number> {
    this.letGo(0n, 1n << 64n);
    this.iommu.unregisterDevice(this.device);
    this.iommu.release();
    const { lockedPages } = this.task.mm;
    this.task.exit();
    return { locked: lockedPages, pages: this.vfio.pages.usedBytes, heap: this.core.liveBytes, mm: this.core.mmBytes };
  }
}

export const NOTHING = { locked: 0, pages: 0, heap: 0, mm: 0 };
