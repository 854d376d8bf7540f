// A subchannel as its guest sees it: the SCHIB that MSCH and STSCH know, the status that TSCH takes. The work is done by a backend that
// starts, halts and clears through the device; status comes back as IRBs. Names and bits: host/css/schib.ts; rules: Principles of Operation,
// chapters 14 and 15.
import {
  IRB_SIZE,
  PMCW_DNV,
  PMCW_ENABLED,
  PMCW_FLAGS,
  PMCW_LPM,
  PMCW_LPUM,
  PMCW_PAM,
  PMCW_POM,
  SCHIB_SCSW,
  SCHIB_SIZE,
  SCSW_ACTL,
  SCSW_ACTL_CLEAR_PENDING,
  SCSW_ACTL_HALT_PENDING,
  SCSW_ACTL_START_PENDING,
  SCSW_ACTL_SUSPENDED,
  SCSW_FCTL_CLEAR,
  SCSW_FCTL_HALT,
  SCSW_FCTL_START,
  SCSW_SIZE,
  SCSW_STCTL,
  SCSW_STCTL_ALERT,
  SCSW_STCTL_INTERMEDIATE,
  SCSW_STCTL_PENDING,
  SCSW_STCTL_PRIMARY,
  SCSW_STCTL_SECONDARY,
} from '../../css/schib.ts';

/** What the device's side answers to a function. */
export type StartResult = 'started' | 'busy' | 'not-operational' | { readonly programCheck: true };

export interface SubchannelBackend {
  /** SCHIB as the hardware has it now: device number, paths, activity. 52 bytes. */
  schib(): Uint8Array;
  /** Starts the program of this ORB (12 bytes). */
  start(orb: Uint8Array): StartResult;
  halt(): 'done' | 'busy' | 'not-operational';
  clear(): 'done' | 'not-operational';
  /** Called with every IRB (64 bytes) that comes back; set by the subchannel. */
  onInterrupt: (irb: Uint8Array) => void;
  /** The device is let go; nothing is heard of it any more. */
  close(): void;
}

/** The channel subsystem as its subchannels see it. */
export interface SubchannelOwner {
  /** Status became pending. */
  pending(subchannel: VirtualSubchannel): void;
  /** The interruption is no longer to be taken. */
  withdraw(subchannel: VirtualSubchannel): void;
  /** Suspending a program gives no intermediate status even where the ORB does not ask for that. */
  readonly suppressSuspended: boolean;
}

const FCTL = SCSW_FCTL_START | SCSW_FCTL_HALT | SCSW_FCTL_CLEAR;
/** Bits of the flags halfword that MSCH may change: subclass, enabled, limit mode, measurement, multipath. */
const PMCW_FLAGS_MODIFIABLE = 0x38fc;
/** And of the last word: measurement-block format, concurrent sense. */
const PMCW_CHARACTERISTICS = 24;
const PMCW_CHARACTERISTICS_MODIFIABLE = 0x00000005;
const PMCW_MBI = 12;
const SCHIB_MEASUREMENT = 40;
const SCSW_ORB_BITS = 0xf8fc0000;
const SUSPEND_CONTROL = 0x08000000;
const CHANNEL_PROGRAM_CHECK = 0x20;

export class VirtualSubchannel {
  /** The 32-bit subsystem identification: 1 in bit 15, set and number. */
  readonly id: number;
  readonly backend: SubchannelBackend;
  /** Programs that the device's side could not copy or pin. */
  refusals = 0;
  readonly #schib = new Uint8Array(SCHIB_SIZE);
  readonly #view = new DataView(this.#schib.buffer);
  readonly #scsw = new DataView(this.#schib.buffer, SCHIB_SCSW, SCSW_SIZE);
  /** ESW and ECW of the status that is pending. */
  #extended = new Uint8Array(IRB_SIZE - SCSW_SIZE);
  #orbFlags = 0;
  readonly #owner: SubchannelOwner;
  #cancelled = false;

  constructor(id: number, backend: SubchannelBackend, owner: SubchannelOwner) {
    this.id = id;
    this.backend = backend;
    this.#owner = owner;
    this.#powerOn();
    backend.onInterrupt = (irb) => this.#interrupt(irb);
  }

