// The no-iommu driver: containers of groups without an IOMMU. It keeps no mappings; devices reach all memory by its linear address, which is why
// every step needs raw I/O privilege. Source: spec vfio-core sections 3 and 4; it exists only while a no-iommu group does.
import { EFAULT, ENOTTY, EPERM } from '../../assembly/abi.ts';
import { VFIO_NOIOMMU_IOMMU } from '../uapi/constants.ts';
import type { IommuDriverOps, IommuInstance } from './ops.ts';
import type { Task } from './task.ts';
import type { Vfio } from './vfio.ts';

export const noIommuDriver = (vfio: Vfio): IommuDriverOps => {
  const enabled = () => [...vfio.groups.values()].some((group) => group.type === 'noiommu');
  const checkExtension = (extension: number): number => (extension === VFIO_NOIOMMU_IOMMU && enabled() ? 1 : 0);
  return {
    name: 'vfio-noiommu',
    noIommu: true,
    checkExtension,
    open: (task) =>
      task.rawIo ? instance(vfio, checkExtension) : task.fail(EPERM, 'no-iommu needs raw I/O privilege'),
  };
};

const instance = (vfio: Vfio, checkExtension: (extension: number) => number): IommuInstance => ({
  iommu: 0,
  checkExtension,
  ioctl: (task: Task) => task.fail(ENOTTY, 'without an IOMMU there is nothing to map'),
  attachGroup: () => 0,
  detachGroup() {},
  release() {},
  registerDevice() {},
  unregisterDevice() {},
  pinPages: () => -ENOTTY,
  unpinPages() {},
  dmaRw: () => -ENOTTY,
  deviceDma(iova, bytes, write) {
    const { userBase, userEnd, u8 } = vfio.core;
    if (iova < BigInt(userBase) || iova + BigInt(bytes.length) > BigInt(userEnd)) return -EFAULT;
    const memory = u8.subarray(Number(iova), Number(iova) + bytes.length);
    if (write) memory.set(bytes);
    else bytes.set(memory);
    return 0;
  },
});
