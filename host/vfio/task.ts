// The caller of a system call: its descriptors, address space, limits and privileges. Kernel counterpart: task_struct as the VFIO code sees
// it (current). Every call into the subsystem carries its task first.
import { EBADF, EFAULT, EINVAL, EMFILE, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { Core } from '../core.ts';
import type { PageAllocator } from '../memory.ts';
import { getU32 } from '../uapi/words.ts';
import { VfioFile } from './file.ts';
import { AddressSpace } from './mm.ts';
import type { UserArg, UserBuffer } from './user.ts';

/** Limits and privileges of a process. */
export interface TaskOptions {
  /** RLIMIT_MEMLOCK in bytes; default no limit. */
  memlock?: number;
  /** CAP_IPC_LOCK: the limit does not apply. Default true. */
  lockCap?: boolean;
  /** CAP_SYS_RAWIO, needed for no-iommu groups. Default true. */
  rawIo?: boolean;
}

const FIRST_FD = 3;
const MAX_FDS = 1024;

/** What a process has as descriptors 0 to 2: nothing of ours. */
class StandardStream extends VfioFile {
  readonly kind = 'other';
}

/** A buffer in a task's memory. */
class PointerBuffer implements UserBuffer {
  readonly value: bigint;
  readonly length: number;
  readonly #mm: AddressSpace;
  constructor(mm: AddressSpace, address: bigint, length: number) {
    this.#mm = mm;
    this.value = address;
    this.length = length;
  }
  copyIn(offset: number, size: number): Uint8Array | null {
    const bytes = new Uint8Array(size);
    return this.#mm.read(this.value + BigInt(offset), bytes) ? bytes : null;
  }
  copyOut(offset: number, source: Uint8Array): boolean {
    return this.#mm.write(this.value + BigInt(offset), source);
  }
}

/** A process as the kernel sees it: who makes a call. */
export class Task {
  /** @internal */
  readonly mm: AddressSpace;
  /** @internal */
  lockCap: boolean;
  /** @internal */
  readonly rawIo: boolean;
  /** Why the last failing call failed, in words. @internal */
  why = '';
  readonly #standard = new StandardStream();
  #files = new Map<number, VfioFile>();

  /** @internal */
  constructor(core: Core, pages: PageAllocator, options: TaskOptions = {}) {
    this.mm = new AddressSpace(core, pages);
    this.memlockPages =
      options.memlock === undefined ? Number.POSITIVE_INFINITY : Math.floor(options.memlock / PAGE_SIZE_4K);
    this.lockCap = options.lockCap ?? true;
    this.rawIo = options.rawIo ?? true;
  }

  /** RLIMIT_MEMLOCK in pages; Infinity is unlimited. @internal */
  get memlockPages(): number {
    return this.mm.limitPages;
  }
  /** @internal */
  set memlockPages(pages: number) {
    this.mm.limitPages = pages;
  }

  /** Notes the reason and gives -errno: `return task.fail(EINVAL, 'argsz 4 is smaller than 8')`. */
  fail(errno: number, why: string): number {
    this.why = why;
    return -errno;
  }

  /** The open file behind a descriptor. The three standard ones are open and of no kind that a call here wants. @internal */
  file(fd: number): VfioFile | undefined {
    return this.#files.get(fd) ?? (fd >= 0 && fd < FIRST_FD ? this.#standard : undefined);
  }

  /** Is a descriptor free? @internal */
  get hasRoom(): boolean {
    return this.#files.size < MAX_FDS;
  }

  /** Lowest free descriptor for this file, or -EMFILE (then the file keeps no reference). @internal */
  install(file: VfioFile): number {
    if (!this.hasRoom) return this.fail(EMFILE, `${MAX_FDS} descriptors are open`);
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file.get());
    return fd;
  }

  /** @internal */
  close(fd: number): number {
    const file = this.#files.get(fd);
    if (file === undefined) return this.fail(EBADF, `descriptor ${fd} is not open`);
    this.#files.delete(fd);
    file.put();
    return 0;
  }

  /** The open descriptors, in the order of their opening. @internal */
  get fds(): number[] {
    return [...this.#files.keys()];
  }

  /** RLIMIT_MEMLOCK in bytes, and whether it applies. @internal */
  get limits(): { memlock: number; lockCap: boolean } {
    return { memlock: this.memlockPages * PAGE_SIZE_4K, lockCap: this.lockCap };
  }

  /** Number of open descriptors. @internal */
  get openFiles(): number {
    return this.#files.size;
  }

  /** Closes every descriptor and unmaps everything. @internal */
  exit(): void {
    for (const fd of [...this.#files.keys()].reverse()) this.close(fd);
    this.mm.destroy();
  }

  /** A pointer argument into this task's memory. @internal */
  pointer(address: bigint): UserArg {
    return this.buffer(address, 0);
  }

  /** A buffer in this task's memory. @internal */
  buffer(address: bigint, length: number): UserBuffer {
    return new PointerBuffer(this.mm, address, length);
  }

  /**
   * Copies in the fixed part of a growing structure and checks its first word, argsz.
   * @returns the copy, or -EFAULT / -EINVAL with the reason noted (spec vfio-core section 1). @internal
   */
  copyArgsz(arg: UserArg, minsz: number): Uint8Array | number {
    const bytes = arg.copyIn(0, minsz);
    if (bytes === null) return this.fail(EFAULT, 'the argument is not readable');
    const argsz = getU32(bytes, 0);
    if (argsz < minsz) return this.fail(EINVAL, `argsz ${argsz} is smaller than ${minsz}`);
    return bytes;
  }

  /**
   * copyArgsz into bytes that the caller keeps; their length is the fixed part's. @returns argsz, or -EFAULT / -EINVAL with the reason noted. @internal
   */
  copyFixed(arg: UserArg, target: Uint8Array): number {
    if (arg.copyInto?.(0, target) !== true) {
      const bytes = arg.copyInto === undefined ? arg.copyIn(0, target.length) : null;
      if (bytes === null) return this.fail(EFAULT, 'the argument is not readable');
      target.set(bytes);
    }
    const argsz = getU32(target, 0);
    return argsz < target.length ? this.fail(EINVAL, `argsz ${argsz} is smaller than ${target.length}`) : argsz;
  }

  /** Copies out; 0 or -EFAULT. @internal */
  copyOut(arg: UserArg, offset: number, bytes: Uint8Array): number {
    return arg.copyOut(offset, bytes) ? 0 : this.fail(EFAULT, 'the argument is not writable');
  }
}
