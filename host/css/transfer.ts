// The data of one command on the channel's side: counts, data chaining, skipping, and the walk over the data areas. What the device gets of it
// is the face in device.ts.
import type { Core } from '../core.ts';
import {
  CCW_CC,
  CCW_CD,
  CCW_SKIP,
  CCW_SLI,
  type Ccw,
  CHANNEL_END,
  type Direction,
  direction,
  INTERFACE_CONTROL_CHECK,
} from './cio.ts';
import type { CommandEnd, Transfer } from './device.ts';
import { DataArea, type StorageRules } from './storage.ts';

/** A CCW with its linear address. */
export interface FetchedCcw extends Ccw {
  readonly at: number;
}

/** One CCW of a command and how many bytes went through it. */
export interface MovedCcw {
  readonly at: number;
  moved: number;
  /** The skip flag kept the data of a read out of storage. */
  readonly skipped: boolean;
}

/** What a transfer needs of its program. */
export interface TransferOwner {
  readonly core: Core;
  readonly rules: StorageRules;
  readonly orbFlags: number;
  /** Fetches the next CCW of a data chain, or null after a check. */
  chainData(): FetchedCcw | null;
  end(transfer: CommandTransfer, end: CommandEnd): void;
  deviceEnd(transfer: CommandTransfer, unitStatus: number, sense?: Uint8Array): void;
}

export class CommandTransfer implements Transfer {
  readonly first: boolean;
  readonly command: number;
  readonly direction: Direction;
  /** The CCWs of the data chain so far, in order. */
  readonly ccws: MovedCcw[] = [];
  ccw: FetchedCcw;
  /** Bytes of the current CCW not yet moved: the residual count. */
  remaining: number;
  /** Channel status (program or protection check) met while moving data. */
  check = 0;
  violations = 0;
  /** The device offered more than the program took, or asked for more than it had. */
  excess = false;
  /** The device moved, or wanted to move, data. */
  touched = false;
  readonly #owner: TransferOwner;
  #area: DataArea;

  constructor(owner: TransferOwner, ccw: FetchedCcw, first: boolean) {
    this.#owner = owner;
    this.first = first;
    this.command = ccw.command;
    this.direction = direction(ccw.command);
    this.ccw = ccw;
    this.remaining = ccw.count;
    this.#area = this.#open(ccw);
  }

  get more(): boolean {
    return this.check === 0 && (this.remaining > 0 || (this.ccw.flags & CCW_CD) !== 0);
  }

  peek(size: number): Uint8Array {
    const { core, rules, orbFlags } = this.#owner;
    const area = new DataArea(core, rules, this.ccw, orbFlags, this.direction === 'backward');
    const bytes = new Uint8Array(Math.min(size, this.remaining));
    let done = 0;
    while (done < bytes.length) {
      const part = area.next(bytes.length - done);
      if (part === null) break;
      const { address, size: length } = part;
      for (let i = 0; i < length; i++)
        bytes[done + i] = core.u8[this.direction === 'backward' ? address - i : address + i] as number;
      done += length;
    }
    return bytes.subarray(0, done);
  }

  store(bytes: Uint8Array): number {
    if (this.direction === 'write') throw new Error(`command ${this.command.toString(16)} does not store`);
    return this.#move(bytes.length, (address, size, done) => {
      const u8 = this.#owner.core.u8;
      if (this.direction === 'read') u8.set(bytes.subarray(done, done + size), address);
      else for (let i = 0; i < size; i++) u8[address - i] = bytes[done + i] as number;
    });
  }

  fetch(size: number): Uint8Array {
    if (this.direction !== 'write') throw new Error(`command ${this.command.toString(16)} does not fetch`);
    const bytes = new Uint8Array(Math.min(size, 1 << 24));
    const moved = this.#move(bytes.length, (address, length, done) => {
      bytes.set(this.#owner.core.u8.subarray(address, address + length), done);
    });
    return bytes.subarray(0, moved);
  }

  fetchRest(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    let length = 0;
    while (this.more && length < size) {
      const part = this.fetch(Math.min(size - length, Math.max(1, this.remaining)));
      if (part.length === 0) break;
      bytes.set(part, length);
      length += part.length;
    }
    return bytes.subarray(0, length);
  }

  end(end: CommandEnd): void {
    this.#owner.end(this, end);
  }

  /** The command has ended, or was halted or cleared: a device that still moves data reaches nothing, whoever has the storage by now. */
  close(): void {
    this.check = INTERFACE_CONTROL_CHECK;
  }

  deviceEnd(unitStatus: number, sense?: Uint8Array): void {
    this.#owner.deviceEnd(this, unitStatus, sense);
  }

  /** At a normal end the channel has already taken the next CCW of a data chain whose last one is used up. */
  settleChain(): void {
    if (this.check === 0 && this.remaining === 0 && (this.ccw.flags & CCW_CD) !== 0) this.#nextCcw();
  }

  /**
   * Is the length incorrect, and does that count? `immediate`: nothing was moved by an immediate command; `suppressed`: its length is not
   * looked at (format-0 CCWs, or the ORB's incorrect-length-suppression mode).
   */
  incorrectLength(end: CommandEnd, suppressed: boolean): boolean {
    const { flags } = this.ccw;
    if ((end.unitStatus & CHANNEL_END) === 0 && end.lengthMismatch === undefined) return false;
    const immediate = (this.command & 3) === 3 && !this.touched;
    const mismatch = end.lengthMismatch ?? (this.remaining !== 0 || this.excess || (flags & CCW_CD) !== 0);
    if (!mismatch) return false;
    if (immediate && suppressed) return false;
    return (flags & CCW_CD) !== 0 || (flags & CCW_SLI) === 0;
  }

  /** Does command chaining follow this command when its status allows it? */
  get chains(): boolean {
    return (this.ccw.flags & (CCW_CD | CCW_CC)) === CCW_CC;
  }

  #open(ccw: FetchedCcw): DataArea {
    const skipped = (ccw.flags & CCW_SKIP) !== 0 && this.direction !== 'write';
    this.ccws.push({ at: ccw.at, moved: 0, skipped });
    const { core, rules, orbFlags } = this.#owner;
    return new DataArea(core, rules, ccw, orbFlags, this.direction === 'backward');
  }

  #nextCcw(): boolean {
    const ccw = this.#owner.chainData();
    if (ccw === null) return false;
    this.ccw = ccw;
    this.remaining = ccw.count;
    this.#area = this.#open(ccw);
    return true;
  }

  #move(length: number, piece: (address: number, size: number, done: number) => void): number {
    this.touched = true;
    let done = 0;
    while (done < length && this.check === 0) {
      if (this.remaining === 0) {
        if ((this.ccw.flags & CCW_CD) === 0) {
          this.excess = true;
          break;
        }
        if (!this.#nextCcw()) break;
      }
      const want = Math.min(length - done, this.remaining);
      const chained = this.ccws.at(-1) as MovedCcw;
      const part = chained.skipped ? { address: 0, size: want } : this.#area.next(want);
      if (part === null) {
        this.check = this.#area.check;
        this.violations += this.#area.violations;
        break;
      }
      if (!chained.skipped) piece(part.address, part.size, done);
      done += part.size;
      this.remaining -= part.size;
      chained.moved += part.size;
    }
    return done;
  }
}
