// Every combination of iova, size and vaddr from the values where addresses go wrong, against the rules in BigInt; and every operation with its
// first, second, ... allocation, pin or copy failing, after which nothing may have changed.
import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENOMEM, EOVERFLOW, IOMMU_PIN_NTH, IOMMU_READ_NTH } from '../../assembly/abi.ts';
import { NOTHING, PAGE, Type1Bench } from '../support/type1.ts';

const TOP = 1n << 64n;
const EDGES = [0n, 1n, PAGE - 1n, PAGE, PAGE + 1n, (1n << 32n) - 1n, 1n << 32n, 1n << 63n, TOP - PAGE, TOP - 1n];

const ofRange = (start: bigint, size: bigint): number =>
  size === 0n ? -EINVAL : start + size > TOP ? -EOVERFLOW : (start | size) % PAGE !== 0n ? -EINVAL : 0;

function mapRule(iova: bigint, size: bigint, vaddr: bigint): number {
  if (size === 0n) return -EINVAL;
  if (iova + size > TOP || vaddr + size > TOP) return -EOVERFLOW;
  return (iova | size | vaddr) % PAGE === 0n ? 0 : -EINVAL;
}

describe('the edges of the address space', () => {
  it('1,000 maps: accepted or refused by the rules, found at both ends, unmapped whole', async () => {
    const bench = (await Type1Bench.make()).mediated();
    let accepted = 0;
    for (const iova of EDGES)
      for (const size of EDGES)
        for (const vaddr of EDGES) {
          const wanted = mapRule(iova, size, vaddr);
          const what = `iova ${iova} size ${size} vaddr ${vaddr}`;
          expect(bench.map({ iova, size, vaddr }), what).toBe(wanted);
          if (wanted !== 0) continue;
          accepted++;
          const last = iova + size - 1n;
          // The map is there: taken at both ends, free beside them; nothing is behind its vaddr.
          for (const at of [iova, last + 1n - PAGE]) {
            expect(bench.pin(at, 1), what).toBe(-EFAULT);
            expect(bench.unmap(at, PAGE), what).toBe(size === PAGE ? PAGE : BigInt(-EINVAL));
            if (size === PAGE) expect(bench.map({ iova, size, vaddr }), what).toBe(0);
          }
          for (const at of [iova - PAGE, last + 1n])
            if (at >= 0n && at < TOP) expect(bench.pin(at, 1), what).toBe(-EINVAL);
          expect(bench.unmap(iova, size), what).toBe(size);
        }
    expect(accepted).toBeGreaterThan(20);
    expect(bench.close()).toEqual(NOTHING);
  });

  it('100 unmaps of an empty container: pages come first, then the end of the address space', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const rule = (iova: bigint, size: bigint): number =>
      size === 0n || (iova | size) % PAGE !== 0n ? -EINVAL : iova + size > TOP ? -EOVERFLOW : 0;
    for (const iova of EDGES)
      for (const size of EDGES) expect(bench.unmap(iova, size), `${iova} ${size}`).toBe(BigInt(rule(iova, size)));
  });

  it('100 reports: the range is checked before the bitmap', async () => {
    const bench = (await Type1Bench.make()).mediated();
    expect(bench.dirty(1)).toBe(0);
    const data = bench.mmap(16);
    for (const iova of EDGES)
      for (const size of EDGES) {
        const small = size <= 16n * PAGE * 8n * PAGE;
        const rule = ofRange(iova, size);
        // A bitmap for more pages than fit into 2^28 bytes is refused; the largest fitting one here has 16 pages.
        const wanted = rule !== 0 ? rule : small && size >= PAGE ? 0 : -EINVAL;
        expect(bench.dirty(4, { iova, size, length: 16n * PAGE, data }), `${iova} ${size}`).toBe(wanted);
      }
    expect(bench.close()).toEqual(NOTHING);
  });

  it('pages, reads and writes at the last page of the address space', async () => {
    const bench = (await Type1Bench.make()).mediated();
    const vaddr = bench.mmap(2);
    expect(bench.map({ iova: TOP - 2n * PAGE, size: 2n * PAGE, vaddr })).toBe(0);
    expect(bench.pin(TOP - 2n * PAGE, 2)).toBe(2);
    expect(bench.pin(TOP - PAGE, 2)).toBe(-EINVAL);
    const bytes = Uint8Array.from([1, 2, 3, 4]);
    // What lies in the map is written before the end of the address space is met.
    expect(bench.iommu.dmaRw(TOP - 3n, bytes, true)).toBe(-EINVAL);
    expect(bench.iommu.dmaRw(TOP - 4n, bytes, true)).toBe(0);
    const back = new Uint8Array(4);
    expect(bench.iommu.dmaRw(TOP - 4n, back, false)).toBe(0);
    expect(back).toEqual(bytes);
    expect(bench.unmap(TOP - 2n * PAGE, 2n * PAGE)).toBe(2n * PAGE);
    expect(bench.notified).toEqual([{ iova: TOP - 2n * PAGE, length: 2n * PAGE }]);
    expect(bench.close()).toEqual(NOTHING);
  });
});

