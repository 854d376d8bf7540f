// An IRB as the I/O region shows it, in the words of a recording.

import { ERW_CONCURRENT_SENSE, SCSW_EXTENDED_CONTROL, UNIT_CHECK } from '../css/cio.ts';
import {
  SCSW_ACTL_SUSPENDED,
  SCSW_COUNT,
  SCSW_CPA,
  SCSW_DEVICE_STATUS,
  SCSW_FCTL_CLEAR,
  SCSW_FCTL_HALT,
  SCSW_SUBCHANNEL_STATUS,
} from '../css/schib.ts';
import { type RecordedOutcome, type Recording, toAddress } from '../devices/recording.ts';
import { toHex } from '../hex.ts';

const ERW = 16;
const ECW = 32;

/** @param irb 64 bytes. `sense` comes with unit check, `irb` when the recording has one. */
export function outcomeOf(irb: Uint8Array, recording: Recording): RecordedOutcome {
  const view = new DataView(irb.buffer, irb.byteOffset, irb.byteLength);
  const word0 = view.getUint32(0);
  const byte = (at: number) => irb[at]!.toString(16).padStart(2, '0');
  const hasSense = (word0 & SCSW_EXTENDED_CONTROL) !== 0 && (view.getUint32(ERW) & ERW_CONCURRENT_SENSE) !== 0;
  return {
    kind: kindOf(word0),
    unit_status: byte(SCSW_DEVICE_STATUS),
    channel_status: byte(SCSW_SUBCHANNEL_STATUS),
    residual_count: view.getUint16(SCSW_COUNT),
    ccw_address: toAddress(view.getUint32(SCSW_CPA)),
    ...((irb[SCSW_DEVICE_STATUS]! & UNIT_CHECK) !== 0 && hasSense ? { sense: toHex(irb.subarray(ECW)) } : {}),
    ...(recording.outcome.irb === undefined ? {} : { irb: toHex(irb) }),
  };
}

function kindOf(word0: number): string {
  if ((word0 & SCSW_FCTL_CLEAR) !== 0) return 'clear';
  if ((word0 & SCSW_FCTL_HALT) !== 0) return 'halt';
  return (word0 & SCSW_ACTL_SUSPENDED) === 0 ? 'ended' : 'suspended';
}
