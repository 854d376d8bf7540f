// Plugs a function that an embedder wrote into a machine that runs: the public way to a device of one's own.
import type { StatefulHardware } from '../../devices/device_state.ts';
import type { PciDevice } from '../../devices/pci_device.ts';
import type { HwIommu } from '../../vfio/ops.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { VfioPciDevice, type VfioPciOptions } from './device.ts';
import { MigratablePciDevice } from './migratable.ts';
import { PciResetDomain } from './reset.ts';
import { VFIO_PCI_OPS } from './vfio_pci.ts';

/** How a function is plugged in. Everything has a default. */
export interface PlugOptions extends VfioPciOptions {
  /** PCI address. Default the next free one from 0000:00:10.0. */
  readonly name?: string;
  /** Number of its group. Default the next free one from 8. Functions of one group share their fate. */
  readonly group?: number;
  /** The function has a bus of its own: RESET and PCI_HOT_RESET work through it. */
  readonly busReset?: boolean;
  /**
   * The function has the face `StatefulHardware` and can be moved: FEATURE calls of migration, a log of its DMA. Implies `busReset`, as RESET is the way
   * out of every state. Its own activity has to hang on `clock`, which stands still while it may not act.
   */
  readonly migrates?: boolean;
}

/**
 * Puts `hw` behind `iommu` and binds it to vfio-pci.
 * @returns the device; its name and `group.name` are what a user opens. @throws RangeError the name is not a PCI address or is taken;
 * TypeError the function is to migrate and has no state to take out.
 */
export function plugPci(vfio: Vfio, hw: PciDevice, iommu: HwIommu, options: PlugOptions = {}): VfioPciDevice {
  const taken = new Set([...vfio.nodes.values()].map((device) => device.name));
  let slot = 0x10;
  while (taken.has(address(slot)) && slot < 0x1f) slot++;
  const name = options.name ?? address(slot);
  if (taken.has(name)) throw new RangeError(`${name} is taken`);
  const { busReset = false, migrates = false } = options;
  if (migrates && !isStateful(hw)) throw new TypeError('a function that migrates needs all of StatefulHardware');
  const all = { ...(busReset || migrates ? { resetDomain: new PciResetDomain() } : {}), ...options };
  const device =
    migrates && isStateful(hw)
      ? new MigratablePciDevice(vfio, name, hw, all)
      : new VfioPciDevice(vfio, name, VFIO_PCI_OPS, hw, all);
  vfio.registerDevice(
    device,
    options.group === undefined ? vfio.nextGroupName() : String(options.group),
    'iommu',
    iommu,
  );
  return device;
}

const address = (slot: number): string => `0000:00:${slot.toString(16)}.0`;

function isStateful(hw: PciDevice): hw is PciDevice & StatefulHardware {
  const { stateModel, stateVersion, stateSize, saveState, loadState, resume } = hw as Partial<StatefulHardware>;
  return (
    typeof stateModel === 'string' &&
    /^[ -~]{4}$/.test(stateModel) &&
    [stateVersion, stateSize].every((number) => Number.isInteger(number) && number! >= 0) &&
    [saveState, loadState, resume].every((method) => typeof method === 'function')
  );
}
