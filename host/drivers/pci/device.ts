// A PCI function bound to vfio-pci or to a driver built from its core: the state that the files of this folder work on. Kernel counterpart:
// struct vfio_pci_core_device. Sheet: spec pci.
import type { DeviceMemory } from '../../devices/dma.ts';
import type { PciDevice, PciHost } from '../../devices/pci_device.ts';
import type { InfoCap } from '../../uapi/caps.ts';
import { VfioDevice } from '../../vfio/device.ts';
import type { EventFd } from '../../vfio/eventfd.ts';
import type { IoMapping } from '../../vfio/mm.ts';
import type { AccessKind, VfioDeviceOps } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserBuffer } from '../../vfio/user.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import type { VirtualConfig } from './config_space.ts';
import { IrqState } from './intrs.ts';
import type { Ioeventfd } from './ioeventfd.ts';
import { wake } from './power.ts';
import type { PciResetDomain } from './reset.ts';
import { VfToken } from './token.ts';

/** Regions lie at index << 40 on the descriptor. */
export const VFIO_PCI_OFFSET_SHIFT = 40n;
export const regionOffset = (index: number): bigint => BigInt(index) << VFIO_PCI_OFFSET_SHIFT;

/**
 * What an architecture adds to every vfio-pci device, whatever its driver. Called once inside enable and once inside disable; the default
 * does nothing.
 */
export interface PciArchHook {
  /** Last step of enabling that can fail. @returns 0 or -errno. */
  openDevice?(device: VfioPciDevice): number;
  /** In the middle of disabling, before the saved state is restored. */
  closeDevice?(device: VfioPciDevice): void;
  /** Capabilities in front of the core's own in GET_INFO. */
  infoCaps?(device: VfioPciDevice): readonly InfoCap[];
}

/** A region behind the fixed nine, registered by a driver before finish_enable. */
export interface PciDeviceRegion {
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly size: bigint;
  readonly type: number;
  readonly subtype: number;
  /** Areas that can be mapped; shown as a sparse capability. */
  readonly sparse?: ReadonlyArray<{ offset: bigint; size: bigint }>;
  /** What kind of access it is to a stopped device. Default `request`: a driver's own region starts something. */
  readonly kind?: AccessKind;
  /** Further capabilities, behind TYPE and SPARSE_MMAP. */
  readonly caps?: readonly InfoCap[];
  /** One call for the whole buffer; `pos` bytes into the region. @returns bytes moved or -errno. */
  read?(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint): number;
  /** As read. Absent: EINVAL. */
  write?(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint): number;
  /** What a mapping of [pos, pos + length) shows, or -errno. */
  mmap?(device: VfioPciDevice, task: Task, pos: bigint, length: bigint): IoMapping | number;
  /** The device is being closed for the last time. */
  release?(device: VfioPciDevice): void;
}

/** What the platform knows of a function besides its hardware. */
export interface VfioPciOptions {
  /** Functions that a bus or slot reset hits together; none: there is no such reset. @internal */
  readonly resetDomain?: PciResetDomain;
  readonly arch?: PciArchHook;
  /** INTx of this device is known to be broken: the pin is hidden. */
  readonly noIntx?: boolean;
  /** The platform can add MSI-X vectors while others are in use. Default true. */
  readonly dynamicMsix?: boolean;
  /** Interrupt vectors that the host has left for this device. Default unlimited. */
  readonly hostVectors?: number;
  /** The function is virtual: its physical function's device, or null when another driver owns that. */
  readonly virtualFunctionOf?: VfioPciDevice | null;
  /** The function is a physical one with virtual functions: it has a VF token. */
  readonly hasVirtualFunctions?: boolean;
  /** Completion widths of atomic operations that the way to memory supports (VFIO_PCI_ATOMIC_COMP*). Default none. */
  readonly atomicCompletion?: number;
}

