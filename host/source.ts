// Helpers shared by the entries: how the compiled core's bytes become a module, and how an instance is put together.

import { EINVAL, ENODEV } from '../assembly/abi.ts';
import type { Clock } from './clock.ts';
import { type CoreOptions, type CoreSource, createCore } from './core.ts';
import type { ChannelDevice } from './css/device.ts';
import type { ActionFields, ActionResult, MachineDescription } from './devices/model.ts';
import type { PciDevice } from './devices/pci_device.ts';
import { type ChannelPlugOptions, type PluggedChannelDevice, plugChannelDevice } from './drivers/ccw/plug.ts';
import type { VfioPciDevice } from './drivers/pci/device.ts';
import { type PlugOptions, plugPci } from './drivers/pci/plug.ts';
import { VfioError } from './errno.ts';
import { Machine } from './machine.ts';
import { VfioProcess } from './process.ts';
import { type1Driver } from './vfio/iommu_type1.ts';
import { noIommuDriver } from './vfio/noiommu.ts';
import type { TaskOptions } from './vfio/task.ts';
import { Vfio } from './vfio/vfio.ts';

/** What an instance is made of: core, clock, machine, first process. */
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
  /** The kernel's registries: groups, devices, drivers. @internal */
  readonly kernel: Vfio;
  /** What is plugged in, and the hardware's own actions. */
  readonly machine: Machine;

  /** @internal */
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

  /**
   * Attaches a channel device of the caller's own making to a subchannel of its own and binds it to vfio-ccw
   * (docs/how-to/write-a-channel-device.md). @throws RangeError a bus id, uuid or path list that cannot be, or that is taken.
   */
  plugChannelDevice(device: ChannelDevice, options?: ChannelPlugOptions): PluggedChannelDevice {
    return plugChannelDevice(this.kernel, device, options);
  }

  /**
   * Binds a member of a group to a host driver that does DMA; the group is not viable then. @param member any name that tells the device.
   * @throws VfioError ENODEV no such group; EBUSY a user owns DMA of the group, or a vfio driver has the member.
   */
  bindHostDriver(group: number | string, member: string): void {
    this.check(this.kernel.bindHostDriver(String(group), member), () => `bind ${member} to a host driver`);
  }
  /** Takes the member from its host driver. @throws VfioError ENODEV. */
  unbindHostDriver(group: number | string, member: string): void {
    this.check(this.kernel.unbindHostDriver(String(group), member), () => `unbind ${member} from its host driver`);
  }

  /**
   * The host wants a device back: it cannot be opened from now on, and whoever has it open is asked (the driver's request, its REQ interrupt) at
   * once and every 10 seconds. @returns a promise that settles when the last user has closed it. @throws VfioError ENODEV no such device;
   * EINVAL a mediated one, which goes through its `remove` attribute.
   */
  unplug(name: string): Promise<void> {
    const device = this.kernel.device(name);
    if (device === undefined) throw new VfioError(`unplug ${name}`, ENODEV, 'there is no such device');
    if (this.kernel.mdev.devices.has(name))
      throw new VfioError(`unplug ${name}`, EINVAL, 'a mediated device goes through its remove attribute');
    return new Promise((resolve) => this.kernel.unregisterDevice(device, resolve));
  }

  /** Another process against the same instance, with its own memory, descriptors and limits. */
  process(options: TaskOptions = {}): VfioProcess {
    return new VfioProcess(this.kernel, options);
  }
}

/**
 * Makes an instance with the core from this source: for places where no entry's own way of loading works (an edge runtime that imports
 * `vfio-wasm/core.wasm` as a module, a module compiled once for many instances).
 * @throws RangeError, TypeError the options ask for a region or a machine that cannot be; and what `source` rejects with.
 */
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
