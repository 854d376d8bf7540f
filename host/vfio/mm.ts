// A task's address space: ranges of 64-bit virtual addresses and what stands behind them - RAM in user windows of the core's memory, a
// device region, or nothing (address space for scale tests). Kernel counterpart: struct mm_struct and its VMAs. The core keeps a table of its
// own of the same ranges (assembly/iommu/mm.ts), in which it looks pages up when they are pinned; both change together here.
import {
  EEXIST,
  EINVAL,
  ENOMEM,
  MM_LIMIT,
  MM_LOCKED,
  PAGE_SIZE_4K,
  PROT_READ,
  PROT_WRITE,
  VMA_IO,
  VMA_RAM,
  VMA_UNBACKED,
} from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import type { PageAllocator } from '../memory.ts';
import type { VfioFile } from './file.ts';

/** A device region that an address range shows. One call is one device access. */
export interface IoMapping {
  /** Reads `into.length` bytes at `offset` bytes into the mapping; false is a bus error (SIGBUS). */
  read(offset: number, into: Uint8Array): boolean;
  /** Writes; false is a bus error. */
  write(offset: number, from: Uint8Array): boolean;
  /** false: the device decodes no accesses now, so the region cannot be mapped for other devices' DMA. Absent: it always can. */
  enabled?(): boolean;
}

/** What stands behind a range of virtual addresses. */
export type Mapping =
  | { readonly kind: 'ram'; readonly linear: number }
  | { readonly kind: 'unbacked' }
  | { readonly kind: 'io'; readonly io: IoMapping };

export interface Vma {
  readonly start: bigint;
  /** Exclusive. */
  readonly end: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly mapping: Mapping;
  /** The device file that the mapping keeps alive. */
  readonly file: VfioFile | null;
}

const PAGE = BigInt(PAGE_SIZE_4K);
/** Low enough that guests of many terabytes find room. */
const FIRST_VADDR = 0x550000000000n;
const TASK_SIZE = 0x7ffffffff000n;
const TOP = 1n << 64n;
/** A device region's value in the core's table: its token times this, plus the offset. */
export const IO_TOKEN_SHIFT = 44n;
const NO_LIMIT = 0xffffffff;

const pageUp = (value: bigint): bigint => (value + PAGE - 1n) & ~(PAGE - 1n);

export class AddressSpace {
  readonly #core: Core;
  readonly #pages: PageAllocator;
  /** Ascending, never overlapping. */
  #vmas: Vma[] = [];
  #hit: Vma | undefined;
  #next = FIRST_VADDR;
  #record = 0;
  /** Device regions ever shown here; hardware may have one mapped after its range went. */
  readonly #regions = new Set<IoMapping>();

  constructor(core: Core, pages: PageAllocator) {
    this.#core = core;
    this.#pages = pages;
  }

