// Reads, writes and mappings of a device's regions. An access of a BAR becomes hardware accesses of the widths that alignment and length
// allow, bytes in device order. Kernel counterpart: vfio_pci_rdwr.c. Source: spec pci sections 2 (mmap) and 4.
import { EFAULT, EINVAL, EIO, PAGE_SIZE_4K } from '../../../assembly/abi.ts';
import type { Width } from '../../devices/pci_device.ts';
import { romSize } from '../../devices/pci_device.ts';
import {
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
} from '../../uapi/constants.ts';
import type { MmapRequest } from '../../vfio/file.ts';
import type { IoMapping, Mapping } from '../../vfio/mm.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserBuffer } from '../../vfio/user.ts';
import { readConfig, writeConfig } from './config.ts';
import { VFIO_PCI_OFFSET_SHIFT, type VfioPciDevice } from './device.ts';

const POS_MASK = (1n << VFIO_PCI_OFFSET_SHIFT) - 1n;
const PAGE = BigInt(PAGE_SIZE_4K);

/** pread. @returns bytes, perhaps fewer than asked, or -errno: EINVAL no such region or beyond its end; EFAULT; EIO memory disabled. */
export function readRegion(device: VfioPciDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  device.wake();
  return region(device, task, buffer, offset, false);
}

/** pwrite; as readRegion, and EINVAL for the ROM. */
export function writeRegion(device: VfioPciDevice, task: Task, buffer: UserBuffer, offset: bigint): number {
  device.wake();
  return region(device, task, buffer, offset, true);
}

function region(device: VfioPciDevice, task: Task, buffer: UserBuffer, offset: bigint, write: boolean): number {
  if (buffer.length === 0) return 0;
  const index = offset < 0n ? VFIO_PCI_NUM_REGIONS + device.regions.length : Number(offset >> VFIO_PCI_OFFSET_SHIFT);
  const pos = offset & POS_MASK;
  if (index === VFIO_PCI_CONFIG_REGION_INDEX)
    return write ? writeConfig(device, task, buffer, pos) : readConfig(device, task, buffer, pos);
  if (index === VFIO_PCI_ROM_REGION_INDEX)
    return write ? task.fail(EINVAL, 'the ROM is read-only') : readRom(device, task, buffer, pos);
  if (index === VFIO_PCI_VGA_REGION_INDEX) return accessVga(device, task, buffer, pos, write);
  if (index < VFIO_PCI_ROM_REGION_INDEX) return accessBar(device, task, buffer, index, pos, write);
  const added = device.regions[index - VFIO_PCI_NUM_REGIONS];
  const call = write ? added?.write : added?.read;
  return call?.(device, task, buffer, pos) ?? task.fail(EINVAL, `region ${index} does not exist or cannot do that`);
}

function accessBar(
  device: VfioPciDevice,
  task: Task,
  buffer: UserBuffer,
  index: number,
  pos: bigint,
  write: boolean,
): number {
  const { hw } = device;
  const bar = hw.bars[index] ?? null;
  if (bar === null || pos >= BigInt(bar.size)) return task.fail(EINVAL, `BAR ${index} has ${bar?.size ?? 0} bytes`);
  const start = Number(pos);
  const count = Math.min(buffer.length, bar.size - start);
  if (!write && bar.memory !== null && device.msixBar !== index && device.memoryEnabled) {
    const storage = hw.storage(index, start, count);
    if (storage !== null) return buffer.copyOut(0, storage) ? count : task.fail(EFAULT, 'the buffer is not writable');
  }
  const bytes = write ? buffer.copyIn(0, count) : new Uint8Array(count);
  if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
  const table = device.msixBar === index;
  const hiddenFrom = table ? device.msixOffset : bar.size;
  const hiddenTo = table ? device.msixOffset + device.msixSize : bar.size;
  for (let done = 0; done < count; ) {
    const at = start + done;
    if (at >= hiddenFrom && at < hiddenTo) {
      const size = Math.min(count - done, hiddenTo - at);
      if (!write) bytes.fill(0xff, done, done + size);
      done += size;
      continue;
    }
    if (bar.kind !== 'io' && !device.memoryEnabled) return task.fail(EIO, 'memory space is disabled');
    const fillable = Math.min(count - done, (at < hiddenFrom ? hiddenFrom : bar.size) - at);
    const storage = bar.memory === null || fillable <= 8 ? null : hw.storage(index, at, fillable);
    if (storage !== null) {
      if (write) storage.set(bytes.subarray(done, done + storage.length));
      else bytes.set(storage, done);
      done += storage.length;
      continue;
    }
    const width = widest(at, fillable, 8);
    if (write) hw.store(index, at, width, bytes, done);
    else hw.load(index, at, width, bytes, done);
    done += width;
  }
  if (!write && !buffer.copyOut(0, bytes)) return task.fail(EFAULT, 'the buffer is not writable');
  return count;
}

/** The widest aligned access that fits. */
function widest(at: number, left: number, most: 4 | 8): Width | 8 {
  if (most === 8 && left >= 8 && at % 8 === 0) return 8;
  if (left >= 4 && at % 4 === 0) return 4;
  if (left >= 2 && at % 2 === 0) return 2;
  return 1;
}

