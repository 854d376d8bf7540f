// The 2016 form of a vfio-ccw request: one call that carries a whole channel program and comes back with its IRB. Linux never merged it, and only the
// names of its members are known; number and layout are ours. Source: spec ccw section 11; docs/uapi/ccw.md.
import { bytes, struct, u32, u64 } from './struct.ts';

/** Request number, type ';' like all of VFIO's, outside the ranges that VFIO (0x64 on) and iommufd (0x80 on) have assigned. */
export const VFIO_DEVICE_CCW_CMD_REQUEST = 0x3bf0;

/**
 * argsz u32@0, orb_area@4 (12 bytes, its CPA is not looked at: the program begins at the start of the buffer), scsw_area@16 (12),
 * irb_area@28 (96, out; its CPA is a byte offset into the buffer), ccwchain_nr u32@124 (1 to 256), u_ccwchain u64@128 (address of the
 * program buffer). The areas are big-endian, the numbers little-endian.
 */
export const VfioCcwCmdRequest = struct('vfio_ccw_cmd_request', {
  argsz: u32,
  orb_area: bytes(12),
  scsw_area: bytes(12),
  irb_area: bytes(96),
  ccwchain_nr: u32,
  u_ccwchain: u64,
});

/** The program buffer: CCWs in its first half, in its second half one slot of 8 bytes for each. */
export const CCW_BUFFER_SIZE = 4096;
export const CCW_BUFFER_SLOTS = 2048;
export const CCW_BUFFER_MAX = 256;