  /** The core's record of this address space; made on first use. 0: the core's heap is full. */
  get record(): number {
    if (this.#record === 0) {
      this.#record = this.#core.exports.mm_create(this.#core.arena, this.#core.pages) >>> 0;
      if (this.#record !== 0) this.limitPages = this.#limit;
    }
    return this.#record;
  }

  /** Pages locked on behalf of this task. */
  get lockedPages(): number {
    return this.#record === 0 ? 0 : this.#core.view.getUint32(this.#record + MM_LOCKED, true);
  }

  #limit = Number.POSITIVE_INFINITY;
  /** RLIMIT_MEMLOCK in pages; Infinity is unlimited. */
  get limitPages(): number {
    return this.#limit;
  }
  set limitPages(pages: number) {
    this.#limit = pages;
    if (this.#record !== 0) this.#core.view.setUint32(this.#record + MM_LIMIT, Math.min(pages, NO_LIMIT), true);
  }

  /** Does any range show a device region? */
  get hasIo(): boolean {
    return this.#vmas.some((vma) => vma.mapping.kind === 'io');
  }

  /** Place of the first range that ends behind `address`. */
  #from(address: bigint): number {
    let low = 0;
    let high = this.#vmas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#vmas[middle]!.end <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The range that holds this address. */
  find(address: bigint): Vma | undefined {
    const hit = this.#hit;
    if (hit !== undefined && hit.start <= address && address < hit.end) return hit;
    const vma = this.#vmas[this.#from(address)];
    if (vma === undefined || vma.start > address) return undefined;
    this.#hit = vma;
    return vma;
  }

  /** Does any range show this file? */
  maps(file: VfioFile): boolean {
    return this.#vmas.some((vma) => vma.file === file);
  }

  /**
   * Maps `length` bytes of anonymous memory, zeroed; or, with `linear`, the pages of the core's memory that lie there, as they are.
   * @returns its address, or -errno as a bigint: EINVAL, EEXIST, ENOMEM.
   */
  mapAnonymous(
    length: bigint,
    options: { addr?: bigint; read?: boolean; write?: boolean; backed?: boolean; linear?: number } = {},
  ): bigint {
    const { read = true, write = true, backed = true } = options;
    if (length <= 0n) return BigInt(-EINVAL);
    const size = pageUp(length);
    if (!backed) return this.insert(size, { kind: 'unbacked' }, read, write, null, options.addr);
    if (size > BigInt(this.#core.userEnd - this.#core.userBase)) return BigInt(-ENOMEM);
    let linear = options.linear ?? 0;
    if (options.linear === undefined) {
      linear = this.#pages.allocate(Number(size));
      if (linear === 0) return BigInt(-ENOMEM);
    } else {
      const claimed = this.#pages.claim(linear, Number(size));
      if (claimed < 0) return BigInt(claimed);
    }
    const address = this.insert(size, { kind: 'ram', linear }, read, write, null, options.addr);
    if (address < 0n) this.#pages.free(linear, Number(size));
    return address;
  }

  /**
   * Puts a mapping at a free place or at `addr` (page aligned, free). The reference on RAM pages passes to the address space.
   * @returns the address, or -errno: EINVAL, EEXIST, ENOMEM; then nothing changed.
   */
  insert(size: bigint, mapping: Mapping, read: boolean, write: boolean, file: VfioFile | null, addr?: bigint): bigint {
    const start = addr ?? this.#next;
    if (addr === undefined && start + size > TASK_SIZE) return BigInt(-ENOMEM);
    if (start < 0n || start % PAGE !== 0n || start + size > TOP) return BigInt(-EINVAL);
    const end = start + size;
    const at = this.#from(start);
    const there = this.#vmas[at];
    if (there !== undefined && there.start < end) return BigInt(-EEXIST);
    const { record } = this;
    if (record === 0) return BigInt(-ENOMEM);
    const prot = (read ? PROT_READ : 0) | (write ? PROT_WRITE : 0);
    const [value, meta] =
      mapping.kind === 'ram'
        ? [BigInt(mapping.linear), VMA_RAM]
        : mapping.kind === 'io'
          ? [BigInt(this.#core.ioToken(mapping.io)) << IO_TOKEN_SHIFT, VMA_IO]
          : [0n, VMA_UNBACKED];
    const result = this.#core.exports.mm_map(record, start, end - 1n, value, meta | prot);
    if (result < 0) return BigInt(result);
    if (mapping.kind === 'io') this.#regions.add(mapping.io);
    this.#vmas.splice(at, 0, { start, end, read, write, mapping, file: file?.get() ?? null });
    if (addr === undefined) this.#next = end + PAGE;
    return start;
  }

  /**
   * Unmaps whatever lies in [address, address + length), length rounded up to pages; ranges that reach beyond are cut. RAM that a device pins
   * stays with the device until its last unpin. @returns 0, -EINVAL, -ENOMEM (a cut found no memory; nothing changed).
   */
  unmap(address: bigint, length: bigint): number {
    const end = address + pageUp(length);
    if (address < 0n || address % PAGE !== 0n || length <= 0n || end > TOP) return -EINVAL;
    const from = this.#from(address);
    let to = from;
    while (to < this.#vmas.length && this.#vmas[to]!.start < end) to++;
    if (from === to) return 0;
    const result = this.#core.exports.mm_unmap(this.record, address, end - 1n);
    if (result < 0) return result;
    const gone = this.#vmas.slice(from, to);
    const first = gone[0]!;
    const last = gone[gone.length - 1]!;
    const kept: Vma[] = [];
    if (first.start < address) kept.push({ ...first, end: address, file: first.file?.get() ?? null });
    if (last.end > end) kept.push({ ...last, start: end, mapping: behind(last, end), file: last.file?.get() ?? null });
    this.#vmas.splice(from, gone.length, ...kept);
    this.#hit = undefined;
    for (const vma of gone) vma.file?.put();
    return 0;
  }

  /** Reads through the mappings; RAM in one piece, a device region as one access. False is EFAULT. */
  read(address: bigint, into: Uint8Array): boolean {
    return this.#access(address, into, false);
  }
  write(address: bigint, from: Uint8Array): boolean {
    return this.#access(address, from, true);
  }

  /** A live view of RAM, or null when the range is not one RAM mapping. */
  view(address: bigint, length: number): Uint8Array | null {
    const vma = this.find(address);
    if (vma?.mapping.kind !== 'ram' || address + BigInt(length) > vma.end) return null;
    const linear = vma.mapping.linear + Number(address - vma.start);
    return this.#core.u8.subarray(linear, linear + length);
  }

  /** Exit of the task: everything is unmapped; maps that containers made from it find nobody any more. */
  destroy(): void {
    if (this.#record === 0) return;
    this.#core.exports.mm_destroy(this.#record);
    this.#record = 0;
    const vmas = this.#vmas;
    this.#vmas = [];
    this.#hit = undefined;
    for (const vma of vmas) vma.file?.put();
    for (const io of this.#regions) this.#core.ioForget(io);
    this.#regions.clear();
  }

  #access(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    const vma = this.find(address);
    if (vma === undefined) return bytes.length === 0;
    if (address + BigInt(bytes.length) <= vma.end) return this.#piece(vma, address, bytes, write, true);
    // Several ranges: all are looked at before the first byte moves.
    return this.#walk(address, bytes, write, false) && this.#walk(address, bytes, write, true);
  }

  #walk(address: bigint, bytes: Uint8Array, write: boolean, move: boolean): boolean {
    for (let done = 0; done < bytes.length; ) {
      const at = address + BigInt(done);
      const vma = this.find(at);
      if (vma === undefined) return false;
      const room = vma.end - at;
      const n = room < BigInt(bytes.length - done) ? Number(room) : bytes.length - done;
      if (!this.#piece(vma, at, bytes.subarray(done, done + n), write, move)) return false;
      done += n;
    }
    return true;
  }

  #piece(vma: Vma, address: bigint, bytes: Uint8Array, write: boolean, move: boolean): boolean {
    const { mapping } = vma;
    if (!(write ? vma.write : vma.read) || mapping.kind === 'unbacked') return false;
    if (!move) return true;
    const offset = Number(address - vma.start);
    if (mapping.kind === 'io') return write ? mapping.io.write(offset, bytes) : mapping.io.read(offset, bytes);
    const linear = mapping.linear + offset;
    if (write) this.#core.u8.set(bytes, linear);
    else bytes.set(this.#core.u8.subarray(linear, linear + bytes.length));
    return true;
  }
}

/** The mapping of the part of `vma` that begins at `address`. */
function behind(vma: Vma, address: bigint): Mapping {
  const { mapping } = vma;
  const offset = Number(address - vma.start);
  if (mapping.kind === 'ram') return { kind: 'ram', linear: mapping.linear + offset };
  if (mapping.kind === 'unbacked') return mapping;
  const { io } = mapping;
  return {
    kind: 'io',
    io: {
      read: (at, into) => io.read(offset + at, into),
      write: (at, from) => io.write(offset + at, from),
      ...(io.enabled === undefined ? {} : { enabled: () => io.enabled?.() ?? true }),
    },
  };
}