/** Frame buffer and registers of a VGA, at their absolute addresses; an access is cut at the end of its range. */
const VGA_RANGES: ReadonlyArray<readonly [start: bigint, end: bigint]> = [
  [0xa0000n, 0xc0000n],
  [0x3b0n, 0x3bcn],
  [0x3c0n, 0x3e0n],
];

function accessVga(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint, write: boolean): number {
  const range = device.hw.vga ? VGA_RANGES.find(([start, end]) => pos >= start && pos < end) : undefined;
  if (range === undefined) return task.fail(EINVAL, 'not in a VGA range');
  const count = Math.min(buffer.length, Number(range[1] - pos));
  const bytes = write ? buffer.copyIn(0, count) : new Uint8Array(count);
  if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
  for (let done = 0; done < count; ) {
    const width = widest(Number(pos) + done, count - done, 4);
    if (write) device.hw.store(VFIO_PCI_VGA_REGION_INDEX, Number(pos) + done, width, bytes, done);
    else device.hw.load(VFIO_PCI_VGA_REGION_INDEX, Number(pos) + done, width, bytes, done);
    done += width;
  }
  if (!write && !buffer.copyOut(0, bytes)) return task.fail(EFAULT, 'the buffer is not writable');
  return count;
}

/** The image, then all ones to the end of the BAR. The user's ROM enable bit plays no part. */
function readRom(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint): number {
  const { rom } = device.hw;
  const size = rom === null ? 0 : romSize(rom);
  if (rom === null || pos >= BigInt(size)) return task.fail(EINVAL, `the ROM has ${size} bytes`);
  const start = Number(pos);
  const count = Math.min(buffer.length, size - start);
  if (start < rom.length && !device.memoryEnabled) return task.fail(EIO, 'memory space is disabled');
  const bytes = new Uint8Array(count).fill(0xff);
  bytes.set(rom.subarray(start, start + count));
  return buffer.copyOut(0, bytes) ? count : task.fail(EFAULT, 'the buffer is not writable');
}

/**
 * mmap. @returns the mapping, or -EINVAL: not page aligned, no such region, one that cannot be mapped, or beyond its page-aligned length.
 * An access through it is a bus error while memory is disabled or low power is engaged, and works again afterwards.
 */
export function mapRegion(device: VfioPciDevice, task: Task, request: MmapRequest): Mapping | number {
  const { offset, length } = request;
  const index = Number(offset >> VFIO_PCI_OFFSET_SHIFT);
  const pos = offset & POS_MASK;
  if (offset < 0n || pos % PAGE !== 0n) return task.fail(EINVAL, 'the offset is not page aligned');
  if (index >= VFIO_PCI_NUM_REGIONS) return mapAdded(device, task, index - VFIO_PCI_NUM_REGIONS, pos, length);
  const bar = index < VFIO_PCI_ROM_REGION_INDEX ? (device.hw.bars[index] ?? null) : null;
  if (bar === null || !device.barMmap[index]) return task.fail(EINVAL, `region ${index} cannot be mapped`);
  const size = (BigInt(bar.size) + PAGE - 1n) & ~(PAGE - 1n);
  if (pos + length > size) return task.fail(EINVAL, `BAR ${index} has ${bar.size} bytes`);
  return { kind: 'io', io: barMapping(device, index, Number(pos)) };
}

function mapAdded(device: VfioPciDevice, task: Task, index: number, pos: bigint, length: bigint): Mapping | number {
  const added = device.regions[index];
  if (added?.mmap === undefined || (added.flags & VFIO_REGION_INFO_FLAG_MMAP) === 0)
    return task.fail(EINVAL, 'the region does not exist or cannot be mapped');
  const areas = added.sparse ?? [{ offset: 0n, size: (added.size + PAGE - 1n) & ~(PAGE - 1n) }];
  if (!areas.some((area) => pos >= area.offset && pos + length <= area.offset + area.size))
    return task.fail(EINVAL, 'outside the areas that can be mapped');
  const io = added.mmap(device, task, pos, length);
  return typeof io === 'number' ? io : { kind: 'io', io };
}

/** A processor's own loads and stores: they reach the MSI-X table too, and are split where they cross their alignment. */
function barMapping(device: VfioPciDevice, index: number, base: number): IoMapping {
  const { hw } = device;
  const end = hw.bars[index]!.size;
  const each = (offset: number, bytes: Uint8Array, move: (at: number, width: Width | 8, from: number) => void) => {
    if (!device.mayAccessMemory) return false;
    for (let done = 0; done < bytes.length; ) {
      const at = base + offset + done;
      const width = widest(at, bytes.length - done, 8);
      if (at < end) move(at, width, done);
      done += width;
    }
    return true;
  };
  return {
    read: (offset, into) => {
      into.fill(0xff);
      return each(offset, into, (at, width, from) => hw.load(index, at, width, into, from));
    },
    write: (offset, from) => each(offset, from, (at, width, start) => hw.store(index, at, width, from, start)),
  };
}
