// A 3390 behind a control unit: the commands of spec channel-devices ("3390 / 3380 / 9345") over a volume. What a program has set up
// lives in its Domain; commands are grouped in reads.ts, writes.ts and control.ts; this file has those about the device, and the table.
import { ENDED, UNIT_CHECK } from '../../css/cio.ts';
import type { ChannelDevice, CommandEnd, DevicePort, Transfer } from '../../css/device.ts';
import { characteristics, configurationData, senseId } from './configuration.ts';
import * as control from './control.ts';
import { parameters } from './control.ts';
import { Domain } from './domain.ts';
import * as reads from './reads.ts';
import { type Command, DONE, EQUAL, EQUAL_OR_HIGH, HIGH, type Unit } from './reads.ts';
import { invalidCommand, senseBytes, UnitCheckError } from './sense.ts';
import { HEADS } from './track.ts';
import type { Volume } from './volume.ts';
import * as writes from './writes.ts';

const CMD_NOP = 0x03;
const CMD_SENSE = 0x04;

const PATH_GROUP_SIZE = 12;
const STATE_SIZE = 20;
/** Function byte: bits 1-2 00 establish, others end the grouping; bit 0 multipath. */
const PATH_GROUP_FUNCTION = 0x60;
const PATH_GROUP_MULTIPATH = 0x80;
/** State byte of an established group, single path and multipath. */
const PATH_GROUPED = 0xc0;
const PATH_GROUPED_MULTIPATH = 0xe0;

/** What a disk is made of. */
export interface EckdOptions {
  readonly volume: Volume;
  /** Unit address in the control unit. Default 0. */
  readonly unitAddress?: number;
  /** Up to 12 letters and digits. Default zeros. */
  readonly serial?: string;
}

const readSenseId: Command = (_domain, transfer, unit) => give(transfer, senseId(unit.volume.cylinders));
const readCharacteristics: Command = (_domain, transfer, unit) =>
  give(transfer, characteristics(unit.volume.cylinders));
const readConfigurationData: Command = (_domain, transfer, unit) =>
  give(transfer, configurationData(unit.unitAddress, unit.serial));
/** Reserve, release, unconditional reserve: nobody else is there; the answer is sense data. */
const reserve: Command = (domain, transfer) => give(transfer, senseBytes(null, domain));
const sensePathGroup: Command = (_domain, transfer, unit) => give(transfer, unit.pathGroup);

const setPathGroup: Command = (_domain, transfer, unit) => {
  const bytes = parameters(transfer, PATH_GROUP_SIZE);
  unit.pathGroup.fill(0);
  if ((bytes[0]! & PATH_GROUP_FUNCTION) !== 0) return DONE;
  unit.pathGroup.set(bytes);
  unit.pathGroup[0] = (bytes[0]! & PATH_GROUP_MULTIPATH) === 0 ? PATH_GROUPED : PATH_GROUPED_MULTIPATH;
  return DONE;
};

/** Every command; a number with 80 on is its multitrack (for format writes: next-track) form. */
const COMMANDS: ReadonlyMap<number, Command> = new Map<number, Command>([
  [CMD_NOP, () => DONE],
  // about the device
  [0xe4, readSenseId],
  [0x64, readCharacteristics],
  [0xfa, readConfigurationData],
  [0x34, sensePathGroup],
  [0xaf, setPathGroup],
  [0xb4, reserve],
  [0x94, reserve],
  [0x14, reserve],
  [0x27, control.performSubsystemFunction],
  [0x3e, control.readSubsystemData],
  // where to
  [0x07, control.seek],
  [0x0b, control.seekCylinder],
  [0x13, control.recalibrate],
  [0x1b, control.seekHead],
  [0x1f, control.setFileMask],
  [0x23, control.setSector],
  [0x63, control.defineExtent],
  [0x47, control.locateRecord],
  [0x4b, control.locateRecordExtended],
  [0xe7, control.prefix],
  // search
  [0x31, reads.searchId(EQUAL, false)],
  [0xb1, reads.searchId(EQUAL, true)],
  [0x51, reads.searchId(HIGH, false)],
  [0xd1, reads.searchId(HIGH, true)],
  [0x71, reads.searchId(EQUAL_OR_HIGH, false)],
  [0xf1, reads.searchId(EQUAL_OR_HIGH, true)],
  [0x29, reads.searchKey(EQUAL, false)],
  [0xa9, reads.searchKey(EQUAL, true)],
  [0x49, reads.searchKey(HIGH, false)],
  [0xc9, reads.searchKey(HIGH, true)],
  [0x69, reads.searchKey(EQUAL_OR_HIGH, false)],
  [0xe9, reads.searchKey(EQUAL_OR_HIGH, true)],
  [0x39, reads.searchHomeAddress(false)],
  [0xb9, reads.searchHomeAddress(true)],
  // read
  [0x02, reads.readIpl],
  [0x06, reads.readData(false)],
  [0x86, reads.readData(true)],
  [0x0e, reads.readKeyAndData(false)],
  [0x8e, reads.readKeyAndData(true)],
  [0x12, reads.readCount(false)],
  [0x92, reads.readCount(true)],
  [0x1e, reads.readCountKeyData(false)],
  [0x9e, reads.readCountKeyData(true)],
  [0x16, reads.readRecordZero],
  [0x96, reads.readRecordZero],
  [0x1a, reads.readHomeAddress],
  [0x9a, reads.readHomeAddress],
  [0x0a, reads.readSpecialHomeAddress],
  [0xde, reads.readTrack],
  [0xa6, reads.readTrackData],
  // write
  [0x05, writes.writeData(false)],
  [0x85, writes.writeData(true)],
  [0x0d, writes.writeKeyAndData(false)],
  [0x8d, writes.writeKeyAndData(true)],
  [0x1d, writes.writeCountKeyData(false)],
  [0x9d, writes.writeCountKeyData(true)],
  [0x11, writes.erase],
  [0x15, writes.writeRecordZero],
  [0x19, writes.writeHomeAddress],
  [0x95, writes.writeFullTrack],
  [0xa5, writes.writeTrackData],
]);

