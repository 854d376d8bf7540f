// A container: groups that share one set of mappings. Kernel counterpart: drivers/vfio/container.c. Order of checks: spec vfio-core section 3.
import { EINVAL, ENODEV, EPERM } from '../../assembly/abi.ts';
import { VFIO_API_VERSION } from '../uapi/constants.ts';
import { VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_SET_IOMMU } from '../uapi/ioctl.ts';
import { VfioFile } from './file.ts';
import type { Group } from './group.ts';
import type { IommuDriverOps, IommuInstance } from './ops.ts';
import type { Task } from './task.ts';
import { numberArg, type UserArg } from './user.ts';

export class ContainerFile extends VfioFile {
  readonly kind = 'container';
  readonly groups: Group[] = [];
  iommu: IommuInstance | null = null;
  readonly #drivers: readonly IommuDriverOps[];

  constructor(drivers: readonly IommuDriverOps[]) {
    super();
    this.#drivers = drivers;
  }

  override ioctl(task: Task, request: number, arg: UserArg): number {
    switch (request) {
      case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
      case VFIO_CHECK_EXTENSION:
        return this.#checkExtension(numberArg(arg));
      case VFIO_SET_IOMMU:
        return this.#setIommu(task, numberArg(arg));
      default:
        if (this.iommu === null) return task.fail(EINVAL, 'the container has no IOMMU yet');
        return this.iommu.ioctl(task, request, arg);
    }
  }

  /** SET_CONTAINER's side of the container. @returns 0 or -errno; on failure nothing changed. */
  attachGroup(group: Group, task: Task): number {
    if (group.type === 'noiommu' && !task.rawIo) return task.fail(EPERM, 'a no-iommu group needs raw I/O privilege');
    const other = this.groups[0];
    if (other !== undefined && (other.type === 'noiommu') !== (group.type === 'noiommu'))
      return task.fail(EPERM, 'the container holds groups of the other kind (with and without an IOMMU)');
    const claimed = group.claimDma(group);
    if (claimed < 0) return task.fail(-claimed, 'a host driver or another user owns DMA of the group');
    const result = this.iommu?.attachGroup(group, task) ?? 0;
    if (result < 0) {
      group.releaseDma(group);
      return result;
    }
    this.groups.push(group);
    return 0;
  }

  detachGroup(group: Group): void {
    this.iommu?.detachGroup(group);
    group.releaseDma(group);
    this.groups.splice(this.groups.indexOf(group), 1);
    if (this.groups.length === 0) {
      this.iommu?.release();
      this.iommu = null;
    }
    this.put();
  }

  #allowed(driver: IommuDriverOps): boolean {
    return this.groups.length === 0 || driver.noIommu === (this.groups[0]?.type === 'noiommu');
  }

  #checkExtension(extension: number): number {
    if (this.iommu !== null) return this.iommu.checkExtension(extension);
    for (const driver of this.#drivers) {
      const answer = this.#allowed(driver) ? driver.checkExtension(extension) : 0;
      if (answer > 0) return answer;
    }
    return 0;
  }

  #setIommu(task: Task, extension: number): number {
    if (this.groups.length === 0) return task.fail(EINVAL, 'the container has no group yet');
    if (this.iommu !== null) return task.fail(EINVAL, 'the container has an IOMMU already');
    let result = task.fail(ENODEV, `no IOMMU driver knows extension ${extension}`);
    for (const driver of this.#drivers) {
      if (!this.#allowed(driver) || driver.checkExtension(extension) <= 0) continue;
      const instance = driver.open(task, extension);
      if (typeof instance === 'number') {
        result = instance;
        continue;
      }
      result = this.#attachAll(instance, task);
      if (result === 0) {
        this.iommu = instance;
        return 0;
      }
      instance.release();
    }
    return result;
  }

  #attachAll(instance: IommuInstance, task: Task): number {
    const attached: Group[] = [];
    for (const group of this.groups) {
      const result = instance.attachGroup(group, task);
      if (result < 0) {
        for (const done of attached.reverse()) instance.detachGroup(done);
        return result;
      }
      attached.push(group);
    }
    return 0;
  }
}