/** A function bound to a driver of the PCI core. `name` and `group.name` are what a user opens. */
export class VfioPciDevice extends VfioDevice implements PciHost {
  readonly hw: PciDevice;
  readonly segment: number;
  readonly bus: number;
  /** Device number << 3 | function. */
  readonly devfn: number;
  readonly options: VfioPciOptions;
  /** @internal */
  readonly arch: PciArchHook;
  readonly memory: DeviceMemory;
  /** @internal */
  readonly vfToken: VfToken;
  /** Present while the device is open. @internal */
  config: VirtualConfig | null = null;
  /** @internal */
  readonly irqs: IrqState;
  /** @internal */
  readonly ioeventfds: Ioeventfd[] = [];
  readonly regions: PciDeviceRegion[] = [];
  /** The header and the control words that a reset or a close must not change for the host. @internal */
  saved: Array<{ offset: number; width: 1 | 2 | 4; value: number }> = [];
  /** @internal */
  resetWorks = false;
  /** A user had the device since its last reset. @internal */
  needsReset = false;
  /** 0 (D0) to 3 (D3hot). */
  powerState = 0;
  /** LOW_POWER_ENTRY is in force. */
  lowPower = false;
  /** @internal */
  wakeEventfd: EventFd | null = null;
  /** BAR with the MSI-X table (0xff: none), and the bytes of it that read and write leave out. @internal */
  msixBar = 0xff;
  /** @internal */
  msixOffset = 0;
  /** @internal */
  msixSize = 0;
  /** @internal */
  readonly barMmap: boolean[] = [false, false, false, false, false, false];
  /** How often the mappings of the device's regions were taken away. @internal */
  zaps = 0;
  /** Held by somebody else: a try-reset answers EAGAIN, a hot reset EBUSY. @internal */
  resetLocked = false;

  /** @internal */
  // biome-ignore lint/suspicious/noExplicitAny: a table is typed by its own device class
  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<any>, hw: PciDevice, options: VfioPciOptions = {}) {
    super(vfio, name, ops);
    const match = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(name);
    if (match === null) throw new RangeError(`"${name}" is not a PCI address such as 0000:00:01.0`);
    this.segment = Number.parseInt(match[1]!, 16);
    this.bus = Number.parseInt(match[2]!, 16);
    this.devfn = (Number.parseInt(match[3]!, 16) << 3) | Number(match[4]);
    this.hw = hw;
    this.options = options;
    this.arch = options.arch ?? {};
    this.irqs = new IrqState(this);
    this.memory = containerMemory(this);
    this.vfToken = new VfToken(options.hasVirtualFunctions === true);
    hw.config.markPowerOn();
    hw.virtual = this.isVirtualFunction;
    hw.host = this;
    hw.clock = vfio.clock;
    options.resetDomain?.add(this);
  }

  get isVirtualFunction(): boolean {
    return this.options.virtualFunctionOf !== undefined;
  }

  /** The platform routed the function's INTx pin somewhere. @internal */
  get hasInterruptLine(): boolean {
    return this.hw.config.bytes[0x3d] !== 0;
  }
  /** The user's memory BARs answer to read and write. */
  get memoryEnabled(): boolean {
    return this.config?.memoryEnabled(this) === true;
  }
  /** Memory BARs also answer to mappings: not in low power. */
  get mayAccessMemory(): boolean {
    return this.memoryEnabled && !this.lowPower;
  }
  /** The descriptor is a device node bound to an iommufd: which, and the id there. null: opened through its group. @internal */
  get iommufdId(): { iommufd: object; devid: number } | null {
    return this.iommufd === null ? null : { iommufd: this.iommufd, devid: this.devid };
  }
  /** In front of every ioctl, read and write (power.ts). @internal */
  wake(): void {
    if (this.lowPower) wake(this);
  }

  intx(level: boolean): void {
    this.irqs.intx.line(level);
  }
  message(address: bigint, data: number): void {
    this.irqs.messages.message(address, data);
  }
  unrouted(vector: number): void {
    if (this.irqs.type === 'none') this.migration?.holdInterrupt(vector);
  }
}

/** Memory behind the container (or the I/O address space) that the device is in while it is open. */
const containerMemory = (device: VfioPciDevice): DeviceMemory => ({
  read: (iova, into) => device.busMaster(iova, into, false),
  write: (iova, from) => device.busMaster(iova, from, true),
  view: (iova, length, write) => device.busMasterView(iova, length, write),
});
