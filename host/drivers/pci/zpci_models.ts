// The zPCI models of a machine, `ism` and `zpci-net`: hardware, the s390 hook, vfio-pci, and the unit in front (spec script, "Default machine").
// ISM functions of one instance can reach each other. Further ones are entries of their own: {"model": "ism", "name": "0003:00:00.0"}.
import type { StatefulHardware } from '../../devices/device_state.ts';
import { Ism, IsmFabric } from '../../devices/ism.ts';
import type { ModelContext } from '../../devices/model.ts';
import type { ZpciDevice } from '../../devices/zpci_hardware.ts';
import { ZpciNet } from '../../devices/zpci_net.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { bindDriver, pciActions } from './models.ts';
import { Zdev } from './zdev.ts';

const fabrics = new WeakMap<Vfio, IsmFabric>();

function fabricOf(vfio: Vfio): IsmFabric {
  const fabric = fabrics.get(vfio) ?? new IsmFabric();
  fabrics.set(vfio, fabric);
  return fabric;
}

/** Function index: the segment of the PCI address, as on the real machine. */
const indexOf = ({ description }: ModelContext): number => Number.parseInt(description.name.slice(0, 4), 16);

function add(context: ModelContext, hw: ZpciDevice & StatefulHardware): void {
  const zdev = new Zdev(hw);
  const device = bindDriver(context, hw, { arch: zdev });
  context.addPhysical(device, zdev.iommu);
  context.addActions(pciActions(device));
}

export function ismModel(context: ModelContext): void {
  add(context, new Ism(fabricOf(context.vfio), indexOf(context)));
}

export function zpciNetModel(context: ModelContext): void {
  add(context, new ZpciNet(indexOf(context)));
}