  /** Reset of the channel subsystem: what runs at the device is cleared, the SCHIB is as at power-on. */
  reset(): void {
    if ((this.#control & FCTL) !== 0) this.backend.clear();
    this.#powerOn();
  }

  #powerOn(): void {
    this.#schib.fill(0);
    this.#schib.set(this.backend.schib().subarray(0, SCHIB_SCSW));
    this.#view.setUint32(0, 0);
    this.#view.setUint16(PMCW_FLAGS, PMCW_DNV);
    this.#schib[PMCW_LPUM] = 0;
    this.#view.setUint32(PMCW_CHARACTERISTICS, 0);
    this.#extended.fill(0);
    this.#orbFlags = 0;
    this.#cancelled = false;
  }

  get enabled(): boolean {
    return (this.#view.getUint16(PMCW_FLAGS) & PMCW_ENABLED) !== 0;
  }
  get isc(): number {
    return (this.#view.getUint16(PMCW_FLAGS) >> 11) & 7;
  }
  get intparm(): number {
    return this.#view.getUint32(0);
  }
  get #control(): number {
    return this.#scsw.getUint32(0);
  }
  set #control(value: number) {
    this.#scsw.setUint32(0, value >>> 0);
  }
  get #statusPending(): boolean {
    return (this.#control & SCSW_STCTL_PENDING) !== 0;
  }

  /** STORE SUBCHANNEL: the 52 bytes. */
  store(): Uint8Array {
    this.#follow();
    return this.#schib.slice();
  }

  /** While a program is with the device, what it is doing is the device's to say. */
  #follow(): void {
    const control = this.#control;
    if ((control & FCTL) !== SCSW_FCTL_START || (control & SCSW_STCTL) !== 0) return;
    const schib = this.backend.schib();
    const activity = new DataView(schib.buffer, schib.byteOffset + SCHIB_SCSW, SCSW_SIZE).getUint32(0) & SCSW_ACTL;
    if (activity !== 0) this.#control = (control & ~SCSW_ACTL) | activity;
  }

