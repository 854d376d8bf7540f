// The tables below a container in TypeScript, written for speed: typed arrays, page numbers as doubles, no objects on the way.

/** Ranges in three sorted columns; lookups are binary searches, an insertion moves what lies behind it. */
export class SortedColumns {
  readonly first: Float64Array;
  readonly last: Float64Array;
  readonly vaddr: Float64Array;
  length = 0;
  constructor(capacity: number) {
    this.first = new Float64Array(capacity);
    this.last = new Float64Array(capacity);
    this.vaddr = new Float64Array(capacity);
  }
  /** Place of the first range that ends at or behind `page`. */
  from(page: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.last[middle]! < page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  insert(first: number, last: number, vaddr: number): boolean {
    const at = this.from(first);
    if (at < this.length && this.first[at]! <= last) return false;
    for (const column of [this.first, this.last, this.vaddr]) column.copyWithin(at + 1, at, this.length);
    this.first[at] = first;
    this.last[at] = last;
    this.vaddr[at] = vaddr;
    this.length++;
    return true;
  }
  remove(at: number, count: number): void {
    for (const column of [this.first, this.last, this.vaddr]) column.copyWithin(at, at + count, this.length);
    this.length -= count;
  }
}

/** Page table of three levels over 36-bit page numbers: frames and pins in typed arrays of 512. */
export class TypedPageTable {
  readonly #root: (Uint32Array[] | undefined)[] = [];
  pinned = 0;
  #leaf(page: number): Uint32Array | undefined {
    return this.#root[Math.floor(page / 0x40000)]?.[(page >>> 9) & 511];
  }
  /** @param frame 0 is no page. */
  set(page: number, frame: number): void {
    const high = Math.floor(page / 0x40000);
    this.#root[high] ??= [];
    const middle = this.#root[high]!;
    middle[(page >>> 9) & 511] ??= new Uint32Array(1024);
    middle[(page >>> 9) & 511]![(page & 511) * 2] = frame;
  }
  get(page: number): number {
    return this.#leaf(page)?.[(page & 511) * 2] ?? 0;
  }
  pin(page: number, npage: number): boolean {
    for (let done = 0; done < npage; ) {
      const leaf = this.#leaf(page + done);
      if (leaf === undefined) return false;
      const place = (page + done) & 511;
      const n = Math.min(npage - done, 512 - place);
      let fresh = 0;
      for (let i = place * 2; i < (place + n) * 2; i += 2) {
        if (leaf[i] === 0) return false;
        if (leaf[i + 1]!++ === 0) fresh++;
      }
      this.pinned += fresh;
      done += n;
    }
    return true;
  }
  unpin(page: number, npage: number): void {
    for (let done = 0; done < npage; ) {
      const leaf = this.#leaf(page + done);
      if (leaf === undefined) return;
      const place = (page + done) & 511;
      const n = Math.min(npage - done, 512 - place);
      let gone = 0;
      for (let i = place * 2; i < (place + n) * 2; i += 2) if (leaf[i + 1]! > 0 && --leaf[i + 1]! === 0) gone++;
      this.pinned -= gone;
      done += n;
    }
  }
}

/** One bit a page in 32-bit words, reported as ranges into `out` (pairs of first page, pages). */
export function harvest(bits: Uint32Array, out: Float64Array): number {
  let at = 0;
  let start = -1;
  for (let w = 0; w < bits.length; w++) {
    const word = bits[w]!;
    if (start < 0 && word === 0) continue;
    for (let bit = 0; bit < 32; ) {
      if (start < 0) {
        const rest = word >>> bit;
        if (rest === 0) break;
        bit += 31 - Math.clz32(rest & -rest);
        start = w * 32 + bit;
      } else {
        const rest = ~word >>> bit;
        if (rest === 0) break;
        bit += 31 - Math.clz32(rest & -rest);
        out[at++] = start;
        out[at++] = w * 32 + bit - start;
        start = -1;
      }
    }
  }
  if (start >= 0) {
    out[at++] = start;
    out[at++] = bits.length * 32 - start;
  }
  return at >> 1;
}
