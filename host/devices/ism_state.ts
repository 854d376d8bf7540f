// What an ISM function remembers, and its layout in a saved state (little-endian):
//   u64 gid@0, iova@8, token@16, notified@24, u32 length@32, slot@36, status@40, buffer@44, blocks@48, own@52, slots@56, 0@60
//   64: 64 x { u32 number@0, u32 length@4, u64 iova@8, u64 token@16 } own buffers
//   1600: 128 x { u32 slot@0, 0@4, u64 token@8 } attached ones
const OWN = 64;
const OWN_SIZE = 24;
const SLOTS = OWN + 64 * OWN_SIZE;
const SLOT_SIZE = 16;
export const ISM_STATE_SIZE: number = SLOTS + 128 * SLOT_SIZE;

export interface IsmState {
  gid: bigint;
  iova: bigint;
  token: bigint;
  notified: bigint;
  /** length, slot, status, buffer, blocks */
  words: [number, number, number, number, number];
  own: Array<{ number: number; length: number; iova: bigint; token: bigint }>;
  slots: Array<{ slot: number; token: bigint }>;
}

export function saveIsm(state: IsmState, into: DataView): void {
  [state.gid, state.iova, state.token, state.notified].forEach((word, i) => {
    into.setBigUint64(8 * i, word, true);
  });
  [...state.words, state.own.length, state.slots.length].forEach((word, i) => {
    into.setUint32(32 + 4 * i, word, true);
  });
  state.own.forEach(({ number, length, iova, token }, i) => {
    const at = OWN + OWN_SIZE * i;
    into.setUint32(at, number, true);
    into.setUint32(at + 4, length, true);
    into.setBigUint64(at + 8, iova, true);
    into.setBigUint64(at + 16, token, true);
  });
  state.slots.forEach(({ slot, token }, i) => {
    into.setUint32(SLOTS + SLOT_SIZE * i, slot, true);
    into.setBigUint64(SLOTS + SLOT_SIZE * i + 8, token, true);
  });
}

/** Checks every count, number and length. @returns null: not a state. */
export function loadIsm(from: DataView, buffers: number, slots: number, maxLength: number): IsmState | null {
  const u64 = (at: number) => from.getBigUint64(at, true);
  const u32 = (at: number) => from.getUint32(at, true);
  const ownCount = u32(52);
  const slotCount = u32(56);
  if (ownCount > buffers || slotCount > slots) return null;
  const own = Array.from({ length: ownCount }, (_, i) => {
    const at = OWN + OWN_SIZE * i;
    return { number: u32(at), length: u32(at + 4), iova: u64(at + 8), token: u64(at + 16) };
  });
  const attached = Array.from({ length: slotCount }, (_, i) => {
    const at = SLOTS + SLOT_SIZE * i;
    return { slot: u32(at), token: u64(at + 8) };
  });
  const fine =
    own.every(
      ({ number, length, iova }) =>
        number < buffers && length > 0 && length <= maxLength && length % 4096 === 0 && iova % 4096n === 0n,
    ) &&
    attached.every(({ slot }) => slot < slots) &&
    new Set(own.map(({ number }) => number)).size === ownCount &&
    new Set(own.map(({ token }) => token)).size === ownCount &&
    new Set(attached.map(({ slot }) => slot)).size === slotCount;
  if (!fine) return null;
  const words: IsmState['words'] = [u32(32), u32(36), u32(40), u32(44), u32(48)];
  return { gid: u64(0), iova: u64(8), token: u64(16), notified: u64(24), words, own, slots: attached };
}
