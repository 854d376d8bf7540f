// Migration of an mtty card: the documented stream, byte for byte. Configuration space and interrupts are not in it; the user sets them up again.
// Source: spec mdev section 8.
//
// Header (24, little-endian): u64 magic@0, u32 major@8, u32 minor@12, u32 ports@16, u32 flags@20 = 0
// Port (36): registers[8]@0, fifo[16]@8, u8 head@24, tail@25, count@26, dlab@27, overrun@28, 0@29, u16 divisor@30, u8 fcr@32,
//            max_fifo_size@33, trigger_level@34, 0@35
import { EFAULT, EINVAL } from '../../../assembly/abi.ts';
import type { UartState } from '../../devices/mtty_uart.ts';
import {
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_PCI_CONFIG_REGION_INDEX,
} from '../../uapi/constants.ts';
import type { VfioAccessOps, VfioLogOps, VfioMigrationOps } from '../../vfio/ops.ts';
import { viewOf } from '../../vfio/user.ts';
import type { MttyDevice } from './mtty.ts';

const MAGIC = 0x7e9d09898c3e2c4en;
const MAJOR = 1;
const MINOR = 0;
const HEADER = 24;
const PORT = 36;
const FIFO_SIZE = 16;

const streamSize = (device: MttyDevice): number => HEADER + PORT * device.ports.length;

function header(device: MttyDevice): Uint8Array {
  const bytes = new Uint8Array(HEADER);
  const view = viewOf(bytes);
  view.setBigUint64(0, MAGIC, true);
  view.setUint32(8, MAJOR, true);
  view.setUint32(12, MINOR, true);
  view.setUint32(16, device.ports.length, true);
  return bytes;
}

function savePort(port: UartState, bytes: Uint8Array): void {
  const view = viewOf(bytes);
  bytes.set(port.registers, 0);
  bytes.set(port.fifo, 8);
  bytes.set([port.head, port.tail, port.count, port.dlab ? 1 : 0, port.overrun ? 1 : 0, 0], 24);
  view.setUint16(30, port.divisor, true);
  bytes.set([port.fcr, port.maxFifoSize, port.triggerLevel, 0], 32);
}

function loadPort(port: UartState, bytes: Uint8Array): void {
  port.registers.set(bytes.subarray(0, 8));
  port.fifo.set(bytes.subarray(8, 24));
  // The indexes come from outside: kept inside the fifo.
  port.head = bytes[24]! % FIFO_SIZE;
  port.tail = bytes[25]! % FIFO_SIZE;
  port.count = bytes[26]!;
  port.dlab = bytes[27] !== 0;
  port.overrun = bytes[28] !== 0;
  port.divisor = viewOf(bytes).getUint16(30, true);
  port.fcr = bytes[32]!;
  port.maxFifoSize = bytes[33]!;
  port.triggerLevel = bytes[34]!;
}

function save(device: MttyDevice, withHeader: boolean): Uint8Array {
  const start = withHeader ? HEADER : 0;
  const bytes = new Uint8Array(start + PORT * device.ports.length);
  if (withHeader) bytes.set(header(device));
  device.ports.forEach((port, i) => {
    savePort(port, bytes.subarray(start + PORT * i, start + PORT * (i + 1)));
  });
  return bytes;
}

export const mttyMigration: VfioMigrationOps<MttyDevice> = {
  flags: () => VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
  dataSize: (device) => BigInt(streamSize(device)),
  source(device) {
    let begun = false;
    return {
      begin() {
        begun = true;
        return header(device);
      },
      end: () => save(device, !begun),
    };
  },
  sink: (device) => ({
    capacity: streamSize(device),
    check(received) {
      if (received.length < HEADER) return 0;
      const expected = header(device);
      return expected.every((byte, i) => byte === received[i]) ? 0 : -EFAULT;
    },
    load(received) {
      if (received.length < streamSize(device)) return -EINVAL;
      device.ports.forEach((port, i) => {
        loadPort(port, received.subarray(HEADER + PORT * i, HEADER + PORT * (i + 1)));
      });
      return 0;
    },
  }),
};

/** mtty does no DMA: every log is empty. */
export const mttyLog: VfioLogOps<MttyDevice> = {
  start: (_device, _ranges, pageSize) => pageSize,
  stop: () => 0,
  readAndClear: () => 0,
};

export const mttyAccess: VfioAccessOps<MttyDevice> = {
  region(device, offset) {
    const index = Number(offset >> 40n);
    const left = BigInt(device.regionSize(index)) - (offset & 0xffffffffffn);
    return { kind: index === VFIO_PCI_CONFIG_REGION_INDEX ? 'config' : 'mmio', left };
  },
  ioctl: () => undefined,
};
