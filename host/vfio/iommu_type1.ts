// The type1 IOMMU driver of containers, v1 and v2: the ioctls that map, unmap and report, checked in the kernel's order. Kernel counterpart:
// drivers/vfio/vfio_iommu_type1.c. Source: spec iommu-type1; order and errnos of the 7.2 kernel (docs/uapi/type1.md).
import {
  EACCES,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  EIO,
  ENOMEM,
  ENOSPC,
  ENOTTY,
  EOVERFLOW,
  FLAVOUR_TYPE1,
  MAP_LOCK_CAP,
  UNMAP_ALL,
  UNMAP_V1,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import { chainCaps, type InfoCap } from '../uapi/caps.ts';
import {
  VFIO_DMA_CC_IOMMU,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_VADDR,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_DMA_UNMAP_FLAG_VADDR,
  VFIO_IOMMU_INFO_CAPS,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  VFIO_UPDATE_VADDR,
} from '../uapi/constants.ts';
import {
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
} from '../uapi/ioctl.ts';
import { getU32, setU32, setU64, setViewU64, viewU64 } from '../uapi/words.ts';
import { DmaTable } from './dma_table.ts';
import type { Group } from './group.ts';
import { copyBitmap, type DirtyTable, dirtyPages, emitMap, MAX_BITMAP_SIZE } from './iommu_dirty.ts';
import { Type1Groups } from './iommu_groups.ts';
import type { IommuDriverOps, IommuInstance } from './ops.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';
import type { Vfio } from './vfio.ts';

const U64_MAX = (1n << 64n) - 1n;
const MAP_FLAGS = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR;
const UNMAP_FLAGS = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR;

export interface Type1Options {
  /** Maps that a container may hold (the module option dma_entry_limit). Default 65535. */
  readonly entryLimit?: number;
  /** Groups whose interrupt messages are not isolated may be attached (allow_unsafe_interrupts). Default false. */
  readonly unsafeInterrupts?: boolean;
}

/** The driver that containers choose with SET_IOMMU(VFIO_TYPE1_IOMMU or VFIO_TYPE1v2_IOMMU). */
export const type1Driver = (vfio: Vfio, options: Type1Options = {}): IommuDriverOps => ({
  name: 'vfio-iommu-type1',
  noIommu: false,
  // The nesting id is retired; UPDATE_VADDR depends on the groups.
  checkExtension: (extension) =>
    extension === VFIO_TYPE1_IOMMU || extension === VFIO_TYPE1v2_IOMMU || extension === VFIO_UNMAP_ALL ? 1 : 0,
  open(task, extension) {
    if (extension !== VFIO_TYPE1_IOMMU && extension !== VFIO_TYPE1v2_IOMMU)
      return task.fail(EINVAL, `extension ${extension} is a question, not an IOMMU`);
    const iommu = DmaTable.createIommu(vfio.core, FLAVOUR_TYPE1);
    if (iommu === 0) return task.fail(ENOMEM, 'the heap of the core is full');
    return new Type1Iommu(vfio.core, iommu, extension === VFIO_TYPE1v2_IOMMU, options);
  },
});

/** One container's IOMMU. */
export class Type1Iommu extends DmaTable implements IommuInstance, DirtyTable {
  readonly v2: boolean;
  readonly #groups: Type1Groups;
  /** Copies of the arguments of the two calls that are made most. */
  readonly #mapArg = new Uint8Array(32);
  readonly #mapView = viewOf(this.#mapArg);
  readonly #unmapArg = new Uint8Array(24);
  readonly #unmapView = viewOf(this.#unmapArg);

  constructor(core: Core, iommu: number, v2: boolean, options: Type1Options) {
    super(core, iommu);
    this.v2 = v2;
    this.#groups = new Type1Groups(options.unsafeInterrupts ?? false);
    if (options.entryLimit !== undefined) this.available = options.entryLimit;
    this.#updateRefusal();
  }

  checkExtension(extension: number): number {
    switch (extension) {
      case VFIO_TYPE1_IOMMU:
      case VFIO_TYPE1v2_IOMMU:
      case VFIO_UNMAP_ALL:
        return 1;
      case VFIO_UPDATE_VADDR:
        return this.#groups.hasEmulated ? 0 : 1;
      case VFIO_DMA_CC_IOMMU:
        return this.#groups.coherent ? 1 : 0;
      default:
        return 0;
    }
  }

  ioctl(task: Task, request: number, arg: UserArg): number {
    switch (request) {
      case VFIO_IOMMU_GET_INFO:
        return this.#getInfo(task, arg);
      case VFIO_IOMMU_MAP_DMA:
        return this.#mapDma(task, arg);
      case VFIO_IOMMU_UNMAP_DMA:
        return this.#unmapDma(task, arg);
      case VFIO_IOMMU_DIRTY_PAGES:
        if (!this.v2) return task.fail(EACCES, 'dirty tracking needs a v2 container');
        return dirtyPages(this, task, arg);
      default:
        return task.fail(ENOTTY, 'type1 knows no such request');
    }
  }

  /**
   * A group joins. @returns 0. -EBUSY: the vaddr of a map is invalid. -EINVAL: attached already; its unit cannot translate what another one
   * does; a map lies in a reserved region. -EPERM: interrupt messages are not isolated. While its maps are pinned for a first hardware
   * group: -ENOMEM, -EFAULT, -ERANGE. Nothing changed on failure.
   */
  attachGroup(group: Group, task: Task): number {
    if (this.invalidCount > 0) return task.fail(EBUSY, 'the vaddr of a map is invalid');
    const refused = this.#groups.check(group, this);
    if (refused !== null) return task.fail(refused.errno, refused.why);
    if (group.hw !== null && this.#groups.isNewDomain(group.hw)) {
      const result = this.attachDomain(task, group.hw.limit);
      if (result < 0) return task.fail(-result, 'a map cannot be pinned, or lies where the IOMMU cannot translate');
    }
    this.#groups.add(group);
    return 0;
  }

  detachGroup(group: Group): void {
    const wasUnpinned = this.#groups.remove(group);
    const lastOfDomain = group.hw !== null && this.#groups.isNewDomain(group.hw);
    const nobodyLeft = !this.#groups.hasEmulated && !this.#groups.hasDomain;
    if (nobodyLeft) this.unmapAll();
    if (lastOfDomain) this.detachDomain();
    if (wasUnpinned) this.core.exports.iommu_dirty_fill(this.iommu);
  }

  release(): void {
    this.unmapAll();
    this.destroyIommu();
  }

  override registerDevice(device: Parameters<DmaTable['registerDevice']>[0]): void {
    super.registerDevice(device);
    this.#updateRefusal();
  }
  override unregisterDevice(device: Parameters<DmaTable['registerDevice']>[0]): void {
    super.unregisterDevice(device);
    this.#updateRefusal();
  }

  override pinPages(group: Group, iova: bigint, npage: number, prot: number, pfns: Uint32Array): number {
    const result = super.pinPages(group, iova, npage, prot, pfns);
    if (result > 0) this.#groups.pinned(group);
    return result;
  }

  /** Lowest page size that every unit knows; maps are multiples of it. */
  get pageSize(): bigint {
    return this.#groups.pageSize;
  }
  /** Hardware may have written any page of every map. */
  get allDirty(): boolean {
    return this.#groups.unpinned > 0 && this.domainCount > 0;
  }
  get coreOf(): Core {
    return this.core;
  }

  /** Keeps the core's reasons to refuse pins up to date; the first that applies wins (spec iommu-type1 section 6). */
  #updateRefusal(): void {
    const invalid = this.invalidCount > 0 ? EBUSY : 0;
    this.refuse(!this.v2 ? EACCES : invalid || (this.hasDevices ? 0 : EINVAL), invalid);
  }

  #getInfo(task: Task, arg: UserArg): number {
    const header = task.copyArgsz(arg, 16);
    if (typeof header === 'number') return header;
    const argsz = getU32(header, 0);
    const size = Math.min(argsz, 24);
    const chain = chainCaps(24, this.#caps());
    const fits = argsz >= 24 + chain.length;
    const info = new Uint8Array(24);
    setU32(info, 0, fits ? argsz : 24 + chain.length);
    setU32(info, 4, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
    setU64(info, 8, this.#groups.pageSizes);
    setU32(info, 16, fits ? 24 : 0);
    if (fits) {
      const copied = task.copyOut(arg, 24, chain);
      if (copied < 0) return copied;
    }
    return task.copyOut(arg, 0, size < 24 ? info.subarray(0, size) : info);
  }

  #caps(): InfoCap[] {
    const migration = new Uint8Array(24);
    setU64(migration, 8, this.pageSize);
    setU64(migration, 16, MAX_BITMAP_SIZE);
    const avail = new Uint8Array(4);
    setU32(avail, 0, this.available);
    const caps: InfoCap[] = [
      { id: VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, version: 1, data: migration },
      { id: VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, version: 1, data: avail },
    ];
    const { ranges } = this.#groups;
    if (ranges.length > 0) {
      const data = new Uint8Array(8 + 16 * ranges.length);
      setU32(data, 0, ranges.length);
      ranges.forEach(({ start, last }, i) => {
        setU64(data, 8 + 16 * i, start);
        setU64(data, 16 + 16 * i, last);
      });
      caps.push({ id: VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, version: 1, data });
    }
    return caps;
  }

  #mapDma(task: Task, arg: UserArg): number {
    const argsz = task.copyFixed(arg, this.#mapArg);
    if (argsz < 0) return argsz;
    const view = this.#mapView;
    const flags = view.getUint32(4, true);
    if ((flags & ~MAP_FLAGS) !== 0) return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
    if (view.getUint32(24, true) === 0 && view.getUint32(28, true) === 0) return task.fail(EINVAL, 'size is 0');
    if (wraps(view, 16, 24) || wraps(view, 8, 24)) return task.fail(EOVERFLOW, 'iova or vaddr plus size wraps');
    const prot = flags & (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
    const update = (flags & VFIO_DMA_MAP_FLAG_VADDR) !== 0;
    if (update === (prot !== 0)) return task.fail(EINVAL, 'flags want READ and/or WRITE, or VADDR alone');
    const low = view.getUint32(8, true) | view.getUint32(16, true) | view.getUint32(24, true);
    if ((low & this.#groups.pageMask) !== 0)
      return task.fail(EINVAL, 'iova, vaddr and size must be multiples of the page size');
    const vaddr = viewU64(view, 8);
    const iova = viewU64(view, 16);
    const last = iova + viewU64(view, 24) - 1n;
    if (update) return this.#updateVaddr(task, iova, last, vaddr);
    if (!this.#groups.contains(iova, last)) {
      // The table is asked first: a taken range or a full table comes before one that cannot be translated.
      const taken = this.core.exports.iommu_map_check(this.iommu, iova, last);
      return task.fail(taken < 0 ? -taken : EINVAL, 'the range is taken, or no IOMMU range holds it');
    }
    const result = this.mapRange(task, iova, last, vaddr, prot, this.#groups.limit);
    return result < 0 ? task.fail(-result, MAP_REASONS[-result] ?? 'the map failed') : result;
  }

  #updateVaddr(task: Task, iova: bigint, last: bigint, vaddr: bigint): number {
    const { record } = task.mm;
    if (record === 0) return task.fail(ENOMEM, 'the heap of the core is full');
    const cap = task.lockCap ? MAP_LOCK_CAP : 0;
    const result = this.core.exports.iommu_vaddr_update(this.iommu, record, iova, last, vaddr, cap);
    this.#updateRefusal();
    return result < 0 ? task.fail(-result, 'no map with an invalid vaddr is exactly this range') : result;
  }

  #unmapDma(task: Task, arg: UserArg): number {
    const argsz = task.copyFixed(arg, this.#unmapArg);
    if (argsz < 0) return argsz;
    const view = this.#unmapView;
    const flags = view.getUint32(4, true);
    const iova = viewU64(view, 8);
    let size = viewU64(view, 16);
    const dirty = (flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0;
    const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    const vaddr = (flags & VFIO_DMA_UNMAP_FLAG_VADDR) !== 0;
    if ((flags & ~UNMAP_FLAGS) !== 0) return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
    if (dirty && (all || vaddr)) return task.fail(EINVAL, 'GET_DIRTY_BITMAP goes with neither ALL nor VADDR');
    if (dirty && argsz < 48) return task.fail(EINVAL, `argsz ${argsz} is smaller than 48`);
    const bitmap = dirty ? copyBitmap(task, arg, 24, size) : null;
    if (typeof bitmap === 'number') return bitmap;
    if (vaddr && this.#groups.hasEmulated) return task.fail(EBUSY, 'a mediated group is attached');
    if ((view.getUint32(8, true) & this.#groups.pageMask) !== 0)
      return task.fail(EINVAL, 'iova is not a multiple of the page size');
    if (all) {
      if (iova !== 0n || size !== 0n) return task.fail(EINVAL, 'ALL wants iova and size 0');
      size = 1n << 64n;
    } else if (size === 0n || (view.getUint32(16, true) & this.#groups.pageMask) !== 0)
      return task.fail(EINVAL, 'size is 0 or not a multiple of the page size');
    else if (wraps(view, 8, 16)) return task.fail(EOVERFLOW, 'iova plus size wraps');
    if (bitmap !== null && (!this.dirtyOn || bitmap.pgsize !== this.pageSize))
      return task.fail(EINVAL, 'dirty tracking is off, or the bitmap has another page size');
    const last = iova + size - 1n;
    const mode = (this.v2 ? 0 : UNMAP_V1) | (all ? UNMAP_ALL : 0);
    const wasInvalid = this.invalidCount > 0;
    let result: number;
    if (bitmap !== null) result = this.#unmapReporting(task, iova, last, bitmap.data);
    else if (!vaddr) result = this.unmapRange(iova, last, mode);
    else result = this.core.exports.iommu_vaddr_invalidate(this.iommu, iova, last, mode);
    if (vaddr || wasInvalid) this.#updateRefusal();
    if (result < 0) return task.fail(-result, UNMAP_REASONS[-result] ?? 'the unmap failed');
    // A driver that was asked to unpin may have woken somebody who called here: all of the copy is written again.
    view.setUint32(0, argsz, true);
    view.setUint32(4, flags, true);
    setViewU64(view, 8, iova);
    setViewU64(view, 16, this.unmappedBytes);
    return task.copyOut(arg, 0, this.#unmapArg);
  }

  /** Unmaps map by map and writes each one's dirty bits to the user before it goes; those gone before a failure stay gone. */
  #unmapReporting(task: Task, iova: bigint, last: bigint, data: bigint): number {
    if (this.core.exports.iommu_bisects(this.iommu, iova, last) !== 0) return -EINVAL;
    let bytes = 0n;
    for (let map = this.mapFrom(iova); map !== null && map.start <= last; map = this.mapFrom(map.last + 1n)) {
      const drained = this.drain(map.start, map.last);
      if (!emitMap(this, task, map, iova, data)) return -EFAULT;
      this.unmapRange(map.start, map.last, UNMAP_ALL);
      bytes += map.last - map.start + 1n;
      if (drained < 0) return drained;
      if (map.last === U64_MAX) break;
    }
    this.unmappedBytes = bytes;
    return 0;
  }
}

/** Does the u64 at `start` plus the u64 at `size` (not 0) minus 1 exceed 64 bits? Words, since a bigint sum costs more than the rest of the call. */
function wraps(view: DataView, start: number, size: number): boolean {
  const low = view.getUint32(start, true) + view.getUint32(size, true) - 1;
  const high = view.getUint32(start + 4, true) + view.getUint32(size + 4, true) + Math.floor(low / 0x100000000);
  return high > 0xffffffff;
}

const MAP_REASONS: Readonly<Record<number, string>> = {
  [EEXIST]: 'a map is there already',
  [ENOSPC]: 'the container holds as many maps as it may',
  [ENOMEM]: 'RLIMIT_MEMLOCK, or the heap of the core is full',
  [EFAULT]: 'nothing that can be pinned is behind vaddr',
  [EINVAL]: 'too many pages for a dirty bitmap',
};
const UNMAP_REASONS: Readonly<Record<number, string>> = {
  [EINVAL]: 'a map would be cut, or its vaddr is invalid already',
  [EFAULT]: 'the bitmap is not writable',
  [EIO]: 'a driver did not unpin; its pages were taken from it',
};
