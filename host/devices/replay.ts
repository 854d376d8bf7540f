// The device of a recording: answers every command as the recorded one did - the same bytes, the same status - and notes where the program that
// reaches it is not the recorded one. It knows the commands only; addresses, IDALs and counts are the channel's business.
import { direction, ENDED, UNIT_CHECK } from '../css/cio.ts';
import type { ChannelDevice, CommandEnd, Transfer } from '../css/device.ts';
import { SCSW_CPA, SCSW_SIZE, SCSW_STCTL_PRIMARY } from '../css/schib.ts';
import { fromHex } from '../hex.ts';
import type { Recording } from './recording.ts';
import { givenBytes, type PlannedCommand, planCommands } from './replay_plan.ts';

const PREFETCH_AND_ESW_FORMAT = 0x04400000;
const ECW = 32;

export class ReplayDevice implements ChannelDevice {
  /** The commands of the recording loaded last. */
  plan: readonly PlannedCommand[] = [];
  /** What was asked for and was not in the recording, in words. */
  readonly deviations: string[] = [];
  /** Data fetched from storage by write and control commands, in order of the commands. */
  readonly fetched: Uint8Array[] = [];
  #recording: Recording | null = null;
  #next = 0;

  /** Takes the place of the recorded device of this program. */
  load(recording: Recording): void {
    this.#recording = recording;
    this.plan = planCommands(recording);
    this.deviations.length = 0;
    this.fetched.length = 0;
    this.#next = 0;
  }

  execute(command: number, transfer: Transfer): CommandEnd | null {
    const planned = this.plan[this.#next];
    const number = this.#next + 1;
    this.#next += 1;
    if (planned === undefined || !planned.executed) return this.#unknown(number, command);
    if (this.#waits(planned)) return null;
    if (planned.command !== command) {
      this.#deviates(number, `command ${hex(command)}, recorded is ${hex(planned.command)}`);
      return { unitStatus: ENDED | UNIT_CHECK, sense: Uint8Array.of(0x80) };
    }
    if (direction(command) === 'write') {
      if (planned.length > 0) {
        const bytes = transfer.fetch(planned.length);
        this.fetched.push(bytes);
        if (bytes.length !== planned.length) this.#deviates(number, `gave ${bytes.length} bytes of ${planned.length}`);
      }
    } else if (planned.length > 0) {
      const taken = transfer.store(givenBytes(planned));
      if (taken !== planned.length) this.#deviates(number, `took ${taken} bytes of ${planned.length}`);
    }
    return {
      unitStatus: planned.unitStatus,
      channelStatus: planned.channelStatus,
      lengthMismatch: planned.incorrectLength,
      ...this.#sense(planned.unitStatus),
    };
  }

  /**
   * The machine that recorded the IRB decides what the architecture leaves open or it does its own way: the prefetch bit, the format and contents
   * of the ESW, and the CCW address when its device refused the start before any CCW was fetched (it is then one of an earlier program).
   */
  amend(irb: Uint8Array): void {
    const recorded = this.#recording?.outcome.irb;
    if (recorded === undefined) return;
    const view = new DataView(irb.buffer, irb.byteOffset);
    const word0 = view.getUint32(0);
    if ((word0 & SCSW_STCTL_PRIMARY) === 0) return;
    const theirs = fromHex(recorded);
    const theirWord0 = new DataView(theirs.buffer).getUint32(0);
    view.setUint32(0, ((word0 & ~PREFETCH_AND_ESW_FORMAT) | (theirWord0 & PREFETCH_AND_ESW_FORMAT)) >>> 0);
    irb.set(theirs.subarray(SCSW_SIZE, ECW), SCSW_SIZE);
    const address = new DataView(theirs.buffer).getUint32(SCSW_CPA);
    const ours = this.plan.some(({ addresses }) => addresses.includes(address - 8));
    if (!ours) view.setUint32(SCSW_CPA, address);
  }

  /** The unit status with which the recorded program was halted. */
  halt(): number {
    return Number.parseInt(this.#recording?.outcome.unit_status ?? '00', 16);
  }

  /** The command that was going on when the recorded program was halted or cleared never ended by itself. */
  #waits(planned: PlannedCommand): boolean {
    const kind = this.#recording?.outcome.kind;
    const ended = (planned.unitStatus & ENDED) !== 0;
    return (kind === 'halt' || kind === 'clear') && !ended && planned === this.plan.at(-1);
  }

  /** Beyond the recording. A program that a halt or clear ended was waiting for its device here. */
  #unknown(number: number, command: number): CommandEnd | null {
    const kind = this.#recording?.outcome.kind;
    if (kind === 'halt' || kind === 'clear') return null;
    this.#deviates(number, `command ${hex(command)} is not in the recording`);
    return { unitStatus: ENDED | UNIT_CHECK, sense: Uint8Array.of(0x80) };
  }

  #sense(unitStatus: number): { sense?: Uint8Array } {
    const sense = this.#recording?.outcome.sense;
    return (unitStatus & UNIT_CHECK) === 0 || sense === undefined ? {} : { sense: fromHex(sense) };
  }

  #deviates(number: number, what: string): void {
    this.deviations.push(`device, command ${number}: ${what}`);
  }
}

const hex = (value: number): string => value.toString(16).padStart(2, '0');
