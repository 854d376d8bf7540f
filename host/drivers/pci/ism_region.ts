// The ISM I/O region: one write of its request area makes one instruction, PCILG or PCISTB, so that the function sees a store of up to 4096
// bytes as one operation - which BAR writes, cut at 8 bytes, cannot give. Proposed on the list and never merged; the rules that close its holes are
// the sheet's (spec zdev section 5.3). All integers little-endian here (the host's order).
//
//   offset size field              offset size field
//        0    8 flags, 0               16    8 request flags: READ 1, BLOCKW 2
//        8    2 longest block          24    8 address of the data in the caller's memory
//       10    6 reserved               32    8 offset in the PCI space
//                                      40    4 reserved   44 2 length   46 1 pcias   47 1 reserved
import { EFAULT, EINVAL, EIO } from '../../../assembly/abi.ts';
import type { Width } from '../../devices/pci_device.ts';
import type { ZpciDevice } from '../../devices/zpci_hardware.ts';
import { VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE } from '../../uapi/constants.ts';
import { VFIO_REGION_SUBTYPE_IBM_ISM_IO, VFIO_REGION_TYPE_IBM } from '../../uapi/zdev.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserBuffer } from '../../vfio/user.ts';
import type { PciDeviceRegion } from './device.ts';

const SIZE = 48;
const HEADER_SIZE = 16;
const REQUEST_SIZE = 32;
const FLAG_READ = 1n;
const FLAG_BLOCK_WRITE = 2n;
const CONFIG_SPACE = 15;
const LAST_BAR = 5;
const MAX_LOAD = 8;
const PAGE = 4096;

interface Request {
  readonly read: boolean;
  readonly address: bigint;
  readonly offset: bigint;
  readonly length: number;
  readonly pcias: number;
}

/** The region of a function. It exists only for function type 5 without MSI-X: a table written through it would bypass the one the driver keeps. */
export function ismRegion(hw: ZpciDevice): PciDeviceRegion {
  return {
    flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    size: BigInt(SIZE),
    type: VFIO_REGION_TYPE_IBM,
    subtype: VFIO_REGION_SUBTYPE_IBM_ISM_IO,

    /** -EINVAL beyond the end; -EFAULT the request area cannot be read, or the buffer faults. */
    read(_device, task, buffer, pos) {
      if (pos >= BigInt(SIZE)) return task.fail(EINVAL, `the region has ${SIZE} bytes`);
      const count = Math.min(buffer.length, SIZE - Number(pos));
      if (Number(pos) + count > HEADER_SIZE) return task.fail(EFAULT, 'the request area is write-only');
      const header = new Uint8Array(HEADER_SIZE);
      new DataView(header.buffer).setUint16(8, hw.identity.maxStoreBlock, true);
      const bytes = header.slice(Number(pos), Number(pos) + count);
      return buffer.copyOut(0, bytes) ? count : task.fail(EFAULT, 'the buffer is not writable');
    },

    /**
     * Executes the request. -EINVAL beyond the end, not the whole request area, reserved fields or unknown flags; -EFAULT the header, or the
     * buffer; -EIO everything that the instruction or its data can have wrong. Nothing reached the function unless the count comes back.
     */
    write(_device, task, buffer, pos) {
      if (pos >= BigInt(SIZE)) return task.fail(EINVAL, `the region has ${SIZE} bytes`);
      if (pos < BigInt(HEADER_SIZE)) return task.fail(EFAULT, 'the header is read-only');
      const count = Math.min(buffer.length, SIZE - Number(pos));
      if (count !== REQUEST_SIZE) return task.fail(EINVAL, 'the whole request is written at once');
      const bytes = buffer.copyIn(0, count);
      if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
      const request = decode(task, bytes);
      if (typeof request === 'number') return request;
      const result = execute(hw, task, request);
      return result < 0 ? result : count;
    },
  };
}

