// An iommufd: numbered objects (address spaces, hardware page tables, bound devices) and the ioctls on them. It stands in for a container too
// (iommufd_compat.ts). Source: spec vfio-core section 10; the kernel's documentation of iommufd.
import { EBUSY, EFAULT, EINVAL, ENOENT, ENOTTY, EOPNOTSUPP } from '../../assembly/abi.ts';
import { IOMMU_OPTION_OP_GET } from '../uapi/constants.ts';
import type { VfioDevice } from './device.ts';
import { VfioFile } from './file.ts';
import type { Group } from './group.ts';
import { Ioas } from './ioas.ts';
import { COMMANDS, checkZero } from './iommufd_commands.ts';
import { compatIoctl } from './iommufd_compat.ts';
import type { HwIommu } from './ops.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';
import type { Vfio } from './vfio.ts';

/** What an id stands for. `users`: attached devices of an address space or of a page table. */
type IommufdObject =
  | { readonly kind: 'ioas'; readonly ioas: Ioas; users: number }
  | { readonly kind: 'hwpt'; readonly ioas: number; readonly unit: HwIommu; users: number }
  | { readonly kind: 'device'; readonly device: VfioDevice; attached: number };

type IoasObject = IommufdObject & { kind: 'ioas' };
type DeviceObject = IommufdObject & { kind: 'device' };

const FIRST_COMMAND = 0x80;
/** The last number that Linux gives to a call on an iommufd (IOMMU_HW_QUEUE_ALLOC). */
const LAST_COMMAND = 0x94;

export class IommufdFile extends VfioFile {
  readonly kind = 'iommufd';
  readonly vfio: Vfio;
  readonly #objects = new Map<number, IommufdObject>();
  /** The address space that container calls work on; null: none. */
  compatIoas: number | null = null;
  /** Locked pages are counted per process (1) or per user (0). */
  #rlimitMode = 0n;

  constructor(vfio: Vfio) {
    super();
    this.vfio = vfio;
  }

  override ioctl(task: Task, request: number, arg: UserArg): number {
    const number = request & 0xff;
    if (number < FIRST_COMMAND) return compatIoctl(this, task, request, arg);
    if (number > LAST_COMMAND) return task.fail(ENOTTY, 'an iommufd knows no such request');
    // The size is read before the rest of the request is looked at.
    const head = arg.copyIn(0, 4);
    if (head === null) return task.fail(EFAULT, 'the argument is not readable');
    const command = COMMANDS.get(request);
    if (command === undefined) return task.fail(ENOTTY, 'an iommufd knows no such request');
    const given = viewOf(head).getUint32(0, true);
    if (given < command.minsz) return task.fail(EINVAL, `size ${given} is smaller than ${command.minsz}`);
    const bytes = new Uint8Array(command.size);
    const known = arg.copyIn(0, Math.min(given, command.size));
    if (known === null) return task.fail(EFAULT, 'the argument is not readable');
    bytes.set(known);
    const refused = given > command.size ? checkZero(task, arg, command.size, given) : 0;
    return refused < 0 ? refused : command.run(this, task, viewOf(bytes), arg);
  }

  /** The address space with this id, or -ENOENT. */
  ioas(task: Task, id: number): IoasObject | number {
    const object = this.#objects.get(id);
    return object?.kind === 'ioas' ? object : task.fail(ENOENT, `there is no address space ${id}`);
  }

  /** Makes an address space. @returns its id or -ENOMEM. */
  createIoas(task: Task): number {
    const ioas = Ioas.create(this.vfio.core, task);
    return typeof ioas === 'number' ? ioas : this.#add({ kind: 'ioas', ioas, users: 0 });
  }

  /** Makes a device known to this iommufd. @returns its id, or -EPERM: DMA of its group has another owner. */
  bind(device: VfioDevice, task: Task): number {
    const claimed = device.group.claimDma(this);
    if (claimed < 0) return task.fail(-claimed, `DMA of group ${device.group.name} has another owner`);
    device.iommufd = this.get();
    device.devid = this.#add({ kind: 'device', device, attached: 0 });
    return device.devid;
  }

  /** The reverse of bind; detaches first. */
  unbind(device: VfioDevice): void {
    this.detach(device);
    this.#objects.delete(device.devid);
    device.group.releaseDma(this);
    device.iommufd = null;
    device.devid = 0;
    this.put();
  }

