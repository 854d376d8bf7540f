// Programs of the 2016 request, stage two: one buffer of CCWs that name slots of user virtual addresses becomes a runnable program with real pins.
// No kernel counterpart was merged. Source: spec ccw, section 11; the layout of the buffer is ours (docs/uapi/ccw.md).
//
//   buffer (4096 bytes)   CCW i at 8 i, format-1; slot at any 8 bytes of the upper half, little-endian: user virtual address of the data, or with the
//                         IDA flag of a list of 8-byte big-endian words, each a user virtual address, in 4 KiB blocks
//
// The program is one chain at guest address 0, so that a CPA comes back as a byte offset into the buffer.
import {
  CCWCHAIN_LEN_MAX, CCW_CMD_NOOP, CP_IOMMU, CP_STATE, CP_STATE_NONE, CP_STATE_TRANSLATED, CP_WORD1, EBUSY, EINVAL, ENOMEM, PAGE_SHIFT_4K,
} from '../abi';
import { ccw_cmd, ccw_count, ccw_is_idal, ccw_is_tic, ccw_moved, ccw_target } from './ccw';
import { chain_add, chain_room, cp_free, cp_set_geometry } from './cp';
import { ccw_translate } from './idal';
import { pins_close, pins_open } from './page_array';

/** Bytes of the buffer's half that holds CCWs; the slots begin here. */
const SLOTS: u32 = CCWCHAIN_LEN_MAX << 3;
const LAST_SLOT: u32 = SLOTS + (CCWCHAIN_LEN_MAX - 1 << 3);

/**
 * Copies and translates a flat program in one step.
 * @param iommu the caller's address space, every address mapped to itself; kept until cp_free. @param word1 second word of the ORB; format-1,
 * prefetch and 64-bit IDAWs of 4 KiB are the host's to check. @param buffer linear address of a private copy of the 4096 bytes.
 * @param len CCWs, 1 to 256.
 * @returns 0; EBUSY: a program is held; EINVAL: len, a TIC beyond the CCWs' half, a slot outside the upper half, a direct CCW that moves nothing;
 * EFAULT: no memory of the caller's at an address; EPERM, ENOMEM from pinning; ENOMEM: the heap is full. After a failure nothing is held.
 */
export function cp_init_flat(cp: usize, iommu: usize, word1: u32, buffer: usize, len: u32): i32 {
  if (load<u32>(cp, CP_STATE) != CP_STATE_NONE) return -EBUSY;
  if (len == 0 || len > <u32>CCWCHAIN_LEN_MAX) return -EINVAL;
  const host = chain_room(cp);
  if (host == 0) return -ENOMEM;
  chain_add(cp, 0, len, host, len);
  store<u32>(cp, <u32>iommu, CP_IOMMU);
  store<u32>(cp, word1, CP_WORD1);
  cp_set_geometry(cp, 8, PAGE_SHIFT_4K);
  store<u32>(cp, CP_STATE_TRANSLATED, CP_STATE);
  // A TIC may lead behind the last CCW: what a device finds there is no CCW.
  memory.fill(host + (<usize>len << 3), 0, SLOTS - (len << 3));
  pins_open(cp);
  let result: i32 = 0;
  for (let at: usize = 0; at < <usize>len << 3 && result == 0; at += 8) {
    result = ccw_place(cp, host, host + at, buffer, load<u64>(buffer + at));
  }
  pins_close(cp);
  if (result < 0) cp_free(cp);
  return result;
}

/** Stores one CCW of the buffer as the device will fetch it. */
// @ts-expect-error: decorator
@inline
function ccw_place(cp: usize, host: usize, at: usize, buffer: usize, w: u64): i32 {
  const offset = ccw_target(w);
  if (ccw_is_tic(w)) {
    if (offset >= SLOTS) return -EINVAL;
    store<u64>(at, ccw_moved(w, <u32>host + offset, 0));
    return 0;
  }
  // The no-operation and test commands are left alone.
  if (ccw_cmd(w) == CCW_CMD_NOOP || (ccw_cmd(w) & 0x0f) == 0) {
    store<u64>(at, w);
    return 0;
  }
  if (offset < SLOTS || offset > LAST_SLOT) return -EINVAL;
  if (!ccw_is_idal(w) && ccw_count(w) == 0) return -EINVAL;
  return ccw_translate(cp, at, w, load<u64>(buffer + offset), true);
}
