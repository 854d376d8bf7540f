// The library core of PCI drivers: enable and disable a function, and every operation of the ops table. A driver names these functions in its
// own constant table and replaces what differs. Kernel counterpart: vfio_pci_core.c. Source: spec pci.
import { EAGAIN, ENOTTY, PAGE_SIZE_4K } from '../../../assembly/abi.ts';
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MASTER } from '../../devices/pci_config.ts';
import { romSize } from '../../devices/pci_device.ts';
import { PCI_MSIX_ENTRY_SIZE } from '../../devices/pci_msi.ts';
import type { InfoCap } from '../../uapi/caps.ts';
import {
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
} from '../../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../../uapi/ioctl.ts';
import {
  getDeviceInfo,
  getIrqInfo,
  getRegionInfo,
  type IrqInfo,
  type RegionInfo,
  regionTypeCap,
  sparseMmapCap,
} from '../../vfio/info.ts';
import { readIrqSet } from '../../vfio/irqs.ts';
import type { AccessKind, FeatureRequest } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import { type UserArg, viewOf } from '../../vfio/user.ts';
import { VirtualConfig } from './config_space.ts';
import { type PciDeviceRegion, regionOffset, type VfioPciDevice } from './device.ts';
import { dropIoeventfds, setIoeventfd } from './ioeventfd.ts';
import { leaveLowPower, lowPowerFeature, setPowerState } from './power.ts';
import {
  hostState,
  hotReset,
  hotResetInfo,
  resetDevice,
  resetUnusedDomain,
  restoreHostState,
  tryResetFunction,
} from './reset.ts';
import { tokenFeature } from './token.ts';

const READ = VFIO_REGION_INFO_FLAG_READ;
const WRITE = VFIO_REGION_INFO_FLAG_WRITE;

/**
 * First half of opening. @returns 0, or -errno with the hardware as it was: EAGAIN the function is being reset by somebody else, or the
 * architecture hook's.
 */
export function coreEnable(device: VfioPciDevice): number {
  const { hw } = device;
  setPowerState(device, 0);
  setCommand(device, PCI_COMMAND_MASTER, false);
  const reset = tryResetFunction(device);
  if (reset === -EAGAIN) return reset;
  device.resetWorks = reset === 0;
  device.saved = hostState(device);
  setCommand(device, PCI_COMMAND_INTX_DISABLE, false);
  const hooked = device.arch.openDevice?.(device) ?? 0;
  if (hooked < 0) return hooked;
  device.config = new VirtualConfig(device, device.hasInterruptLine);
  const { msix } = hw;
  device.msixBar = msix?.bar ?? 0xff;
  device.msixOffset = (msix?.tableOffset ?? 0) & ~7;
  device.msixSize = (msix?.vectors ?? 0) * PCI_MSIX_ENTRY_SIZE;
  return 0;
}

/** Second half, after a driver added its regions: which BARs can be mapped, and one more user of the token. */
export function coreFinishEnable(device: VfioPciDevice): void {
  device.hw.bars.forEach((bar, index) => {
    const pageAligned = bar !== null && (device.config!.realBars[index]! & (PAGE_SIZE_4K - 1) & ~0xf) === 0;
    device.barMmap[index] = bar !== null && bar.kind !== 'io' && (bar.size >= PAGE_SIZE_4K || pageAligned);
  });
  const physical = device.options.virtualFunctionOf;
  if (physical !== undefined && physical !== null) physical.vfToken.users++;
}

