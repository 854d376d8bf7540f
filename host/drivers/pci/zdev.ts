// The s390 hook of vfio-pci: capabilities of zPCI functions on the device info, the handle, the ISM region, and the word to a VM provider on
// open and close. One object for every driver built from the core; functions of other machines never get it. Kernel counterpart:
// vfio_pci_zdev.c. Source: spec zdev sections 1, 5 and 7.
import { ENOENT } from '../../../assembly/abi.ts';
import {
  DEFAULT_END_DMA,
  DEFAULT_MSI_ADDRESS,
  DEFAULT_START_DMA,
  PFT_ISM,
  type ZpciDevice,
} from '../../devices/zpci_hardware.ts';
import type { InfoCap } from '../../uapi/caps.ts';
import {
  VFIO_DEVICE_INFO_CAP_ZPCI_BASE,
  VFIO_DEVICE_INFO_CAP_ZPCI_GROUP,
  VFIO_DEVICE_INFO_CAP_ZPCI_PFIP,
  VFIO_DEVICE_INFO_CAP_ZPCI_UTIL,
  VFIO_DEVICE_INFO_ZPCI_FLAG_REFRESH,
} from '../../uapi/constants.ts';
import type { HwIommu } from '../../vfio/ops.ts';
import { registerRegion } from './core.ts';
import type { PciArchHook, VfioPciDevice } from './device.ts';
import { ismRegion } from './ism_region.ts';

const FH_ENABLE = 0x80000000;
/** The function is a host's, its instructions are the host's to issue. */
const FH_SHM = 0x00010000;
const INSTANCES = 0x80;
/** What the VMM's software path stores with one instruction, whatever the hardware could. */
const MAX_STORE_BLOCK = 128;
const UTIL_SIZE = 64;
const PFIP_SIZE = 4;
/** Reach of a region third table: the unit translates no further. */
const REACH = 1n << 42n;
const DEFAULT_UPDATE_INTERVAL = 4000;

/** A zPCI function on its host. */
export class Zdev implements PciArchHook {
  readonly hw: ZpciDevice;
  #instance = 1;
  /** Told to the provider; null: no VM, or no provider needed. */
  #registered = false;

  constructor(hw: ZpciDevice) {
    this.hw = hw;
  }

  /** The host's handle; another one after every disable and enable. */
  get fh(): number {
    return (FH_ENABLE | (this.#instance << 24) | FH_SHM | this.hw.identity.index) >>> 0;
  }

  /** The function is disabled and enabled: old handles are not valid any more. */
  reenable(): void {
    this.#instance = (this.#instance % (INSTANCES - 1)) + 1;
  }

  /** No VM linked: nothing happens. @returns 0; -ENOENT a VM without a provider; the provider's errno. */
  openDevice(device: VfioPciDevice): number {
    const vm = device.vfio.vms.of(device);
    if (vm !== null) {
      const { zdevProvider } = device.vfio.vms;
      if (zdevProvider === null) return -ENOENT;
      const result = zdevProvider.register(device, vm);
      if (result < 0) return result;
      this.#registered = true;
      this.reenable();
    }
    const { identity, msix } = this.hw;
    if (identity.pft === PFT_ISM && msix === null) registerRegion(device, ismRegion(this.hw));
    return 0;
  }

  closeDevice(device: VfioPciDevice): void {
    if (!this.#registered) return;
    this.#registered = false;
    device.vfio.vms.zdevProvider?.unregister(device);
    this.reenable();
  }

  infoCaps(): readonly InfoCap[] {
    const { util, pfip } = this.hw.identity;
    const caps = [this.#base(), this.#group()];
    if (util !== undefined) caps.push(sized(VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, util, UTIL_SIZE));
    caps.push(sized(VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, pfip ?? new Uint8Array(PFIP_SIZE), PFIP_SIZE));
    return caps;
  }

  /** The unit in front of the function: 4 KiB pages, from start_dma to end_dma or as far as its tables reach. */
  get iommu(): HwIommu {
    const { startDma = DEFAULT_START_DMA, endDma = DEFAULT_END_DMA } = this.hw.identity;
    const last = endDma < REACH ? endDma : REACH - 1n;
    return { pageSizes: 0x1000n, ranges: [{ start: startDma, last }], coherent: true, msiIsolated: true, limit: REACH };
  }

  #base(): InfoCap {
    const { identity } = this.hw;
    const data = new Uint8Array(32);
    const view = new DataView(data.buffer);
    view.setBigUint64(0, identity.startDma ?? DEFAULT_START_DMA, true);
    view.setBigUint64(8, identity.endDma ?? DEFAULT_END_DMA, true);
    view.setUint16(16, identity.pchid ?? 0, true);
    view.setUint16(18, identity.vfn ?? 0, true);
    view.setUint16(20, identity.fmbLength ?? 0, true);
    view.setUint8(22, identity.pft);
    view.setUint8(23, identity.gid);
    view.setUint32(24, this.fh, true);
    return { id: VFIO_DEVICE_INFO_CAP_ZPCI_BASE, version: 2, data };
  }

  #group(): InfoCap {
    const { identity } = this.hw;
    const data = new Uint8Array(40);
    const view = new DataView(data.buffer);
    view.setBigUint64(0, identity.dasm ?? 0n, true);
    view.setBigUint64(8, identity.msiAddress ?? DEFAULT_MSI_ADDRESS, true);
    view.setBigUint64(16, BigInt(VFIO_DEVICE_INFO_ZPCI_FLAG_REFRESH), true);
    view.setUint16(24, identity.updateInterval ?? DEFAULT_UPDATE_INTERVAL, true);
    view.setUint16(26, identity.interrupts ?? 0, true);
    view.setUint16(28, MAX_STORE_BLOCK, true);
    view.setUint8(30, identity.version ?? 0);
    view.setUint16(32, identity.maxStoreBlock, true);
    return { id: VFIO_DEVICE_INFO_CAP_ZPCI_GROUP, version: 2, data };
  }
}

/** UTIL and PFIP: a size, then that many bytes. */
function sized(id: number, bytes: Uint8Array, size: number): InfoCap {
  const data = new Uint8Array(4 + size);
  new DataView(data.buffer).setUint32(0, size, true);
  data.set(bytes.subarray(0, size), 4);
  return { id, version: 1, data };
}
