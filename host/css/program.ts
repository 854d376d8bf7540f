// One channel program in execution: CCW fetch, TIC, command chaining, status, checks, suspension. It knows no time: `run` goes on until the
// program ends, waits for its device, is suspended, or a budget of CCWs is used up - so an endless program can always be stopped.
// Architecture: spec channel-devices "Rules common to all devices"; the order of checks is the one in which a channel meets them.
import type { Core } from '../core.ts';
import {
  CCW_CD,
  CCW_MIDA,
  CCW_PCI,
  CCW_SUSPEND,
  CHANNEL_END,
  CMD_TIC,
  DEVICE_END,
  decodeCcw,
  INCORRECT_LENGTH,
  isAlert,
  ORB_FORMAT1,
  ORB_LENGTH_SUPPRESSION,
  ORB_SUSPEND,
  PROGRAM_CHECK,
  STATUS_MODIFIER,
} from './cio.ts';
import type { ChannelDevice, CommandEnd } from './device.ts';
import type { StorageRules } from './storage.ts';
import { CommandTransfer, type FetchedCcw, type MovedCcw, type TransferOwner } from './transfer.ts';

/** A command that ended, for whoever watches. */
export interface CommandRecord {
  readonly command: number;
  readonly ccws: readonly MovedCcw[];
  readonly unitStatus: number;
  readonly channelStatus: number;
  readonly residual: number;
}

/** Watches programs: every CCW fetched (TICs included) and every command ended. Addresses are linear. */
export interface ProgramObserver {
  /** A CCW was fetched. */
  fetched?(address: number): void;
  /** A command ended; its data are where they belong. */
  commandEnded?(record: CommandRecord): void;
}

/** Where a program finds its observer at each event: one that comes or goes while it runs counts from then on. */
export interface Watched {
  readonly observer: ProgramObserver;
}

/** What a program tells its subchannel. */
export interface ProgramListener {
  /** A CCW with the PCI flag took control, or the first command was accepted (`initial`). */
  intermediate(program: ChannelProgram, kind: 'pci' | 'initial'): void;
  suspended(program: ChannelProgram): void;
  /** The next CCW can be taken: `run` is to be called, if it is not running already. */
  ready(program: ChannelProgram): void;
  /** Primary status; with `deviceActive` the device is still at work and device end follows. */
  ended(program: ChannelProgram, deviceActive: boolean): void;
  /** Device end after an `ended` with `deviceActive`. */
  deviceEnded(program: ChannelProgram): void;
}

export type ProgramState = 'ready' | 'command' | 'device-end' | 'suspended' | 'primary' | 'done';

export class ChannelProgram implements TransferOwner {
  readonly core: Core;
  readonly rules: StorageRules;
  /** ORB word 1. */
  readonly orbFlags: number;
  state: ProgramState = 'ready';
  /** Address for the SCSW: 8 behind the last CCW fetched. */
  ccwAddress = 0;
  unitStatus = 0;
  channelStatus = 0;
  residual = 0;
  sense: Uint8Array | null = null;
  /** RESUME SUBCHANNEL came before the suspension it is for. */
  resumePending = false;
  /** Accesses to storage that is not the program's. */
  violations = 0;
  readonly #device: ChannelDevice;
  readonly #listener: ProgramListener;
  readonly #watched: Watched;
  #next: number;
  #first = true;
  #transfer: CommandTransfer | null = null;

  constructor(
    core: Core,
    rules: StorageRules,
    device: ChannelDevice,
    orb: { flags: number; address: number },
    listener: ProgramListener,
    watched: Watched,
  ) {
    this.core = core;
    this.rules = rules;
    this.orbFlags = orb.flags;
    this.#device = device;
    this.#next = orb.address;
    this.#listener = listener;
    this.#watched = watched;
  }

  /** Goes on for at most `budget` commands. @returns true when the budget ran out and there is more to do at once. */
  run(budget: number): boolean {
    for (let left = budget; left > 0 && this.state === 'ready'; left--) this.#step();
    return this.state === 'ready';
  }

  /** RESUME SUBCHANNEL: the CCW that suspended is fetched again. */
  resume(): void {
    if (this.state === 'suspended') this.state = 'ready';
    else this.resumePending = true;
  }