/** Last close: everything that the user set up is undone and the function is put back as it was found. */
export function coreDisable(device: VfioPciDevice): void {
  const { hw } = device;
  const physical = device.options.virtualFunctionOf;
  if (physical !== undefined && physical !== null) physical.vfToken.users--;
  leaveLowPower(device);
  setPowerState(device, 0);
  setCommand(device, PCI_COMMAND_MASTER, false);
  device.irqs.disable();
  dropIoeventfds(device);
  for (const region of device.regions.splice(0)) region.release?.(device);
  device.config = null;
  device.barMmap.fill(false);
  device.needsReset = true;
  device.arch.closeDevice?.(device);
  restoreHostState(device, device.saved);
  setCommand(device, PCI_COMMAND_INTX_DISABLE, true);
  if (device.resetWorks && tryResetFunction(device) === 0) device.needsReset = false;
  restoreHostState(device, device.saved);
  hw.msix?.reset();
  resetUnusedDomain(device);
}

function setCommand(device: VfioPciDevice, bit: number, on: boolean): void {
  const command = device.hw.configRead(PCI_COMMAND, 2);
  device.hw.configWrite(PCI_COMMAND, 2, on ? command | bit : command & ~bit);
}

/** Adds a region behind the fixed ones; call it between the two halves of opening. @returns its index. */
export function registerRegion(device: VfioPciDevice, region: PciDeviceRegion): number {
  return VFIO_PCI_NUM_REGIONS + device.regions.push(region) - 1;
}

/** Every ioctl of the device except FEATURE and the cdev ones. ENOTTY: unknown request. */
export function coreIoctl(device: VfioPciDevice, task: Task, request: number, arg: UserArg): number {
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return deviceInfo(device, task, arg);
    case VFIO_DEVICE_GET_REGION_INFO:
      return getRegionInfo(task, arg, (index) => regionInfo(device, index));
    case VFIO_DEVICE_GET_IRQ_INFO:
      return getIrqInfo(task, arg, (index) => irqInfo(device, index));
    case VFIO_DEVICE_SET_IRQS: {
      const irqSet = readIrqSet(task, arg, VFIO_PCI_NUM_IRQS, (index) => device.irqs.count(index));
      return typeof irqSet === 'number' ? irqSet : device.irqs.set(task, irqSet);
    }
    case VFIO_DEVICE_RESET:
      return resetDevice(device, task);
    case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
      return hotResetInfo(device, task, arg);
    case VFIO_DEVICE_PCI_HOT_RESET:
      return hotReset(device, task, arg);
    case VFIO_DEVICE_IOEVENTFD:
      return setIoeventfd(device, task, arg);
    default:
      return task.fail(ENOTTY, 'a PCI device knows no such request');
  }
}

function deviceInfo(device: VfioPciDevice, task: Task, arg: UserArg): number {
  const caps: InfoCap[] = [...(device.arch.infoCaps?.(device) ?? [])];
  const atomic = device.options.atomicCompletion ?? 0;
  if (atomic !== 0) {
    const data = new Uint8Array(8);
    viewOf(data).setUint32(0, atomic, true);
    caps.push({ id: VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, version: 1, data });
  }
  return getDeviceInfo(task, arg, {
    flags: VFIO_DEVICE_FLAGS_PCI | (device.resetWorks ? VFIO_DEVICE_FLAGS_RESET : 0),
    numRegions: VFIO_PCI_NUM_REGIONS + device.regions.length,
    numIrqs: VFIO_PCI_NUM_IRQS,
    caps,
  });
}

