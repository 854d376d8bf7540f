// Configuration space as a user has it: reads and writes in pieces, BAR sizing, the command register's effects. What the fields of each
// capability do on a write is in config_caps.ts. Kernel counterpart: vfio_pci_config.c. Source: spec pci section 3.
import { EFAULT } from '../../../assembly/abi.ts';
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_ROM_ADDRESS,
} from '../../devices/pci_config.ts';
import { type PciDevice, romSize, type Width } from '../../devices/pci_device.ts';
import type { Task } from '../../vfio/task.ts';
import type { UserBuffer } from '../../vfio/user.ts';
import { writeCapability } from './config_caps.ts';
import { type Layout, OWNER_HEADER } from './config_layout.ts';
import { barsLost, defaultWrite, restoreBars, type VirtualConfig } from './config_space.ts';
import type { VfioPciDevice } from './device.ts';

const BAR_START = 0x10;
const BAR_END = 0x28;
const DECODE = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;

/**
 * A user's read of [pos, pos + count). @returns count or -EFAULT: not inside the space (then nothing is transferred), or the buffer faults.
 */
export function readConfig(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint): number {
  const config = device.config!;
  const count = buffer.length;
  const at = inside(config, task, pos, count);
  if (at < 0) return at;
  const bytes = new Uint8Array(count);
  for (let done = 0; done < count; ) {
    const offset = at + done;
    const width = piece(config.layout, offset, count - done);
    if (config.layout.owner[offset] === OWNER_HEADER && config.barDirty && isBar(offset)) fixBars(config, device.hw);
    for (let i = 0; i < width; i++) bytes[done + i] = readByte(config, device, offset + i);
    done += width;
  }
  return buffer.copyOut(0, bytes) ? count : task.fail(EFAULT, 'the buffer is not writable');
}

/** A user's write. @returns count or -EFAULT; bits that the user may not write are dropped without an error. */
export function writeConfig(device: VfioPciDevice, task: Task, buffer: UserBuffer, pos: bigint): number {
  const config = device.config!;
  const count = buffer.length;
  const at = inside(config, task, pos, count);
  if (at < 0) return at;
  const bytes = buffer.copyIn(0, count);
  if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
  for (let done = 0; done < count; ) {
    const width = piece(config.layout, at + done, count - done);
    writePiece(device, at + done, bytes.subarray(done, done + width));
    done += width;
  }
  return count;
}

function inside(config: VirtualConfig, task: Task, pos: bigint, count: number): number {
  const size = config.layout.vconfig.length;
  if (pos < 0n || pos >= BigInt(size) || pos + BigInt(count) > BigInt(size))
    return task.fail(EFAULT, `${count} bytes at ${pos}: the configuration space has ${size}`);
  return Number(pos);
}

/** Bytes until the owner changes or the dword ends; then 4, 2 or 1 as the alignment allows. */
function piece(layout: Layout, offset: number, left: number): Width {
  const { owner } = layout;
  let run = 1;
  const limit = Math.min(left, 4 - (offset & 3));
  while (run < limit && owner[offset + run] === owner[offset]) run++;
  return run >= 4 ? 4 : run >= 2 && (offset & 1) === 0 ? 2 : 1;
}

function readByte(config: VirtualConfig, device: VfioPciDevice, at: number): number {
  const virt = config.layout.virt[at]!;
  let value = config.layout.vconfig[at]! & virt;
  // A virtual function's hardware has no memory bit; the user sees the one he wrote, set at first.
  if (at === PCI_COMMAND && device.isVirtualFunction) value |= config.layout.vconfig[at]! & PCI_COMMAND_MEMORY;
  return virt === 0xff ? value : value | (device.hw.configRead(at, 1) & ~virt);
}

function writePiece(device: VfioPciDevice, offset: number, bytes: Uint8Array): void {
  const config = device.config!;
  const { layout } = config;
  if (layout.owner[offset] === OWNER_HEADER) writeHeader(device, offset, bytes);
  else writeCapability(device, offset, bytes);
}

function writeHeader(device: VfioPciDevice, offset: number, bytes: Uint8Array): void {
  const config = device.config!;
  const { vconfig } = config.layout;
  if (offset === PCI_COMMAND) {
    const wanted = bytes[0]!;
    if ((wanted & PCI_COMMAND_MEMORY) === 0) device.zaps++;
    // A reset behind our back leaves the real BARs empty: then they are restored before decoding is switched on.
    const rising = wanted & vconfig[PCI_COMMAND]! & ~device.hw.configRead(PCI_COMMAND, 1) & DECODE;
    if (!device.isVirtualFunction && (rising !== 0 || barsLost(config, device.hw))) restoreBars(config, device.hw);
    defaultWrite(device, offset, bytes);
    vconfig[PCI_COMMAND] = (vconfig[PCI_COMMAND]! & ~DECODE) | (wanted & DECODE);
  } else defaultWrite(device, offset, bytes);
  if (offset === PCI_COMMAND || offset === PCI_COMMAND + 1) {
    const disabled = (config.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) !== 0;
    if (disabled && !config.virqDisabled) {
      config.virqDisabled = true;
      device.irqs.intx.mask();
    } else if (!disabled && config.virqDisabled) {
      config.virqDisabled = false;
      device.irqs.intx.unmask();
    }
  }
  if (isBar(offset)) config.barDirty = true;
}

const isBar = (offset: number): boolean =>
  (offset >= BAR_START && offset < BAR_END) || (offset >= PCI_ROM_ADDRESS && offset < PCI_ROM_ADDRESS + 4);

/** Sizing: every BAR in vconfig keeps the address bits that its size leaves, and shows its type. */
function fixBars(config: VirtualConfig, hw: PciDevice): void {
  const { vconfig } = config.layout;
  const view = new DataView(vconfig.buffer, vconfig.byteOffset);
  for (let index = 0; index < 6; index++) {
    const at = BAR_START + 4 * index;
    const bar = hw.bars[index] ?? null;
    if (bar === null) {
      view.setUint32(at, 0, true);
      continue;
    }
    const mask = BigInt.asUintN(64, -BigInt(bar.size));
    const type = bar.kind === 'io' ? 1 : (bar.kind === 'mem64' ? 4 : 0) | (bar.prefetchable ? 8 : 0);
    const low = (view.getUint32(at, true) & Number(mask & 0xffffffffn)) | type;
    view.setUint32(at, low >>> 0, true);
    if (bar.kind !== 'mem64') continue;
    const high = view.getUint32(at + 4, true) & Number(mask >> 32n);
    view.setUint32(at + 4, high >>> 0, true);
    index++;
  }
  const rom = hw.rom === null ? 0 : view.getUint32(PCI_ROM_ADDRESS, true) & (-romSize(hw.rom) | 1);
  view.setUint32(PCI_ROM_ADDRESS, rom >>> 0, true);
  config.barDirty = false;
}