  /** Halted or cleared: nothing of it is heard again; CCW address and residual count stay as they were at that moment. */
  abandon(): void {
    if (this.#transfer !== null) this.residual = this.#transfer.remaining;
    this.#transfer?.close();
    this.state = 'done';
    this.#transfer = null;
  }

  #step(): void {
    const ccw = this.#fetch(false);
    if (ccw === null) {
      this.#stop();
      return;
    }
    if ((ccw.flags & CCW_SUSPEND) !== 0 && !this.resumePending) {
      this.state = 'suspended';
      this.#next = ccw.at;
      this.#listener.suspended(this);
      return;
    }
    this.resumePending = false;
    if (!this.#takesControl(ccw)) return;
    const transfer = new CommandTransfer(this, ccw, this.#first);
    const { first } = transfer;
    this.#first = false;
    this.#transfer = transfer;
    this.state = 'command';
    const end = this.#device.execute(ccw.command, transfer);
    // The device may have been told to end from inside (a listener that cleared the subchannel): then nothing is left to do.
    if (this.#transfer !== transfer || this.state !== 'command') return;
    if (first) this.#listener.intermediate(this, 'initial');
    if (end !== null) this.end(transfer, end);
  }

  chainData(): FetchedCcw | null {
    const ccw = this.#fetch(true);
    if (ccw === null && this.#transfer !== null) this.#transfer.check = this.channelStatus;
    return ccw !== null && this.#takesControl(ccw) ? ccw : null;
  }

  /** Fetches the CCW at `#next`, following one TIC. Null after a program check, which is then in `channelStatus`. */
  #fetch(chainingData: boolean): FetchedCcw | null {
    for (let tic = false; ; tic = true) {
      const at = this.#next;
      this.ccwAddress = at + 8;
      if (at % 8 !== 0 || at + 8 > this.core.u8.length) return this.#programCheck();
      if (!this.rules.program(at, 8)) {
        this.violations += 1;
        return this.#programCheck();
      }
      this.#watched.observer.fetched?.(at);
      const format1 = (this.orbFlags & ORB_FORMAT1) !== 0;
      const ccw = { at, ...decodeCcw(this.core.view, at, format1) };
      this.#next = at + 8;
      if (ccw.command !== CMD_TIC) return this.#valid(ccw, chainingData, format1) ? ccw : this.#programCheck();
      // A program may not begin with a TIC, and a TIC may not lead to another one; unused fields of format 1 are zeros.
      const misused = tic || (this.#first && !chainingData) || (ccw.flags | ccw.count) !== 0;
      if (misused || ccw.address > 0x7fffffff) return this.#programCheck();
      this.#next = ccw.address;
    }
  }

  #valid(ccw: FetchedCcw, chainingData: boolean, format1: boolean): boolean {
    const { flags, count } = ccw;
    this.residual = count;
    if (!chainingData && (ccw.command & 0x0f) === 0) return false;
    if (!chainingData && format1 && (ccw.command & 0x0f) === CMD_TIC) return false;
    if (ccw.address > 0x7fffffff) return false;
    if ((flags & CCW_SUSPEND) !== 0 && (chainingData || (this.orbFlags & ORB_SUSPEND) === 0)) return false;
    // Modified IDAWs are not offered by this subchannel (docs/gaps.md).
    if ((flags & CCW_MIDA) !== 0) return false;
    if (count === 0 && (!format1 || chainingData || (flags & CCW_CD) !== 0)) return false;
    return true;
  }

  /** The CCW takes control. @returns false: the owner, who heard of it, has ended the program. */
  #takesControl(ccw: FetchedCcw): boolean {
    if ((ccw.flags & CCW_PCI) !== 0) this.#listener.intermediate(this, 'pci');
    return this.state !== 'done';
  }

  #programCheck(): null {
    this.channelStatus |= PROGRAM_CHECK;
    return null;
  }

  /** A check before the device saw the command. */
  #stop(): void {
    if (this.state === 'done') return;
    this.state = 'done';
    this.#listener.ended(this, false);
  }

  end(transfer: CommandTransfer, end: CommandEnd): void {
    if (this.#transfer !== transfer || this.state !== 'command') return;
    const alreadyWrong = isAlert(end.unitStatus, end.channelStatus ?? 0);
    if (!alreadyWrong && end.lengthMismatch === undefined) transfer.settleChain();
    const suppressed = (this.orbFlags & ORB_FORMAT1) === 0 || (this.orbFlags & ORB_LENGTH_SUPPRESSION) !== 0;
    const wrongLength = transfer.check === 0 && transfer.incorrectLength(end, suppressed);
    this.violations += transfer.violations;
    this.unitStatus = end.unitStatus;
    this.channelStatus = (end.channelStatus ?? 0) | transfer.check | (wrongLength ? INCORRECT_LENGTH : 0);
    this.residual = transfer.remaining;
    this.sense = end.sense ?? null;
    this.#watched.observer.commandEnded?.({
      command: transfer.command,
      ccws: transfer.ccws,
      unitStatus: this.unitStatus,
      channelStatus: this.channelStatus,
      residual: this.residual,
    });
    transfer.close();
    const alert = isAlert(this.unitStatus, this.channelStatus);
    const working = (end.unitStatus & (CHANNEL_END | DEVICE_END)) === CHANNEL_END;
    // Chaining takes device end; a command that ends without (nor channel end) was broken off.
    if (!alert && transfer.chains && (end.unitStatus & (CHANNEL_END | DEVICE_END)) !== 0) {
      if (working) this.state = 'device-end';
      else this.#chain();
      return;
    }
    this.state = working ? 'primary' : 'done';
    if (!working) this.#transfer = null;
    this.#listener.ended(this, working);
  }

  deviceEnd(transfer: CommandTransfer, unitStatus: number, sense?: Uint8Array): void {
    if (this.#transfer !== transfer) return;
    const chaining = this.state === 'device-end';
    if (!chaining && this.state !== 'primary') return;
    this.unitStatus = unitStatus;
    this.sense = sense ?? null;
    if (chaining && !isAlert(unitStatus, 0)) {
      this.#chain();
      return;
    }
    this.state = 'done';
    this.#transfer = null;
    if (chaining) this.#listener.ended(this, false);
    else this.#listener.deviceEnded(this);
  }

  /** Command chaining: the next CCW, or the one behind it when the device answered with status modifier. */
  #chain(): void {
    if ((this.unitStatus & STATUS_MODIFIER) !== 0) this.#next += 8;
    this.unitStatus = 0;
    this.channelStatus = 0;
    this.#transfer = null;
    this.state = 'ready';
    this.#listener.ready(this);
  }
}
