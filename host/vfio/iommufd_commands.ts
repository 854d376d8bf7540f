// The ioctls of an iommufd on its objects: each checks its copy of the argument, asks the file or the address space, and copies the answer out.
// Source: spec vfio-core section 10, vectors/abi cdev-*; the kernel's documentation of iommufd.
import {
  E2BIG,
  EADDRINUSE,
  EFAULT,
  EINVAL,
  EMSGSIZE,
  ENODEV,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  PAGE_SIZE_4K,
} from '../../assembly/abi.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMU_VFIO_IOAS_GET,
  IOMMU_VFIO_IOAS_SET,
} from '../uapi/constants.ts';
import * as ioctl from '../uapi/ioctl.ts';
import type { IommufdFile } from './iommufd.ts';
import type { Range } from './iova_space.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

/** One ioctl: bytes that every caller must bring, bytes that we know, what it does with the copy. */
export interface Command {
  readonly minsz: number;
  readonly size: number;
  run(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number;
}

const U64_MAX = (1n << 64n) - 1n;
const MAP_FLAGS = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;
const MAX_RANGES = 1 << 16;

/** Device's view of the permissions: WRITEABLE is bit 1 there, READABLE bit 2. */
const protOf = (flags: number): number =>
  ((flags & IOMMU_IOAS_MAP_READABLE) !== 0 ? 1 : 0) | ((flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0 ? 2 : 0);

/** Bytes behind what we know must be zero: a newer caller asks for nothing that we would miss. */
export function checkZero(task: Task, arg: UserArg, from: number, to: number): number {
  if (to > PAGE_SIZE_4K) return task.fail(E2BIG, `size ${to} is more than a page`);
  const rest = arg.copyIn(from, to - from);
  if (rest === null) return task.fail(EFAULT, 'the argument is not readable');
  return rest.every((byte) => byte === 0) ? 0 : task.fail(E2BIG, 'there is something behind the known structure');
}

/** Copies the answer out, cut to what the caller brought. */
function reply(task: Task, view: DataView, arg: UserArg): number {
  const bytes = new Uint8Array(view.buffer, 0, Math.min(view.byteLength, view.getUint32(0, true)));
  return task.copyOut(arg, 0, bytes);
}

function readRanges(task: Task, address: bigint, count: number): Range[] | number {
  const bytes = task.pointer(address).copyIn(0, count * 16);
  if (bytes === null) return task.fail(EFAULT, 'the ranges are not readable');
  const view = viewOf(bytes);
  return Array.from({ length: count }, (_, i) => ({
    start: view.getBigUint64(16 * i, true),
    last: view.getBigUint64(16 * i + 8, true),
  }));
}

export const COMMANDS: ReadonlyMap<number, Command> = new Map<number, Command>([
  [ioctl.IOMMU_DESTROY, { minsz: 8, size: 8, run: (file, task, view) => file.destroy(task, view.getUint32(4, true)) }],
  [
    ioctl.IOMMU_IOAS_ALLOC,
    {
      minsz: 12,
      size: 12,
      run(file, task, view, arg) {
        if (view.getUint32(4, true) !== 0) return task.fail(EOPNOTSUPP, 'no flags are known');
        const id = file.createIoas(task);
        if (id < 0) return id;
        view.setUint32(8, id, true);
        const result = reply(task, view, arg);
        if (result < 0) file.destroy(task, id);
        return result;
      },
    },
  ],
  [ioctl.IOMMU_IOAS_ALLOW_IOVAS, { minsz: 24, size: 24, run: allowIovas }],
  [ioctl.IOMMU_IOAS_COPY, { minsz: 40, size: 40, run: copy }],
  [ioctl.IOMMU_IOAS_IOVA_RANGES, { minsz: 32, size: 32, run: iovaRanges }],
  [ioctl.IOMMU_IOAS_MAP, { minsz: 40, size: 40, run: map }],
  [ioctl.IOMMU_IOAS_UNMAP, { minsz: 24, size: 24, run: unmap }],
  [ioctl.IOMMU_OPTION, { minsz: 24, size: 24, run: option }],
  [ioctl.IOMMU_VFIO_IOAS, { minsz: 12, size: 12, run: vfioIoas }],
]);

/** IOAS_MAP: size@0 flags@4 ioas_id@8 reserved@12 user_va@16 length@24 iova@32. */
function map(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  const flags = view.getUint32(4, true);
  const [userVa, length, iova] = [16, 24, 32].map((at) => view.getBigUint64(at, true)) as [bigint, bigint, bigint];
  if ((flags & ~MAP_FLAGS) !== 0 || view.getUint32(12, true) !== 0)
    return task.fail(EOPNOTSUPP, 'unknown flags, or the reserved field is not 0');
  if (iova === U64_MAX || length === U64_MAX) return task.fail(EOVERFLOW, 'an address or length of 2^64 - 1');
  if (protOf(flags) === 0) return task.fail(EINVAL, 'neither READABLE nor WRITEABLE');
  const space = file.ioas(task, view.getUint32(8, true));
  if (typeof space === 'number') return space;
  const fixed = (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0 ? iova : null;
  const at = space.ioas.map(task, fixed, userVa, length, protOf(flags));
  if (at < 0n) return Number(at);
  view.setBigUint64(32, at, true);
  const result = reply(task, view, arg);
  if (result < 0) space.ioas.unmap(at, length);
  return result;
}

/** IOAS_UNMAP: size@0 ioas_id@4 iova@8 length@16. */
function unmap(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  const space = file.ioas(task, view.getUint32(4, true));
  if (typeof space === 'number') return space;
  const iova = view.getBigUint64(8, true);
  const length = view.getBigUint64(16, true);
  const all = iova === 0n && length === U64_MAX;
  if (!all && (iova === U64_MAX || length === U64_MAX)) return task.fail(EOVERFLOW, 'an address or length of 2^64 - 1');
  const unmapped = all ? space.ioas.unmapEverything() : space.ioas.unmap(iova, length);
  if (unmapped < 0n) return task.fail(Number(-unmapped), 'the range is not a whole number of mapped areas');
  view.setBigUint64(16, unmapped, true);
  return reply(task, view, arg);
}

/** IOAS_COPY: size@0 flags@4 dst_ioas_id@8 src_ioas_id@12 length@16 dst_iova@24 src_iova@32. */
function copy(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  const flags = view.getUint32(4, true);
  const [length, dstIova, srcIova] = [16, 24, 32].map((at) => view.getBigUint64(at, true)) as [bigint, bigint, bigint];
  if ((flags & ~MAP_FLAGS) !== 0) return task.fail(EOPNOTSUPP, 'unknown flags');
  if (length === U64_MAX || dstIova === U64_MAX) return task.fail(EOVERFLOW, 'an address or length of 2^64 - 1');
  if (protOf(flags) === 0) return task.fail(EINVAL, 'neither READABLE nor WRITEABLE');
  const source = file.ioas(task, view.getUint32(12, true));
  if (typeof source === 'number') return source;
  const target = file.ioas(task, view.getUint32(8, true));
  if (typeof target === 'number') return target;
  const fixed = (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0 ? dstIova : null;
  const at = target.ioas.copyFrom(source.ioas, task, fixed, srcIova, length, protOf(flags));
  if (at < 0n) return Number(at);
  view.setBigUint64(24, at, true);
  const result = reply(task, view, arg);
  if (result < 0) target.ioas.unmap(at, length);
  return result;
}

/** IOAS_IOVA_RANGES: size@0 ioas_id@4 num_iovas@8 reserved@12 allowed_iovas@16 out_iova_alignment@24. */
function iovaRanges(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  if (view.getUint32(12, true) !== 0) return task.fail(EOPNOTSUPP, 'the reserved field is not 0');
  const space = file.ioas(task, view.getUint32(4, true));
  if (typeof space === 'number') return space;
  const room = view.getUint32(8, true);
  const { usable } = space.ioas.space;
  const out = new Uint8Array(16 * Math.min(room, usable.length));
  usable.slice(0, room).forEach((range, index) => {
    viewOf(out).setBigUint64(16 * index, range.start, true);
    viewOf(out).setBigUint64(16 * index + 8, range.last, true);
  });
  if (out.length > 0 && !task.pointer(view.getBigUint64(16, true)).copyOut(0, out))
    return task.fail(EFAULT, 'the ranges are not writable');
  view.setUint32(8, usable.length, true);
  view.setBigUint64(24, BigInt(PAGE_SIZE_4K), true);
  const result = reply(task, view, arg);
  if (result < 0) return result;
  return usable.length > room ? task.fail(EMSGSIZE, `there are ${usable.length} ranges`) : 0;
}

/** IOAS_ALLOW_IOVAS: size@0 ioas_id@4 num_iovas@8 reserved@12 allowed_iovas@16. */
function allowIovas(file: IommufdFile, task: Task, view: DataView): number {
  if (view.getUint32(12, true) !== 0) return task.fail(EOPNOTSUPP, 'the reserved field is not 0');
  const space = file.ioas(task, view.getUint32(4, true));
  if (typeof space === 'number') return space;
  const count = view.getUint32(8, true);
  if (count > MAX_RANGES) return task.fail(E2BIG, `${count} ranges`);
  const ranges = readRanges(task, view.getBigUint64(16, true), count);
  if (typeof ranges === 'number') return ranges;
  const result = space.ioas.space.allow(ranges);
  return result === -EADDRINUSE
    ? task.fail(EADDRINUSE, 'a range holds addresses that the hardware cannot translate')
    : result < 0
      ? task.fail(EINVAL, 'the ranges overlap, or one is empty')
      : 0;
}

/** OPTION: size@0 option_id@4 op@8 reserved@10 object_id@12 val64@16. */
function option(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  if (view.getUint16(10, true) !== 0) return task.fail(EOPNOTSUPP, 'the reserved field is not 0');
  const op = view.getUint16(8, true);
  if (op !== IOMMU_OPTION_OP_SET && op !== IOMMU_OPTION_OP_GET) return task.fail(EOPNOTSUPP, `unknown op ${op}`);
  const id = view.getUint32(4, true);
  let result: number;
  if (id === IOMMU_OPTION_RLIMIT_MODE) {
    if (op === IOMMU_OPTION_OP_SET && !task.lockCap) return task.fail(EPERM, 'changing limits is a privilege');
    result = file.rlimitMode(task, op, view);
  } else if (id === IOMMU_OPTION_HUGE_PAGES) {
    const space = file.ioas(task, view.getUint32(12, true));
    if (typeof space === 'number') return space;
    const value = view.getBigUint64(16, true);
    if (op === IOMMU_OPTION_OP_SET && value > 1n) return task.fail(EINVAL, `${value} is neither 0 nor 1`);
    if (op === IOMMU_OPTION_OP_SET) space.ioas.hugePages = value === 1n;
    view.setBigUint64(16, space.ioas.hugePages ? 1n : 0n, true);
    result = op === IOMMU_OPTION_OP_GET ? 1 : 0;
  } else return task.fail(EOPNOTSUPP, `unknown option ${id}`);
  return result === 1 ? reply(task, view, arg) : result;
}

/** VFIO_IOAS: size@0 ioas_id@4 op@8 reserved@10. */
function vfioIoas(file: IommufdFile, task: Task, view: DataView, arg: UserArg): number {
  if (view.getUint16(10, true) !== 0) return task.fail(EOPNOTSUPP, 'the reserved field is not 0');
  switch (view.getUint16(8, true)) {
    case IOMMU_VFIO_IOAS_GET:
      if (file.compatIoas === null) return task.fail(ENODEV, 'there is no address space for container calls');
      view.setUint32(4, file.compatIoas, true);
      return reply(task, view, arg);
    case IOMMU_VFIO_IOAS_SET: {
      const id = view.getUint32(4, true);
      const space = file.ioas(task, id);
      if (typeof space === 'number') return space;
      file.compatIoas = id;
      return 0;
    }
    case IOMMU_VFIO_IOAS_CLEAR:
      file.compatIoas = null;
      return 0;
    default:
      return task.fail(EOPNOTSUPP, 'unknown op');
  }
}
