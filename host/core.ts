// The only file that touches WebAssembly and the loader: makes a core in a memory, hands out its exports and views, keeps its
// pulse. A core owns one region of one memory; several cores share nothing, even inside one memory.
//
// Region of a core made by createCore:      base                base + heap                       base + length
//                                            | heap (records)    | user windows (pages)             |
// With its own memory the first page is left unused, so that address 0 is never a record.
import { instantiate } from '@assemblyscript/loader';
import {
  ARENA_FAIL_NTH,
  ARENA_LIVE_BYTES,
  ARENA_MM_BYTES,
  CORE_ABI,
  PAGE_SIZE_4K,
  PAGES_USED,
  PAGES_WORDS,
} from '../assembly/abi.ts';

/** The binary interface (assembly/index.ts). 64-bit parameters are bigint; linear addresses are numbers and may come back signed. */
export interface CoreExports {
  core_abi(): number;
  arena_create(base: number, size: number): number;
  arena_alloc(arena: number, size: number): number;
  arena_free(arena: number, address: number, size: number): void;
  crc32c_create(arena: number): number;
  crc32c_destroy(arena: number, table: number): void;
  crc32c(table: number, crc: number, address: number, length: number): number;
  is_zero(address: number, length: number): number;
  zpci_plan(plan: number, capacity: number, io: number, mem: number, len: number, rules: number): number;
  zpci_block_check(io: number, len: number, gaddr: number, rules: number): number;
  zpci_store(bar: number, io: number, source: number, len: number, rules: number): number;
  cp_create(arena: number): number;
  cp_destroy(cp: number): void;
  cp_init(cp: number, iommu: number, word1: number, cpa: number): number;
  cp_init_flat(cp: number, iommu: number, word1: number, buffer: number, len: number): number;
  cp_prefetch(cp: number): number;
  cp_get_orb(cp: number, intparm: number, lpm: number): number;
  cp_update_scsw(cp: number, cpa: number): number;
  cp_iova_pinned(cp: number, iova: bigint, length: bigint): number;
  cp_page_pinned(cp: number, page: number): number;
  cp_free(cp: number): void;
  pages_create(record: number, base: number, npage: number, zeroed: number): number;
  pages_alloc(pages: number, npage: number): number;
  pages_claim(pages: number, linear: number, npage: number): number;
  pages_put(pages: number, linear: number, npage: number): void;
  mm_create(arena: number, pages: number): number;
  mm_destroy(mm: number): void;
  mm_map(mm: number, start: bigint, last: bigint, value: bigint, meta: number): number;
  mm_unmap(mm: number, start: bigint, last: bigint): number;
  iommu_create(arena: number, pages: number, flavour: number): number;
  iommu_destroy(iommu: number): void;
  iommu_map_check(iommu: number, iova: bigint, last: bigint): number;
  iommu_map(iommu: number, mm: number, iova: bigint, last: bigint, vaddr: bigint, meta: number, end: bigint): number;
  iommu_unmap(iommu: number, iova: bigint, last: bigint, mode: number): number;
  iommu_unpin_all(iommu: number, iova: bigint, last: bigint): void;
  iommu_prot_many(iommu: number, iovas: number, n: number, out: number): void;
  iommu_bisects(iommu: number, iova: bigint, last: bigint): number;
  iommu_pinned(iommu: number, iova: bigint, last: bigint): number;
  iommu_next_map(iommu: number, iova: bigint): number;
  iommu_run(iommu: number, iova: bigint): number;
  iommu_vaddr_invalidate(iommu: number, iova: bigint, last: bigint, mode: number): number;
  iommu_vaddr_update(iommu: number, mm: number, iova: bigint, last: bigint, vaddr: bigint, meta: number): number;
  iommu_attach_domain(iommu: number, end: bigint, limit: number): number;
  iommu_detach_domain(iommu: number): void;
  iommu_inject(iommu: number, iova: bigint, readErrno: number, pinErrno: number): number;
  page_lookup(iommu: number, iova: bigint): number;
  page_lookup_many(iommu: number, iovas: number, n: number, out: number): void;
  pin_page_run(iommu: number, iova: bigint, npage: number, prot: number, out: number): number;
  unpin_page_run(iommu: number, iova: bigint, npage: number): void;
  iommu_read(iommu: number, iova: bigint, destination: number, size: number): number;
  iommu_write(iommu: number, iova: bigint, source: number, size: number): number;
  iommu_dirty_start(iommu: number): number;
  iommu_dirty_stop(iommu: number): void;
  iommu_dirty_mark(iommu: number, iova: bigint, size: bigint): void;
  iommu_dirty_fill(iommu: number): void;
  iommu_dirty_clear(iommu: number, iova: bigint, last: bigint): void;
  iommu_dirty_bits(iommu: number, iova: bigint, npage: number, out: number, shift: number, all: number): void;
  iommu_dirty_ranges(iommu: number, iova: bigint, last: bigint, out: number, max: number): number;
}