  /**
   * Gives a bound device the address space (or page table) `id`; an earlier one is left once the new one is in place. Functions of one group
   * cannot be told apart by their unit: what one of them is attached to, the others share, and a change moves them all.
   * @returns the id of what it is attached to; -ENOENT no such object; -EINVAL not one to attach to, or another function of the group is
   * attached elsewhere; the address space's errno.
   */
  attach(device: VfioDevice, id: number, task: Task): number {
    const target = this.#objects.get(id);
    const self = this.#objects.get(device.devid);
    if (target === undefined || self?.kind !== 'device') return task.fail(ENOENT, `there is no object ${id}`);
    const unit = device.group.type === 'iommu' ? device.group.hw : null;
    if (target.kind === 'device' || (target.kind === 'hwpt' && target.unit !== unit))
      return task.fail(unit === null ? ENOENT : EINVAL, `object ${id} is not an address space for this device`);
    const ioasId = target.kind === 'hwpt' ? target.ioas : id;
    const { ioas } = this.#objects.get(ioasId) as IoasObject;
    if (device.dma === ioas) return self.attached;
    const others = unit === null ? [] : this.#attachedOf(device.group).filter((other) => other !== self);
    if (self.attached === 0 && others.some((other) => other.device.dma !== ioas))
      return task.fail(EINVAL, `another function of group ${device.group.name} is attached elsewhere`);
    const attached = ioas.attach(unit, task);
    if (attached < 0) return attached;
    const moving = self.attached === 0 ? [] : others;
    this.#move(self, ioasId, unit);
    for (const other of moving) {
      ioas.attach(unit, task);
      this.#move(other, ioasId, unit);
    }
    return self.attached;
  }

  /** Takes a device out of its address space; nothing happens when it is in none. */
  detach(device: VfioDevice): void {
    const self = this.#objects.get(device.devid);
    if (self?.kind !== 'device' || self.attached === 0) return;
    const target = this.#objects.get(self.attached);
    const space = target?.kind === 'hwpt' ? this.#objects.get(target.ioas) : target;
    device.setDma(null);
    if (target?.kind === 'hwpt' && --target.users === 0) this.#objects.delete(self.attached);
    if (space?.kind === 'ioas') {
      space.users--;
      space.ioas.detach(device.group.type === 'iommu' ? device.group.hw : null);
    }
    self.attached = 0;
  }

  destroy(task: Task, id: number): number {
    const object = this.#objects.get(id);
    if (object === undefined) return task.fail(ENOENT, `there is no object ${id}`);
    if (object.kind === 'device') return task.fail(EBUSY, `object ${id} is a bound device`);
    if (object.users > 0) return task.fail(EBUSY, `object ${id} is in use`);
    if (object.kind === 'ioas') object.ioas.release();
    this.#objects.delete(id);
    if (this.compatIoas === id) this.compatIoas = null;
    return 0;
  }

  /** The rlimit-mode option: set only while there is no object. */
  rlimitMode(task: Task, op: number, view: DataView): number {
    if (view.getUint32(12, true) !== 0) return task.fail(EOPNOTSUPP, 'the option belongs to no object');
    if (op === IOMMU_OPTION_OP_GET) {
      view.setBigUint64(16, this.#rlimitMode, true);
      return 1;
    }
    const value = view.getBigUint64(16, true);
    if (this.#objects.size > 0) return task.fail(EBUSY, 'there are objects already');
    if (value > 1n) return task.fail(EINVAL, `${value} is neither 0 nor 1`);
    this.#rlimitMode = value;
    return 0;
  }

  protected override release(): void {
    for (const object of this.#objects.values()) if (object.kind === 'ioas') object.ioas.release();
    this.#objects.clear();
  }

  #attachedOf(group: Group): DeviceObject[] {
    return [...this.#objects.values()].filter(
      (object): object is DeviceObject =>
        object.kind === 'device' && object.attached !== 0 && object.device.group === group,
    );
  }

  /** Puts a device behind an address space that has taken it already. */
  #move(object: DeviceObject, ioasId: number, unit: HwIommu | null): void {
    const space = this.#objects.get(ioasId) as IoasObject;
    this.detach(object.device);
    object.device.setDma(space.ioas);
    space.users++;
    object.attached = unit === null ? ioasId : this.#pageTable(ioasId, unit);
  }

  #pageTable(ioas: number, unit: HwIommu): number {
    for (const [id, object] of this.#objects)
      if (object.kind === 'hwpt' && object.ioas === ioas && object.unit === unit) {
        object.users++;
        return id;
      }
    return this.#add({ kind: 'hwpt', ioas, unit, users: 1 });
  }

  /** Ids begin at 1; the lowest free one is next. */
  #add(object: IommufdObject): number {
    let id = 1;
    while (this.#objects.has(id)) id++;
    this.#objects.set(id, object);
    return id;
  }
}
