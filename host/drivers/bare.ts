// A device with nothing in it: it can be found, opened and closed, and everything else about it is refused as for a driver without that
// operation. It stands where a model is not in the machine yet.

import type { ModelContext } from '../devices/model.ts';
import { VfioDevice } from '../vfio/device.ts';
import type { VfioDeviceOps } from '../vfio/ops.ts';

const BARE: VfioDeviceOps = { name: 'bare' };
const BARE_MEDIATED: VfioDeviceOps = { name: 'bare-mediated', dmaUnmap: () => {} };

export function bare({ vfio, description, pciIommu, addPhysical }: ModelContext): void {
  addPhysical(new VfioDevice(vfio, description.name, BARE), pciIommu);
}

export function bareMediated({ vfio, description, groupName }: ModelContext): void {
  vfio.registerDevice(new VfioDevice(vfio, description.name, BARE_MEDIATED), groupName, 'emulated');
}
