// Virtual machines linked to devices: the slot through which a VMM in the host's kernel would plug in. It lies outside the VFIO ABI; with nothing in
// it every device works as for any other user. Kernel counterpart: the KVM pseudo device and vfio_device::kvm. Source: spec zdev section 7,
// ap section 9.
import type { VfioDevice } from './device.ts';
import type { Group } from './group.ts';

/** The AP control block of a virtual machine: which queues its processors reach. */
export interface ApControl {
  /** Queue devices of one mediated device at most; who holds it. */
  owner: VfioDevice | null;
  /** The three masks of the guest, 32 bytes each. */
  setMasks(apm: Uint8Array, aqm: Uint8Array, adm: Uint8Array): void;
  /** No queue is reached any more. */
  clearMasks(): void;
  /** Takes or gives back an interruption subclass for a queue. @returns 0 or -errno. */
  registerIsc(isc: number): number;
  /** Gives a subclass back. */
  unregisterIsc(isc: number): void;
  /** A queue has something to tell: the notification byte is set. */
  interrupt(isc: number): void;
}

/** What a virtual machine offers the devices that are linked to it. */
export interface VmLink {
  readonly name: string;
  /** Null: the machine has no AP facility. */
  readonly ap: ApControl | null;
}

/** What a VMM offers for zPCI functions; without it a device that is linked to a VM cannot be opened. */
export interface ZdevVmProvider {
  /** A function of this machine is being opened. @returns 0 or -errno, then the open fails with it. */
  register(device: VfioDevice, vm: VmLink): number;
  /** The function was closed. */
  unregister(device: VfioDevice): void;
}

/** Which groups belong to which virtual machine. */
export class VmLinks {
  zdevProvider: ZdevVmProvider | null = null;
  readonly #links = new WeakMap<Group, VmLink>();

  /** Links a group to a machine, as handing its descriptor to the VMM does; null cuts the link. Devices opened from now on see it. */
  link(group: Group, vm: VmLink | null): void {
    if (vm === null) this.#links.delete(group);
    else this.#links.set(group, vm);
  }

  of(device: VfioDevice): VmLink | null {
    return this.#links.get(device.group) ?? null;
  }
}
