// Mediated devices: parents with types, instances made and removed through sysfs. Kernel counterpart: drivers/vfio/mdev/. Order of checks:
// spec mdev sections 2 to 5.
import { EAGAIN, EEXIST, EINVAL, ENODEV, EUSERS } from '../../assembly/abi.ts';
import type { VfioDevice } from './device.ts';
import type { SysfsAttribute } from './sysfs.ts';
import type { Task } from './task.ts';
import type { Vfio } from './vfio.ts';

export type MdevDeviceApi = 'vfio-pci' | 'vfio-platform' | 'vfio-amba' | 'vfio-ccw' | 'vfio-ap';
const DEVICE_APIS: readonly string[] = ['vfio-pci', 'vfio-platform', 'vfio-amba', 'vfio-ccw', 'vfio-ap'];

/** What a parent can make. `P` is the driver's own data about the type. */
export interface MdevTypeDescription {
  /** Behind the driver's name and a dash: the directory, such as `mtty-2`. */
  readonly sysfsName: string;
  /** Shown by `name`; default the sysfsName. */
  readonly prettyName?: string;
}

/** A driver of mediated devices: constant, shared by its parents. */
export interface MdevDriver {
  /** Prefix of the type directories. */
  readonly name: string;
  readonly deviceApi: MdevDeviceApi;
  /**
   * Makes and registers the vfio device: `mdev.vfio.registerDevice(device, mdev.groupName, 'emulated')`, then `mdev.device = device`.
   * @returns 0 or -errno, then nothing is left behind.
   */
  probe(mdev: Mdev): number;
  /** The device is gone for good: its vfio device is unregistered and released. */
  remove?(mdev: Mdev): void;
  /** Replaces the parent's counter. */
  getAvailable?(type: MdevType): number;
  /** Content of `description` without the new line; the attribute exists only with it. */
  showDescription?(type: MdevType): string;
  /** Further attributes in the device's own directory. */
  attributes?(mdev: Mdev): Readonly<Record<string, SysfsAttribute>>;
}

export interface MdevParentOptions {
  /** Directory of the parent device, such as `/sys/devices/virtual/mtty/mtty`. */
  readonly path: string;
  readonly driver: MdevDriver;
  readonly types: readonly MdevTypeDescription[];
  /** Start value of available_instances for drivers without getAvailable. Default 1. */
  readonly maxInstances?: number;
}

export class MdevType {
  readonly parent: MdevParent;
  readonly sysfsName: string;
  readonly prettyName: string;
  /** `.../mdev_supported_types/<driver>-<sysfsName>`. */
  readonly path: string;
  constructor(parent: MdevParent, description: MdevTypeDescription) {
    this.parent = parent;
    this.sysfsName = description.sysfsName;
    this.prettyName = description.prettyName ?? description.sysfsName;
    this.path = `${parent.path}/mdev_supported_types/${parent.driver.name}-${description.sysfsName}`;
  }
}

export class MdevParent {
  readonly path: string;
  readonly name: string;
  readonly driver: MdevDriver;
  readonly types: readonly MdevType[];
  /** Counts down with every instance alive, up again when one is released. */
  availableInstances: number;
  unregistering = false;
  constructor(options: MdevParentOptions) {
    this.path = options.path;
    this.name = options.path.slice(options.path.lastIndexOf('/') + 1);
    this.driver = options.driver;
    this.availableInstances = options.maxInstances ?? 1;
    this.types = options.types.map((type) => new MdevType(this, type));
  }
  type(sysfsName: string): MdevType | undefined {
    return this.types.find((type) => type.sysfsName === sysfsName);
  }
}

