// A vfio-pci variant driver for functions of ours that can migrate: the library core, and on top the arcs, the state, and a log of the function's DMA. The
// model's clock is the hold: frozen, nothing of it moves. It cannot tell peer-to-peer DMA from other DMA, so P2P freezes all of it.
// Sheet: spec migration sections B, C. What the kernel's generic layers own (MSI setup, configuration) is not in the stream.
import { EBUSY, EFAULT, EINVAL } from '../../../assembly/abi.ts';
import {
  packState,
  refusesState,
  STATE_HEADER,
  type StatefulHardware,
  unpackState,
} from '../../devices/device_state.ts';
import { FreezableClock } from '../../devices/freezable_clock.ts';
import type { PciDevice } from '../../devices/pci_device.ts';
import {
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
  VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
} from '../../uapi/constants.ts';
import { DmaLog, dmaLogOps } from '../../vfio/dma_logging.ts';
import { isLive, mayDma } from '../../vfio/migration_states.ts';
import { MigrationRegion } from '../../vfio/migration_v1.ts';
import type { VfioDeviceOps, VfioMigrationOps } from '../../vfio/ops.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { coreEnable, coreFinishEnable, registerRegion } from './core.ts';
import { VfioPciDevice, type VfioPciOptions } from './device.ts';
import { VFIO_PCI_OPS } from './vfio_pci.ts';

export class MigratablePciDevice extends VfioPciDevice {
  readonly log = new DmaLog();
  readonly hardware: PciDevice & StatefulHardware;
  readonly time: FreezableClock;
  /** Loaded, and not yet told to act on it. */
  loaded = false;

  /** The region of the first generation, beside the FEATURE calls; null when the machine's description does not ask for it. */
  readonly region: MigrationRegion | null;

  /**
   * @param options.resetDomain is needed: a device in RESUMING or ERROR leaves by RESET only. @param older offers the migration region of
   * the first generation, too.
   */
  constructor(
    vfio: Vfio,
    name: string,
    hardware: PciDevice & StatefulHardware,
    options: VfioPciOptions,
    older = false,
  ) {
    super(vfio, name, MIGRATABLE_PCI_OPS, hardware, options);
    this.hardware = hardware;
    this.time = new FreezableClock(vfio.clock);
    hardware.clock = this.time;
    this.region = older ? new MigrationRegion(this.migration!) : null;
  }

  override busMaster(iova: bigint, bytes: Uint8Array, write: boolean): number {
    const result = super.busMaster(iova, bytes, write);
    if (write && result >= 0) this.log.note(iova, bytes.length);
    return result;
  }

  override busMasterView(iova: bigint, length: number, write: boolean): Uint8Array | null {
    const view = super.busMasterView(iova, length, write);
    if (write && view !== null) this.log.note(iova, length);
    return view;
  }
}

const migration: VfioMigrationOps<MigratablePciDevice> = {
  flags: () => VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
  dataSize: (device) => BigInt(STATE_HEADER + device.hardware.stateSize),

  step(device, from, to) {
    if (!mayDma(to)) {
      device.time.freeze();
      // A transfer into memory of another process may still be open; it ends by itself.
      if (device.hardware.dma.open > 0) return -EBUSY;
    }
    if (isLive(to) && !isLive(from) && device.loaded) {
      device.loaded = false;
      device.hardware.resume();
    }
    if (mayDma(to)) device.time.thaw();
    return 0;
  },

  restart(device) {
    device.loaded = false;
    device.time.thaw();
  },

  source: (device) => ({ end: () => packState(device.hardware) }),

  sink: (device) => ({
    capacity: STATE_HEADER + device.hardware.stateSize,
    check: (received) => (refusesState(device.hardware, received) ? -EFAULT : 0),
    load(received) {
      if (!unpackState(device.hardware, received)) return -EINVAL;
      device.time.clear();
      device.loaded = true;
      return 0;
    },
  }),
};

/** As vfio-pci; the older region is one of the driver's own. */
function openDevice(device: MigratablePciDevice): number {
  const result = coreEnable(device);
  if (result < 0) return result;
  const { region } = device;
  if (region !== null)
    registerRegion(device, {
      type: VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
      subtype: VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
      flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
      size: BigInt(region.size),
      kind: 'config',
      read: (_device, task, buffer, pos) => region.read(task, buffer, Number(pos)),
      write: (_device, task, buffer, pos) => region.write(task, buffer, Number(pos)),
    });
  coreFinishEnable(device);
  return 0;
}

export const MIGRATABLE_PCI_OPS: VfioDeviceOps<MigratablePciDevice> = {
  ...VFIO_PCI_OPS,
  name: 'vfio-pci-migratable',
  openDevice,
  migration,
  log: dmaLogOps((device: MigratablePciDevice) => device.log),
};
