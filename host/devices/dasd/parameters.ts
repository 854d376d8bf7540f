// Parameters of DEFINE EXTENT, LOCATE RECORD (and EXTENDED) and PREFIX, decoded. Source: spec channel-devices, 3390 section.
//
// DEFINE EXTENT, 16 bytes: mask u8@0, global attributes u8@1, block size u16@2, first track (cc hh)@8, last track (cc hh)@12
// LOCATE RECORD, 16: operation u8@0 (orientation in bits 0-1), auxiliary u8@1, count u8@3, seek (cc hh)@4, search (cc hh r)@8, sector
//   u8@13, transfer length u16@14; EXTENDED, 20 and more: extended operation u8@17, length of its parameters u16@18, parameters@20
// PREFIX: format u8@0, validity u8@1, define extent @12 (32 bytes), locate record extended @44 (format 1) or subsystem order @62 (format 2)
import { HEADS } from './track.ts';

export const DEFINE_EXTENT_SIZE = 16;
export const LOCATE_RECORD_SIZE = 16;
export const LOCATE_RECORD_EXTENDED_SIZE = 20;
export const PREFIX_FORMAT = 0;
export const PREFIX_VALIDITY = 1;
export const PREFIX_DEFINE_EXTENT = 12;
export const PREFIX_LOCATE_RECORD = 44;
export const PREFIX_ORDER = 62;
export const PREFIX_EXTENT_VALID = 0x80;

/** Bits 0-1 of the mask. */
export const MASK_WRITES = 0xc0;
export const MASK_NO_HA_R0 = 0x00;
export const MASK_NO_WRITES = 0x40;
export const MASK_NO_FORMAT = 0x80;

/** Bits 3-4 of the mask: which seeks are allowed. */
export const MASK_SEEKS = 0x18;
export const MASK_NO_SEEK = 0x08;
export const MASK_HEAD_SEEK_ONLY = 0x10;
export const MASK_NO_SEEKS = 0x18;

export interface Extent {
  readonly mask: number;
  readonly blockSize: number;
  /** Track numbers, inclusive. */
  readonly first: number;
  readonly last: number;
}

/** Orientation, bits 0-1 of the operation byte. */
export const ORIENT_COUNT = 0;
export const ORIENT_HOME_ADDRESS = 1;
export const ORIENT_DATA = 2;
export const ORIENT_INDEX = 3;

// Operation, bits 2-7
export const OP_ORIENT = 0x00;
export const OP_WRITE_DATA = 0x01;
export const OP_FORMAT_WRITE = 0x03;
export const OP_READ_DATA = 0x06;
export const OP_WRITE_TRACK = 0x0b;
export const OP_READ_TRACKS = 0x0c;
export const OP_READ = 0x16;
export const OP_EXTENDED = 0x3f;
/** Extended operations. */
export const EXT_READ_ANY = 0x0a;
export const EXT_WRITE_FULL_TRACK = 0x11;
export const EXT_WRITE_TRACK_DATA = 0x23;

export interface Locate {
  readonly orientation: number;
  readonly operation: number;
  readonly extendedOperation: number;
  /** Records or tracks to be processed. */
  readonly count: number;
  readonly seekCylinder: number;
  readonly seekHead: number;
  /** cc hh r as they stand. */
  readonly search: Uint8Array;
  /** 0 when the auxiliary byte says that there is none. */
  readonly transferLength: number;
}

/** @returns the extent, or null when a track of it cannot be. */
export function parseExtent(bytes: Uint8Array): Extent | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, DEFINE_EXTENT_SIZE);
  const track = (at: number) => {
    const head = view.getUint16(at + 2);
    return head < HEADS ? view.getUint16(at) * HEADS + head : -1;
  };
  const [first, last] = [track(8), track(12)];
  if (first < 0 || last < first) return null;
  return { mask: view.getUint8(0), blockSize: view.getUint16(2), first, last };
}

export function parseLocate(bytes: Uint8Array): Locate {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lengthValid = (view.getUint8(1) & 0x80) !== 0;
  return {
    orientation: view.getUint8(0) >> 6,
    operation: view.getUint8(0) & 0x3f,
    extendedOperation: bytes.length >= LOCATE_RECORD_EXTENDED_SIZE ? view.getUint8(17) : 0,
    count: view.getUint8(3),
    seekCylinder: view.getUint16(4),
    seekHead: view.getUint16(6),
    search: bytes.slice(8, 13),
    transferLength: lengthValid ? view.getUint16(14) : 0,
  };
}
