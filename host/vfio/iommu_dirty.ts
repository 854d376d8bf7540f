// DIRTY_PAGES, and the bitmaps that it and UNMAP_DMA write into the caller's memory: argument checks, and how one map's bits land in a bitmap whose
// bit 0 is the first page of the request. Kernel counterpart: vfio_iova_dirty_bitmap. Source: spec iommu-type1 sections 5.1, 8.
import { EFAULT, EINVAL, EOVERFLOW, IOMMU_SCRATCH, IOMMU_SCRATCH_SIZE } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import {
  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
} from '../uapi/constants.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

export const PAGE = 4096n;
/** Bytes that a bitmap may have (the MIGRATION capability tells it). */
export const MAX_BITMAP_SIZE = 1n << 28n;
const U64_MAX = (1n << 64n) - 1n;
/** User addresses end here; a buffer beyond is refused before it is touched. */
const USER_END = 0x7ffffffff000n;
const FLAGS =
  VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP | VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
/** Pages whose bits are fetched from the core in one go, a few words less than its scratch area holds. */
const CHUNK_PAGES = (IOMMU_SCRATCH_SIZE - 16) * 8;

/** struct vfio_bitmap, checked. */
export interface Bitmap {
  readonly pgsize: bigint;
  /** Virtual address of the words. */
  readonly data: bigint;
}

export interface MapRange {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

/** What a dirty report needs of its container. */
export interface DirtyTable {
  readonly iommu: number;
  readonly coreOf: Core;
  readonly pageSize: bigint;
  readonly dirtyOn: boolean;
  /** Hardware may have written any page. */
  readonly allDirty: boolean;
  /** The first map that holds `iova` or lies behind it. */
  mapFrom(iova: bigint): MapRange | null;
}

/** Copies in a struct vfio_bitmap at `offset` and checks it for `size` bytes of iova space. -EFAULT; -EINVAL size or address. */
export function copyBitmap(task: Task, arg: UserArg, offset: number, size: bigint): Bitmap | number {
  const bytes = arg.copyIn(offset, 24);
  if (bytes === null) return task.fail(EFAULT, 'the bitmap structure is not readable');
  return checkBitmap(task, viewOf(bytes), 0, size);
}

function checkBitmap(task: Task, view: DataView, at: number, size: bigint): Bitmap | number {
  const pgsize = view.getBigUint64(at, true);
  const length = view.getBigUint64(at + 8, true);
  const data = view.getBigUint64(at + 16, true);
  if (data + length > USER_END) return task.fail(EINVAL, 'the bitmap is no user memory');
  if (pgsize === 0n) return task.fail(EINVAL, 'the bitmap has page size 0');
  const npage = size / (pgsize & -pgsize);
  if (npage === 0n || length === 0n || length > MAX_BITMAP_SIZE || length < ((npage + 63n) / 64n) * 8n)
    return task.fail(EINVAL, `a bitmap of ${length} bytes for ${npage} pages`);
  return { pgsize, data };
}

/** VFIO_IOMMU_DIRTY_PAGES of a v2 container. */
export function dirtyPages(table: DirtyTable, task: Task, arg: UserArg): number {
  const header = task.copyArgsz(arg, 8);
  if (typeof header === 'number') return header;
  const view = viewOf(header);
  const { exports } = table.coreOf;
  const flags = view.getUint32(4, true);
  if ((flags & ~FLAGS) !== 0) return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
  switch (flags) {
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_START: {
      const result = exports.iommu_dirty_start(table.iommu);
      return result < 0 ? task.fail(-result, 'a map has too many pages, or the heap of the core is full') : 0;
    }
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
      exports.iommu_dirty_stop(table.iommu);
      return 0;
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
      return getBitmap(table, task, arg, view.getUint32(0, true));
    default:
      return task.fail(EINVAL, 'exactly one of START, STOP and GET_BITMAP');
  }
}

function getBitmap(table: DirtyTable, task: Task, arg: UserArg, argsz: number): number {
  if (argsz < 48) return task.fail(EINVAL, `argsz ${argsz} is smaller than 48`);
  const bytes = arg.copyIn(8, 40);
  if (bytes === null) return task.fail(EFAULT, 'the argument is not readable');
  const view = viewOf(bytes);
  const iova = view.getBigUint64(0, true);
  const size = view.getBigUint64(8, true);
  if (size === 0n) return task.fail(EINVAL, 'size is 0');
  const last = iova + size - 1n;
  if (last > U64_MAX) return task.fail(EOVERFLOW, 'iova plus size wraps');
  const bitmap = checkBitmap(task, view, 16, size);
  if (typeof bitmap === 'number') return bitmap;
  if (bitmap.pgsize !== table.pageSize) return task.fail(EINVAL, `the page size is ${table.pageSize}`);
  if (((iova | size) & (table.pageSize - 1n)) !== 0n) return task.fail(EINVAL, 'iova or size is not page aligned');
  if (!table.dirtyOn) return task.fail(EINVAL, 'dirty tracking is off');
  const { exports } = table.coreOf;
  if (exports.iommu_bisects(table.iommu, iova, last) !== 0) return task.fail(EINVAL, 'a map would be cut');
  for (let map = table.mapFrom(iova); map !== null && map.start <= last; map = table.mapFrom(map.last + 1n)) {
    if (!emitMap(table, task, map, iova, bitmap.data)) return task.fail(EFAULT, 'the bitmap is not writable');
    exports.iommu_dirty_clear(table.iommu, map.start, map.last);
    if (map.last === U64_MAX) break;
  }
  return 0;
}

/**
 * Writes the bits of one map into the words at `data`, whose bit 0 is page `base`. Whole words are written; in the first one the bits below the
 * map's keep what the user had there, as does everything ORed with it (spec section 8.1). @returns false: EFAULT.
 */
export function emitMap(table: DirtyTable, task: Task, map: MapRange, base: bigint, data: bigint): boolean {
  const position = (map.start - base) / PAGE;
  const npage = Number((map.last - map.start) / PAGE) + 1;
  let shift = Number(position % 64n);
  let address = data + (position / 64n) * 8n;
  const first = new Uint8Array(8);
  if (shift !== 0 && !task.mm.read(address, first)) return false;
  const { core, scratch } = { core: table.coreOf, scratch: table.iommu + IOMMU_SCRATCH };
  for (let done = 0; done < npage; ) {
    // Chunks end at a word of the user's.
    const n = Math.min(npage - done, CHUNK_PAGES - shift);
    const length = Math.ceil((shift + n) / 64) * 8;
    core.exports.iommu_dirty_bits(
      table.iommu,
      map.start + BigInt(done) * PAGE,
      n,
      scratch,
      shift,
      table.allDirty ? 1 : 0,
    );
    const words = core.u8.subarray(scratch, scratch + length);
    if (done === 0 && shift !== 0)
      first.forEach((byte, i) => {
        words[i] = words[i]! | byte;
      });
    if (!task.mm.write(address, words)) return false;
    address += BigInt(length);
    done += n;
    shift = 0;
  }
  return true;
}
