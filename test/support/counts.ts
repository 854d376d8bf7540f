// How often property tests run, and with which seed. `npm run test:long` multiplies; VFIO_WASM_SEED repeats a run.

declare const process: { env: Record<string, string | undefined> } | undefined;
const env = typeof process === 'undefined' ? {} : process.env;

/** Factor of the long runs. */
export const factor: number = Number(env['VFIO_WASM_LONG'] ?? '1');

/** The seed of this run, printed by the runner. */
export const seed: number = Number(env['VFIO_WASM_SEED'] ?? '20261120');

/** `count` in CI, more in long runs. */
export const runs = (count: number): number => count * factor;

/** A small, fast, seeded generator (mulberry32): `next()` in [0, 1), `int(n)` in [0, n). */
export class Random {
  #state: number;
  constructor(from: number = seed) {
    this.#state = from >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  int(n: number): number {
    return Math.floor(this.next() * n);
  }
  pick<T>(values: readonly T[]): T {
    return values[this.int(values.length)] as T;
  }
}
