// A vfio-ccw device: its subchannel, its state, its regions, its interrupts, its one channel program, its deferred work. The rules are in
// fsm.ts, regions.ts, irqs.ts, paths.ts; this file only holds. Kernel counterpart: struct vfio_ccw_private.
import { ChannelProgram } from '../../ccw/channel_program.ts';
import { IRB_SIZE } from '../../css/schib.ts';
import type { SubchannelHardware, SubchannelListener } from '../../css/subchannel.ts';
import { VfioError } from '../../errno.ts';
import { VFIO_CCW_CRW_IRQ_INDEX, VFIO_CCW_IO_IRQ_INDEX } from '../../uapi/constants.ts';
import { VfioDevice } from '../../vfio/device.ts';
import { EventFdSlot } from '../../vfio/irqs.ts';
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import { viewOf } from '../../vfio/user.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import { IoSubchannel } from './subchannel.ts';
import { Work } from './work.ts';

export type CcwState = 'NOT_OPER' | 'STANDBY' | 'IDLE' | 'CP_PROCESSING' | 'CP_PENDING';

/** Region 0 (spec ccw section 2.0). */
export const IO_REGION_SIZE = 124;
export const IO_ORB = 0;
export const IO_SCSW = 12;
export const IO_IRB = 24;
export const IRB_AREA_SIZE = 96;
export const IO_RET_CODE = 120;
/** Region 1. */
export const CMD_REGION_SIZE = 8;
export const CMD_COMMAND = 0;
export const CMD_RET_CODE = 4;

/** A 2016 request whose program runs (request.ts). */
export interface RunningRequest {
  /** The caller's address space as an iommu object, for the time of the program. */
  readonly iommu: number;
  /** What `end` is given when the program is released: -EIO, until the final interruption puts the IRB (96 bytes) here. */
  outcome: Uint8Array | number;
  /** The device is being closed or reset: the status of the halt or clear that this takes is not the program's. */
  cancelled: boolean;
  readonly end: (outcome: Uint8Array | number) => void;
}

export interface CcwDeviceOptions {
  /** Byte order of the fields that the uAPI gives in the host's order: `ret_code` and `command`. Default little-endian. */
  readonly bigEndian?: boolean;
  /** The subchannel is to be unregistered because it is not operational any more. Called once, outside any call of the user's. */
  readonly onUnregister?: () => void;
}

export class CcwDevice extends VfioDevice {
  readonly subchannel: IoSubchannel;
  state: CcwState = 'STANDBY';
  /** The channel program of an open device. */
  program: ChannelProgram | null = null;
  /** The 2016 request that the pending program belongs to; null: the program came through region 0. */
  request: RunningRequest | null = null;
  /** The three regions with capabilities exist while the device is open. */
  capabilityRegions = false;

  readonly ioRegion = new Uint8Array(IO_REGION_SIZE);
  readonly cmdRegion = new Uint8Array(CMD_REGION_SIZE);
  /** Channel reports that wait to be read, oldest first. */
  readonly crws: number[] = [];
  /** Somebody is inside a request or the interrupt work. */
  ioMutexHeld = false;

  readonly ioIrq = new EventFdSlot();
  readonly crwIrq = new EventFdSlot();
  readonly reqIrq = new EventFdSlot();

  /** The device is being stopped or is stopped: what it would signal is held back. */
  frozen = false;
  /** An I/O interrupt waits for the device to run again. */
  heldIo = false;
  /** Who listened to the hardware before it was silenced. */
  listener: SubchannelListener | null = null;

  /** The last IRB, saved by the interrupt, used by the work. */
  readonly irb = new Uint8Array(IRB_SIZE);
  readonly ioWork: Work;
  readonly crwWork: Work;
  readonly notOperWork: Work;
  readonly unregisterWork: Work;
  /** Interruption parameter that the host gives: the subsystem-identification word. */
  readonly intparm: number;
  readonly #littleEndian: boolean;

  /**
   * @param work what the deferred work does: after an interrupt, after a channel report, after the subchannel became not operational.
   */
  constructor(
    vfio: Vfio,
    name: string,
    ops: VfioDeviceOps<CcwDevice>,
    hardware: SubchannelHardware,
    work: { io(device: CcwDevice): void; crw(device: CcwDevice): void; notOper(device: CcwDevice): void },
    options: CcwDeviceOptions = {},
  ) {
    super(vfio, name, ops);
    this.subchannel = new IoSubchannel(hardware);
    this.intparm = (0x00010000 | Number.parseInt(hardware.busId.slice(-4), 16)) >>> 0;
    this.#littleEndian = options.bigEndian !== true;
    this.ioWork = new Work(vfio, () => work.io(this));
    this.crwWork = new Work(vfio, () => work.crw(this));
    this.notOperWork = new Work(vfio, () => work.notOper(this));
    this.unregisterWork = new Work(vfio, () => options.onUnregister?.());
  }

  /** An I/O interrupt for the user: kept while the device is stopped, and between a restore and SET_IRQS. */
  signalIo(): void {
    if (this.frozen) this.heldIo = true;
    else if (!this.ioIrq.signal()) this.migration?.holdInterrupt(VFIO_CCW_IO_IRQ_INDEX);
  }
  /** A channel report waits to be read. */
  signalCrw(): void {
    if (this.frozen) return;
    if (!this.crwIrq.signal()) this.migration?.holdInterrupt(VFIO_CCW_CRW_IRQ_INDEX);
  }

  /** Result of the last request of region 0; also what its write returns when it is not 0. */
  get ioRetCode(): number {
    return viewOf(this.ioRegion).getInt32(IO_RET_CODE, this.#littleEndian);
  }
  set ioRetCode(value: number) {
    viewOf(this.ioRegion).setInt32(IO_RET_CODE, value, this.#littleEndian);
  }
  /** The same of region 1. */
  get cmdRetCode(): number {
    return viewOf(this.cmdRegion).getInt32(CMD_RET_CODE, this.#littleEndian);
  }
  set cmdRetCode(value: number) {
    viewOf(this.cmdRegion).setInt32(CMD_RET_CODE, value, this.#littleEndian);
  }
  get command(): number {
    return viewOf(this.cmdRegion).getUint32(CMD_COMMAND, this.#littleEndian);
  }

  /** Makes the (empty) channel program of an open device. @returns 0, or -ENOMEM when the heap is full. */
  createProgram(): number {
    try {
      this.program ??= new ChannelProgram(this.vfio.core);
      return 0;
    } catch (error) {
      if (error instanceof VfioError) return -error.errno;
      throw error;
    }
  }

  /** Releases the program that is held: the hardware lets go of its storage first, then its pages are unpinned. Nothing without one. */
  freeProgram(): void {
    if (this.program === null || !this.program.held) return;
    this.subchannel.hardware.revoke();
    this.program.free();
    const { request } = this;
    this.request = null;
    if (request === null) return;
    this.vfio.core.exports.iommu_destroy(request.iommu);
    request.end(request.outcome);
  }

  destroyProgram(): void {
    this.freeProgram();
    this.program?.destroy();
    this.program = null;
  }
}
