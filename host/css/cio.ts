// Numbers and blocks of the channel subsystem: ORB, CCW, SCSW, IRB, device and subchannel status. All blocks are big-endian; words are
// numbered from 0. Source: spec ccw sections 2.0 and 5, spec channel-devices "Rules common to all devices".

// ORB, word 1
export const ORB_KEY = 0xf0000000;
export const ORB_SUSPEND = 0x08000000;
export const ORB_FORMAT1 = 0x00800000;
export const ORB_PREFETCH = 0x00400000;
export const ORB_INITIAL_STATUS = 0x00200000;
export const ORB_ADDRESS_LIMIT = 0x00100000;
export const ORB_SUPPRESS_SUSPENDED = 0x00080000;
export const ORB_IDAW64 = 0x00020000;
export const ORB_IDAW_2K = 0x00010000;
export const ORB_LENGTH_SUPPRESSION = 0x00000080;

// CCW flags, the same bits in both formats
export const CCW_CD = 0x80;
export const CCW_CC = 0x40;
export const CCW_SLI = 0x20;
export const CCW_SKIP = 0x10;
export const CCW_PCI = 0x08;
export const CCW_IDA = 0x04;
export const CCW_SUSPEND = 0x02;
export const CCW_MIDA = 0x01;
export const CMD_TIC = 0x08;
export const CMD_NOP = 0x03;

// Device (unit) status
export const ATTENTION = 0x80;
export const STATUS_MODIFIER = 0x40;
export const CONTROL_UNIT_END = 0x20;
export const BUSY = 0x10;
export const CHANNEL_END = 0x08;
export const DEVICE_END = 0x04;
export const UNIT_CHECK = 0x02;
export const UNIT_EXCEPTION = 0x01;
/** The normal end: channel end and device end. */
export const ENDED = CHANNEL_END | DEVICE_END;

// Subchannel (channel) status
export const CHANNEL_PCI = 0x80;
export const INCORRECT_LENGTH = 0x40;
export const PROGRAM_CHECK = 0x20;
export const PROTECTION_CHECK = 0x10;
export const CHANNEL_DATA_CHECK = 0x08;
export const CHANNEL_CONTROL_CHECK = 0x04;
export const INTERFACE_CONTROL_CHECK = 0x02;
export const CHAINING_CHECK = 0x01;

// SCSW word 0, beside the bits in schib.ts
/** Bits that START SUBCHANNEL copies from ORB word 1 as they are: key, S, F, P, I, A, U. */
export const SCSW_FROM_ORB = 0xf8f80000;
export const SCSW_ZERO_CC = 0x00040000;
export const SCSW_EXTENDED_CONTROL = 0x00020000;

export const ESW_SIZE = 20;
export const ECW_SIZE = 32;
/** ESW word 1 (extended-report word): concurrent sense is in the ECW, and how many bytes. */
export const ERW_CONCURRENT_SENSE = 0x01000000;
export const ERW_SENSE_COUNT_SHIFT = 16;

/** A channel-command word, decoded from either format. */
export interface Ccw {
  readonly command: number;
  readonly flags: number;
  readonly count: number;
  readonly address: number;
}

/** Decodes the CCW at `at`. A format-0 CCW whose command ends in 8 is a TIC without flags or count, whatever else it holds. */
export function decodeCcw(view: DataView, at: number, format1: boolean): Ccw {
  const word0 = view.getUint32(at);
  const word1 = view.getUint32(at + 4);
  if (format1) return { command: word0 >>> 24, flags: (word0 >>> 16) & 0xff, count: word0 & 0xffff, address: word1 };
  const command = word0 >>> 24;
  const address = word0 & 0xffffff;
  if ((command & 0x0f) === CMD_TIC) return { command: CMD_TIC, flags: 0, count: 0, address };
  return { command, flags: word1 >>> 24, count: word1 & 0xffff, address };
}

/** Which way the data of a command go, seen from storage. */
export type Direction = 'read' | 'backward' | 'write';

/** Direction from the low bits of a command: read, sense and read backward store into storage, write and control fetch from it. */
export function direction(command: number): Direction {
  if ((command & 0x0f) === 0x0c) return 'backward';
  return (command & 0x03) === 0x02 || (command & 0x0f) === 0x04 ? 'read' : 'write';
}

/** Would this status suppress command chaining, and so make an alert condition? */
export function isAlert(unitStatus: number, channelStatus: number): boolean {
  return (unitStatus & (ATTENTION | BUSY | UNIT_CHECK | UNIT_EXCEPTION)) !== 0 || (channelStatus & ~CHANNEL_PCI) !== 0;
}
