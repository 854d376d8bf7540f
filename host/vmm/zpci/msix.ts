// The MSI-X table as the guest sees it. Through VFIO the table of a device reads as ones and cannot be written (spec pci section 4), so the layer
// keeps it: the guest's stores land here, and a message that the device raises goes where the entry says. Entry, 16 bytes, little-endian:
// address u64@0, data u32@8, vector control u32@12 (bit 0: masked).
import type { BarRegion } from './backend.ts';

const ENTRY = 16;
const DATA = 8;
const CONTROL = 12;
const MASKED = 1;
const CONTROL_HIGH = 3;
/** Bits of the control byte: messages on, all of them masked. */
export const MSIX_ENABLE = 0x80;
export const MSIX_MASK_ALL = 0x40;
const CAP_POINTER = 0x34;
const CAP_ID_MSIX = 0x11;
const STATUS = 6;
const STATUS_CAP_LIST = 0x10;

/** Where a table lies. */
export interface MsixLocation {
  /** Of the byte in config space that enables the messages and masks all of them. */
  readonly control: number;
  readonly bar: number;
  readonly offset: number;
  readonly entries: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

/** Finds the MSI-X capability in config space. @param read `size` bytes at an offset. */
export function findMsix(read: (offset: number, size: number) => Uint8Array): MsixLocation | null {
  if (((read(STATUS, 1)[0] as number) & STATUS_CAP_LIST) === 0) return null;
  let at = (read(CAP_POINTER, 1)[0] as number) & ~3;
  for (let hops = 0; at >= 0x40 && hops < 48; hops++) {
    const [id, next] = read(at, 2) as unknown as [number, number];
    if (id === CAP_ID_MSIX) {
      const word = (offset: number): number => new DataView(read(offset, 4).slice().buffer).getUint32(0, true);
      const [control, table, pba] = [word(at) >>> 16, word(at + 4), word(at + 8)];
      return {
        control: at + CONTROL_HIGH,
        bar: table & 7,
        offset: table & ~7,
        entries: (control & 0x7ff) + 1,
        pbaBar: pba & 7,
        pbaOffset: pba & ~7,
      };
    }
    at = next & ~3;
  }
  return null;
}

export class MsixTable {
  readonly location: MsixLocation;
  /** The windows of table and pending bits in a BAR. */
  readonly table: BarRegion;
  readonly pba: BarRegion;
  readonly #bytes: Uint8Array;
  readonly #pending: Uint8Array;
  #maskAll = false;

  constructor(location: MsixLocation) {
    this.location = location;
    this.table = { at: location.offset, length: location.entries * ENTRY, sizes: [4, 8] };
    this.pba = { at: location.pbaOffset, length: Math.ceil(location.entries / 64) * 8, sizes: [4, 8] };
    this.#bytes = new Uint8Array(this.table.length);
    this.#pending = new Uint8Array(this.pba.length);
    this.reset();
  }

  /** Power-on: every entry zero and masked. */
  reset(): void {
    this.#bytes.fill(0);
    this.#pending.fill(0);
    this.#maskAll = false;
    for (let at = CONTROL; at < this.#bytes.length; at += ENTRY) this.#bytes[at] = MASKED;
  }

  /** The window that holds a byte of a BAR. */
  window(bar: number, offset: bigint): 'table' | 'pba' | null {
    const inside = (region: BarRegion): boolean =>
      offset >= BigInt(region.at) && offset < BigInt(region.at + region.length);
    if (bar === this.location.bar && inside(this.table)) return 'table';
    return bar === this.location.pbaBar && inside(this.pba) ? 'pba' : null;
  }

  read(window: 'table' | 'pba', offset: bigint, size: number): Uint8Array {
    const [bytes, base] = window === 'table' ? [this.#bytes, this.table.at] : [this.#pending, this.pba.at];
    const at = Number(offset) - base;
    return bytes.slice(at, at + size);
  }

  /**
   * Stores into the table; stores into the pending bits are ignored. @returns data of the messages that waited for their entry to be unmasked,
   * and now go out.
   */
  write(window: 'table' | 'pba', offset: bigint, bytes: Uint8Array): number[] {
    if (window === 'pba') return [];
    const at = Number(offset) - this.table.at;
    this.#bytes.set(bytes, at);
    return this.#release(Math.floor(at / ENTRY));
  }

  /** Masks all entries, or leaves it to each. @returns messages that go out now. */
  maskAll(on: boolean): number[] {
    this.#maskAll = on;
    return Array.from({ length: this.location.entries }, (_, vector) => this.#release(vector)).flat();
  }

  /** Sends the message that waits at an entry, unless it is masked still. */
  #release(vector: number): number[] {
    const bit = 1 << (vector & 7);
    const waiting = this.#pending[vector >> 3] as number;
    if ((waiting & bit) === 0) return [];
    this.#pending[vector >> 3] = waiting & ~bit;
    const message = this.message(vector);
    return message === null ? [] : [message];
  }

  /** A message of the device: its data, or null when the entry is masked (then it is pending). */
  message(vector: number): number | null {
    const view = new DataView(this.#bytes.buffer, vector * ENTRY, ENTRY);
    if (this.#maskAll || (view.getUint32(CONTROL, true) & MASKED) !== 0) {
      this.#pending[vector >> 3] = (this.#pending[vector >> 3] as number) | (1 << (vector & 7));
      return null;
    }
    return view.getUint32(DATA, true);
  }
}
