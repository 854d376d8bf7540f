// What a container holds, for people and tools that watch: maps, pins, dirty pages. Looks without touching; no call of the ABI gives this.
import { EBADF, EINVAL, IOMMU_SCRATCH, IOMMU_SCRATCH_SIZE, PTE_FRAME, PTE_PINS } from '../../assembly/abi.ts';
import { VfioError } from '../errno.ts';
import type { VfioInstance } from '../source.ts';
import { ContainerFile } from '../vfio/container.ts';
import { DmaTable } from '../vfio/dma_table.ts';

const PAGE = 4096n;

/** One mapping; both ends inclusive. */
export interface MapView {
  readonly iova: bigint;
  readonly last: bigint;
}

/** A pinned page. */
export interface PinView {
  readonly iova: bigint;
  /** Linear address of the page in the core's memory. */
  readonly linear: number;
  /** How many pins it holds. */
  readonly count: number;
}

/** A container at one moment. */
export interface ContainerView {
  readonly maps: readonly MapView[];
  readonly pins: readonly PinView[];
  /** Dirty pages as ranges of bytes, while dirty tracking runs; pinned pages count as dirty. */
  readonly dirty: ReadonlyArray<{ readonly iova: bigint; readonly length: bigint }>;
  readonly dirtyTracking: boolean;
  /** Maps that may still be made. */
  readonly available: number;
}

/**
 * Looks into a container. Cost: a step a map, some steps a pin.
 * @param fd a container's descriptor; one without an IOMMU is empty. @throws VfioError EBADF, EINVAL: not a container.
 */
export function inspectContainer(vfio: VfioInstance, fd: number): ContainerView {
  const file = vfio.task.file(fd);
  if (!(file instanceof ContainerFile))
    throw new VfioError(`inspect(${fd})`, file === undefined ? EBADF : EINVAL, 'not a container');
  const table = file.iommu;
  if (!(table instanceof DmaTable)) return { maps: [], pins: [], dirty: [], dirtyTracking: false, available: 0 };
  const maps: MapView[] = [];
  for (let map = table.mapFrom(0n); map !== null; map = table.mapFrom(map.last + 1n)) {
    maps.push({ iova: map.start, last: map.last });
    if (map.last === (1n << 64n) - 1n) break;
  }
  const pins: PinView[] = [];
  for (const map of maps) findPins(vfio, table.iommu, map.iova / PAGE, map.last / PAGE, pins);
  return { maps, pins, dirty: dirtyRanges(vfio, table), dirtyTracking: table.dirtyOn, available: table.available };
}

/** Halves the range until a page is left: cost goes with the pins, not with the pages. */
function findPins(vfio: VfioInstance, iommu: number, first: bigint, last: bigint, pins: PinView[]): void {
  const { exports, view } = vfio.core;
  if (exports.iommu_pinned(iommu, first * PAGE, last * PAGE + PAGE - 1n) === 0) return;
  if (first < last) {
    const middle = (first + last) / 2n;
    findPins(vfio, iommu, first, middle, pins);
    findPins(vfio, iommu, middle + 1n, last, pins);
    return;
  }
  const entry = exports.page_lookup(iommu, first * PAGE) >>> 0;
  if (entry === 0) return;
  const linear = view.getUint32(entry + PTE_FRAME, true) & ~0xfff;
  pins.push({ iova: first * PAGE, linear: linear >>> 0, count: view.getUint32(entry + PTE_PINS, true) });
}

function dirtyRanges(vfio: VfioInstance, table: DmaTable): { iova: bigint; length: bigint }[] {
  const { exports, view } = vfio.core;
  const found: { iova: bigint; length: bigint }[] = [];
  const max = IOMMU_SCRATCH_SIZE / 16;
  const out = table.iommu + IOMMU_SCRATCH;
  let from = 0n;
  while (table.dirtyOn) {
    const n = exports.iommu_dirty_ranges(table.iommu, from, (1n << 64n) - 1n, out, max);
    for (let i = 0; i < n; i++)
      found.push({ iova: view.getBigUint64(out + 16 * i, true), length: view.getBigUint64(out + 16 * i + 8, true) });
    const end = found.at(-1);
    if (n < max || end === undefined || end.iova + end.length >= 1n << 64n) break;
    from = end.iova + end.length;
  }
  return found;
}
