// What a container holds, for people and tools that watch: maps, pins, dirty pages. Looks without touching; no call of the ABI gives this.
import {
  EBADF,
  EINVAL,
  IOMMU_SCRATCH,
  IOMMU_SCRATCH_SIZE,
  PROT_READ,
  PROT_WRITE,
  PTE_FRAME,
  PTE_PINS,
} from '../../assembly/abi.ts';
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
  const table = tableOf(vfio, fd);
  if (table === null) return { maps: [], pins: [], dirty: [], dirtyTracking: false, available: 0 };
  const maps: MapView[] = [];
  for (let map = table.mapFrom(0n); map !== null; map = table.mapFrom(map.last + 1n)) {
    maps.push({ iova: map.start, last: map.last });
    if (map.last === (1n << 64n) - 1n) break;
  }
  const pins: PinView[] = [];
  for (const map of maps) findPins(vfio, table.iommu, map.iova / PAGE, map.last / PAGE, pins);
  return { maps, pins, dirty: dirtyRanges(vfio, table), dirtyTracking: table.dirtyOn, available: table.available };
}

/** Addresses that one call of the core takes. */
const BATCH = Math.floor(IOMMU_SCRATCH_SIZE / 12);

/**
 * What the user permitted at many addresses, as a device model asks before it follows a scatter list. Searches go together, so that this is
 * several times faster than one at a time; nothing is pinned or looked at behind the maps.
 * @param fd a container's descriptor; one without an IOMMU permits nothing. @param iovas any 64-bit numbers.
 * @returns one number an address: 0 there is no map, else 1 (the device may read), 2 (write) or 3.
 * @throws VfioError EBADF, EINVAL: not a container. RangeError: an address that is no 64-bit number.
 */
export function inspectPermissions(vfio: VfioInstance, fd: number, iovas: readonly bigint[]): Uint8Array {
  const table = tableOf(vfio, fd);
  const found = new Uint8Array(iovas.length);
  const wrong = iovas.findIndex((iova) => BigInt.asUintN(64, iova) !== iova);
  if (wrong >= 0) throw new RangeError(`iovas[${wrong}]: ${iovas[wrong]} is no 64-bit address`);
  if (table === null) return found;
  const { exports, view } = vfio.core;
  const keys = table.iommu + IOMMU_SCRATCH;
  const out = keys + 8 * BATCH;
  for (let first = 0; first < iovas.length; first += BATCH) {
    const n = Math.min(BATCH, iovas.length - first);
    for (let i = 0; i < n; i++) view.setBigUint64(keys + 8 * i, iovas[first + i] as bigint, true);
    exports.iommu_prot_many(table.iommu, keys, n, out);
    for (let i = 0; i < n; i++) found[first + i] = view.getUint32(out + 4 * i, true) & (PROT_READ | PROT_WRITE);
  }
  return found;
}

/** The maps behind a container's descriptor; null: it has no IOMMU. */
function tableOf(vfio: VfioInstance, fd: number): DmaTable | null {
  const file = vfio.task.file(fd);
  if (!(file instanceof ContainerFile))
    throw new VfioError(`inspect(${fd})`, file === undefined ? EBADF : EINVAL, 'not a container');
  return file.iommu instanceof DmaTable ? file.iommu : null;
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
