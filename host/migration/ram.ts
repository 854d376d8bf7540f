// The guest's RAM during a migration: sets of pages to send, the payloads of PAGES frames on both sides, and the journal that puts a destination back as
// it was. Payload layout: frames.ts.
import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import type { VfioProcess } from '../process.ts';
import { FRAME_PAGES, PAGES_HEADER, RUN_SIZE } from './frames.ts';
import type { FrameRoom, Landing } from './stream.ts';
import type { MigrationRam } from './types.ts';

/** Which pages of a block: one bit each. */
export class PageSet {
  readonly pages: number;
  readonly words: Uint32Array;
  count = 0;

  constructor(pages: number) {
    this.pages = pages;
    this.words = new Uint32Array(Math.ceil(pages / 32));
  }

  has(page: number): boolean {
    return (this.words[page >>> 5]! & (1 << (page & 31))) !== 0;
  }

  /** Adds pages [from, to), cut to the block. */
  add(from: number, to: number): void {
    const last = Math.min(to, this.pages);
    for (let page = Math.max(0, from); page < last; page++) {
      if (this.has(page)) continue;
      this.words[page >>> 5]! |= 1 << (page & 31);
      this.count++;
    }
  }

  fill(): void {
    this.words.fill(0xffffffff);
    const rest = this.pages & 31;
    if (rest !== 0) this.words[this.words.length - 1] = (1 << rest) - 1;
    this.count = this.pages;
  }

  /** ORs a bitmap of this block: bit i of the little-endian words for page i. Whole 32-bit words, 4-byte aligned in their buffer. */
  merge(bitmap: Uint8Array): void {
    const words = new Uint32Array(bitmap.buffer, bitmap.byteOffset, bitmap.length >> 2);
    const length = Math.min(words.length, this.words.length);
    for (let i = 0; i < length; i++) {
      let fresh = words[i]! & ~this.words[i]!;
      if (fresh === 0) continue;
      // Bits behind the last page are nobody's.
      if (i === this.words.length - 1 && (this.pages & 31) !== 0) fresh &= (1 << (this.pages & 31)) - 1;
      this.words[i]! |= fresh;
      for (; fresh !== 0; fresh &= fresh - 1) this.count++;
    }
  }

  /** Takes the first run of set pages at or after `from`, at most `max` long. @returns null when there is none. */
  take(from: number, max: number): { first: number; pages: number } | null {
    let page = from;
    while (page < this.pages && !this.has(page)) {
      // Skips whole words without a bit.
      page = this.words[page >>> 5]! >>> (page & 31) === 0 ? ((page >>> 5) + 1) << 5 : page + 1;
    }
    if (page >= this.pages) return null;
    const first = page;
    while (page < this.pages && page - first < max && this.has(page)) {
      this.words[page >>> 5]! &= ~(1 << (page & 31));
      page++;
    }
    this.count -= page - first;
    return { first, pages: page - first };
  }
}

/** A block with its place in the core's memory. */
export interface RamBlock {
  readonly name: string;
  readonly address: bigint;
  readonly size: number;
  readonly pages: number;
  readonly iova: bigint | null;
  /** Linear address of its first byte. */
  readonly linear: number;
}

/** @throws RangeError when a block is not page aligned, or not one mapping with memory behind it. */
export function ramBlocks(process: VfioProcess, ram: readonly MigrationRam[]): RamBlock[] {
  return ram.map(({ name, address, size, iova }) => {
    if (size <= 0 || size % PAGE_SIZE_4K !== 0 || address % BigInt(PAGE_SIZE_4K) !== 0n)
      throw new RangeError(`RAM "${name}" is not made of whole pages`);
    const view = process.view(address, size);
    return { name, address, size, pages: size / PAGE_SIZE_4K, iova: iova ?? null, linear: view.byteOffset };
  });
}

/** Pages that fit into a frame of this capacity, one run each in the worst case. */
const pagesPerFrame = (capacity: number): number => Math.floor((capacity - PAGES_HEADER) / (PAGE_SIZE_4K + RUN_SIZE));

