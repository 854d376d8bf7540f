// What an edu device remembers outside its configuration space, and its layout in a saved state (little-endian):
//   u32 liveness@0, factorial@4, status@8, irqStatus@12, u64 source@16, destination@24, count@32, command@40, buffer@48 (4096)
const BUFFER_SIZE = 4096;
const BUFFER = 48;
export const EDU_STATE_SIZE: number = BUFFER + BUFFER_SIZE;

export interface EduState {
  liveness: number;
  factorial: number;
  status: number;
  irqStatus: number;
  source: bigint;
  destination: bigint;
  count: bigint;
  command: bigint;
  buffer: Uint8Array;
}

export function saveEdu(state: EduState, into: DataView): void {
  [state.liveness, state.factorial, state.status, state.irqStatus].forEach((word, i) => {
    into.setUint32(4 * i, word, true);
  });
  [state.source, state.destination, state.count, state.command].forEach((word, i) => {
    into.setBigUint64(16 + 8 * i, word, true);
  });
  new Uint8Array(into.buffer, into.byteOffset + BUFFER, BUFFER_SIZE).set(state.buffer);
}

/** Every value is one that registers can hold, except status bits that do not exist. */
export function loadEdu(state: EduState, from: DataView): boolean {
  const status = from.getUint32(8, true);
  if ((status & ~0x81) !== 0) return false;
  state.liveness = from.getUint32(0, true);
  state.factorial = from.getUint32(4, true);
  state.status = status;
  state.irqStatus = from.getUint32(12, true);
  state.source = from.getBigUint64(16, true);
  state.destination = from.getBigUint64(24, true);
  state.count = from.getBigUint64(32, true);
  state.command = from.getBigUint64(40, true);
  state.buffer.set(new Uint8Array(from.buffer, from.byteOffset + BUFFER, BUFFER_SIZE));
  return true;
}
