// The envelope of a device's saved state, and the face of hardware that has one. Little-endian:
//   u32 magic@0 'VWDS', u32 model@4 (four letters), u32 version@8, u32 length@12 of what follows
const MAGIC = 0x53445756;
export const STATE_HEADER = 16;

/** Hardware whose state can be taken out and put back while its clock is frozen. */
export interface StatefulHardware {
  /** Four letters that name the layout. */
  readonly stateModel: string;
  readonly stateVersion: number;
  /** Bytes of the state, fixed. */
  readonly stateSize: number;
  /** Writes the whole state. @param into `stateSize` bytes, zero. */
  saveState(into: DataView): void;
  /** Checks everything, then takes it. @returns false: not a state of this device; nothing was changed. */
  loadState(from: DataView): boolean;
  /** After a load, when the device may act again: timers of what was under way are set, lines are driven. */
  resume(): void;
}

const letters = (text: string): number =>
  [...text].reduce((sum, letter, i) => (sum | (letter.charCodeAt(0) << (8 * i))) >>> 0, 0);

export function packState(hardware: StatefulHardware): Uint8Array {
  const bytes = new Uint8Array(STATE_HEADER + hardware.stateSize);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, letters(hardware.stateModel), true);
  view.setUint32(8, hardware.stateVersion, true);
  view.setUint32(12, hardware.stateSize, true);
  hardware.saveState(new DataView(bytes.buffer, STATE_HEADER));
  return bytes;
}

/** Do these first bytes show that it is not a state of this hardware? */
export function refusesState(hardware: StatefulHardware, bytes: Uint8Array): boolean {
  if (bytes.length < STATE_HEADER) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return (
    view.getUint32(0, true) !== MAGIC ||
    view.getUint32(4, true) !== letters(hardware.stateModel) ||
    view.getUint32(8, true) !== hardware.stateVersion ||
    view.getUint32(12, true) !== hardware.stateSize
  );
}

/** @returns false: incomplete, or not a state of this hardware; nothing was changed. */
export function unpackState(hardware: StatefulHardware, bytes: Uint8Array): boolean {
  if (bytes.length !== STATE_HEADER + hardware.stateSize || refusesState(hardware, bytes)) return false;
  return hardware.loadState(new DataView(bytes.buffer, bytes.byteOffset + STATE_HEADER, hardware.stateSize));
}
