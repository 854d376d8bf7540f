// The I/O subchannel as its driver keeps it: the last stored SCHIB, the path masks, and the channel-subsystem instructions with the errno the
// kernel gives their condition codes. Kernel counterpart: drivers/s390/cio/cio.c. Source: spec ccw section 4 (issue, async, close).
import { EACCES, EBUSY, EIO, ENODEV } from '../../../assembly/abi.ts';
import {
  ORB_FLAGS,
  PMCW_DNV,
  PMCW_ENABLED,
  PMCW_FLAGS,
  PMCW_LPUM,
  PMCW_PAM,
  PMCW_PIM,
  PMCW_POM,
  PMCW_QF,
  SCHIB_SCSW,
  SCHIB_SIZE,
  SCSW_ACTL,
  SCSW_ACTL_CLEAR_PENDING,
  SCSW_ACTL_HALT_PENDING,
  SCSW_ACTL_START_PENDING,
} from '../../css/schib.ts';
import type { SubchannelHardware } from '../../css/subchannel.ts';
import { viewOf } from '../../vfio/user.ts';

const HALT_TRIES = 3;
const CLEAR_TRIES = 255;

/** What is left of the tries to end a program from the outside; made afresh for every quiesce. */
export interface EndTries {
  halts: number;
  clears: number;
  steps: number;
}
/** The steps are bounded too: instructions that fail use up no try, and the subchannel may stay busy for ever. */
export const endTries = (): EndTries => ({
  halts: HALT_TRIES,
  clears: CLEAR_TRIES,
  steps: 1 + HALT_TRIES + CLEAR_TRIES,
});

export class IoSubchannel {
  readonly hardware: SubchannelHardware;
  /** As STORE SUBCHANNEL last gave it, with what accepted instructions have set since. */
  readonly schib = new Uint8Array(SCHIB_SIZE);
  /** Logical path mask: used when an ORB names no path. */
  lpm: number;
  /** Operational path mask: what the operator has not varied off. */
  opm: number;
  readonly #view: DataView;

  constructor(hardware: SubchannelHardware) {
    this.hardware = hardware;
    this.#view = viewOf(this.schib);
    this.store();
    this.opm = this.schib[PMCW_PIM]! & this.schib[PMCW_PAM]! & this.schib[PMCW_POM]!;
    this.lpm = this.opm;
  }

  /** QDIO subchannels have no channel programs. */
  get qdio(): boolean {
    return (this.#flags & PMCW_QF) !== 0;
  }
  get valid(): boolean {
    return (this.#flags & PMCW_DNV) !== 0;
  }
  get enabled(): boolean {
    return (this.#flags & PMCW_ENABLED) !== 0;
  }
  /** The path that the subchannel used last. */
  get lastPath(): number {
    return this.schib[PMCW_LPUM]!;
  }

  /** Stores the subchannel. False: it is gone (the copy stays as it was), or its device number is not valid. */
  store(): boolean {
    const fresh = new Uint8Array(SCHIB_SIZE);
    if (this.hardware.stsch(fresh) !== 0) return false;
    this.schib.set(fresh);
    return this.valid;
  }

  enable(intparm: number): number {
    const result = this.hardware.enable(intparm);
    if (result === 0) this.store();
    return result;
  }
  disable(): number {
    const result = this.hardware.disable();
    if (result === 0) this.store();
    return result;
  }

  /** @param orb 32 bytes, its path mask not 0 unless the subchannel has none. @returns 0, -EBUSY, -EACCES (other paths remain), -ENODEV. */
  start(orb: Uint8Array): number {
    switch (this.hardware.ssch(orb)) {
      case 0:
        this.#scsw |= SCSW_ACTL_START_PENDING;
        return 0;
      case 3:
        return this.#pathGone((viewOf(orb).getUint32(ORB_FLAGS) >>> 8) & 0xff);
      default:
        return -EBUSY;
    }
  }

  /** @returns 0, -EBUSY, -ENODEV. */
  halt(): number {
    switch (this.hardware.hsch()) {
      case 0:
        this.#scsw |= SCSW_ACTL_HALT_PENDING;
        return 0;
      case 3:
        return -ENODEV;
      default:
        return -EBUSY;
    }
  }

  /** @returns 0 or -ENODEV; condition codes 1 and 2, which the architecture does not have here, come through as they are. */
  clear(): number {
    const cc = this.hardware.csch();
    if (cc === 3) return -ENODEV;
    if (cc === 0) this.#scsw = (this.#scsw & ~SCSW_ACTL) | SCSW_ACTL_CLEAR_PENDING;
    return cc;
  }

  /**
   * One step towards an idle subchannel: cancel once, then halt, then clear, as far as the tries go.
   * @returns 0 nothing runs any more; -EBUSY a halt or clear was accepted, its interruption is to come; -EIO out of tries; -ENODEV.
   */
  cancelHaltClear(tries: EndTries): number {
    if (tries.steps-- === 0) return -EIO;
    if (!this.store()) return -ENODEV;
    if (!this.enabled) return 0;
    const pending = this.#scsw;
    if ((pending & (SCSW_ACTL_HALT_PENDING | SCSW_ACTL_CLEAR_PENDING)) === 0) {
      const cc = this.hardware.xsch();
      if (cc === 0) return 0;
      if (cc === 3) return -ENODEV;
      tries.halts = HALT_TRIES;
    }
    if ((pending & SCSW_ACTL_CLEAR_PENDING) === 0) {
      while (tries.halts > 0) {
        tries.halts--;
        const result = this.halt();
        if (result !== -EBUSY) return result === 0 ? -EBUSY : result;
      }
    }
    if (tries.clears === 0) return -EIO;
    tries.clears--;
    const result = this.clear();
    return result === 0 ? -EBUSY : result;
  }

  #pathGone(lpm: number): number {
    this.lpm = lpm === 0 ? 0 : this.lpm & ~lpm;
    if (!this.store()) return -ENODEV;
    return this.lpm === 0 ? -ENODEV : -EACCES;
  }

  get #flags(): number {
    return this.#view.getUint16(PMCW_FLAGS);
  }
  get #scsw(): number {
    return this.#view.getUint32(SCHIB_SCSW);
  }
  set #scsw(value: number) {
    this.#view.setUint32(SCHIB_SCSW, value);
  }
}
