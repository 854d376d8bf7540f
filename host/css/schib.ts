// Blocks of the channel subsystem, as far as a subchannel's owner looks into them. All big-endian. Source: spec ccw section 2; z/Architecture
// Principles of Operation, chapters 14 to 16.
//
//   SCHIB (52 bytes)   PMCW@0 (28), SCSW@28 (12), model dependent@40 (12)
//   PMCW               interruption parameter u32@0, flags u16@4, device number u16@6, LPM@8, PNOM@9, LPUM@10, PIM@11, MBI u16@12,
//                      POM@14, PAM@15, CHPID 8 x u8@16, flags u32@24
//   SCSW               word 0: key, cc, format, function control, activity control, status control; CPA u32@4; device status u8@8,
//                      subchannel status u8@9, residual count u16@10
//   IRB                SCSW@0 (12), ESW@12 (20), ECW@32 (32)

export const SCHIB_SIZE = 52;
export const SCHIB_SCSW = 28;
export const SCSW_SIZE = 12;
export const IRB_SIZE = 64;
export const ORB_SIZE = 32;

export const PMCW_FLAGS = 4;
export const PMCW_DEVNO = 6;
export const PMCW_LPM = 8;
export const PMCW_LPUM = 10;
export const PMCW_PIM = 11;
export const PMCW_POM = 14;
export const PMCW_PAM = 15;
export const PMCW_CHPID = 16;
/** Bits of the halfword at PMCW_FLAGS. */
export const PMCW_QF = 0x8000;
export const PMCW_ENABLED = 0x0080;
export const PMCW_DNV = 0x0001;

export const SCSW_CPA = 4;
export const SCSW_DEVICE_STATUS = 8;
export const SCSW_SUBCHANNEL_STATUS = 9;
export const SCSW_COUNT = 10;
/** Bits of SCSW word 0. */
export const SCSW_CC = 0x03000000;
export const SCSW_FCTL_START = 0x00004000;
export const SCSW_FCTL_HALT = 0x00002000;
export const SCSW_FCTL_CLEAR = 0x00001000;
export const SCSW_ACTL = 0x00000fe0;
export const SCSW_ACTL_RESUME_PENDING = 0x00000800;
export const SCSW_ACTL_START_PENDING = 0x00000400;
export const SCSW_ACTL_HALT_PENDING = 0x00000200;
export const SCSW_ACTL_CLEAR_PENDING = 0x00000100;
export const SCSW_ACTL_SUBCHANNEL_ACTIVE = 0x00000080;
export const SCSW_ACTL_DEVICE_ACTIVE = 0x00000040;
export const SCSW_ACTL_SUSPENDED = 0x00000020;
export const SCSW_STCTL = 0x0000001f;
export const SCSW_STCTL_ALERT = 0x00000010;
export const SCSW_STCTL_INTERMEDIATE = 0x00000008;
export const SCSW_STCTL_PRIMARY = 0x00000004;
export const SCSW_STCTL_SECONDARY = 0x00000002;
export const SCSW_STCTL_PENDING = 0x00000001;

/** The three words of an ORB that a guest hands over: interruption parameter, flags, CPA. */
export const ORB_AREA_SIZE = 12;
export const ORB_FLAGS = 4;
export const ORB_CPA = 8;
/** Bits of the word at ORB_FLAGS. */
export const ORB_TRANSPORT = 0x00040000;
export const ORB_LPM = 0x0000ff00;

/** CRW: source code channel path, error-recovery codes. The low byte is the CHPID. */
export const CRW_PATH_OFFLINE = 0x04060000;
export const CRW_PATH_ONLINE = 0x04020000;
