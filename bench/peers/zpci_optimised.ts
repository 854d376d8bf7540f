// PCI stores in TypeScript written for speed: no objects, 64-bit and 32-bit views, integer arithmetic, copyWithin for blocks. A peer of
// bench/zpci.ts. Both areas lie in one buffer, as they do in the core.

export class OptimisedStore {
  readonly #u8: Uint8Array;
  readonly #f64: Float64Array;

  constructor(buffer: ArrayBuffer) {
    this.#u8 = new Uint8Array(buffer);
    this.#f64 = new Float64Array(buffer);
  }

  /** @param bar, source offsets in the buffer, multiples of 8. @returns the number of instructions. */
  store(bar: number, io: number, source: number, length: number): number {
    const u8 = this.#u8;
    const f64 = this.#f64;
    let to = (bar + io) | 0;
    let from = source | 0;
    let left = length | 0;
    let count = 0;
    while (left > 0) {
      const room = 4096 - (io & 4095);
      let n = left < room ? left : room;
      if (n > 128) n = 128;
      if (((io | from | n) & 7) === 0) {
        // Eight bytes at a time beats copyWithin for blocks of this size.
        const words = n >> 3;
        const a = to >> 3;
        const b = from >> 3;
        for (let i = 0; i < words; i++) f64[a + i] = f64[b + i] as number;
      } else {
        const inside = 8 - (io & 7);
        if (n > inside) n = inside;
        n = 1 << (31 - Math.clz32(n));
        for (let i = 0; i < n; i++) u8[to + i] = u8[from + i] as number;
      }
      to += n;
      from += n;
      io += n;
      left -= n;
      count++;
    }
    return count;
  }
}
