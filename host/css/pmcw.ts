// The path-management control word of a subchannel: paths, enablement, device number. STORE SUBCHANNEL shows it in the first 28 bytes of
// the SCHIB (schib.ts draws them).
import { putScsw, type Scsw } from './irb.ts';
import {
  PMCW_CHPID,
  PMCW_DEVNO,
  PMCW_DNV,
  PMCW_ENABLED,
  PMCW_FLAGS,
  PMCW_LPM,
  PMCW_LPUM,
  PMCW_PAM,
  PMCW_PIM,
  PMCW_POM,
  SCHIB_SCSW,
  SCHIB_SIZE,
} from './schib.ts';

/** Last flag byte of the PMCW: sense data are stored with the status. */
const PMCW_CONCURRENT_SENSE_BYTE = 27;
const PMCW_CONCURRENT_SENSE = 0x01;

export class Pmcw {
  intparm = 0;
  enabled = false;
  deviceNumber: number;
  /** Logical, operational and available path masks; path 0 is bit 80. */
  lpm: number;
  pom = 0xff;
  pam: number;
  pim: number;
  lpum = 0;
  readonly chpids: readonly number[];

  constructor(deviceNumber: number, chpids: readonly number[]) {
    this.deviceNumber = deviceNumber;
    this.chpids = chpids;
    this.pim = (0xff00 >> chpids.length) & 0xff;
    this.lpm = this.pim;
    this.pam = this.pim;
  }

  /** Bit of a channel path in the masks, 0 when the subchannel does not have it. */
  mask(chpid: number): number {
    const index = this.chpids.indexOf(chpid);
    return index === -1 ? 0 : 0x80 >> index;
  }

  /** Fills the 52 bytes of a SCHIB. */
  store(schib: Uint8Array, scsw: Scsw): void {
    schib.fill(0, 0, SCHIB_SIZE);
    const view = new DataView(schib.buffer, schib.byteOffset, SCHIB_SCSW);
    view.setUint32(0, this.intparm);
    view.setUint16(PMCW_FLAGS, PMCW_DNV | (this.enabled ? PMCW_ENABLED : 0));
    view.setUint16(PMCW_DEVNO, this.deviceNumber);
    view.setUint8(PMCW_LPM, this.lpm);
    view.setUint8(PMCW_LPUM, this.lpum);
    view.setUint8(PMCW_PIM, this.pim);
    view.setUint8(PMCW_POM, this.pom);
    view.setUint8(PMCW_PAM, this.pam);
    this.chpids.forEach((chpid, index) => {
      view.setUint8(PMCW_CHPID + index, chpid);
    });
    view.setUint8(PMCW_CONCURRENT_SENSE_BYTE, PMCW_CONCURRENT_SENSE);
    putScsw(schib, SCHIB_SCSW, scsw);
  }
}
