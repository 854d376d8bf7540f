// A task's address space: ranges of 64-bit virtual addresses and what stands behind them - RAM in user windows of the core's memory, a
// device region, or nothing (address space for scale tests). Kernel counterpart: struct mm_struct and its VMAs.
import { EEXIST, EINVAL, ENOMEM, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import type { PageAllocator } from '../memory.ts';
import type { VfioFile } from './file.ts';

/** A device region that an address range shows. One call is one device access. */
export interface IoMapping {
  /** Reads `into.length` bytes at `offset` bytes into the mapping; false is a bus error (SIGBUS). */
  read(offset: number, into: Uint8Array): boolean;
  /** Writes; false is a bus error. */
  write(offset: number, from: Uint8Array): boolean;
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
const FIRST_VADDR = 0x7f0000000000n;
const TASK_SIZE = 0x7ffffffff000n;

export class AddressSpace {
  readonly #core: Core;
  readonly #pages: PageAllocator;
  #vmas: Vma[] = [];
  #next = FIRST_VADDR;

  constructor(core: Core, pages: PageAllocator) {
    this.#core = core;
    this.#pages = pages;
  }

  /** The range that holds this address. */
  find(address: bigint): Vma | undefined {
    return this.#vmas.find((vma) => vma.start <= address && address < vma.end);
  }

  /** Maps `length` bytes of anonymous memory, zeroed. @returns its address, or -errno as a bigint. */
  mapAnonymous(
    length: bigint,
    options: { addr?: bigint; read?: boolean; write?: boolean; backed?: boolean } = {},
  ): bigint {
    const { read = true, write = true, backed = true } = options;
    if (length <= 0n) return BigInt(-EINVAL);
    const size = (length + PAGE - 1n) & ~(PAGE - 1n);
    if (!backed) return this.insert(size, { kind: 'unbacked' }, read, write, null, options.addr);
    if (size > BigInt(this.#core.userEnd - this.#core.userBase)) return BigInt(-ENOMEM);
    const linear = this.#pages.allocate(Number(size));
    if (linear === 0) return BigInt(-ENOMEM);
    const address = this.insert(size, { kind: 'ram', linear }, read, write, null, options.addr);
    if (address < 0n) this.#pages.free(linear, Number(size));
    return address;
  }

  /** Puts a mapping at a free place or at `addr` (page aligned, free). @returns the address, or -errno. */
  insert(size: bigint, mapping: Mapping, read: boolean, write: boolean, file: VfioFile | null, addr?: bigint): bigint {
    let start = addr;
    if (start === undefined) {
      start = this.#next;
      if (start + size > TASK_SIZE) return BigInt(-ENOMEM);
      this.#next = start + size + PAGE;
    }
    if (start < 0n || start % PAGE !== 0n || start + size > 1n << 64n) return BigInt(-EINVAL);
    const end = start + size;
    if (this.#vmas.some((vma) => vma.start < end && start < vma.end)) return BigInt(-EEXIST);
    this.#vmas.push({ start, end, read, write, mapping, file: file?.get() ?? null });
    return start;
  }

  /** Unmaps whole mappings inside [address, address + length). @returns 0 or -errno. */
  unmap(address: bigint, length: bigint): number {
    if (address % PAGE !== 0n || length <= 0n) return -EINVAL;
    const end = address + ((length + PAGE - 1n) & ~(PAGE - 1n));
    const gone = this.#vmas.filter((vma) => vma.start >= address && vma.end <= end);
    if (this.#vmas.some((vma) => vma.start < end && address < vma.end && !gone.includes(vma))) return -EINVAL;
    this.#vmas = this.#vmas.filter((vma) => !gone.includes(vma));
    for (const vma of gone) {
      if (vma.mapping.kind === 'ram') this.#pages.free(vma.mapping.linear, Number(vma.end - vma.start));
      vma.file?.put();
    }
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

  /** Unmaps everything (exit of the task). */
  destroy(): void {
    for (const vma of [...this.#vmas]) this.unmap(vma.start, vma.end - vma.start);
  }

  #access(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    let done = 0;
    const pieces: Array<() => boolean> = [];
    while (done < bytes.length) {
      const at = address + BigInt(done);
      const vma = this.find(at);
      if (vma === undefined || !(write ? vma.write : vma.read) || vma.mapping.kind === 'unbacked') return false;
      const offset = Number(at - vma.start);
      const n = Math.min(bytes.length - done, Number(vma.end - at));
      const part = bytes.subarray(done, done + n);
      const { mapping } = vma;
      pieces.push(() => {
        if (mapping.kind === 'io') return write ? mapping.io.write(offset, part) : mapping.io.read(offset, part);
        if (mapping.kind !== 'ram') return false;
        const memory = this.#core.u8.subarray(mapping.linear + offset, mapping.linear + offset + n);
        if (write) memory.set(part);
        else part.set(memory);
        return true;
      });
      done += n;
    }
    return pieces.every((piece) => piece());
  }
}
