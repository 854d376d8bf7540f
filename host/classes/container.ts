// A container with its groups, over the public calls: what most programs want to say in one line each. Every method says which calls it makes; the
// descriptors are there for the calls that have no method.
import type { VfioProcess } from '../process.ts';
import { walkCaps } from '../uapi/caps.ts';
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_TYPE1v2_IOMMU,
} from '../uapi/constants.ts';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
} from '../uapi/ioctl.ts';
import { VfioIommuType1DmaMap, VfioIommuType1DmaUnmap, VfioIommuType1Info } from '../uapi/structs.ts';
import { Group } from './group.ts';

/** Memory that devices of the container reach at `iova` and the program at `bytes`. */
export interface DmaMemory {
  /** Address for devices. */
  readonly iova: bigint;
  /** Address in the process. */
  readonly address: bigint;
  /** The memory itself, live. @throws RangeError memory named by its address is not one mapping with memory behind it. */
  readonly bytes: Uint8Array;
  /** Unmaps it for the devices and frees it. */
  free(): void;
}

/** How `Container.map` maps. */
export interface MapOptions {
  /** What devices may do: any of the letters r and w; default `rw`. */
  readonly prot?: string;
  /** Map this memory of the process instead of making some: its address, page aligned. */
  readonly address?: bigint;
}

/** What VFIO_IOMMU_GET_INFO tells. */
export interface IommuInfo {
  /** Bit n: pages of 2^n bytes. */
  readonly pageSizes: bigint;
  /** Valid iova ranges, inclusive; empty: no restriction. */
  readonly ranges: ReadonlyArray<{ readonly start: bigint; readonly last: bigint }>;
  /** Maps that can still be made. */
  readonly available: number;
}

/** A container with its groups and the memory mapped for their devices. */
export class Container {
  /** The process that makes the calls. */
  readonly vfio: VfioProcess;
  /** Its descriptor, for calls that have no method. */
  readonly fd: number;
  /** The groups that `attach` opened. */
  readonly groups: Group[] = [];
  #memory: DmaMemory[] = [];

  /** Opens /dev/vfio/vfio. */
  constructor(vfio: VfioProcess) {
    this.vfio = vfio;
    this.fd = vfio.open('/dev/vfio/vfio');
  }

  /** VFIO_CHECK_EXTENSION: 0 no, positive yes. */
  checkExtension(extension: number): number {
    return this.vfio.ioctl(this.fd, VFIO_CHECK_EXTENSION, extension);
  }

  /**
   * Opens a group and puts it into the container; the first group also chooses the IOMMU (`type`, default VFIO_TYPE1v2_IOMMU).
   * @param group its number, or `noiommu-<n>`. @throws VfioError ENOENT, EBUSY, EPERM and whatever SET_CONTAINER and SET_IOMMU answer; then
   * the group is closed again.
   */
  attach(group: number | string, type: number = VFIO_TYPE1v2_IOMMU): Group {
    const opened = new Group(this.vfio, group);
    try {
      opened.setContainer(this.fd);
      if (this.groups.length === 0) this.vfio.ioctl(this.fd, VFIO_SET_IOMMU, type);
    } catch (error) {
      opened.close();
      throw error;
    }
    this.groups.push(opened);
    return opened;
  }

  /**
   * VFIO_IOMMU_MAP_DMA. Makes `size` bytes of zeroed memory for it unless `options.address` names some.
   * @param iova page aligned. @param size bytes, rounded up to pages.
   */
  map(iova: bigint | number, size: number, options: MapOptions = {}): DmaMemory {
    const { vfio } = this;
    const length = Math.ceil(size / 4096) * 4096;
    const address = options.address ?? vfio.mmap(length);
    const prot = options.prot ?? 'rw';
    const flags =
      (prot.includes('r') ? VFIO_DMA_MAP_FLAG_READ : 0) | (prot.includes('w') ? VFIO_DMA_MAP_FLAG_WRITE : 0);
    const mapped = { flags, vaddr: address, iova: BigInt(iova), size: BigInt(length) };
    const release = () => {
      if (options.address === undefined) vfio.munmap(address, length);
    };
    try {
      vfio.ioctl(this.fd, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap(mapped));
    } catch (error) {
      release();
      throw error;
    }
    const memory: DmaMemory = {
      iova: BigInt(iova),
      address,
      get bytes() {
        return vfio.view(address, length);
      },
      free: () => {
        if (!this.#memory.includes(memory)) return;
        this.#memory = this.#memory.filter((other) => other !== memory);
        this.unmap(memory.iova, length);
        release();
      },
    };
    this.#memory.push(memory);
    return memory;
  }

  /** VFIO_IOMMU_UNMAP_DMA. @returns bytes unmapped. */
  unmap(iova: bigint | number, size: bigint | number): bigint {
    const unmap = new VfioIommuType1DmaUnmap({ iova: BigInt(iova), size: BigInt(size) });
    this.vfio.ioctl(this.fd, VFIO_IOMMU_UNMAP_DMA, unmap);
    return unmap.size;
  }

  /** Unmaps everything. @returns bytes unmapped. */
  unmapAll(): bigint {
    const unmap = new VfioIommuType1DmaUnmap({ flags: VFIO_DMA_UNMAP_FLAG_ALL });
    this.vfio.ioctl(this.fd, VFIO_IOMMU_UNMAP_DMA, unmap);
    return unmap.size;
  }

  /** VFIO_IOMMU_GET_INFO with its capabilities. */
  info(): IommuInfo {
    const fixed = new VfioIommuType1Info();
    this.vfio.ioctl(this.fd, VFIO_IOMMU_GET_INFO, fixed);
    const info = new VfioIommuType1Info({ argsz: fixed.argsz });
    this.vfio.ioctl(this.fd, VFIO_IOMMU_GET_INFO, info);
    const caps = walkCaps(info.bytes, info.cap_offset);
    const viewOf = (id: number) => {
      const data = caps.find((cap) => cap.id === id)?.data;
      return data === undefined ? null : new DataView(data.buffer, data.byteOffset, data.byteLength);
    };
    const ranges = viewOf(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
    return {
      pageSizes: info.iova_pgsizes,
      available: viewOf(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)?.getUint32(0, true) ?? 0,
      ranges: Array.from({ length: ranges?.getUint32(0, true) ?? 0 }, (_, index) => ({
        start: ranges?.getBigUint64(8 + 16 * index, true) ?? 0n,
        last: ranges?.getBigUint64(16 + 16 * index, true) ?? 0n,
      })),
    };
  }

  /** Closes devices, groups and the container, and frees the memory that `map` made. */
  close(): void {
    for (const memory of [...this.#memory]) memory.free();
    for (const group of this.groups.splice(0)) group.close();
    this.vfio.close(this.fd);
  }
}
