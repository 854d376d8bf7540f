// An iommufd and its address spaces, over the public calls.
import type { VfioProcess } from '../process.ts';
import { IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE } from '../uapi/constants.ts';
import { IOMMU_DESTROY, IOMMU_IOAS_ALLOC, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP } from '../uapi/ioctl.ts';
import { IommuDestroy, IommuIoasAlloc, IommuIoasMap, IommuIoasUnmap } from '../uapi/structs.ts';
import { Device } from './device.ts';

/** An open /dev/iommu: address spaces for devices opened through their own nodes. */
export class Iommufd {
  /** The process that makes the calls. */
  readonly vfio: VfioProcess;
  /** Its descriptor, for calls that have no method. */
  readonly fd: number;

  /** Opens /dev/iommu. */
  constructor(vfio: VfioProcess) {
    this.vfio = vfio;
    this.fd = vfio.open('/dev/iommu');
  }

  /** IOMMU_IOAS_ALLOC. @returns the id of a new address space. */
  createIoas(): number {
    const alloc = new IommuIoasAlloc();
    this.vfio.ioctl(this.fd, IOMMU_IOAS_ALLOC, alloc);
    return alloc.out_ioas_id;
  }

  /** IOMMU_DESTROY. @throws VfioError ENOENT; EBUSY a device is attached. */
  destroy(id: number): void {
    this.vfio.ioctl(this.fd, IOMMU_DESTROY, new IommuDestroy({ id }));
  }

  /**
   * IOMMU_IOAS_MAP of memory of the process. @param address, size page aligned. @param iova where; without it anywhere.
   * @returns the iova.
   */
  map(ioas: number, address: bigint, size: number | bigint, iova?: bigint, prot = 'rw'): bigint {
    const map = new IommuIoasMap({
      flags:
        (iova === undefined ? 0 : IOMMU_IOAS_MAP_FIXED_IOVA) |
        (prot.includes('r') ? IOMMU_IOAS_MAP_READABLE : 0) |
        (prot.includes('w') ? IOMMU_IOAS_MAP_WRITEABLE : 0),
      ioas_id: ioas,
      user_va: address,
      length: BigInt(size),
      iova: iova ?? 0n,
    });
    this.vfio.ioctl(this.fd, IOMMU_IOAS_MAP, map);
    return map.iova;
  }

  /** IOMMU_IOAS_UNMAP. @returns bytes unmapped. */
  unmap(ioas: number, iova: bigint, size: number | bigint): bigint {
    const unmap = new IommuIoasUnmap({ ioas_id: ioas, iova, length: BigInt(size) });
    this.vfio.ioctl(this.fd, IOMMU_IOAS_UNMAP, unmap);
    return unmap.length;
  }

  /** Opens a device by the number of its node and binds it; with `ioas` it is attached too. */
  device(node: number, ioas?: number): Device {
    return Device.openNode(this.vfio, node, this.fd, ioas);
  }

  /** Closes the iommufd; devices that are bound keep it alive. */
  close(): void {
    this.vfio.close(this.fd);
  }
}
