// Puts devices of a process into its virtual machine: opens them the way any program does (group, container, device), reads what they say of
// themselves, and attaches the result.

import { DEFAULT_END_DMA, DEFAULT_MSI_ADDRESS, DEFAULT_START_DMA, PFT_ISM } from '../devices/zpci_hardware.ts';
import type { VfioProcess } from '../process.ts';
import { walkCaps } from '../uapi/caps.ts';
import {
  VFIO_DEVICE_INFO_CAP_ZPCI_BASE,
  VFIO_DEVICE_INFO_CAP_ZPCI_GROUP,
  VFIO_DEVICE_INFO_CAP_ZPCI_PFIP,
  VFIO_DEVICE_INFO_CAP_ZPCI_UTIL,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_TYPE1v2_IOMMU,
} from '../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../uapi/ioctl.ts';
import { S32, VfioDeviceInfo, VfioIommuType1DmaMap } from '../uapi/structs.ts';
import { VfioApBackend } from './ap/vfio_backend.ts';
import { VfioSubchannelBackend } from './css/vfio_backend.ts';
import type { VirtualMachine } from './machine.ts';
import type { FunctionBackend } from './zpci/backend.ts';
import { FH_SHM_EMULATED, FH_SHM_VFIO, type FunctionGroup, type FunctionInfo, ZpciFunction } from './zpci/function.ts';
import { DmaShadow } from './zpci/shadow.ts';
import { VfioFunctionBackend } from './zpci/vfio_backend.ts';

const FLAG_REFRESH = 1n;
const FLAG_RELAXED = 2n;
const DTSM_REGION_THIRD = 0x40;

/** Descriptors of one opened device. */
export interface OpenedDevice {
  readonly group: number;
  readonly container: number;
  readonly device: number;
}

/** Opens a device: its group, a container (given, or a fresh one with a type1 IOMMU), the device. @throws VfioError as the calls do. */
export function openDevice(process: VfioProcess, group: string, name: string, container?: number): OpenedDevice {
  const fd = container ?? process.open('/dev/vfio/vfio');
  const groupFd = process.open(`/dev/vfio/${group}`);
  process.ioctl(groupFd, VFIO_GROUP_SET_CONTAINER, new S32({ value: fd }));
  if (container === undefined) process.ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  return { group: groupFd, container: fd, device: process.ioctl(groupFd, VFIO_GROUP_GET_DEVICE_FD, name) };
}

/** Puts a zPCI function into a machine: opens its device in a container of its own. @throws VfioError as the calls do. */
export function attachZpci(vm: VirtualMachine, group: string, name: string, identity: FunctionIdentity): ZpciFunction {
  const opened = openDevice(vm.process, group, name);
  return attachFunction(vm, new VfioFunctionBackend(vm.process, vm.storage, opened), opened.device, identity);
}

/**
 * Puts a subchannel of vfio-ccw into a machine, with storage mapped at the guest's own addresses. @param id subsystem identification, such as
 * 0x10313. @param container of another subchannel of the machine, to share its mappings. @returns the container. @throws VfioError as the calls do.
 */
export function attachSubchannel(
  vm: VirtualMachine,
  group: string,
  name: string,
  id: number,
  container?: number,
): number {
  const opened = openDevice(vm.process, group, name, container);
  if (container === undefined) mapStorage(vm, opened.container);
  vm.css.attach(id, new VfioSubchannelBackend(vm.process, opened.device));
  return opened.container;
}

/** Puts a matrix of vfio-ap into a machine, with storage mapped at the guest's own addresses. @throws VfioError as the calls do. */
export function attachMatrix(vm: VirtualMachine, group: string, name: string): void {
  const opened = openDevice(vm.process, group, name);
  mapStorage(vm, opened.container);
  vm.ap.backend = new VfioApBackend(vm.process, opened.device, (isc) => vm.css.adapterInterrupt(isc));
}

function mapStorage({ process, storage }: VirtualMachine, container: number): void {
  const { vaddr, size } = storage;
  const flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  process.ioctl(container, VFIO_IOMMU_MAP_DMA, new VfioIommuType1DmaMap({ flags, vaddr, iova: 0n, size }));
}