  /** MODIFY SUBCHANNEL with a checked block. */
  modify(block: Uint8Array): number {
    if ((this.#control & SCSW_STCTL) !== 0) return 1;
    if ((this.#control & FCTL) !== 0) return 2;
    const view = new DataView(block.buffer, block.byteOffset, SCHIB_SIZE);
    const merge = (offset: number, mask: number): void => {
      const kept = this.#view.getUint16(offset) & ~mask;
      this.#view.setUint16(offset, kept | (view.getUint16(offset) & mask));
    };
    this.#view.setUint32(0, view.getUint32(0));
    merge(PMCW_FLAGS, PMCW_FLAGS_MODIFIABLE);
    this.#view.setUint16(PMCW_MBI, view.getUint16(PMCW_MBI));
    this.#schib[PMCW_LPM] = block[PMCW_LPM] as number;
    this.#schib[PMCW_POM] = block[PMCW_POM] as number;
    merge(PMCW_CHARACTERISTICS + 2, PMCW_CHARACTERISTICS_MODIFIABLE);
    // The address of the measurement block.
    this.#schib.set(block.subarray(SCHIB_MEASUREMENT, SCHIB_MEASUREMENT + 8), SCHIB_MEASUREMENT);
    return 0;
  }

  /** START SUBCHANNEL with a checked ORB, 12 bytes. */
  start(orb: Uint8Array): number {
    if (!this.enabled) return 3;
    if (this.#statusPending) return 1;
    if ((this.#control & FCTL) !== 0) return 2;
    const view = new DataView(orb.buffer, orb.byteOffset, 12);
    const flags = view.getUint32(4);
    const result = this.#hasPath(flags) ? this.backend.start(orb) : 'no-path';
    if (result === 'busy') return 2;
    if (result === 'not-operational') return 3;
    // The parameter goes with the function that was accepted.
    this.#view.setUint32(0, view.getUint32(0));
    this.#orbFlags = flags;
    this.#extended.fill(0);
    this.#control = (flags & SCSW_ORB_BITS) | SCSW_FCTL_START | SCSW_ACTL_START_PENDING;
    for (let i = 4; i < SCSW_SIZE; i++) this.#scsw.setUint8(i, 0);
    if (result === 'no-path') this.#deferredNotOperational();
    else if (result !== 'started') this.#programCheck(view.getUint32(8));
    return 0;
  }

  halt(): number {
    if (!this.enabled) return 3;
    const status = this.#control & SCSW_STCTL;
    const others = SCSW_STCTL_ALERT | SCSW_STCTL_PRIMARY | SCSW_STCTL_SECONDARY;
    if (status === SCSW_STCTL_PENDING || (status & others) !== 0) return 1;
    if ((this.#control & (SCSW_FCTL_HALT | SCSW_FCTL_CLEAR)) !== 0) return 2;
    const result = this.backend.halt();
    if (result === 'busy') return 2;
    if (result === 'not-operational') return 3;
    this.#control = (this.#control & ~SCSW_STCTL) | SCSW_FCTL_HALT | SCSW_ACTL_HALT_PENDING;
    this.#usePath();
    this.#owner.withdraw(this);
    return 0;
  }

  clear(): number {
    if (!this.enabled) return 3;
    if (this.backend.clear() === 'not-operational') return 3;
    this.#orbFlags = 0;
    this.#control = SCSW_FCTL_CLEAR | SCSW_ACTL_CLEAR_PENDING;
    this.#usePath();
    this.#owner.withdraw(this);
    return 0;
  }

  /** RESUME SUBCHANNEL. The driver offers no way to resume a program, so one that is suspended stays so. */
  resume(): number {
    if (!this.enabled) return 3;
    if (this.#statusPending) return 1;
    const control = this.#control;
    if ((control & FCTL) !== SCSW_FCTL_START || (this.#orbFlags & SUSPEND_CONTROL) === 0) return 2;
    return 0;
  }

  /** CANCEL SUBCHANNEL: only what has not reached the device yet, or stands suspended. */
  cancel(): number {
    if (!this.enabled) return 3;
    this.#follow();
    const control = this.#control;
    if ((control & SCSW_STCTL) !== 0) return 1;
    const waiting = (control & (SCSW_ACTL_START_PENDING | SCSW_ACTL_SUSPENDED)) !== 0;
    if ((control & FCTL) !== SCSW_FCTL_START || !waiting) return 2;
    if (this.backend.clear() === 'not-operational') return 3;
    this.#control = control & SCSW_ORB_BITS & ~FCTL;
    this.#cancelled = true;
    return 0;
  }

  /** TEST SUBCHANNEL: the IRB, 64 bytes, and whether status was pending; pending status is taken. Null when not enabled. */
  test(): { irb: Uint8Array; pending: boolean } | null {
    if (!this.enabled) return null;
    this.#follow();
    const irb = new Uint8Array(IRB_SIZE);
    irb.set(this.#schib.subarray(SCHIB_SCSW, SCHIB_SCSW + SCSW_SIZE));
    const pending = this.#statusPending;
    if (!pending) return { irb, pending };
    irb.set(this.#extended, SCSW_SIZE);
    const control = this.#control;
    this.#owner.withdraw(this);
    const intermediate = (control & SCSW_STCTL) === (SCSW_STCTL_INTERMEDIATE | SCSW_STCTL_PENDING);
    this.#control = intermediate ? control & ~SCSW_STCTL : control & ~(SCSW_STCTL | FCTL | SCSW_ACTL);
    return { irb, pending };
  }

  #interrupt(irb: Uint8Array): void {
    const view = new DataView(irb.buffer, irb.byteOffset, IRB_SIZE);
    if (this.#cancelled) {
      // The clear that a cancel needed at the device: its status is nobody's.
      this.#cancelled = false;
      return;
    }
    if (!this.enabled) return;
    const unsolicited = (view.getUint32(0) & SCSW_STCTL) === (SCSW_STCTL_ALERT | SCSW_STCTL_PENDING);
    if (unsolicited && (this.#control & FCTL) !== 0) return;
    const word = view.getUint32(0);
    if ((word & SCSW_ACTL_SUSPENDED) !== 0 && this.#owner.suppressSuspended) {
      this.#control = word & ~SCSW_STCTL;
      return;
    }
    this.#schib.set(irb.subarray(0, SCSW_SIZE), SCHIB_SCSW);
    // The driver started its own ORB: the bits that repeat the ORB are the guest's.
    this.#control = (word & ~SCSW_ORB_BITS) | (unsolicited ? 0 : this.#orbFlags & SCSW_ORB_BITS);
    this.#extended = irb.slice(SCSW_SIZE, IRB_SIZE);
    if ((this.#control & SCSW_STCTL_PENDING) !== 0) this.#owner.pending(this);
  }

  #hasPath(flags: number): boolean {
    const asked = (flags >> 8) & 0xff;
    const pmcw = this.#schib;
    const usable = (pmcw[PMCW_LPM] as number) & (pmcw[PMCW_PAM] as number) & (pmcw[PMCW_POM] as number);
    return ((asked === 0 ? (pmcw[PMCW_LPM] as number) : asked) & usable) !== 0;
  }

  /** No path to the device: the start function is accepted and ends with deferred condition code 3. */
  #deferredNotOperational(): void {
    const status = SCSW_STCTL_ALERT | SCSW_STCTL_PENDING;
    this.#control = (this.#control & SCSW_ORB_BITS) | 0x03000000 | SCSW_FCTL_START | SCSW_ACTL_START_PENDING | status;
    this.#extended[1] = 0x80;
    this.#owner.pending(this);
  }

  /** The program could not even be fetched: program check at its first CCW. */
  #programCheck(address: number): void {
    this.refusals++;
    const status = SCSW_STCTL_ALERT | SCSW_STCTL_PRIMARY | SCSW_STCTL_SECONDARY | SCSW_STCTL_PENDING;
    this.#control = (this.#control & SCSW_ORB_BITS) | SCSW_FCTL_START | status;
    this.#scsw.setUint32(4, (address + 8) >>> 0);
    this.#scsw.setUint8(9, CHANNEL_PROGRAM_CHECK);
    this.#extended[1] = 0x80;
    this.#owner.pending(this);
  }

  #usePath(): void {
    this.#schib[PMCW_LPUM] = 0x80 >> (Math.clz32((this.#schib[PMCW_PAM] as number) || 0x80) - 24);
  }
}