/** One mediated device. */
export class Mdev {
  readonly vfio: Vfio;
  readonly type: MdevType;
  /** Lower-case uuid text; the vfio device's name too. */
  readonly name: string;
  /** The group its device gets: the number asked for, or the next free one. */
  readonly groupName: string;
  /** Created completely and not being removed. */
  active = false;
  /** The registered vfio device; probe sets it. */
  device: VfioDevice | null = null;
  constructor(vfio: Vfio, type: MdevType, name: string, groupName: string) {
    this.vfio = vfio;
    this.type = type;
    this.name = name;
    this.groupName = groupName;
  }
  get path(): string {
    return `${this.type.parent.path}/${this.name}`;
  }
  /** The uuid in guid byte order: first three fields little-endian. */
  get guid(): Uint8Array {
    const bytes = Uint8Array.from(this.name.replaceAll('-', '').match(/../g)!, (pair) => Number.parseInt(pair, 16));
    for (const [start, end] of [
      [0, 4],
      [4, 6],
      [6, 8],
    ] as const)
      bytes.subarray(start, end).reverse();
    return bytes;
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const ULONG_MAX = 0xffffffffffffffffn;

/** An unsigned long in any base: decimal, 0x hexadecimal or 0 octal, one new line allowed. @returns null: it is none. */
function parseNumber(text: string): bigint | null {
  const match = /^\+?(?:(0x[0-9a-f]+)|0([0-7]*)|([1-9][0-9]*))\n?$/i.exec(text);
  if (match === null) return null;
  const value = BigInt(match[1] ?? match[3] ?? `0o${match[2] || '0'}`);
  return value > ULONG_MAX ? null : value;
}

/** The mdev core of one instance: all parents, and all devices in one list (a uuid is unique across parents and types). */
export class MdevBus {
  readonly parents: MdevParent[] = [];
  readonly devices = new Map<string, Mdev>();
  /** Called with MDEV_STATE of a parent, `registered` or `unregistered`. */
  onEvent: ((parent: MdevParent, state: 'registered' | 'unregistered') => void) | null = null;
  readonly #vfio: Vfio;

  constructor(vfio: Vfio) {
    this.#vfio = vfio;
  }

  /** Registers a parent and its type directories. @returns the parent; -EINVAL without a device_api; -EEXIST when the types exist. */
  registerParent(options: MdevParentOptions): MdevParent | number {
    if (!DEVICE_APIS.includes(options.driver.deviceApi)) return -EINVAL;
    const parent = new MdevParent(options);
    const { sysfs } = this.#vfio;
    if (sysfs.mkdir(`${parent.path}/mdev_supported_types`) < 0) return -EEXIST;
    sysfs.link(`/sys/class/mdev_bus/${parent.name}`, parent.path);
    for (const type of parent.types) this.#addType(type);
    this.parents.push(parent);
    this.onEvent?.(parent, 'registered');
    return parent;
  }

  /** Removes all children, then the types. Children that a user holds open go when the user closes. */
  unregisterParent(parent: MdevParent): void {
    for (const mdev of [...this.devices.values()]) if (mdev.type.parent === parent) this.#remove(mdev);
    parent.unregistering = true;
    const { sysfs } = this.#vfio;
    sysfs.remove(`/sys/class/mdev_bus/${parent.name}`);
    sysfs.remove(`${parent.path}/mdev_supported_types`);
    this.parents.splice(this.parents.indexOf(parent), 1);
    this.onEvent?.(parent, 'unregistered');
  }

  /**
   * Creates an instance: what a write to `create` does once the uuid is parsed.
   * @param groupName a group number of the machine's own; default the next free one.
   * @returns the device, or -errno in this order: EEXIST the uuid is in use; EUSERS the parent's counter is 0; ENODEV the parent is going;
   * EEXIST its directory exists; then the driver's probe. After a failure the uuid is free again and the counter restored.
   */
  create(type: MdevType, uuid: string, groupName?: string): Mdev | number {
    const { parent } = type;
    const name = uuid.toLowerCase();
    if (!UUID.test(name)) return -EINVAL;
    if (this.devices.has(name)) return -EEXIST;
    const counted = parent.driver.getAvailable === undefined;
    if (counted && parent.availableInstances === 0) return -EUSERS;
    if (counted) parent.availableInstances--;
    const mdev = new Mdev(this.#vfio, type, name, groupName ?? this.#vfio.nextGroupName());
    this.devices.set(name, mdev);
    const result = this.#add(mdev);
    if (result < 0) {
      this.#release(mdev);
      return result;
    }
    mdev.active = true;
    return mdev;
  }

  /** What a write of `1` to `remove` does. @returns 0 or -ENODEV, -EAGAIN. */
  removeDevice(mdev: Mdev): number {
    this.#vfio.sysfs.remove(`${mdev.path}/remove`);
    if (this.devices.get(mdev.name) !== mdev) return -ENODEV;
    if (!mdev.active) return -EAGAIN;
    if (mdev.type.parent.unregistering) return -ENODEV;
    this.#remove(mdev);
    return 0;
  }

  #addType(type: MdevType): void {
    const { sysfs } = this.#vfio;
    const { driver } = type.parent;
    sysfs.mkdir(`${type.path}/devices`);
    sysfs.attribute(`${type.path}/create`, { store: (task, text) => this.#createStore(task, type, text) });
    sysfs.attribute(`${type.path}/device_api`, { show: () => `${driver.deviceApi}\n` });
    sysfs.attribute(`${type.path}/name`, { show: () => `${type.prettyName}\n` });
    sysfs.attribute(`${type.path}/available_instances`, {
      show: () => `${driver.getAvailable?.(type) ?? type.parent.availableInstances}\n`,
    });
    if (driver.showDescription !== undefined)
      sysfs.attribute(`${type.path}/description`, { show: () => `${driver.showDescription?.(type)}\n` });
  }

  #createStore(task: Task, type: MdevType, text: string): number {
    if (text.length < 36 || text.length > 37)
      return task.fail(EINVAL, 'a uuid is 36 characters and at most a new line');
    if (!UUID.test(text.slice(0, 36))) return task.fail(EINVAL, `"${text.slice(0, 36)}" is not a uuid`);
    const mdev = this.create(type, text.slice(0, 36));
    return typeof mdev === 'number' ? task.fail(-mdev, `${type.path}: no further instance`) : text.length;
  }

  #add(mdev: Mdev): number {
    const { parent } = mdev.type;
    const { sysfs } = this.#vfio;
    if (parent.unregistering) return -ENODEV;
    if (sysfs.mkdir(mdev.path) < 0) return -EEXIST;
    const result = parent.driver.probe(mdev);
    if (result < 0) {
      sysfs.remove(mdev.path);
      return result;
    }
    sysfs.attribute(`${mdev.path}/remove`, {
      store: (task, text) => {
        const value = parseNumber(text);
        if (value === null) return task.fail(EINVAL, `"${text}" is not a number`);
        if (value === 0n) return text.length;
        const removed = this.removeDevice(mdev);
        return removed < 0 ? task.fail(-removed, 'the device is being made or removed') : text.length;
      },
    });
    for (const [name, attribute] of Object.entries(parent.driver.attributes?.(mdev) ?? {}))
      sysfs.attribute(`${mdev.path}/${name}`, attribute);
    sysfs.link(`${mdev.type.path}/devices/${mdev.name}`, mdev.path);
    sysfs.link(`${mdev.path}/mdev_type`, mdev.type.path);
    sysfs.link(`/sys/bus/mdev/devices/${mdev.name}`, mdev.path);
    return 0;
  }

  /** Links and directory go at once; the instance slot and the uuid when nobody holds the device open any more. */
  #remove(mdev: Mdev): void {
    const { sysfs } = this.#vfio;
    mdev.active = false;
    sysfs.remove(`${mdev.type.path}/devices/${mdev.name}`);
    sysfs.remove(`/sys/bus/mdev/devices/${mdev.name}`);
    sysfs.remove(mdev.path);
    const released = () => {
      mdev.type.parent.driver.remove?.(mdev);
      this.#release(mdev);
    };
    if (mdev.device === null) released();
    else this.#vfio.unregisterDevice(mdev.device, released);
  }

  #release(mdev: Mdev): void {
    this.devices.delete(mdev.name);
    if (mdev.type.parent.driver.getAvailable === undefined) mdev.type.parent.availableInstances++;
  }
}