/** A 3390 disk (docs/devices/dasd-3390.md). */
export class EckdDevice implements ChannelDevice, Unit {
  readonly volume: Volume;
  readonly unitAddress: number;
  readonly serial: string;
  /** State byte and path-group id as SENSE PATH GROUP ID gives them; zeros: not grouped. */
  readonly pathGroup = new Uint8Array(PATH_GROUP_SIZE);
  #domain: Domain;
  /** Kept from a unit check until the next command that is neither a no-operation nor a sense. */
  #wrong: UnitCheckError | null = null;
  #port: DevicePort | null = null;

  constructor(options: EckdOptions) {
    this.volume = options.volume;
    this.unitAddress = options.unitAddress ?? 0;
    this.serial = options.serial ?? '';
    this.#domain = new Domain(this.volume, 0, 0);
  }

  connect(port: DevicePort): void {
    this.#port = port;
  }

  /** Presents unsolicited status, attention by default. */
  attention(unitStatus = 0x80): void {
    this.#port?.present(unitStatus);
  }

  /** The clear signal: the program's set-up and pending sense go; the arm and the path group stay. */
  reset(): void {
    this.#domain = new Domain(this.volume, this.#domain.cylinder, this.#domain.head);
    this.#wrong = null;
  }

  /** u16 cylinder@0, u16 head@2, path group@4 (12), u8 sense kept@16, its bytes 0, 1 and 7@17. The tracks are not part of it. */
  saveState(): Uint8Array {
    const bytes = new Uint8Array(STATE_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, this.#domain.cylinder, true);
    view.setUint16(2, this.#domain.head, true);
    bytes.set(this.pathGroup, 4);
    const wrong = this.#wrong;
    if (wrong !== null) bytes.set([1, wrong.byte0, wrong.byte1, wrong.message7], 16);
    return bytes;
  }

  loadState(state: Uint8Array): boolean {
    if (state.length !== STATE_SIZE) return false;
    const view = new DataView(state.buffer, state.byteOffset, state.length);
    const cylinder = view.getUint16(0, true);
    const head = view.getUint16(2, true);
    if (cylinder >= this.volume.cylinders || head >= HEADS || state[16]! > 1) return false;
    this.#domain = new Domain(this.volume, cylinder, head);
    this.pathGroup.set(state.subarray(4, 16));
    const [kept, byte0, byte1, message7] = state.subarray(16);
    this.#wrong = kept === 0 ? null : new UnitCheckError('found before the migration', byte0!, byte1!, message7!);
    return true;
  }

  execute(command: number, transfer: Transfer): CommandEnd {
    if (transfer.first) this.#domain = new Domain(this.volume, this.#domain.cylinder, this.#domain.head);
    if (command === CMD_SENSE) return give(transfer, senseBytes(this.#wrong, this.#domain));
    if (command !== CMD_NOP) this.#wrong = null;
    try {
      const run = COMMANDS.get(command);
      if (run === undefined) throw invalidCommand();
      return run(this.#domain, transfer, this);
    } catch (error) {
      if (!(error instanceof UnitCheckError)) throw error;
      this.#wrong = error;
      return { unitStatus: ENDED | UNIT_CHECK, sense: senseBytes(error, this.#domain) };
    }
  }
}

function give(transfer: Transfer, bytes: Uint8Array): CommandEnd {
  transfer.store(bytes);
  return DONE;
}
