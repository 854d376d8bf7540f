// What a machine description says about a device, and the face through which a model is put into the machine: its group, its unit, and the
// actions that a script may ask of the hardware (spec script, `machine`, `device`).
import type { VfioDevice } from '../vfio/device.ts';
import type { Group } from '../vfio/group.ts';
import type { HwIommu } from '../vfio/ops.ts';
import type { Vfio } from '../vfio/vfio.ts';

/** One entry of `devices` in a machine description. Further options belong to the model. */
export interface DeviceDescription {
  /** `pci`, `ccw`, `ap` or `mdev`. */
  readonly bus: string;
  readonly model: string;
  /** Name of the device: PCI address, bus id of the subchannel, or the uuid of a mediated device. */
  readonly name: string;
  /** Number of its group; without it the next free one from 8. */
  readonly group?: number;
  /**
   * Default: the vfio driver of the bus. A PCI function with a driver that is none of vfio's belongs to the host: its group is not viable, unless
   * that driver does no DMA (`pci-stub`, `pcieport`).
   */
  readonly driver?: string;
  readonly [option: string]: unknown;
}

/** A machine: which devices, how much memory, which limits. */
export interface MachineDescription {
  /** Without it the default machine's (spec script, "Default machine"). */
  readonly devices?: readonly DeviceDescription[];
  /** Bytes of the core's region: heap and user memory. Default 64 MiB. */
  readonly memory?: number;
  /** Maps that one container may hold (type1's dma_entry_limit). Default 65535. */
  readonly dma_entry_limit?: number;
  /** Seed of whatever a model draws at random. Default 1. */
  readonly seed?: number;
}

/** Arguments of an action, with the checks and conversions of the script they come from. */
export interface ActionFields {
  /** Is there such an argument? */
  has(name: string): boolean;
  /** An integer, 64 bits. `fallback` when it is absent; without one the field is required. */
  integer(name: string, fallback?: bigint): bigint;
  /** The same as a number. */
  number(name: string, fallback?: number): number;
  /** Bytes, which the script writes in hex. @throws ScriptError absent, or not such. */
  bytes(name: string): Uint8Array;
  /** A string. @throws ScriptError absent, or not such. */
  text(name: string): string;
}

/** What an action answers: `ret` (0, a count or -errno) alone, or with bytes read. */
export type ActionResult = number | { readonly ret: number; readonly data?: Uint8Array };

/** The actions of a device's hardware by name. */
export type DeviceActions = Readonly<Record<string, (fields: ActionFields) => ActionResult>>;

/** What a model's factory works with. */
export interface ModelContext {
  readonly vfio: Vfio;
  readonly description: DeviceDescription;
  /** The described group, or the next free one. A mediated device is created with it: `vfio.mdev.create(type, uuid, groupName)`. */
  readonly groupName: string;
  /** The unit in front of ordinary PCI functions of this machine; one object, hence one domain for all of them. */
  readonly pciIommu: HwIommu;
  readonly seed: number;
  /** Registers a physical device in the described group behind `hw`. */
  addPhysical(device: VfioDevice, hw: HwIommu): Group;
  /** Publishes actions of the hardware under a name; default the description's. */
  addActions(actions: DeviceActions, name?: string): void;
}

/** Builds a device of the model into the machine. @throws TypeError an option that the model cannot honour. */
export type ModelFactory = (context: ModelContext) => void;
