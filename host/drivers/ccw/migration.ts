// Migration of a vfio-ccw device. A subchannel has no memory-mapped registers and can be silenced at once, so P2P is a change of state only and stopping
// is one step: what runs ends or is halted, the status it leaves is frozen in the I/O region and told on the side that runs next. The disk itself
// is host hardware that both sides reach; only what the control unit keeps for this path travels. Sheet: spec migration section C.5.
//
// State (little-endian, below 1 KiB):
//   u32 magic@0 'VCCW', u32 version@4, u8 flags@8 (1: an interrupt waits), u8 lpm@9, u8 opm@10, u8 reports@11, io region@12 (124),
//   command region@136 (8), u32 device bytes@144, reports@148 (4 each), device state behind them
import { EFAULT, EINVAL, EIO } from '../../../assembly/abi.ts';
import { VFIO_MIGRATION_P2P, VFIO_MIGRATION_STOP_COPY } from '../../uapi/constants.ts';
import { isLive } from '../../vfio/migration_states.ts';
import type { VfioAccessOps, VfioMigrationOps } from '../../vfio/ops.ts';
import { viewOf } from '../../vfio/user.ts';
import { type CcwDevice, CMD_REGION_SIZE, IO_REGION_SIZE } from './device.ts';
import { REGION_SHIFT, regionAt } from './regions.ts';

const MAGIC = 0x57434356;
const VERSION = 1;
const IO = 12;
const CMD = IO + IO_REGION_SIZE;
const DEVICE_SIZE = CMD + CMD_REGION_SIZE;
const REPORTS = DEVICE_SIZE + 4;
const FLAG_INTERRUPT = 1;
/** Reports beyond these are lost, and the last one says so. */
const MAX_REPORTS = 64;
const CRW_OVERFLOW = 0x20000000;
const MAX_DEVICE = 512;
const CAPACITY = REPORTS + 4 * MAX_REPORTS + MAX_DEVICE;
/** What a halt may take, milliseconds; the hardware does it at once. */
const HALT_WAIT_MS = 3000;

export const ccwMigration: VfioMigrationOps<CcwDevice> = {
  flags: (device) =>
    device.subchannel.hardware.saveDevice === undefined ? 0 : VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
  dataSize: (device) => BigInt(REPORTS + 4 * Math.min(MAX_REPORTS, device.crws.length) + (saved(device)?.length ?? 0)),
  step(device, from, to) {
    if (isLive(from) && !isLive(to)) return silence(device);
    if (!isLive(from) && isLive(to)) wake(device);
    return 0;
  },
  restart(device) {
    // What the user was to hear belongs to what the reset ended.
    device.heldIo = false;
    wake(device);
  },
  source: (device) => ({ end: () => save(device) }),
  sink: (device) => ({
    capacity: CAPACITY,
    check: (received) => (received.length >= 8 && !known(received) ? -EFAULT : 0),
    load: (received) => (load(device, received) ? 0 : -EINVAL),
  }),
};

/** Every region starts an operation or consumes something; a stopped device allows neither. */
export const ccwAccess: VfioAccessOps<CcwDevice> = {
  region(device, offset) {
    const region = offset < 0n ? undefined : regionAt(device, Number(offset >> BigInt(REGION_SHIFT)));
    if (region === undefined) return undefined;
    const pos = offset & BigInt((1 << REGION_SHIFT) - 1);
    return { kind: 'request', left: BigInt(region.size) - pos };
  },
};

const saved = (device: CcwDevice): Uint8Array | null => device.subchannel.hardware.saveDevice?.() ?? null;

/**
 * Lets the running program end, or halts it, and holds back what it has to say. @returns 0; -EIO the device is not operational or does not
 * end; then it goes on as before.
 */
function silence(device: CcwDevice): number {
  const { subchannel } = device;
  const { hardware } = subchannel;
  if (device.state === 'NOT_OPER') return -EIO;
  device.frozen = true;
  hardware.settle();
  device.ioWork.flush();
  // Cancelling would leave a guest waiting for a program that nothing is ever said about; a halt or clear is answered.
  for (const end of [() => subchannel.halt(), () => subchannel.clear()]) {
    if (device.state !== 'CP_PENDING') break;
    end();
    hardware.elapse(HALT_WAIT_MS);
    device.ioWork.flush();
  }
  if (device.state !== 'IDLE') {
    wake(device);
    return -EIO;
  }
  device.crwWork.flush();
  // From here on the hardware keeps what it has to say until somebody listens again.
  device.listener = hardware.listener;
  hardware.listener = null;
  return 0;
}

/** The device may speak again: what was held back is said, what the hardware kept is heard. */
function wake(device: CcwDevice): void {
  const { hardware } = device.subchannel;
  device.frozen = false;
  if (device.listener !== null) {
    hardware.listener = device.listener;
    device.listener = null;
  }
  if (device.heldIo) {
    device.heldIo = false;
    device.signalIo();
  }
  if (device.crws.length > 0) device.signalCrw();
}

function save(device: CcwDevice): Uint8Array {
  const reports = device.crws.slice(0, MAX_REPORTS);
  if (device.crws.length > MAX_REPORTS) reports[MAX_REPORTS - 1] = (reports[MAX_REPORTS - 1]! | CRW_OVERFLOW) >>> 0;
  const state = saved(device) ?? new Uint8Array(0);
  const bytes = new Uint8Array(REPORTS + 4 * reports.length + state.length);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  bytes.set([device.heldIo ? FLAG_INTERRUPT : 0, device.subchannel.lpm, device.subchannel.opm, reports.length], 8);
  bytes.set(device.ioRegion, IO);
  bytes.set(device.cmdRegion, CMD);
  view.setUint32(DEVICE_SIZE, state.length, true);
  reports.forEach((report, i) => {
    view.setUint32(REPORTS + 4 * i, report, true);
  });
  bytes.set(state, REPORTS + 4 * reports.length);
  return bytes;
}

const known = (bytes: Uint8Array): boolean => {
  const view = viewOf(bytes);
  return view.getUint32(0, true) === MAGIC && view.getUint32(4, true) === VERSION;
};

function load(device: CcwDevice, bytes: Uint8Array): boolean {
  if (bytes.length < REPORTS || !known(bytes)) return false;
  const view = viewOf(bytes);
  const flags = bytes[8]!;
  const reports = bytes[11]!;
  const size = view.getUint32(DEVICE_SIZE, true);
  if ((flags & ~FLAG_INTERRUPT) !== 0 || reports > MAX_REPORTS || bytes.length !== REPORTS + 4 * reports + size)
    return false;
  if (device.subchannel.hardware.loadDevice?.(bytes.slice(REPORTS + 4 * reports)) !== true) return false;
  device.heldIo = (flags & FLAG_INTERRUPT) !== 0;
  // Paths that this side does not have stay out, whatever the other side had.
  device.subchannel.store();
  device.subchannel.opm &= bytes[10]!;
  device.subchannel.lpm = bytes[9]! & device.subchannel.opm;
  device.ioRegion.set(bytes.subarray(IO, CMD));
  device.cmdRegion.set(bytes.subarray(CMD, DEVICE_SIZE));
  device.crws.splice(
    0,
    device.crws.length,
    ...Array.from({ length: reports }, (_, i) => view.getUint32(REPORTS + 4 * i, true)),
  );
  return true;
}
