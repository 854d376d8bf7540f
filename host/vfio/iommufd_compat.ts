// Container calls on an iommufd: what lets a program that knows only containers work with one. They act on the address space that the first
// group brought, or that VFIO_IOAS set. Source: spec vfio-core section 10, vectors/abi cdev-compat.
import { EINVAL, ENODEV, ENOENT, ENOTTY, EOPNOTSUPP } from '../../assembly/abi.ts';
import type { InfoCap } from '../uapi/caps.ts';
import * as uapi from '../uapi/constants.ts';
import * as ioctl from '../uapi/ioctl.ts';
import { replyInfo } from './info.ts';
import type { Ioas } from './ioas.ts';
import type { IommufdFile } from './iommufd.ts';
import type { Task } from './task.ts';
import { numberArg, type UserArg, viewOf } from './user.ts';

const MAX_AREAS = 65535;
const MAP_SIZE = 32;
const UNMAP_SIZE = 24;
const INFO_MINSZ = 16;
const INFO_SIZE = 24;

export function compatIoctl(file: IommufdFile, task: Task, request: number, arg: UserArg): number {
  switch (request) {
    case ioctl.VFIO_GET_API_VERSION:
      return uapi.VFIO_API_VERSION;
    case ioctl.VFIO_CHECK_EXTENSION:
      return checkExtension(file, task, numberArg(arg));
    case ioctl.VFIO_SET_IOMMU:
      return setIommu(file, task, numberArg(arg));
    case ioctl.VFIO_IOMMU_GET_INFO:
      return getInfo(file, task, arg);
    case ioctl.VFIO_IOMMU_MAP_DMA:
      return mapDma(file, task, arg);
    case ioctl.VFIO_IOMMU_UNMAP_DMA:
      return unmapDma(file, task, arg);
    default:
      return task.fail(ENOTTY, 'an iommufd knows no such request');
  }
}

/** The address space of the container calls, or -ENODEV. */
function compatSpace(file: IommufdFile, task: Task): Ioas | number {
  const object = file.compatIoas === null ? undefined : file.ioas(task, file.compatIoas);
  if (object === undefined || typeof object === 'number')
    return task.fail(ENODEV, 'no group gave the iommufd an address space');
  return object.ioas;
}

function checkExtension(file: IommufdFile, task: Task, extension: number): number {
  switch (extension) {
    case uapi.VFIO_DMA_CC_IOMMU: {
      const ioas = compatSpace(file, task);
      return typeof ioas === 'number' ? ioas : Number(ioas.coherent);
    }
    case uapi.VFIO_TYPE1_IOMMU:
    case uapi.VFIO_TYPE1v2_IOMMU:
    case uapi.VFIO_NOIOMMU_IOMMU:
    case uapi.VFIO_UNMAP_ALL:
      return 1;
    default:
      return 0;
  }
}

function setIommu(file: IommufdFile, task: Task, type: number): number {
  if (type !== uapi.VFIO_TYPE1_IOMMU && type !== uapi.VFIO_TYPE1v2_IOMMU)
    return task.fail(EINVAL, `${type} is not type1`);
  const ioas = compatSpace(file, task);
  return typeof ioas === 'number' ? ioas : 0;
}

function getInfo(file: IommufdFile, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, INFO_MINSZ);
  if (typeof bytes === 'number') return bytes;
  const ioas = compatSpace(file, task);
  if (typeof ioas === 'number') return ioas;
  const argsz = viewOf(bytes).getUint32(0, true);
  const out = new Uint8Array(INFO_SIZE);
  const view = viewOf(out);
  view.setUint32(0, argsz, true);
  view.setUint32(4, uapi.VFIO_IOMMU_INFO_PGSIZES, true);
  view.setBigUint64(8, ioas.pageSizes, true);
  const avail = new Uint8Array(4);
  viewOf(avail).setUint32(0, MAX_AREAS, true);
  const { usable } = ioas.space;
  const ranges = new Uint8Array(8 + 16 * usable.length);
  viewOf(ranges).setUint32(0, usable.length, true);
  usable.forEach((range, index) => {
    viewOf(ranges).setBigUint64(8 + 16 * index, range.start, true);
    viewOf(ranges).setBigUint64(16 + 16 * index, range.last, true);
  });
  const caps: InfoCap[] = [
    { id: uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, version: 1, data: avail },
    { id: uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, version: 1, data: ranges },
  ];
  return replyInfo(task, arg, out, {
    length: Math.min(argsz, INFO_SIZE),
    capsFlag: uapi.VFIO_IOMMU_INFO_CAPS,
    capOffsetAt: 16,
    caps,
  });
}

function mapDma(file: IommufdFile, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, MAP_SIZE);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  const prot = view.getUint32(4, true);
  if ((prot & ~(uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE)) !== 0)
    return task.fail(EINVAL, `flags 0x${prot.toString(16)}: only READ and WRITE are known`);
  const ioas = compatSpace(file, task);
  if (typeof ioas === 'number') return ioas;
  if (prot === 0) return task.fail(EINVAL, 'neither READ nor WRITE');
  const at = ioas.map(task, view.getBigUint64(16, true), view.getBigUint64(8, true), view.getBigUint64(24, true), prot);
  return at < 0n ? Number(at) : 0;
}

function unmapDma(file: IommufdFile, task: Task, arg: UserArg): number {
  const bytes = task.copyArgsz(arg, UNMAP_SIZE);
  if (typeof bytes === 'number') return bytes;
  const view = viewOf(bytes);
  const flags = view.getUint32(4, true);
  if ((flags & uapi.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0)
    return task.fail(EOPNOTSUPP, 'an iommufd keeps no dirty bitmaps for container calls');
  if ((flags & ~uapi.VFIO_DMA_UNMAP_FLAG_ALL) !== 0) return task.fail(EINVAL, `unknown flags 0x${flags.toString(16)}`);
  const ioas = compatSpace(file, task);
  if (typeof ioas === 'number') return ioas;
  const iova = view.getBigUint64(8, true);
  const size = view.getBigUint64(16, true);
  const all = (flags & uapi.VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  if (all && (iova !== 0n || size !== 0n)) return task.fail(EINVAL, 'ALL goes with iova 0 and size 0');
  const unmapped = all ? ioas.unmapEverything() : ioas.unmap(iova, size);
  // A container call that finds nothing succeeds with size 0; all else is refused as IOAS_UNMAP refuses it.
  const nothing = unmapped === BigInt(-ENOENT) && ioas.space.first(iova, iova + size - 1n) === undefined;
  if (unmapped < 0n && !nothing)
    return task.fail(
      Number(-unmapped),
      'the range cuts a mapped area (ENOENT), is empty (EINVAL) or wraps (EOVERFLOW)',
    );
  view.setBigUint64(16, nothing ? 0n : unmapped, true);
  return task.copyOut(arg, 0, bytes);
}