/** What a filled payload holds. */
export interface PagesPayload {
  readonly length: number;
  readonly pages: number;
  readonly zeroPages: number;
}

/**
 * Fills the room with the next pages of the set, taking them out of it. Pages of zeros travel as a run without data.
 * @returns null when the set is empty.
 */
export function fillPages(room: FrameRoom, index: number, block: RamBlock, set: PageSet): PagesPayload | null {
  const { core } = room;
  const { is_zero } = core.exports;
  const limit = pagesPerFrame(room.capacity);
  const runs: Array<{ first: number; pages: number; zero: boolean }> = [];
  let pages = 0;
  let zeroPages = 0;
  for (let from = 0; pages < limit && runs.length < limit; ) {
    const taken = set.take(from, limit - pages);
    if (taken === null) break;
    for (let page = taken.first; page < taken.first + taken.pages; page++) {
      const zero = is_zero(block.linear + page * PAGE_SIZE_4K, PAGE_SIZE_4K) !== 0;
      const last = runs.at(-1);
      if (last !== undefined && last.zero === zero && last.first + last.pages === page) last.pages++;
      else if (runs.length === limit) set.add(page, page + 1);
      else runs.push({ first: page, pages: 1, zero });
      if (set.has(page)) continue;
      if (zero) zeroPages++;
      else pages++;
    }
    from = taken.first + taken.pages;
  }
  if (runs.length === 0) return null;
  const { view } = room;
  const base = room.payload - room.address;
  view.setUint32(base, index, true);
  view.setUint32(base + 4, runs.length, true);
  let data = base + PAGES_HEADER + runs.length * RUN_SIZE;
  runs.forEach((run, i) => {
    const at = base + PAGES_HEADER + i * RUN_SIZE;
    view.setUint32(at, run.first, true);
    view.setUint32(at + 4, run.pages, true);
    view.setUint32(at + 8, run.zero ? 1 : 0, true);
    view.setUint32(at + 12, 0, true);
    if (run.zero) return;
    const size = run.pages * PAGE_SIZE_4K;
    const from = block.linear + run.first * PAGE_SIZE_4K;
    core.u8.copyWithin(room.address + data, from, from + size);
    data += size;
  });
  return { length: data - base, pages, zeroPages };
}

/** Remembers what a destination's pages held before the stream touched them; pages of zeros cost a bit. */
export class PageJournal {
  readonly #core: Core;
  readonly #blocks: readonly RamBlock[];
  readonly #seen: PageSet[];
  readonly #saved = new Map<number, Uint8Array>();

  constructor(core: Core, blocks: readonly RamBlock[]) {
    this.#core = core;
    this.#blocks = blocks;
    this.#seen = blocks.map((block) => new PageSet(block.pages));
  }

  /** Pages [first, first + count) of a block are about to change. */
  note(index: number, first: number, count: number): void {
    const seen = this.#seen[index]!;
    const { is_zero } = this.#core.exports;
    const { linear } = this.#blocks[index]!;
    for (let page = first; page < first + count; page++) {
      if (seen.has(page)) continue;
      seen.add(page, page + 1);
      const at = linear + page * PAGE_SIZE_4K;
      if (is_zero(at, PAGE_SIZE_4K) === 0) this.#saved.set(at, this.#core.u8.slice(at, at + PAGE_SIZE_4K));
    }
  }

  /** Puts everything back. */
  undo(): void {
    this.#seen.forEach((seen, index) => {
      const { linear } = this.#blocks[index]!;
      for (let run = seen.take(0, seen.pages); run !== null; run = seen.take(run.first + run.pages, seen.pages)) {
        const from = linear + run.first * PAGE_SIZE_4K;
        this.#core.u8.fill(0, from, from + run.pages * PAGE_SIZE_4K);
      }
    });
    for (const [linear, bytes] of this.#saved) this.#core.u8.set(bytes, linear);
    this.#saved.clear();
  }
}