/** What emulated functions without capabilities of their own have (spec zdev section 3.6). */
export const DEFAULT_GROUP: FunctionGroup = {
  id: 0xff,
  refresh: true,
  relaxedTranslation: false,
  interrupts: 128,
  maxStoreBlock: 128,
  updateInterval: 4000,
  dtsm: DTSM_REGION_THIRD,
  version: 0,
  dasm: 0n,
  msiAddress: DEFAULT_MSI_ADDRESS,
};

/** How the guest sees a function: its numbers and its place in the list. */
export interface FunctionIdentity {
  readonly fid: number;
  readonly uid?: number;
  /** Place in the list of functions; default the next. */
  readonly index?: number;
  /** The instance part of the handle changes with every disable, as on real machines. Default false: emulation leaves it. */
  readonly countInstances?: boolean;
}

/**
 * Attaches a function. @param device descriptor for GET_INFO; its zPCI capabilities decide what the guest is told.
 * @throws VfioError of GET_INFO.
 */
export function attachFunction(
  vm: VirtualMachine,
  backend: FunctionBackend,
  device: number,
  identity: FunctionIdentity,
): ZpciFunction {
  const info = new VfioDeviceInfo({ argsz: 1024 });
  vm.process.ioctl(device, VFIO_DEVICE_GET_INFO, info);
  const caps = walkCaps(info.bytes, info.cap_offset);
  const cap = (id: number): DataView | null => {
    const found = caps.find((candidate) => candidate.id === id);
    return found === undefined ? null : new DataView(found.data.slice().buffer);
  };
  const base = cap(VFIO_DEVICE_INFO_CAP_ZPCI_BASE);
  const group = cap(VFIO_DEVICE_INFO_CAP_ZPCI_GROUP);
  const util = cap(VFIO_DEVICE_INFO_CAP_ZPCI_UTIL);
  const pfip = cap(VFIO_DEVICE_INFO_CAP_ZPCI_PFIP);
  const index = identity.index ?? vm.functions.size;
  const words = backend.readConfig(0, 4);
  const gid = base?.getUint8(23) ?? DEFAULT_GROUP.id;
  const pft = base?.getUint8(22) ?? 0;
  const functionInfo: FunctionInfo = {
    fid: identity.fid,
    uid: identity.uid ?? 0,
    vendor: (words[0] as number) | ((words[1] as number) << 8),
    device: (words[2] as number) | ((words[3] as number) << 8),
    gid,
    pft,
    pchid: base?.getUint16(16, true) ?? 0,
    vfn: base?.getUint16(18, true) ?? 0,
    fmbLength: base?.getUint16(20, true) ?? 0,
    startDma: base?.getBigUint64(0, true) ?? DEFAULT_START_DMA,
    endDma: base?.getBigUint64(8, true) ?? DEFAULT_END_DMA,
    util: util === null ? new Uint8Array(0) : new Uint8Array(util.buffer, 4, util.getUint32(0, true)),
    pfip: pfip === null ? null : new Uint8Array(pfip.buffer, 4, 4),
  };
  // The block length that this path carries: what vfio says, except where the region of its own takes the hardware's whole block.
  const functionGroup: FunctionGroup =
    group === null
      ? DEFAULT_GROUP
      : {
          id: gid,
          refresh: (group.getBigUint64(16, true) & FLAG_REFRESH) !== 0n,
          relaxedTranslation: (group.getBigUint64(16, true) & FLAG_RELAXED) !== 0n && pft !== PFT_ISM,
          interrupts: group.getUint16(26, true),
          maxStoreBlock: pft === PFT_ISM ? group.getUint16(32, true) : group.getUint16(28, true),
          updateInterval: group.getUint16(24, true),
          dtsm: DTSM_REGION_THIRD,
          version: group.getUint8(30),
          dasm: group.getBigUint64(0, true),
          msiAddress: group.getBigUint64(8, true),
        };
  const fn = new ZpciFunction(
    functionInfo,
    functionGroup,
    backend,
    new DmaShadow(backend, (address) => vm.storage.has(address, 4096)),
    {
      index,
      shm: base === null ? FH_SHM_EMULATED : FH_SHM_VFIO,
      relaxed: pft === PFT_ISM,
      countInstances: identity.countInstances ?? false,
    },
  );
  vm.functions.set(index, fn);
  return fn;
}
