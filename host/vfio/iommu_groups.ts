// The groups of a type1 container and what their IOMMU units allow together: page sizes, valid iova ranges, coherency, and who may have
// written where. Source: spec iommu-type1 sections 1, 1.1 and 9.
import { EINVAL, EPERM } from '../../assembly/abi.ts';
import type { Group } from './group.ts';
import type { MapRange } from './iommu_dirty.ts';
import { intersect } from './iova_space.ts';
import type { HwIommu } from './ops.ts';

const ANY_PAGE_SIZE = 0xfffffffffffff000n;
const PAGE = 4096n;
const U64_MAX = (1n << 64n) - 1n;

interface Refusal {
  readonly errno: number;
  readonly why: string;
}

export class Type1Groups {
  readonly #emulated = new Set<Group>();
  readonly #hardware = new Set<Group>();
  /** Hardware groups that pinned at least once: what they write, they pin. */
  readonly #pinners = new Set<Group>();
  readonly #unsafeInterrupts: boolean;
  #ranges: readonly MapRange[] = [];

  constructor(unsafeInterrupts: boolean) {
    this.#unsafeInterrupts = unsafeInterrupts;
  }

  get hasEmulated(): boolean {
    return this.#emulated.size > 0;
  }
  get hasDomain(): boolean {
    return this.#hardware.size > 0;
  }
  /** Hardware groups that may write what they never pinned. */
  get unpinned(): number {
    return this.#hardware.size - this.#pinners.size;
  }
  /** Valid iova ranges; empty: no restriction. */
  get ranges(): readonly MapRange[] {
    return this.#ranges;
  }

  /** One unit is one translation domain, whatever groups are behind it. */
  get #units(): ReadonlySet<HwIommu> {
    const units = new Set<HwIommu>();
    for (const group of this.#hardware) if (group.hw !== null) units.add(group.hw);
    return units;
  }
  isNewDomain(unit: HwIommu): boolean {
    return !this.#units.has(unit);
  }

  /** Every unit enforces coherency; so does none. */
  get coherent(): boolean {
    return [...this.#units].every((unit) => unit.coherent);
  }
  /** Page sizes that every unit knows; smaller ones than ours become ours. */
  get pageSizes(): bigint {
    const sizes = [...this.#units].reduce((all, unit) => all & unit.pageSizes, ANY_PAGE_SIZE | (PAGE - 1n));
    const small = sizes & (PAGE - 1n);
    return this.#units.size === 0 ? ANY_PAGE_SIZE : small === 0n ? sizes : (sizes & ~(PAGE - 1n)) | PAGE;
  }
  get pageSize(): bigint {
    return this.#pageSize;
  }
  #pageSize = PAGE;
  /** pageSize - 1, as a number. */
  get pageMask(): number {
    return this.#pageMask;
  }
  #pageMask = Number(PAGE) - 1;

  /** First iova that some unit cannot translate at all; 0: no unit. */
  get limit(): bigint {
    return this.#limit;
  }
  #limit = 0n;

  /** Does one valid range hold all of [iova, last]? */
  contains(iova: bigint, last: bigint): boolean {
    return this.#ranges.length === 0 || this.#ranges.some((range) => range.start <= iova && last <= range.last);
  }

  /** May this group join? @param maps the container's maps. @returns null: yes. */
  check(group: Group, maps: { mapFrom(iova: bigint): MapRange | null }): Refusal | null {
    if (this.#emulated.has(group) || this.#hardware.has(group))
      return { errno: EINVAL, why: 'the group is attached already' };
    const { hw } = group;
    if (hw === null) return null;
    const overlaps = ({ start, last }: MapRange): boolean => {
      const map = start > last ? null : maps.mapFrom(start);
      return map !== null && map.start <= last;
    };
    const end = this.#ranges[this.#ranges.length - 1];
    if (end !== undefined && (intersect(this.#ranges, hw.ranges).length === 0 || overlaps({ ...end, start: hw.limit })))
      return { errno: EINVAL, why: 'the unit does not reach all that the container uses' };
    if (reserved(hw).some(overlaps)) return { errno: EINVAL, why: 'a map lies in a reserved region of the unit' };
    if (!hw.msiIsolated && !this.#unsafeInterrupts)
      return { errno: EPERM, why: 'interrupt messages of the group are not isolated' };
    return null;
  }

  add(group: Group): void {
    if (group.hw === null) this.#emulated.add(group);
    else {
      this.#hardware.add(group);
      this.#update();
    }
  }

  /** @returns whether it was hardware that may have written what it never pinned. */
  remove(group: Group): boolean {
    this.#emulated.delete(group);
    if (!this.#hardware.delete(group)) return false;
    this.#update();
    // Once restricted, a container reports the full range again, not none.
    if (!this.hasDomain) this.#ranges = [{ start: 0n, last: U64_MAX }];
    return !this.#pinners.delete(group);
  }

  /** The group pinned pages: from now on those are all it writes. */
  pinned(group: Group): void {
    if (this.#hardware.has(group)) this.#pinners.add(group);
  }

  /** What the units that are left allow; mediated groups change nothing. */
  #update(): void {
    const units = [...this.#units];
    this.#ranges = units.reduce<readonly MapRange[]>(
      (ranges, unit) => (ranges.length === 0 ? unit.ranges : intersect(ranges, unit.ranges)),
      [],
    );
    this.#limit = units.reduce((limit, unit) => (limit === 0n || unit.limit < limit ? unit.limit : limit), 0n);
    const sizes = this.pageSizes;
    this.#pageSize = sizes & -sizes;
    this.#pageMask = Number(this.#pageSize - 1n);
  }
}

/** What the unit reaches and does not translate: below, between and behind its ranges. */
function reserved({ ranges, limit }: HwIommu): MapRange[] {
  const starts = [...ranges.map(({ start }) => start), limit];
  return starts.map((start, i) => ({ start: i === 0 ? 0n : ranges[i - 1]!.last + 1n, last: start - 1n }));
}