/** What the head of a PAGES payload says. */
interface PagesHead extends PagesPayload {
  readonly index: number;
  readonly block: RamBlock;
  /** `data`: where in the payload; -1: pages of zeros. */
  readonly runs: ReadonlyArray<{ first: number; pages: number; data: number }>;
}

/** Checks the head of a PAGES payload of `length` bytes. @returns what it says, or in words what is wrong with it. */
function pagesHead(room: FrameRoom, length: number, blocks: readonly RamBlock[]): PagesHead | string {
  const { view } = room;
  const base = room.payload - room.address;
  if (length < PAGES_HEADER) return 'shorter than its own header';
  const index = view.getUint32(base, true);
  const count = view.getUint32(base + 4, true);
  const block = blocks[index];
  if (block === undefined) return `block ${index} is unknown`;
  if (count === 0 || count > (length - PAGES_HEADER) / RUN_SIZE) return `${count} runs do not fit`;
  let data = PAGES_HEADER + count * RUN_SIZE;
  let pages = 0;
  let zeroPages = 0;
  const runs: Array<{ first: number; pages: number; data: number }> = [];
  let end = 0;
  for (let i = 0; i < count; i++) {
    const at = base + PAGES_HEADER + i * RUN_SIZE;
    const first = view.getUint32(at, true);
    const n = view.getUint32(at + 4, true);
    const kind = view.getUint32(at + 8, true);
    if (n === 0 || first + n > block.pages) return `run ${i}: pages ${first} to ${first + n} of ${block.pages}`;
    // Ascending, so that one frame cannot ask for more work than the block has pages.
    if (first < end) return `run ${i} begins at page ${first}, before ${end}`;
    end = first + n;
    if (kind > 1 || view.getUint32(at + 12, true) !== 0) return `run ${i} is of an unknown kind`;
    runs.push({ first, pages: n, data: kind === 1 ? -1 : data });
    if (kind === 1) zeroPages += n;
    else {
      pages += n;
      data += n * PAGE_SIZE_4K;
    }
  }
  if (data !== length) return `${length} bytes where the runs say ${data}`;
  return { length, pages, zeroPages, index, block, runs };
}

/**
 * Pages that are one run of data, the usual payload of a first round, go straight into the block, under the journal's eyes: whoever takes them must
 * undo the journal when the frame proves wrong. Other payloads pass through the room.
 */
export function pagesLanding(blocks: readonly RamBlock[], journal: PageJournal): Landing {
  return {
    type: FRAME_PAGES,
    head: PAGES_HEADER + RUN_SIZE,
    place(room, length) {
      if (room.view.getUint32(room.payload - room.address + 4, true) !== 1) return 0;
      const head = pagesHead(room, length, blocks);
      if (typeof head === 'string' || head.pages === 0) return 0;
      const { first, pages } = head.runs[0]!;
      journal.note(head.index, first, pages);
      return head.block.linear + first * PAGE_SIZE_4K;
    },
  };
}

/**
 * Checks a PAGES payload completely, then puts its pages in place. @param landed they are in place already.
 * @returns what it held, or in words what is wrong with it; then nothing was changed.
 */
export function applyPages(
  room: FrameRoom,
  length: number,
  blocks: readonly RamBlock[],
  journal: PageJournal,
  landed = false,
): PagesPayload | string {
  const head = pagesHead(room, length, blocks);
  if (typeof head === 'string') return head;
  const { index, block, runs, pages, zeroPages } = head;
  const { core } = room;
  for (const run of landed ? [] : runs) {
    journal.note(index, run.first, run.pages);
    const to = block.linear + run.first * PAGE_SIZE_4K;
    const size = run.pages * PAGE_SIZE_4K;
    if (run.data < 0) core.u8.fill(0, to, to + size);
    else core.u8.copyWithin(to, room.payload + run.data, room.payload + run.data + size);
  }
  return { length, pages, zeroPages };
}
