// Helpers shared by the entries: how the compiled core's bytes become a module, and how an instance is put together.

import type { Clock } from './clock.ts';
import { type CoreOptions, type CoreSource, createCore } from './core.ts';
import type { ActionFields, ActionResult, MachineDescription } from './devices/model.ts';
import type { PciDevice } from './devices/pci_device.ts';
import type { VfioPciDevice } from './drivers/pci/device.ts';
import { type PlugOptions, plugPci } from './drivers/pci/plug.ts';
import { Machine } from './machine.ts';
import { VfioProcess } from './process.ts';
import { type1Driver } from './vfio/iommu_type1.ts';
import { noIommuDriver } from './vfio/noiommu.ts';
import type { TaskOptions } from './vfio/task.ts';
import { Vfio } from './vfio/vfio.ts';

export interface VfioOptions extends CoreOptions, TaskOptions {
  /** Where time comes from; default the platform's. */
  clock?: Clock;
  /**
   * Which devices there are. Default: the default machine, one of every model under fixed names. `{ devices: [] }` is an empty machine, for
   * programs that bring their own devices.
   */
  machine?: MachineDescription;
}

/** An instance of the subsystem and its first process, whose calls it offers directly. */
export class VfioInstance extends VfioProcess {
  /** The kernel's registries: groups, devices, drivers. */
  readonly kernel: Vfio;
  /** What is plugged in, and the hardware's own actions. */
  readonly machine: Machine;

  constructor(kernel: Vfio, machine: Machine, options: TaskOptions) {
    super(kernel, options);
    this.kernel = kernel;
    this.machine = machine;
  }

  /**
   * Asks the hardware behind a device for something that a driver cannot, such as raising an interrupt (docs/script.md lists the actions).
   * @returns 0, a count or -errno, alone or with the bytes read. @throws TypeError no such device or action.
   */
  actionRaw(name: string, action: string, fields: ActionFields): ActionResult {
    const run = this.machine.actions.get(name)?.[action];
    if (run === undefined) throw new TypeError(`there is no action ${action} of ${name}`);
    return this.enter(() => run(fields));
  }

  /**
   * Plugs a PCI function of the caller's own making into the running machine and binds it to vfio-pci (docs/how-to/write-a-device.md).
   * @returns the device; `name` and `group.name` are what a user opens. @throws RangeError the name is not a PCI address or is taken.
   */
  plug(hw: PciDevice, options?: PlugOptions): VfioPciDevice {
    return plugPci(this.kernel, hw, this.machine.pciIommu, options);
  }

  /** Another process against the same instance, with its own memory, descriptors and limits. */
  process(options: TaskOptions = {}): VfioProcess {
    return new VfioProcess(this.kernel, options);
  }
}

/** Makes an instance with the core from this source. */
export async function createVfioFrom(source: CoreSource, options: VfioOptions = {}): Promise<VfioInstance> {
  const { machine: description = {} } = options;
  const { memory: length } = description;
  const core = await createCore(source, length === undefined ? options : { length, ...options });
  const kernel = new Vfio(core, {
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    iommuDrivers: (vfio) => [
      type1Driver(vfio, description.dma_entry_limit === undefined ? {} : { entryLimit: description.dma_entry_limit }),
      noIommuDriver(vfio),
    ],
  });
  return new VfioInstance(kernel, new Machine(kernel, description), options);
}
