// The smallest migratable device with every feature: a bank of registers that counts what was done to it. A harness can make any arc fail, run code
// inside an arc, and choose the feature set.
import { EINVAL } from '../../assembly/abi.ts';
import type { Core } from '../../host/core.ts';
import { VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import { VfioDevice } from '../../host/vfio/device.ts';
import { GroupDeviceFile } from '../../host/vfio/device_file.ts';
import { DmaLog, dmaLogOps } from '../../host/vfio/dma_logging.ts';
import { MigrationRegion } from '../../host/vfio/migration_v1.ts';
import type { VfioDeviceOps, VfioMigrationOps } from '../../host/vfio/ops.ts';
import { Vfio } from '../../host/vfio/vfio.ts';

/** Offsets of the regions: registers, request region, configuration, and the older migration region. */
export const REGS = 0n;
export const REQUEST = 1n << 40n;
export const CONFIG = 7n << 40n;
export const OLD_MIGRATION = 9n << 40n;
/** Bytes of the registers. */
export const BANK = 64;
/** An ioctl that starts an operation. */
export const OPERATE = 0x3bff;

export class BankDevice extends VfioDevice {
  readonly features: number;
  regs = new Uint8Array(BANK);
  config = new Uint8Array(BANK);
  requests = 0;
  operations = 0;
  /** Arcs walked, as `from>to`. */
  readonly arcs: string[] = [];
  /** Makes the arc fail with this errno, until taken away. */
  failArc: { from: number; to: number; errno: number; error?: boolean } | null = null;
  /** Runs inside each arc. */
  inArc: ((from: number, to: number) => void) | null = null;
  restarts = 0;
  /** Bytes that changed while pre-copying. */
  changed: number[] = [];
  readonly log = new DmaLog(4);
  readonly old: MigrationRegion | null;

  constructor(vfio: Vfio, name: string, features: number) {
    super(vfio, name, bankOps);
    this.features = features;
    this.old = this.migration === null ? null : new MigrationRegion(this.migration, 48);
  }
}

const migration: VfioMigrationOps<BankDevice> = {
  flags: (device) => device.features,
  dataSize: () => BigInt(BANK),
  step(device, from, to) {
    device.inArc?.(from, to);
    const fail = device.failArc;
    if (fail !== null && fail.from === from && fail.to === to) {
      if (fail.error === true) device.migration!.fail();
      return -fail.errno;
    }
    device.arcs.push(`${from}>${to}`);
    return 0;
  },
  restart(device) {
    device.restarts++;
  },
  // A pre-copied stream: 16 bytes of identity first, then pairs (index, value) of what changed, then an 0xff and the whole bank.
  source: (device) => ({
    begin: () => new Uint8Array(16).fill(0xab),
    more: () => new Uint8Array(device.changed.splice(0).flatMap((index) => [index, device.regs[index]!])),
    dirtyBytes: () => device.changed.length * 2,
    end: () => Uint8Array.of(0xff, ...device.regs),
  }),
  sink: (device) => ({
    capacity: 4096,
    check: (received) => (received.length > 0 && received[0] !== 0xab && received[0] !== 0xff ? -EINVAL : 0),
    load(received) {
      if (received.length < BANK + 1) return -EINVAL;
      const bank = received.subarray(received.length - BANK);
      if (received[received.length - BANK - 1] !== 0xff) return -EINVAL;
      device.regs.set(bank);
      return 0;
    },
  }),
};

const bankOps: VfioDeviceOps<BankDevice> = {
  name: 'bank',
  read(device, task, buffer, offset) {
    const region = Number(offset >> 40n);
    const at = Number(offset & 0xffffffffffn);
    if (region === 9) return device.old?.read(task, buffer, at) ?? -EINVAL;
    const bytes = region === 7 ? device.config : device.regs;
    return buffer.copyOut(0, bytes.subarray(at, at + buffer.length)) ? buffer.length : -EINVAL;
  },
  write(device, task, buffer, offset) {
    const region = Number(offset >> 40n);
    const at = Number(offset & 0xffffffffffn);
    if (region === 9) return device.old?.write(task, buffer, at) ?? -EINVAL;
    if (region === 1) device.requests++;
    const bytes = buffer.copyIn(0, buffer.length)!;
    (region === 7 ? device.config : device.regs).set(bytes, at);
    if (region === 0) for (let i = 0; i < bytes.length; i++) device.changed.push(at + i);
    return buffer.length;
  },
  ioctl(device, _task, request) {
    if (request === VFIO_DEVICE_RESET) {
      device.regs.fill(0);
      return 0;
    }
    if (request === OPERATE) device.operations++;
    return 0;
  },
  mmap(device) {
    return {
      kind: 'io',
      io: {
        read(at, into) {
          into.set(device.regs.subarray(at, at + into.length));
          return true;
        },
        write(at, from) {
          device.regs.set(from, at);
          return true;
        },
      },
    };
  },
  migration,
  log: dmaLogOps((device: BankDevice) => device.log),
  access: {
    region(_device, offset) {
      const region = Number(offset >> 40n);
      const left = BigInt(BANK) - (offset & 0xffffffffffn);
      if (region === 0) return { kind: 'mmio', left };
      if (region === 1) return { kind: 'request', left };
      if (region === 7) return { kind: 'config', left };
      if (region === 9) return { kind: 'config', left: 4096n };
      return undefined;
    },
  },
};

/** An instance with one open device of this feature set, and the task that holds it. */
export function openBank(core: Core, features: number) {
  const vfio = new Vfio(core, { iommuDrivers: () => [] });
  const task = vfio.task();
  const device = new BankDevice(vfio, 'bank', features);
  vfio.registerDevice(device, '90', 'emulated');
  device.open();
  const file = new GroupDeviceFile(device, () => device.close());
  const fd = task.install(file);
  return { vfio, task, device, file, fd };
}