/** Where a core lives and how large it is. */
export interface CoreOptions {
  /**
   * A memory of the embedder's; the core then uses only [base, base + length) of it. It must not be shared. Without it the host
   * makes one of `length` bytes.
   */
  memory?: WebAssembly.Memory;
  /** Start of the core's region in `memory`, a multiple of 4096. Default 0. */
  base?: number;
  /** Bytes of the region, a multiple of 4096. Default 64 MiB, or all of `memory` behind `base`. */
  length?: number;
  /** Bytes for the core's own records (chains, IDALs, tables), below 2 GiB. Default a quarter of the region, at most 512 MiB. */
  heapSize?: number;
}

/** Where the compiled core comes from; `createVfio` of each entry binds its own. Called once for an instance. */
export type CoreSource = () => Promise<WebAssembly.Module>;

/** A trap inside the core: a bug of ours. The instance it happened in is dead and refuses further calls. */
export class CoreFault extends Error {
  override readonly name = 'CoreFault';
  constructor(cause: unknown) {
    super(`the core trapped and is dead: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

const DEFAULT_LENGTH = 64 * 1024 * 1024;
const WASM_PAGE = 65536;
const HEAP_LIMIT = 0x80000000;
const HEAP_MAX_DEFAULT = 512 * 1024 * 1024;

/** A core: its exports, its memory, its pulse. */
export class Core {
  /** @internal */
  readonly exports: CoreExports;
  readonly memory: WebAssembly.Memory;
  /** Linear address of the arena, the first argument of every `*_create` export. @internal */
  readonly arena: number;
  /** Linear address of the record of the user windows' pages (assembly/iommu/pages.ts); it lies at the end of the heap. @internal */
  readonly pages: number;
  /** First linear address of the user windows, and the first one behind them; both page aligned. */
  readonly userBase: number;
  readonly userEnd: number;
  #fault: CoreFault | null = null;
  #nextToken = 1;
  readonly #tokens = new WeakMap<object, number>();
  readonly #regions = new Map<number, object>();
  #u8: Uint8Array;
  #view: DataView;

  /** @param zeroed the user windows are known to hold zeros. @internal */
  constructor(
    exports: CoreExports,
    memory: WebAssembly.Memory,
    heapBase: number,
    userBase: number,
    userEnd: number,
    zeroed: boolean,
  ) {
    if (exports.core_abi() !== CORE_ABI)
      throw new Error(`core interface ${exports.core_abi()}, host expects ${CORE_ABI}`);
    this.exports = exports;
    this.memory = memory;
    const npage = (userEnd - userBase) / PAGE_SIZE_4K;
    this.pages = userBase - Math.ceil((PAGES_WORDS + 4 * npage) / 16) * 16;
    if (this.pages < heapBase) throw new RangeError('the heap is too small for the core');
    this.arena = exports.arena_create(heapBase, this.pages - heapBase) >>> 0;
    if (this.arena === 0) throw new RangeError('the heap is too small for the core');
    exports.pages_create(this.pages, userBase, npage, Number(zeroed));
    this.userBase = userBase;
    this.userEnd = userEnd;
    this.#u8 = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
  }

  /** All of the memory as bytes; retaken when an embedder's memory has grown. */
  get u8(): Uint8Array {
    if (this.#u8.length === 0) this.#retake();
    return this.#u8;
  }

  /** All of the memory as a DataView; retaken like `u8`. */
  get view(): DataView {
    if (this.#u8.length === 0) this.#retake();
    return this.#view;
  }

  /** Growing detaches the buffer, which shows as length 0: asking the memory for its buffer would cost more than most accesses. */
  #retake(): void {
    this.#u8 = new Uint8Array(this.memory.buffer);
    this.#view = new DataView(this.memory.buffer);
  }

  /** Bytes of records alive in the heap. 0 when everything is closed. */
  get liveBytes(): number {
    return this.view.getUint32(this.arena + ARENA_LIVE_BYTES, true);
  }

  /** Bytes of records of address spaces, which live as long as their tasks. */
  get mmBytes(): number {
    return this.view.getUint32(this.arena + ARENA_MM_BYTES, true);
  }

  /** Pages of the user windows that somebody needs: mapped, or pinned after their mapping went. */
  get usedPages(): number {
    return this.view.getUint32(this.pages + PAGES_USED, true);
  }

  /** Fault injection: the n-th allocation from now answers "full", once. 0 switches it off. */
  failAllocation(nth: number): void {
    this.view.setUint32(this.arena + ARENA_FAIL_NTH, nth, true);
  }

  /** The number under which the core's tables know a device region; the same object has one number. @internal */
  ioToken(io: object): number {
    let token = this.#tokens.get(io);
    if (token === undefined) {
      token = this.#nextToken++;
      this.#tokens.set(io, token);
      this.#regions.set(token, io);
    }
    return token;
  }

  /** Forgets a device region; hardware that still has it mapped then finds nothing there. @internal */
  ioForget(io: object): void {
    const token = this.#tokens.get(io);
    if (token !== undefined) this.#regions.delete(token);
    this.#tokens.delete(io);
  }

  /** The device region with this number. @internal */
  ioRegion(token: number): object | undefined {
    return this.#regions.get(token);
  }

  /** Throws when the core is dead. @internal */
  assertAlive(): void {
    if (this.#fault !== null) throw this.#fault;
  }

  /** Turns a trap into a CoreFault and marks the core dead; passes every other error on. @internal */
  fault(error: unknown): never {
    if (error instanceof WebAssembly.RuntimeError) {
      this.#fault = new CoreFault(error);
      throw this.#fault;
    }
    throw error;
  }
}

/**
 * Makes a core in its own memory or in a region of the embedder's.
 * @throws RangeError when the region is misaligned, too small, outside the memory, or its heap would lie above 2 GiB;
 * TypeError when the memory is shared.
 */
export async function createCore(source: CoreSource, options: CoreOptions = {}): Promise<Core> {
  const base = options.base ?? 0;
  const own = options.memory === undefined;
  if (own && base !== 0) throw new RangeError('base goes with memory');
  const length = options.length ?? (own ? DEFAULT_LENGTH : (options.memory?.buffer.byteLength ?? 0) - base);
  if (!Number.isInteger(base) || base < 0 || base % PAGE_SIZE_4K !== 0)
    throw new RangeError(`base ${base} is not a multiple of 4096`);
  if (!Number.isInteger(length) || length % PAGE_SIZE_4K !== 0)
    throw new RangeError(`length ${length} is not a multiple of 4096`);
  if (length < 2 * WASM_PAGE || base + length > 0x100000000 - WASM_PAGE)
    throw new RangeError(`length ${length}: a core needs 128 KiB and reaches at most to just under 4 GiB`);
  const heapBase = base === 0 ? WASM_PAGE : base;
  const heapSize = options.heapSize ?? Math.min(Math.floor(length / 4 / PAGE_SIZE_4K) * PAGE_SIZE_4K, HEAP_MAX_DEFAULT);
  const userBase = Math.ceil((heapBase + heapSize) / PAGE_SIZE_4K) * PAGE_SIZE_4K;
  if (userBase > HEAP_LIMIT)
    throw new RangeError('the heap must lie below 2 GiB: a format-1 CCW holds a 31-bit address');
  if (userBase > base + length) throw new RangeError(`heapSize ${heapSize} does not fit into the region`);
  const pages = Math.ceil(length / WASM_PAGE);
  const memory = options.memory ?? new WebAssembly.Memory({ initial: pages, maximum: pages });
  if (!(memory.buffer instanceof ArrayBuffer)) throw new TypeError('the memory of a core must not be shared');
  if (base + length > memory.buffer.byteLength) throw new RangeError('the region reaches beyond the memory');
  const { instance } = await instantiate(await source(), { env: { memory } });
  return new Core(instance.exports as unknown as CoreExports, memory, heapBase, userBase, base + length, own);
}