/** An operation: what has to be there before, and the call; its result is 0, a count or -errno. */
interface Operation {
  readonly name: string;
  before?(bench: Type1Bench): void;
  call(bench: Type1Bench): number;
}

const BASE = 0x100000n;
let vaddr = 0n;
const mapped = (bench: Type1Bench): void => {
  vaddr = bench.mmap(80);
  bench.map({ iova: BASE, size: 80n * PAGE, vaddr });
};
const full = (bench: Type1Bench): void => {
  mapped(bench);
  for (let i = 0n; i < 40n; i++) bench.map({ iova: 0x10000000n + 2n * i * PAGE, size: PAGE, vaddr });
};
const tracking = (bench: Type1Bench): void => {
  mapped(bench);
  bench.pin(BASE, 3);
  bench.dirty(1);
};

const OPERATIONS: readonly Operation[] = [
  { name: 'first map', call: (b) => b.map({ iova: BASE, size: PAGE }) },
  { name: 'map into full leaves', before: full, call: (b) => b.map({ iova: 0x10000000n + PAGE, size: PAGE, vaddr }) },
  { name: 'pin 80 pages', before: mapped, call: (b) => b.pin(BASE, 80) },
  {
    name: 'pin far pages',
    before: (b) => {
      mapped(b);
      b.map({ iova: 1n << 50n, size: 8n * PAGE, vaddr });
      b.pin(BASE, 1);
    },
    call: (b) => b.pin(1n << 50n, 8),
  },
  { name: 'dma_rw', before: mapped, call: (b) => b.iommu.dmaRw(BASE + 5n, new Uint8Array(9000), true) },
  {
    name: 'start tracking',
    before: (b) => {
      mapped(b);
      b.pin(BASE, 10);
    },
    call: (b) => b.dirty(1),
  },
  {
    name: 'report',
    before: tracking,
    call: (b) => b.dirty(4, { iova: BASE, size: 80n * PAGE, length: 16n, data: vaddr }),
  },
  { name: 'attach hardware', before: full, call: (b) => b.iommu.attachGroup(b.hardware, b.task) },
  {
    name: 'map for hardware',
    before: (b) => {
      mapped(b);
      b.iommu.attachGroup(b.hardware, b.task);
    },
    call: (b) => b.map({ iova: 0x200000n, size: 80n * PAGE, vaddr }),
  },
  { name: 'mmap', call: (b) => Number(b.mmap(3) < 0n ? -ENOMEM : 0) },
  { name: 'munmap of a middle', before: mapped, call: (b) => b.task.mm.unmap(vaddr + PAGE, PAGE) },
];

describe('fail_nth', () => {
  const faults: ReadonlyArray<readonly [string, (b: Type1Bench, nth: number) => void, (b: Type1Bench) => number]> = [
    ['allocation', (b, nth) => b.core.failAllocation(nth), (b) => b.core.view.getUint32(b.core.arena + 20, true)],
    [
      'pin',
      (b, nth) => b.core.view.setUint32(b.iommu.iommu + IOMMU_PIN_NTH, nth, true),
      (b) => b.core.view.getUint32(b.iommu.iommu + IOMMU_PIN_NTH, true),
    ],
    [
      'copy',
      (b, nth) => b.core.view.setUint32(b.iommu.iommu + IOMMU_READ_NTH, nth, true),
      (b) => b.core.view.getUint32(b.iommu.iommu + IOMMU_READ_NTH, true),
    ],
  ];
  for (const [kind, arm, left] of faults)
    it.each(OPERATIONS)(`$name, each ${kind} failing`, async ({ before, call }) => {
      for (let nth = 1; ; nth++) {
        const bench = (await Type1Bench.make()).mediated();
        // The first mmap and map of a task make its record.
        void bench.task.mm.record;
        before?.(bench);
        const ledger = bench.ledger();
        arm(bench, nth);
        const result = call(bench);
        const unused = left(bench) !== 0;
        arm(bench, 0);
        if (result < 0) {
          expect(unused, `result ${result} without a fault`).toBe(false);
          expect([-ENOMEM, -EFAULT]).toContain(result);
          expect(bench.ledger()).toEqual(ledger);
          // The same call works when nothing fails.
          expect(call(bench)).toBeGreaterThanOrEqual(0);
        }
        expect(bench.close()).toEqual(NOTHING);
        if (unused) break;
        expect(nth).toBeLessThan(500);
      }
    });
});
