// Writes the blocks that come back from the channel subsystem: SCSW and IRB.
import {
  ECW_SIZE,
  ERW_CONCURRENT_SENSE,
  ERW_SENSE_COUNT_SHIFT,
  ESW_SIZE,
  SCSW_EXTENDED_CONTROL,
  SCSW_FROM_ORB,
  SCSW_ZERO_CC,
} from './cio.ts';
import { IRB_SIZE, SCSW_COUNT, SCSW_CPA, SCSW_DEVICE_STATUS, SCSW_SIZE, SCSW_SUBCHANNEL_STATUS } from './schib.ts';

export interface Scsw {
  /** ORB word 1 of the start function, 0 without one. */
  readonly orbFlags: number;
  /** Function, activity and status control bits. */
  readonly control: number;
  readonly ccwAddress: number;
  readonly unitStatus: number;
  readonly channelStatus: number;
  readonly residual: number;
  /** Zero-condition-code bit (initial-status interruption). */
  readonly zeroCc?: boolean;
  /** Deferred condition code. */
  readonly cc?: number;
  readonly sense?: Uint8Array | null;
}

/** Writes an SCSW (12 bytes) at `offset`. */
export function putScsw(into: Uint8Array, offset: number, scsw: Scsw): void {
  const view = new DataView(into.buffer, into.byteOffset + offset, SCSW_SIZE);
  const word0 =
    (scsw.orbFlags & SCSW_FROM_ORB) |
    ((scsw.cc ?? 0) << 24) |
    (scsw.zeroCc === true ? SCSW_ZERO_CC : 0) |
    (scsw.sense == null ? 0 : SCSW_EXTENDED_CONTROL) |
    scsw.control;
  view.setUint32(0, word0 >>> 0);
  view.setUint32(SCSW_CPA, scsw.ccwAddress);
  view.setUint8(SCSW_DEVICE_STATUS, scsw.unitStatus);
  view.setUint8(SCSW_SUBCHANNEL_STATUS, scsw.channelStatus);
  view.setUint16(SCSW_COUNT, scsw.residual);
}

/** Makes a 64-byte IRB: SCSW, a format-1 ESW with the last-used path mask, and concurrent sense in the ECW when there is some. */
export function makeIrb(scsw: Scsw, lpum: number): Uint8Array {
  const irb = new Uint8Array(IRB_SIZE);
  putScsw(irb, 0, scsw);
  irb[SCSW_SIZE + 1] = lpum;
  if (scsw.sense != null) {
    const count = Math.min(scsw.sense.length, ECW_SIZE);
    const erw = (ERW_CONCURRENT_SENSE | (count << ERW_SENSE_COUNT_SHIFT)) >>> 0;
    new DataView(irb.buffer).setUint32(SCSW_SIZE + 4, erw);
    irb.set(scsw.sense.subarray(0, count), SCSW_SIZE + ESW_SIZE);
  }
  return irb;
}
