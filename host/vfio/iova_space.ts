// The I/O virtual addresses of an iommufd address space: which are mapped (areas), which the attached hardware cannot translate (reserved), which
// the user wants to keep for automatic placement (allowed). Numbers only; pages are the business of ioas.ts. Kernel counterpart:
// drivers/iommu/iommufd/io_pagetable.c as its documentation tells. All ranges are inclusive.
import { EADDRINUSE, EEXIST, EINVAL, ENOENT, ENOSPC, EOVERFLOW, PAGE_SIZE_4K } from '../../assembly/abi.ts';

export interface Range {
  readonly start: bigint;
  readonly last: bigint;
}

/** A mapped range. `A` is what the owner keeps about it. */
export interface Area<A> extends Range {
  readonly data: A;
}

const PAGE = BigInt(PAGE_SIZE_4K);
const U64_MAX = (1n << 64n) - 1n;
const ALL: Range = { start: 0n, last: U64_MAX };

export class IovaSpace<A> {
  /** Ascending, never overlapping. */
  #areas: Area<A>[] = [];
  #units: Array<readonly Range[]> = [];
  #allowed: readonly Range[] = [];

  get areas(): readonly Area<A>[] {
    return this.#areas;
  }

  /** The addresses that every attached unit translates, ascending. */
  get usable(): readonly Range[] {
    return this.#units.reduce<readonly Range[]>(intersect, [ALL]);
  }

  /** A range that begins and ends as the table wants it. @returns 0; -EINVAL unaligned or empty; -EOVERFLOW it wraps. */
  static checkRange(start: bigint, length: bigint): number {
    if (start % PAGE !== 0n || length % PAGE !== 0n || length === 0n) return -EINVAL;
    return start + length - 1n > U64_MAX ? -EOVERFLOW : 0;
  }

  /** May this range be mapped? @returns 0; -EINVAL a unit cannot translate all of it; -EEXIST something is mapped there. */
  checkFree(start: bigint, last: bigint): number {
    if (!this.usable.some((range) => range.start <= start && last <= range.last)) return -EINVAL;
    return this.#overlapping(start, last) === -1 ? 0 : -EEXIST;
  }

  /**
   * A free place for `length` bytes, first fit from page 1 (never 0), aligned as the user address is, up to the length.
   * @returns the iova; -EOVERFLOW a length that cannot be; -EINVAL the address is not page aligned; -ENOSPC.
   */
  place(length: bigint, userAddress: bigint): bigint {
    if (length === 0n || length >= U64_MAX / 2n) return BigInt(-EOVERFLOW);
    const natural = userAddress === 0n ? 1n << 63n : userAddress & -userAddress;
    let round = 1n;
    while (round < length) round <<= 1n;
    const alignment = natural < round ? natural : round;
    if (alignment < PAGE) return BigInt(-EINVAL);
    const limits = this.#allowed.length > 0 ? this.#allowed : [{ start: PAGE, last: U64_MAX - PAGE }];
    for (const range of intersect(this.usable, limits)) {
      const found = this.#fit(range, length, alignment);
      if (found !== null) return found;
    }
    return BigInt(-ENOSPC);
  }

  /** Records an area that checkFree or place admitted. */
  insert(area: Area<A>): void {
    const at = this.#areas.findIndex((other) => other.start > area.start);
    this.#areas.splice(at === -1 ? this.#areas.length : at, 0, area);
  }

  remove(area: Area<A>): void {
    this.#areas.splice(this.#areas.indexOf(area), 1);
  }

  /** The first area that reaches into the range. */
  first(start: bigint, last: bigint): Area<A> | undefined {
    return this.#areas[this.#overlapping(start, last)];
  }

  /** The areas that together cover the range without a gap, cut to it by the caller. -ENOENT: some address is not mapped. */
  covering(start: bigint, last: bigint): Area<A>[] | number {
    const found: Area<A>[] = [];
    let next = start;
    for (let at = this.#overlapping(start, last); at !== -1 && next <= last; at++) {
      const area = this.#areas[at];
      if (area === undefined || area.start > next) return -ENOENT;
      found.push(area);
      next = area.last + 1n;
    }
    return next > last ? found : -ENOENT;
  }

  /** A unit joins. @returns 0, or -EADDRINUSE: an area or an allowed range lies where the unit cannot translate. */
  addUnit(ranges: readonly Range[]): number {
    const usable = intersect(this.usable, ranges);
    if (![...this.#areas, ...this.#allowed].every((range) => inside(range, usable))) return -EADDRINUSE;
    this.#units.push(ranges);
    return 0;
  }

  removeUnit(ranges: readonly Range[]): void {
    this.#units.splice(this.#units.indexOf(ranges), 1);
  }

  /** Limits automatic placement, and promises that no unit will join that could not use the ranges. @returns 0; -EINVAL; -EADDRINUSE. */
  allow(ranges: readonly Range[]): number {
    const sorted = [...ranges].sort((a, b) => (a.start < b.start ? -1 : 1));
    for (const [index, range] of sorted.entries()) {
      if (range.start >= range.last) return -EINVAL;
      const before = sorted[index - 1];
      if (before !== undefined && before.last >= range.start) return -EINVAL;
    }
    if (!sorted.every((range) => inside(range, this.usable))) return -EADDRINUSE;
    this.#allowed = sorted;
    return 0;
  }

  #overlapping(start: bigint, last: bigint): number {
    let low = 0;
    let high = this.#areas.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#areas[middle] as Area<A>).last < start) low = middle + 1;
      else high = middle;
    }
    const area = this.#areas[low];
    return area !== undefined && area.start <= last ? low : -1;
  }

  #fit(range: Range, length: bigint, alignment: bigint): bigint | null {
    const up = (value: bigint) => ((value + alignment - 1n) / alignment) * alignment;
    let start = up(range.start);
    while (start + length - 1n <= range.last) {
      const area = this.first(start, start + length - 1n);
      if (area === undefined) return start;
      start = up(area.last + 1n);
    }
    return null;
  }
}

const inside = (range: Range, within: readonly Range[]): boolean =>
  within.some((candidate) => candidate.start <= range.start && range.last <= candidate.last);

/** What lies in both lists; ascending when they are. */
export function intersect(a: readonly Range[], b: readonly Range[]): readonly Range[] {
  const both: Range[] = [];
  for (const x of a)
    for (const y of b) {
      const start = x.start > y.start ? x.start : y.start;
      const last = x.last < y.last ? x.last : y.last;
      if (start <= last) both.push({ start, last });
    }
  return both;
}
