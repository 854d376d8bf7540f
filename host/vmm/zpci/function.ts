// A zPCI function as its guest sees it: handle, state, registered address space and interruptions. What the function *is* comes from its
// device; what the guest did to it is kept here. States and handle layout: spec zdev section 3.6.

import type { FunctionBackend } from './backend.ts';
import { FIB_FC_DMAAS_REGISTERED, FIB_FC_ENABLED, FIB_FC_ERROR, FIB_FC_LS_BLOCKED, type Fib } from './fib.ts';
import type { DmaShadow } from './shadow.ts';

export const FH_ENABLE = 0x80000000;
export const FH_INSTANCE = 0x7f000000;
export const FH_INDEX = 0x0000ffff;
/** The function's instructions are intercepted: device of the host behind it, or emulated altogether. */
export const FH_SHM_VFIO = 0x00010000;
export const FH_SHM_EMULATED = 0x00020000;

/** States of a zPCI function (spec zdev section 3.6). */
export type FunctionState = 'reserved' | 'standby' | 'disabled' | 'enabled' | 'blocked' | 'error' | 'permanent-error';

/** What CLP answers about a function; fields of the base, util and pfip capabilities. */
export interface FunctionInfo {
  readonly fid: number;
  readonly uid: number;
  readonly vendor: number;
  readonly device: number;
  readonly gid: number;
  readonly pft: number;
  readonly pchid: number;
  readonly vfn: number;
  readonly fmbLength: number;
  readonly startDma: bigint;
  /** Inclusive. */
  readonly endDma: bigint;
  /** 64 EBCDIC bytes; empty when there is none. */
  readonly util: Uint8Array;
  /** 4 path segments, or null when the device does not tell. */
  readonly pfip: Uint8Array | null;
}

/** Rules of a function group. */
export interface FunctionGroup {
  readonly id: number;
  readonly refresh: boolean;
  readonly relaxedTranslation: boolean;
  readonly interrupts: number;
  readonly maxStoreBlock: number;
  readonly updateInterval: number;
  readonly dtsm: number;
  readonly version: number;
  readonly dasm: bigint;
  readonly msiAddress: bigint;
}

const NOTHING: Omit<Fib, 'format'> = { pba: 0n, pal: 0n, iota: 0n, word: 0, aibv: 0n, aisb: 0n, fmb: 0n };

export interface FunctionOptions {
  readonly index: number;
  /** FH_SHM_VFIO or FH_SHM_EMULATED. */
  readonly shm: number;
  /** Blocks of any alignment (spec zdev section 3.2, relaxed devices). */
  readonly relaxed: boolean;
  /** Real machines change the instance part of the handle with every disable; emulation leaves it 0. */
  readonly countInstances: boolean;
}

/** A zPCI function of a virtual machine. */
export class ZpciFunction {
  readonly info: FunctionInfo;
  readonly group: FunctionGroup;
  /** @internal */
  readonly backend: FunctionBackend;
  /** @internal */
  readonly shadow: DmaShadow;
  /** @internal */
  readonly options: FunctionOptions;
  state: FunctionState = 'disabled';
  #fh: number;
  #instance = 0;
  /** What MPCIFC registered. @internal */
  registered = { ...NOTHING };
  /** @internal */
  ioat = false;
  /** @internal */
  interrupts = false;

  /** @internal */
  constructor(
    info: FunctionInfo,
    group: FunctionGroup,
    backend: FunctionBackend,
    shadow: DmaShadow,
    options: FunctionOptions,
  ) {
    this.info = info;
    this.group = group;
    this.backend = backend;
    this.shadow = shadow;
    this.options = options;
    this.#fh = (options.shm | options.index) >>> 0;
  }

  get fh(): number {
    return this.#fh;
  }
  get index(): number {
    return this.options.index;
  }
  /** Loads and stores reach it: enabled, blocked (they work) or in error (they answer a status). */
  get hasEnabledHandle(): boolean {
    return (this.#fh & FH_ENABLE) !== 0;
  }
  get inError(): boolean {
    return this.state === 'error' || this.state === 'permanent-error';
  }

  /** @internal */
  enable(): void {
    this.#fh = (this.#fh | FH_ENABLE) >>> 0;
    this.state = 'enabled';
  }

  /** Disables: error state, address space and interruptions are gone, the device is reset. @internal */
  disable(): void {
    this.forget();
    this.backend.reset();
    this.#drop();
    this.state = 'disabled';
  }

  /** Takes the function away from the configuration. @internal */
  deconfigure(): void {
    this.disable();
    this.state = 'standby';
  }
  /** @internal */
  configure(): void {
    this.state = 'disabled';
  }

  /** Everything that MPCIFC registered is gone. @internal */
  forget(): void {
    this.deregisterInterrupts();
    this.deregisterIoat();
    this.registered = { ...NOTHING };
  }

  /** @internal */
  deregisterInterrupts(): void {
    if (this.interrupts) this.backend.disableInterrupts();
    this.interrupts = false;
    this.registered = { ...this.registered, word: 0, aibv: 0n, aisb: 0n };
  }

  /** @internal */
  deregisterIoat(): void {
    this.shadow.clear();
    this.ioat = false;
    this.registered = { ...this.registered, pba: 0n, pal: 0n, iota: 0n };
  }

  /** The function controls as STPCIFC stores them. @internal */
  get controls(): number {
    let fc = FIB_FC_ENABLED;
    if (this.state === 'blocked' || this.state === 'error') fc |= FIB_FC_ERROR;
    if (this.state === 'error') fc |= FIB_FC_LS_BLOCKED;
    if (this.ioat) fc |= FIB_FC_DMAAS_REGISTERED;
    return fc;
  }

  #drop(): void {
    const { index, shm, countInstances } = this.options;
    if (countInstances) this.#instance = (this.#instance + 1) & 0x7f;
    this.#fh = ((this.#instance << 24) | shm | index) >>> 0;
  }
}
