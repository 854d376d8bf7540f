// Sense data of a 3390 (32 bytes): what went wrong, and where the arm is. Source: spec channel-devices, 3390 section ("Sense observed").
export const SENSE_SIZE = 32;

// byte 0
const COMMAND_REJECT = 0x80;
// byte 1
const INVALID_TRACK_FORMAT = 0x40;
const END_OF_CYLINDER = 0x20;
const NO_RECORD_FOUND = 0x08;
const FILE_PROTECTED = 0x04;

/** Where the arm is. */
export interface Arm {
  readonly cylinder: number;
  readonly head: number;
}

/** What a command found wrong; `execute` turns it into unit check. */
export class UnitCheckError extends Error {
  override readonly name = 'UnitCheckError';
  readonly byte0: number;
  readonly byte1: number;
  /** Format (0) and message of byte 7. */
  readonly message7: number;
  constructor(what: string, byte0: number, byte1: number, message7 = 0) {
    super(what);
    this.byte0 = byte0;
    this.byte1 = byte1;
    this.message7 = message7;
  }
}

export const invalidCommand = (): UnitCheckError => new UnitCheckError('invalid command', COMMAND_REJECT, 0, 1);
/** A command that is not allowed after what came before it. */
export const invalidSequence = (): UnitCheckError =>
  new UnitCheckError('invalid command sequence', COMMAND_REJECT, 0, 2);
/** Fewer bytes of parameters than the command needs. */
export const shortParameters = (): UnitCheckError => new UnitCheckError('CCW count too small', COMMAND_REJECT, 0, 3);
export const invalidParameter = (): UnitCheckError => new UnitCheckError('invalid parameter', COMMAND_REJECT, 0, 4);
export const writeInhibited = (): UnitCheckError =>
  new UnitCheckError('inhibited by the file mask', COMMAND_REJECT, 0, 0x0a);
export const fileProtected = (): UnitCheckError => new UnitCheckError('outside the extent', 0, FILE_PROTECTED);
export const noRecordFound = (): UnitCheckError => new UnitCheckError('no record found', 0, NO_RECORD_FOUND);
export const endOfCylinder = (): UnitCheckError => new UnitCheckError('end of cylinder', 0, END_OF_CYLINDER);
export const invalidTrackFormat = (): UnitCheckError =>
  new UnitCheckError('the track is full', 0, INVALID_TRACK_FORMAT);

/** Sense bytes; `error` null: nothing is wrong. */
export function senseBytes(error: UnitCheckError | null, arm: Arm): Uint8Array {
  const sense = new Uint8Array(SENSE_SIZE);
  const view = new DataView(sense.buffer);
  sense[0] = error?.byte0 ?? 0;
  sense[1] = error?.byte1 ?? 0;
  sense[5] = arm.cylinder & 0xff;
  sense[6] = ((arm.cylinder >> 4) & 0xf0) | (arm.head & 0x0f);
  sense[7] = error?.message7 ?? 0;
  sense[27] = 0x80;
  view.setUint16(29, arm.cylinder);
  sense[31] = arm.head;
  return sense;
}
