// The face between the channel and a device: the channel hands over a command and a transfer, the device moves data through the transfer
// and ends the command with its status - within the call or later. A device never sees a CCW, an address or another device's program.
import type { Clock } from '../clock.ts';

/** How a command ended. */
export interface CommandEnd {
  /** Unit status. Channel end without device end: device end follows by `Transfer.deviceEnd`. */
  readonly unitStatus: number;
  /** With unit check: sense bytes (at most 32) that the channel stores with the status (concurrent sense). */
  readonly sense?: Uint8Array;
  /** Subchannel status that the device's side of the channel detected (data, control, interface, chaining checks). */
  readonly channelStatus?: number;
  /** Whether the device's block and the program's count disagreed; without it the channel judges by the bytes moved. */
  readonly lengthMismatch?: boolean;
}

/** The data of one command. Data chaining, IDALs, skipping and counting stay on the channel's side. No data move once it has ended or was cleared. */
export interface Transfer {
  /** The first command of the program: a device forgets what it knew of a former one. */
  readonly first: boolean;
  /** The program offers (or takes) more bytes: a device that has no length of its own goes by this. */
  readonly more: boolean;
  /** Takes up to `size` bytes from storage (write and control commands); fewer when the program offers fewer. */
  fetch(size: number): Uint8Array;
  /** Takes all that the program offers, at most `size` bytes, without asking for more than it has. */
  fetchRest(size: number): Uint8Array;
  /**
   * What lies where a read command is going to store, at most `size` bytes and no further than its first CCW: the parameters of devices that find
   * them in the buffer they fill. Moves nothing; to be called before anything is stored.
   */
  peek(size: number): Uint8Array;
  /** Gives bytes to storage (read and sense commands). @returns how many the program took. */
  store(bytes: Uint8Array): number;
  /** Ends a command whose `execute` answered null. Ignored when the command was halted or cleared meanwhile. */
  end(end: CommandEnd): void;
  /** Device end (and what goes with it) after an end that had only channel end. */
  deviceEnd(unitStatus: number, sense?: Uint8Array): void;
}

/** A device behind a subchannel: what the channel asks of it. One method is enough; the others have defaults. */
export interface ChannelDevice {
  /**
   * Executes one command. @returns its end, or null when it will call `transfer.end` later (through a clock of its own).
   * A control command that fetched nothing is an immediate one.
   */
  execute(command: number, transfer: Transfer): CommandEnd | null;
  /** The program was ended by HALT SUBCHANNEL between or inside commands. @returns the unit status; default channel end, device end. */
  halt?(): number;
  /** Selective reset (CLEAR SUBCHANNEL): everything pending is forgotten. */
  reset?(): void;
  /** Connects the device to its subchannel, so that it can present status on its own. */
  connect?(port: DevicePort): void;
  /** The last word on an interruption block that only this device knows how its machine fills (recordings). */
  amend?(irb: Uint8Array): void;
  /** What the device keeps between programs, at most 512 bytes; absent: it does not migrate. */
  saveState?(): Uint8Array;
  /** Takes what `saveState` gave. @returns false: it is not such state; nothing was changed. */
  loadState?(state: Uint8Array): boolean;
  /** true: commands may end later, so a start does not always complete at once. */
  readonly deferred?: boolean;
}

/** The subchannel as its device sees it. */
export interface DevicePort {
  readonly clock: Clock;
  /** Presents unsolicited status (attention, device end after not ready ...), with sense bytes if it has unit check. */
  present(unitStatus: number, sense?: Uint8Array): void;
}
