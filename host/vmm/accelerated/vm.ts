// The second executor: a virtual machine that is linked to its devices through the slot of the host's kernel (host/vfio/vm.ts) and reaches them
// without descriptors. It makes instructions faster and nothing else: whatever the plain executor gives, this one gives (test/property/
// executors.test.ts).
import { EINVAL } from '../../../assembly/abi.ts';
import type { VfioDevice } from '../../vfio/device.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import type { ApControl, VmLink, ZdevVmProvider } from '../../vfio/vm.ts';
import type { VirtualMachine } from '../machine.ts';

export class AcceleratedVm implements VmLink, ZdevVmProvider {
  readonly name: string;
  readonly vm: VirtualMachine;
  readonly ap: ApControl;
  /** zPCI functions that are open for this machine. */
  readonly functions = new Set<VfioDevice>();
  readonly #kernel: Vfio;

  constructor(kernel: Vfio, vm: VirtualMachine, name = 'vm') {
    this.#kernel = kernel;
    this.vm = vm;
    this.name = name;
    this.ap = {
      owner: null,
      setMasks: () => {},
      clearMasks: () => {},
      registerIsc: (isc) => (isc > 7 ? -EINVAL : 0),
      unregisterIsc: () => {},
      interrupt: (isc) => vm.css.adapterInterrupt(isc),
    };
  }

  /** Links a group: devices opened from now on belong to this machine. @throws RangeError there is no such group. */
  link(groupName: string): void {
    const group = this.#kernel.groups.get(groupName);
    if (group === undefined) throw new RangeError(`there is no group ${groupName}`);
    this.#kernel.vms.link(group, this);
    this.#kernel.vms.zdevProvider ??= new ProviderRegistry();
    (this.#kernel.vms.zdevProvider as Partial<ProviderRegistry>).add?.(this);
  }

  register(device: VfioDevice, vm: VmLink): number {
    if (vm !== this || this.functions.has(device)) return -EINVAL;
    this.functions.add(device);
    return 0;
  }
  unregister(device: VfioDevice): void {
    this.functions.delete(device);
  }
}

/** One slot, several machines: each function goes to the machine it is linked to. */
class ProviderRegistry implements ZdevVmProvider {
  readonly #vms = new Set<AcceleratedVm>();
  add(vm: AcceleratedVm): void {
    this.#vms.add(vm);
  }
  register(device: VfioDevice, vm: VmLink): number {
    return vm instanceof AcceleratedVm && this.#vms.has(vm) ? vm.register(device, vm) : -EINVAL;
  }
  unregister(device: VfioDevice): void {
    for (const vm of this.#vms) vm.unregister(device);
  }
}
