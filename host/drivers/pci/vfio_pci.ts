// vfio-pci, the driver for any function: the library core as one constant table. Kernel counterpart: vfio_pci.c.
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import {
  coreAccess,
  coreDisable,
  coreEnable,
  coreFeature,
  coreFinishEnable,
  coreIoctl,
  coreIoctlKind,
  coreRelease,
  coreRequest,
} from './core.ts';
import type { VfioPciDevice } from './device.ts';
import { mapRegion, readRegion, writeRegion } from './rdwr.ts';
import { matchName } from './token.ts';

export function openDevice(device: VfioPciDevice): number {
  const result = coreEnable(device);
  if (result < 0) return result;
  coreFinishEnable(device);
  return 0;
}

export const VFIO_PCI_OPS: VfioDeviceOps<VfioPciDevice> = {
  name: 'vfio-pci',
  openDevice,
  closeDevice: coreDisable,
  wake: (device) => device.wake(),
  ioctl: coreIoctl,
  deviceFeature: coreFeature,
  read: readRegion,
  write: writeRegion,
  mmap: mapRegion,
  request: coreRequest,
  release: coreRelease,
  match: matchName,
  access: { region: coreAccess, ioctl: coreIoctlKind },
};