/** What GET_REGION_INFO says of an index; null: no such region. */
export function regionInfo(device: VfioPciDevice, index: number): RegionInfo | null {
  const { hw } = device;
  const offset = regionOffset(index);
  if (index < VFIO_PCI_ROM_REGION_INDEX) {
    const bar = hw.bars[index] ?? null;
    if (bar === null) return { flags: 0, size: 0n, offset };
    const mappable = device.barMmap[index] === true;
    const caps =
      mappable && index === device.msixBar
        ? [{ id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1, data: new Uint8Array() }]
        : [];
    const flags = READ | WRITE | (mappable ? VFIO_REGION_INFO_FLAG_MMAP : 0);
    return { flags, size: BigInt(bar.size), offset, caps };
  }
  if (index === VFIO_PCI_ROM_REGION_INDEX)
    return hw.rom === null ? { flags: 0, size: 0n, offset } : { flags: READ, size: BigInt(romSize(hw.rom)), offset };
  if (index === VFIO_PCI_CONFIG_REGION_INDEX)
    return { flags: READ | WRITE, size: BigInt(device.config!.layout.vconfig.length), offset };
  if (index === VFIO_PCI_VGA_REGION_INDEX) return hw.vga ? { flags: READ | WRITE, size: 0xc0000n, offset } : null;
  const region = device.regions[index - VFIO_PCI_NUM_REGIONS];
  if (region === undefined) return null;
  const { type, subtype, sparse, caps = [] } = region;
  const areas = sparse === undefined ? [] : [sparseMmapCap(sparse)];
  return { flags: region.flags, size: region.size, offset, caps: [regionTypeCap(type, subtype), ...areas, ...caps] };
}

function irqInfo(device: VfioPciDevice, index: number): IrqInfo | null {
  const count = device.irqs.count(index);
  if (index >= VFIO_PCI_NUM_IRQS || (index === VFIO_PCI_ERR_IRQ_INDEX && count === 0)) return null;
  let flags = VFIO_IRQ_INFO_EVENTFD;
  if (index === VFIO_PCI_INTX_IRQ_INDEX) flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
  else if (index !== VFIO_PCI_MSIX_IRQ_INDEX || !device.irqs.messages.dynamicMsix) flags |= VFIO_IRQ_INFO_NORESIZE;
  return { flags, count };
}

/** FEATURE ids of PCI; undefined leaves the id to the caller (ENOTTY). */
export function coreFeature(device: VfioPciDevice, task: Task, feature: FeatureRequest): number {
  switch (feature.id) {
    case VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
      return tokenFeature(device, task, feature);
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
      return lowPowerFeature(device, task, feature);
    default:
      return task.fail(ENOTTY, `feature ${feature.id} is not one of a PCI device`);
  }
}

/** The device is gone: its hardware is nobody's, and no reset of its bus concerns it any more. */
export function coreRelease(device: VfioPciDevice): void {
  device.options.resetDomain?.remove(device);
  device.hw.host = null;
}

/** The host wants the device back: the user's REQ eventfd hears of it. */
export function coreRequest(device: VfioPciDevice): void {
  device.irqs.req.signal();
}

/** An error of the device was reported to the host: the user's ERR eventfd hears of it. */
export function reportError(device: VfioPciDevice): void {
  device.irqs.err.signal();
}

/**
 * Kinds of access for the migration matrix: configuration space and the MSI-X table are tolerated while stopped, a driver's own regions start something,
 * the rest is the device's.
 */
export function coreAccess(device: VfioPciDevice, offset: bigint): { kind: AccessKind; left: bigint } | undefined {
  const index = Number(offset >> 40n);
  const info = index < 0 ? null : regionInfo(device, index);
  if (info === null) return undefined;
  const pos = offset & ((1n << 40n) - 1n);
  const left = info.size - pos;
  if (index >= VFIO_PCI_NUM_REGIONS)
    return { kind: device.regions[index - VFIO_PCI_NUM_REGIONS]?.kind ?? 'request', left };
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) return { kind: 'config', left };
  const table = index === device.msixBar ? BigInt(device.msixOffset) : -1n;
  const tableEnd = table + BigInt(device.msixSize);
  if (table < 0n || pos >= tableEnd) return { kind: 'mmio', left };
  return pos < table ? { kind: 'mmio', left: table - pos } : { kind: 'config', left: tableEnd - pos };
}

/** The one operation among the ioctls: what else is not common to all drivers is unknown here. */
export const coreIoctlKind = (_device: VfioPciDevice, request: number): AccessKind | undefined =>
  request === VFIO_DEVICE_IOEVENTFD ? 'operation' : undefined;
