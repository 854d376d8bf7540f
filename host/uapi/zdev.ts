// Numbers of the s390 PCI extensions that are in no kernel header: the ISM I/O region as it was proposed (spec zdev section 5) and the logical AP
// operations of this package (docs/uapi/ap.md).

import { s32, struct, u32, u64 } from './struct.ts';

/** VFIO_REGION_TYPE_PCI_VENDOR_TYPE | PCI vendor id of IBM. */
export const VFIO_REGION_TYPE_IBM = 0x80001014;
export const VFIO_REGION_SUBTYPE_IBM_ISM_IO = 2;

// Logical AP operations: requests of this package, outside the kernel's numbers; each is the opcode of the instruction it stands for.
export const VFIO_AP_NQAP = 0xb2ad;
export const VFIO_AP_DQAP = 0xb2ae;
export const VFIO_AP_PQAP = 0xb2af;
/** `function` of VFIO_AP_PQAP. */
export const VFIO_AP_TAPQ = 0;
export const VFIO_AP_RAPQ = 1;
export const VFIO_AP_ZAPQ = 2;
export const VFIO_AP_AQIC = 3;
export const VFIO_AP_QCI = 4;
/** Bytes of the block that VFIO_AP_QCI fills. */
export const VFIO_AP_QCI_SIZE = 128;
/** Bytes of a message at most. */
export const VFIO_AP_MESSAGE_MAX = 1 << 16;
/** Bit of `control`: AQIC enables; the low 3 bits are the subclass. */
export const VFIO_AP_AQIC_ENABLE = 0x80000000;

/** Argument of the three requests (docs/uapi/ap.md). */
export const VfioApOp = struct('vfio_ap_op', {
  argsz: u32,
  flags: u32,
  apqn: u32,
  function: u32,
  psmid: u64,
  addr: u64,
  length: u32,
  status: u32,
  control: u32,
  eventfd: s32,
});
