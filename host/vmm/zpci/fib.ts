// The function information block of MPCIFC and STPCIFC: 80 bytes, big-endian (spec zdev section 3.3).
//
//   offset size field            offset size field
//        0    1 fmt, 0               40    4 word: isc 30..28, noi 27..16, aibvo 13..8, sum 7, aisbo 5..0
//        8    1 fc                   48    8 aibv
//       16    8 pba                  56    8 aisb
//       24    8 pal                  64    8 fmb address
//       32    8 iota                 76    4 gd

export const FIB_SIZE = 80;
export const FIB_FC_ENABLED = 0x80;
export const FIB_FC_ERROR = 0x40;
export const FIB_FC_LS_BLOCKED = 0x20;
export const FIB_FC_DMAAS_REGISTERED = 0x10;
/** The bits of the word that come back: all but 31, 15, 14 and 6. */
const WORD_MASK = 0x7fff3fbf;

export interface Fib {
  format: number;
  pba: bigint;
  pal: bigint;
  iota: bigint;
  word: number;
  aibv: bigint;
  aisb: bigint;
  fmb: bigint;
}

export function decodeFib(bytes: Uint8Array): Fib {
  const view = new DataView(bytes.buffer, bytes.byteOffset, FIB_SIZE);
  return {
    format: view.getUint8(0),
    pba: view.getBigUint64(16),
    pal: view.getBigUint64(24),
    iota: view.getBigUint64(32),
    word: view.getUint32(40),
    aibv: view.getBigUint64(48),
    aisb: view.getBigUint64(56),
    fmb: view.getBigUint64(64),
  };
}

/** What a function registered, as STPCIFC stores it. */
export function encodeFib(fc: number, fib: Omit<Fib, 'format'>): Uint8Array {
  const bytes = new Uint8Array(FIB_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint8(8, fc);
  view.setBigUint64(16, fib.pba);
  view.setBigUint64(24, fib.pal);
  view.setBigUint64(32, fib.iota);
  view.setUint32(40, fib.word & WORD_MASK);
  view.setBigUint64(48, fib.aibv);
  view.setBigUint64(56, fib.aisb);
  view.setBigUint64(64, fib.fmb);
  return bytes;
}