function decode(task: Task, bytes: Uint8Array): Request | number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, REQUEST_SIZE);
  const flags = view.getBigUint64(0, true);
  const reserved = view.getUint32(24, true) | view.getUint8(31);
  if ((flags & ~(FLAG_READ | FLAG_BLOCK_WRITE)) !== 0n || reserved !== 0)
    return task.fail(EINVAL, 'reserved fields and unknown flags must be 0');
  if (flags === 0n) return task.fail(EIO, 'neither READ nor BLOCKW');
  return {
    read: (flags & FLAG_READ) !== 0n,
    address: view.getBigUint64(8, true),
    offset: view.getBigUint64(16, true),
    length: view.getUint16(28, true),
    pcias: view.getUint8(30),
  };
}

function execute(hw: ZpciDevice, task: Task, request: Request): number {
  const { read, address, offset, length, pcias } = request;
  const io = (why: string): number => task.fail(EIO, why);
  if (length === 0) return io('length 0');
  if (read ? length > MAX_LOAD : length > hw.identity.maxStoreBlock) return io(`${length} bytes are too many`);
  if (address % 8n !== 0n) return io('the address of the data is not a multiple of 8');
  if (Number(address % BigInt(PAGE)) + length > PAGE) return io('the data cross a page');
  if (Number(offset % BigInt(PAGE)) + length > PAGE) return io('the block leaves its 4 KiB page');
  if (read ? pcias > LAST_BAR && pcias !== CONFIG_SPACE : pcias > LAST_BAR) return io(`address space ${pcias}`);
  if (read && !loads(pcias, Number(offset % 8n), length)) return io('PCI LOAD takes no such access');
  const data = task.buffer(address, read ? MAX_LOAD : length);
  return read ? load(hw, task, data, request) : store(hw, task, data, request);
}

/** Is it an operation of PCILG (spec zdev section 3.1)? It stays inside a doubleword of a BAR or a word of configuration space, aligned. */
function loads(pcias: number, offset: number, length: number): boolean {
  if (pcias === CONFIG_SPACE) return length !== 3 && length <= 4 - (offset & 3);
  return length <= 8 - offset && offset % (length & -length) === 0;
}

/** PCILG. The register's value is left at the address: 8 bytes in the host's order. */
function load(hw: ZpciDevice, task: Task, data: UserBuffer, { offset, length, pcias }: Request): number {
  if (!writable(task, data)) return task.fail(EIO, 'the page of the data cannot be pinned for writing');
  const size = pcias === CONFIG_SPACE ? hw.config.size : (hw.bars[pcias]?.size ?? 0);
  if (offset + BigInt(length) > BigInt(size)) return task.fail(EIO, 'the function has nothing there');
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const where = Number(offset) + at;
    let width: Width | 8 = pcias === CONFIG_SPACE ? 4 : 8;
    while (where % width !== 0 || width > length - at) width = (width / 2) as Width;
    if (pcias === CONFIG_SPACE) {
      const value = hw.configRead(where, width as Width);
      for (let i = 0; i < width; i++) bytes[at + i] = value >>> (8 * i);
    } else hw.load(pcias, where, width, bytes, at);
    at += width;
  }
  const value = bytes.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
  const register = new Uint8Array(MAX_LOAD);
  new DataView(register.buffer).setBigUint64(0, value, true);
  return data.copyOut(0, register) ? 0 : task.fail(EIO, 'the data cannot be written');
}

/** PCISTB: one operation for the function, whatever its length. */
function store(hw: ZpciDevice, task: Task, data: UserBuffer, { offset, length, pcias }: Request): number {
  const block = data.copyIn(0, length);
  if (block === null) return task.fail(EIO, 'the page of the data cannot be pinned');
  const size = hw.bars[pcias]?.size ?? 0;
  if (offset + BigInt(length) > BigInt(size)) return task.fail(EIO, 'the function has nothing there');
  return hw.storeBlock(pcias, Number(offset), block) ? 0 : task.fail(EIO, 'the function refused the block');
}

/** Before the function is asked for something: the answer can be left where it is wanted. */
function writable(task: Task, data: UserBuffer): boolean {
  const vma = task.mm.find(data.value);
  return vma?.write === true && vma.mapping.kind === 'ram';
}
