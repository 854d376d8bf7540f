// Channel-command words and the ORB as bits. Kernel counterpart: asm/cio.h, asm/scsw.h and the predicates of vfio_ccw_cp.c.
// Source: spec ccw, sections 2.0 and 5.1.
//
// A CCW is handled as the u64 that one little-endian load of its eight big-endian bytes gives, called `w`:
//   format-1:  bits 0-7 command, 8-15 flags, 16-31 count (swapped), 32-63 address (swapped)
//   format-0:  bits 0-7 command, 8-31 address (24 bits, swapped), 32-39 flags, 40-47 ignored, 48-63 count (swapped)
import { CCW_CMD_NOOP, CCW_CMD_TIC, CCW_FLAG_CC, CCW_FLAG_CD, CCW_FLAG_IDA, CCW_FLAG_SKIP } from '../abi';
import { swap32 } from '../mem';

// @ts-expect-error: decorator
@inline
export function ccw_cmd(w: u64): u32 {
  return <u32>w & 0xff;
}

// @ts-expect-error: decorator
@inline
export function ccw_count(w: u64): u32 {
  return ((<u32>w >> 24) & 0xff) | ((<u32>w >> 8) & 0xff00);
}

// @ts-expect-error: decorator
@inline
export function ccw_cda(w: u64): u32 {
  return swap32(<u32>(w >> 32));
}

/** The count of the format-1 CCW at `p`: a test of its own, where ccw_count in a loop would be computed before every other test. */
// @ts-expect-error: decorator
@inline
export function count_at(p: usize): u32 {
  const swapped = <u32>load<u16>(p, 2);
  return ((swapped << 8) & 0xff00) | (swapped >> 8);
}

/** Chains on to the next CCW by command or data chaining. */
// @ts-expect-error: decorator
@inline
export function ccw_is_chain(w: u64): bool {
  return (<u32>w & ((CCW_FLAG_CC | CCW_FLAG_CD) << 8)) != 0;
}

/** ccw_cda and ccw_with_cda as calls, for those that come by rarely: a TIC, a flat program. */
export function ccw_target(w: u64): u32 {
  return ccw_cda(w);
}

export function ccw_moved(w: u64, cda: u32, flags: u32): u64 {
  return ccw_with_cda(w, cda, flags);
}

/** Exactly 0x08: in format-1 the other commands that end in 8 are ordinary ones. */
// @ts-expect-error: decorator
@inline
export function ccw_is_tic(w: u64): bool {
  return ccw_cmd(w) == CCW_CMD_TIC;
}

// @ts-expect-error: decorator
@inline
export function ccw_is_idal(w: u64): bool {
  return (<u32>w & (CCW_FLAG_IDA << 8)) != 0;
}

/** The same CCW with another data address and the IDA flag as given. */
// @ts-expect-error: decorator
@inline
export function ccw_with_cda(w: u64, cda: u32, flags: u32): u64 {
  return <u64>(<u32>w | (flags << 8)) | (<u64>swap32(cda) << 32);
}

/** Format-0 to format-1. Every command that ends in 8 is a TIC, whose flags and count mean nothing and become 0. */
// @ts-expect-error: decorator
@inline
export function ccw_from_format0(w: u64): u64 {
  const address = (w << 32) & 0xffffff0000000000;
  if ((<u32>w & 0x0f) == CCW_CMD_TIC) return CCW_CMD_TIC | address;
  return (w & 0xff) | ((w >> 24) & 0xff00) | ((w >> 32) & 0xffff0000) | address;
}

/**
 * Does a CCW (not a TIC) move data? Section 5.2 step 5: not with count 0, not the no-operation; with SKIP only writes and
 * controls do, for which the device ignores the flag.
 */
// @ts-expect-error: decorator
@inline
export function ccw_does_data_transfer(w: u64): bool {
  const cmd = ccw_cmd(w);
  if ((<u32>w >> 16) == 0 || cmd == CCW_CMD_NOOP) return false;
  if ((<u32>w & (CCW_FLAG_SKIP << 8)) == 0) return true;
  const read = (cmd & 3) == 2;
  const read_backward = (cmd & 15) == 12;
  const sense = (cmd & 15) == 4;
  return !(read || read_backward || sense);
}

/**
 * Does `address` lie in the chain of `len` CCWs at `head`? Both ends are the addresses of CCWs and belong to it; alignment is not
 * looked at. 32-bit arithmetic: the upper end may wrap, and then nothing lies inside (section 5.1, range rule).
 */
// @ts-expect-error: decorator
@inline
export function in_chain(address: u32, head: u32, len: u32): bool {
  return head <= address && address <= head + ((len - 1) << 3);
}
