// Messages of a function become bits in the guest's storage: one in the function's bit vector (aibv + aibvo + message), one in the summary
// vector (aisb, bit aisbo) where the guest asked for it, and an adapter interruption of the registered subclass (spec zdev section 3.3).
import type { ChannelSubsystem } from '../css/css.ts';
import type { GuestStorage } from '../storage.ts';
import type { Fib } from './fib.ts';
import type { ZpciFunction } from './function.ts';

/** What a subclass does with adapter interruptions of functions: all of them, one and then none, none until SIC is executed again. */
export const MODE_ALL = 0;
export const MODE_SINGLE = 1;
const MODE_NONE = 2;

export class InterruptForwarder {
  /** By subclass, as SET INTERRUPTION CONTROLS left it. */
  readonly #modes = new Uint8Array(8);
  readonly #storage: GuestStorage;
  readonly #css: ChannelSubsystem;

  constructor(storage: GuestStorage, css: ChannelSubsystem) {
    this.#storage = storage;
    this.#css = css;
  }

  /** @returns true: connected, or the device has no interrupts and none can ever come. */
  register(fn: ZpciFunction, fib: Fib): boolean {
    const isc = (fib.word >>> 28) & 7;
    const count = Math.min((fib.word >>> 16) & 0xfff, fn.group.interrupts);
    const offset = (fib.word >>> 8) & 0x3f;
    const summary = (fib.word & 0x80) !== 0;
    return fn.backend.enableInterrupts(count, (vector) => {
      if (fn.state !== 'enabled' || vector >= count) return;
      this.#setBit(fib.aibv, offset + vector);
      if (summary) this.#setBit(fib.aisb, fib.word & 0x3f);
      this.#interrupt(isc);
    });
  }

  /** SET INTERRUPTION CONTROLS. @param mode MODE_ALL or MODE_SINGLE. */
  setMode(isc: number, mode: number): void {
    this.#modes[isc] = mode;
  }

  /** Every subclass takes all interruptions, as at power-on. */
  reset(): void {
    this.#modes.fill(MODE_ALL);
  }

  /** The bits are set whatever the mode: a guest that was told once looks at them until it asks to be told again. */
  #interrupt(isc: number): void {
    const mode = this.#modes[isc];
    if (mode === MODE_NONE) return;
    if (mode === MODE_SINGLE) this.#modes[isc] = MODE_NONE;
    this.#css.adapterInterrupt(isc);
  }

  /** Bit 0 is the leftmost of the first byte; bits outside storage are lost. */
  #setBit(vector: bigint, bit: number): void {
    const byte = this.#storage.view(BigInt.asUintN(64, vector + BigInt(bit >> 3)), 1);
    if (byte !== null) byte[0] = (byte[0] as number) | (0x80 >> (bit & 7));
  }
}
