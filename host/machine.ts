// Builds a machine: its devices in their groups behind their IOMMU units, from a description or the default one (spec script, `machine` and
// "Default machine"). What a model is made of is the business of its factory (models.ts).
import type { DeviceActions, DeviceDescription, MachineDescription } from './devices/model.ts';
import { MODELS } from './models.ts';
import type { HwIommu } from './vfio/ops.ts';
import type { Vfio } from './vfio/vfio.ts';

/** One of every model; names, groups and order are fixed, so that scripts can rely on them. */
export const DEFAULT_DEVICES: readonly DeviceDescription[] = [
  { bus: 'pci', model: 'edu', name: '0000:00:01.0', group: 1 },
  { bus: 'pci', model: 'pci-msix', name: '0000:00:02.0', group: 2 },
  { bus: 'pci', model: 'pci-msix', name: '0000:00:02.1', group: 2 },
  { bus: 'pci', model: 'ism', name: '0001:00:00.0', group: 3 },
  { bus: 'pci', model: 'zpci-net', name: '0002:00:00.0', group: 4 },
  {
    bus: 'ccw',
    model: 'dasd-3390',
    name: '11111111-1111-4111-8111-111111111111',
    group: 5,
    subchannel: '0.0.0313',
    device: '0.0.0120',
  },
  { bus: 'mdev', model: 'mtty', name: '22222222-2222-4222-8222-222222222222', group: 6, type: 'mtty-2' },
  { bus: 'ap', model: 'ap', name: '33333333-3333-4333-8333-333333333333', group: 7 },
];

/** VT-d-like: 48 bits less the window of interrupt messages; 4 KiB, 2 MiB and 1 GiB pages; snooping not enforced. */
const pciIommu = (): HwIommu => ({
  pageSizes: 0x40201000n,
  ranges: [
    { start: 0n, last: 0xfedfffffn },
    { start: 0xfef00000n, last: 0xffffffffffffn },
  ],
  coherent: false,
  msiIsolated: true,
  limit: 1n << 48n,
});

/** Host drivers that do no DMA: a member with one does not count. */
const WITHOUT_DMA: readonly string[] = ['pci-stub', 'pcieport'];

const BUSES: readonly string[] = ['pci', 'ccw', 'ap', 'mdev'];

/** A built machine: what it was made from, and the hardware behind its devices as far as scripts may speak to it. */
export class Machine {
  /** The description as it was given. */
  readonly given: MachineDescription;
  /** The same with its devices and seed filled in. */
  readonly description: Required<Pick<MachineDescription, 'devices' | 'seed'>> & MachineDescription;
  /** Actions of the hardware by device name. @internal */
  readonly actions: ReadonlyMap<string, DeviceActions>;
  /** The unit in front of the machine's ordinary PCI functions. @internal */
  readonly pciIommu: HwIommu = pciIommu();

  /**
   * @throws TypeError unknown bus or model, a name that cannot be or is taken, a group that cannot be or belongs to other hardware, or an option
   * that the model cannot honour. @internal
   */
  constructor(vfio: Vfio, description: MachineDescription = {}) {
    this.given = description;
    this.description = { ...description, devices: description.devices ?? DEFAULT_DEVICES, seed: description.seed ?? 1 };
    const actions = new Map<string, DeviceActions>();
    this.actions = actions;
    let node = 0;
    const names = new Set<string>();
    for (const device of this.description.devices) {
      if (!BUSES.includes(device.bus))
        throw new TypeError(`${device.name}: unknown bus "${device.bus}"; there are ${BUSES.join(', ')}`);
      if (names.has(device.name)) throw new TypeError(`there are two devices "${device.name}"`);
      names.add(device.name);
      const factory = Object.hasOwn(MODELS, device.model) ? MODELS[device.model] : undefined;
      if (factory === undefined)
        throw new TypeError(`unknown model "${device.model}"; there are ${Object.keys(MODELS).join(', ')}`);
      const groupName = device.group === undefined ? vfio.nextGroupName() : String(device.group);
      if (!/^(0|[1-9]\d*)$/.test(groupName)) throw new TypeError(`${device.name}: ${groupName} is no group number`);
      // Only functions behind one unit share a group; a mediated device has one of its own.
      const owned = (hw: HwIommu | null): void => {
        const group = vfio.groups.get(groupName);
        if (group !== undefined && (hw === null || group.hw !== hw))
          throw new TypeError(`${device.name}: group ${groupName} belongs to another device`);
      };
      if (device.bus !== 'pci') owned(null);
      const { driver } = device;
      if (device.bus === 'pci' && driver !== undefined && !driver.startsWith('vfio')) {
        owned(this.pciIommu);
        if (!WITHOUT_DMA.includes(driver)) vfio.group(groupName, 'iommu', this.pciIommu).hostDrivers.add(device.name);
        continue;
      }
      vfio.nextNode = node++;
      factory({
        vfio,
        description: device,
        groupName,
        pciIommu: this.pciIommu,
        seed: this.description.seed,
        addPhysical(added, hw) {
          if (device['noiommu'] === true) return vfio.registerDevice(added, `noiommu-${groupName}`, 'noiommu');
          owned(hw);
          return vfio.registerDevice(added, groupName, 'iommu', hw);
        },
        addActions: (table, name = device.name) => actions.set(name, { ...actions.get(name), ...table }),
      });
      vfio.nextNode = null;
    }
  }
}
