// CCWs, ORBs and IRBs as a reader wants to see them.

export interface GuestCcw {
  readonly address: number;
  readonly cmd: number;
  readonly flags: number;
  readonly count: number;
  readonly cda: number;
}

export const TIC = 0x08;
const FLAGS: readonly [number, string][] = [
  [0x80, 'CD'],
  [0x40, 'CC'],
  [0x20, 'SLI'],
  [0x10, 'SKIP'],
  [0x08, 'PCI'],
  [0x04, 'IDA'],
  [0x02, 'S'],
  [0x01, 'MIDA'],
];

/** What a flag byte says, in the architecture's abbreviations. */
export const flagNames = (flags: number): string =>
  FLAGS.filter(([bit]) => (flags & bit) !== 0)
    .map(([, name]) => name)
    .join(' ');

/** A CCW of the guest, either format, from its 8 bytes. */
export function decode(bytes: Uint8Array, format: 0 | 1, address: number): GuestCcw {
  const [b0 = 0, b1 = 0, b2 = 0, b3 = 0, b4 = 0, b5 = 0, b6 = 0, b7 = 0] = bytes;
  if (format === 1)
    return {
      address,
      cmd: b0,
      flags: b1,
      count: (b2 << 8) | b3,
      cda: ((b4 << 24) | (b5 << 16) | (b6 << 8) | b7) >>> 0,
    };
  const tic = (b0 & 0x0f) === TIC;
  return {
    address,
    cmd: tic ? TIC : b0,
    flags: tic ? 0 : b4,
    count: tic ? 0 : (b6 << 8) | b7,
    cda: (b1 << 16) | (b2 << 8) | b3,
  };
}

/** Format 1 bytes of a CCW. */
export function encode(ccw: Omit<GuestCcw, 'address'>): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, ccw.cmd);
  view.setUint8(1, ccw.flags);
  view.setUint16(2, ccw.count);
  view.setUint32(4, ccw.cda);
  return bytes;
}

const COMMON: Record<number, string> = {
  3: 'no-operation',
  4: 'sense',
  8: 'transfer in channel',
  228: 'sense id',
  52: 'sense path group',
  175: 'set path group',
  100: 'read characteristics',
};
const BY_TYPE: Record<string, Record<number, string>> = {
  '3390': {
    99: 'define extent',
    71: 'locate record',
    75: 'locate record ext.',
    231: 'prefix',
    134: 'read data',
    6: 'read data',
    133: 'write data',
    5: 'write data',
    29: 'write CKD',
    157: 'write CKD',
    18: 'read count',
    146: 'read count',
    142: 'read key, data',
    141: 'write key, data',
    14: 'read key, data',
    165: 'write track data',
    166: 'read track data',
  },
  '9336': { 99: 'define extent', 67: 'locate', 65: 'write', 66: 'read' },
  '3480': { 219: 'mode set', 1: 'write', 2: 'read', 7: 'rewind', 31: 'write tape mark' },
  '3590': { 219: 'mode set', 1: 'write', 2: 'read', 7: 'rewind', 31: 'write tape mark' },
  '3270': {
    1: 'write',
    5: 'erase/write',
    13: 'erase/write alt.',
    2: 'read buffer',
    6: 'read modified',
    17: 'write structured field',
  },
  '3215': { 1: 'write' },
  '3088': { 1: 'write', 2: 'read', 227: 'prepare', 195: 'set mode', 20: 'sense command' },
  'virtio-ccw': {
    17: 'write features',
    18: 'read features',
    19: 'set up queue',
    34: 'read config',
    49: 'write status',
    50: 'read queue config',
    51: 'reset',
    131: 'set revision',
  },
};

/** The name of a command on a device of this type. */
export const commandName = (cmd: number, devtype: string): string =>
  BY_TYPE[devtype]?.[cmd] ?? COMMON[cmd] ?? 'unknown command';

const UNIT: readonly [number, string][] = [
  [0x80, 'attention'],
  [0x40, 'status modifier'],
  [0x20, 'control unit end'],
  [0x10, 'busy'],
  [0x08, 'channel end'],
  [0x04, 'device end'],
  [0x02, 'unit check'],
  [0x01, 'unit exception'],
];
const CHANNEL: readonly [number, string][] = [
  [0x80, 'PCI'],
  [0x40, 'incorrect length'],
  [0x20, 'program check'],
  [0x10, 'protection check'],
  [0x08, 'channel data check'],
  [0x04, 'channel control check'],
  [0x02, 'interface control check'],
  [0x01, 'chaining check'],
];
const words = (table: readonly [number, string][], value: number) =>
  table
    .filter(([bit]) => (value & bit) !== 0)
    .map(([, name]) => name)
    .join(', ') || 'none';

/** What a unit status byte says. */
export const unitStatusNames = (status: number): string => words(UNIT, status);

/** An IRB in words. */
export function describeIrb(irb: Uint8Array): {
  cpa: number;
  residual: number;
  unit: number;
  channel: number;
  text: string;
} {
  const view = new DataView(irb.buffer, irb.byteOffset, irb.byteLength);
  const unit = view.getUint8(8);
  const channel = view.getUint8(9);
  const cpa = view.getUint32(4);
  const residual = view.getUint16(10);
  return {
    cpa,
    residual,
    unit,
    channel,
    text: `device status: ${words(UNIT, unit)}; subchannel status: ${words(CHANNEL, channel)}; ${residual} bytes left over`,
  };
}
