// A guest made page by page, for tools and tests below the ioctls: an iommu object with one map per page, each backed by a page of an address
// space, and errors that single pages answer with.
import {
  ENOMEM,
  FLAVOUR_TYPE1,
  IOMMU_PINNED_PAGES,
  IOMMU_PINS,
  PAGE_SIZE_4K,
  PIN_SHORT,
  PROT_READ,
  PROT_WRITE,
  UNMAP_ALL,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { VfioError } from '../errno.ts';
import { PageAllocator } from '../memory.ts';
import { AddressSpace } from '../vfio/mm.ts';

const PAGE = BigInt(PAGE_SIZE_4K);
const LAST = 0xffffffffffffffffn;

/** Errors of a page, positive errnos. */
export interface PageFaults {
  /** Copying any byte out of the page. */
  readonly read?: number | undefined;
  /** Pinning the page. */
  readonly pin?: number | undefined;
  /** A pin request that reaches the page ends before it. */
  readonly pinShort?: boolean | undefined;
}

export class GuestPages {
  readonly #core: Core;
  readonly #mm: AddressSpace;
  readonly #iommu: number;
  /** Linear address by page address. */
  readonly #linear = new Map<bigint, number>();
  #injected: bigint[] = [];

  /** @throws VfioError ENOMEM when the core's heap is full. */
  constructor(core: Core) {
    this.#core = core;
    this.#mm = new AddressSpace(core, new PageAllocator(core));
    this.#iommu = core.exports.iommu_create(core.arena, core.pages, FLAVOUR_TYPE1) >>> 0;
    if (this.#iommu === 0) throw new VfioError('iommu_create', ENOMEM, 'the heap is full');
  }

  /** The iommu object whose addresses are the guest's. */
  get iommu(): number {
    return this.#iommu;
  }

  /** The core's record of the address space behind the guest. */
  get mm(): number {
    return this.#mm.record;
  }

  /**
   * Adds zeroed pages. @param iovas page addresses, each new, in the order in which they lie in linear memory.
   * @throws VfioError ENOMEM: the pages do not fit.
   */
  add(iovas: readonly bigint[]): void {
    if (iovas.length === 0) return;
    const vaddr = this.#mm.mapAnonymous(BigInt(iovas.length) * PAGE);
    if (vaddr < 0n) throw new VfioError('mmap', Number(-vaddr), `${iovas.length} pages do not fit`);
    const view = this.#mm.view(vaddr, PAGE_SIZE_4K) as Uint8Array;
    iovas.forEach((iova, index) => {
      const result = this.#core.exports.iommu_map(
        this.#iommu,
        this.#mm.record,
        iova,
        iova + PAGE - 1n,
        vaddr + BigInt(index) * PAGE,
        PROT_READ | PROT_WRITE,
        0n,
      );
      if (result < 0) throw new VfioError('iommu_map', -result, `page 0x${iova.toString(16)}`);
      this.#linear.set(iova, view.byteOffset + index * PAGE_SIZE_4K);
    });
  }

  /** Makes a page fail; call it before the page is first used. @throws VfioError ENOMEM. */
  inject(iova: bigint, faults: PageFaults): void {
    const pin = faults.pinShort === true ? PIN_SHORT : (faults.pin ?? 0);
    const result = this.#core.exports.iommu_inject(this.#iommu, iova, faults.read ?? 0, pin);
    if (result < 0) throw new VfioError('iommu_inject', -result, 'the heap is full');
    this.#injected.push(iova);
  }

  /** Takes every page and every error away. */
  clear(): void {
    for (const iova of this.#injected) this.#core.exports.iommu_inject(this.#iommu, iova, 0, 0);
    this.#injected = [];
    this.#core.exports.iommu_unmap(this.#iommu, 0n, LAST, UNMAP_ALL);
    this.#mm.destroy();
    this.#linear.clear();
  }

  /** The address space under the maps goes away, as at a task's munmap; the maps stay. */
  unback(): void {
    this.#mm.destroy();
  }

  /** Gives everything back. */
  destroy(): void {
    this.clear();
    this.#core.exports.iommu_destroy(this.#iommu);
  }

  /** Linear address of the page at this page address, or undefined. */
  linear(iova: bigint): number | undefined {
    return this.#linear.get(iova);
  }

  /** A view of the page's bytes. */
  page(iova: bigint): Uint8Array | undefined {
    const linear = this.#linear.get(iova);
    return linear === undefined ? undefined : this.#core.u8.subarray(linear, linear + PAGE_SIZE_4K);
  }

  /** Stores bytes at a guest address; what lies outside the guest's pages is dropped. */
  write(iova: bigint, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const at = BigInt.asUintN(64, iova + BigInt(done));
      const offset = Number(at % PAGE);
      const n = Math.min(bytes.length - done, PAGE_SIZE_4K - offset);
      this.page(at - BigInt(offset))?.set(bytes.subarray(done, done + n), offset);
      done += n;
    }
  }

  /** Pins on all pages. */
  get pins(): bigint {
    return this.#core.view.getBigUint64(this.#iommu + IOMMU_PINS, true);
  }

  /** Pages with a pin. */
  get pinnedPages(): number {
    return this.#core.view.getUint32(this.#iommu + IOMMU_PINNED_PAGES, true);
  }
}
