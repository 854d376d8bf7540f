// The edge of the subsystem: a process and its system calls. Inside, a call answers with -errno; here that becomes the number
// (`ioctlRaw`, ...) or a VfioError (`ioctl`, ...). A trap inside the core marks it dead (CoreFault).
import { EAGAIN, EBADF, EFAULT, EINVAL, PAGE_SIZE_4K } from '../assembly/abi.ts';
import type { Clock } from './clock.ts';
import type { Core } from './core.ts';
import { VfioError } from './errno.ts';
import { ioctlName } from './uapi/ioctl.ts';
import type { StructBase } from './uapi/struct.ts';
import { EventFd } from './vfio/eventfd.ts';
import type { Task, TaskOptions } from './vfio/task.ts';
import { DirectBuffer, type UserArg, type UserBuffer, ValueArg } from './vfio/user.ts';
import type { Vfio } from './vfio/vfio.ts';

/**
 * Argument of an ioctl: a structure or bytes (the call reads and writes exactly that buffer), a string (NUL-terminated), a number or bigint
 * (the argument by value; for a call that takes a pointer, an address in the process's memory), or nothing (NULL). A UserArg is the argument itself.
 */
export type IoctlArg = StructBase | Uint8Array | UserArg | string | number | bigint | undefined;

/** What and where `mmap` maps. */
export interface MmapOptions {
  /** Descriptor and offset of a device region; without them the memory is anonymous and zeroed. */
  fd?: number;
  offset?: bigint | number;
  /** Any of the letters r and w; default `rw`. */
  prot?: string;
  /** A fixed address, page aligned and free. */
  addr?: bigint | number;
  /** false: address space with nothing behind it, for scale tests. */
  backed?: boolean;
  /**
   * Linear address in the core's memory: map the pages that lie there, content and all, instead of fresh ones. For an embedder whose RAM is the
   * guest's memory; between `core.userBase` and `core.userEnd`, page aligned, not mapped by anybody.
   */
  linear?: number;
}

const PAGE = BigInt(PAGE_SIZE_4K);
const encoder = new TextEncoder();

/** A process: its descriptors, its memory, its limits. Every call is synchronous, as system calls are. */
export class VfioProcess {
  /** @internal */
  protected readonly system: Vfio;
  /** The core whose memory is this process's RAM. */
  readonly core: Core;
  /** The kernel's side of this process. @internal */
  readonly task: Task;

  /** @internal */
  constructor(vfio: Vfio, options: TaskOptions = {}) {
    this.system = vfio;
    this.core = vfio.core;
    this.task = vfio.task(options);
  }

  /** Where time comes from. */
  get clock(): Clock {
    return this.system.clock;
  }

  /** Opens a node. @returns the descriptor. @throws VfioError ENOENT no such node; otherwise the file's (spec vfio-core sections 3, 4, 10). */
  open(path: string): number {
    return this.check(this.openRaw(path), () => `open(${path})`);
  }
  /** The same with the kernel's number: a descriptor, or -errno. */
  openRaw(path: string): number {
    return this.enter(() => {
      const file = this.system.open(this.task, path);
      if (typeof file === 'number') return file;
      const fd = this.task.install(file);
      if (fd < 0) file.get().put();
      return fd;
    });
  }

  /** Closes a descriptor. @throws VfioError EBADF it is not open. */
  close(fd: number): void {
    this.check(this.closeRaw(fd), () => `close(${fd})`);
  }
  /** The same with the kernel's number: 0, or -errno. */
  closeRaw(fd: number): number {
    return this.enter(() => this.task.close(fd));
  }

  /** An ioctl. @returns its value, 0 or positive. @throws VfioError with the kernel's errno and the reason in words. */
  ioctl(fd: number, request: number, arg?: IoctlArg): number {
    const result = this.ioctlRaw(fd, request, arg);
    if (result >= 0) return result;
    return this.check(result, () => `ioctl(${ioctlName(request, this.task.file(fd)?.kind)})`);
  }
  /** The same with the kernel's number: a value, or -errno. */
  ioctlRaw(fd: number, request: number, arg?: IoctlArg): number {
    // `enter` in line: the calls that are made most need no closure.
    const { task } = this;
    this.core.assertAlive();
    task.why = '';
    try {
      const file = task.file(fd);
      if (file === undefined) return task.fail(EBADF, `descriptor ${fd} is not open`);
      return file.ioctl(task, request, this.argument(arg));
    } catch (error) {
      this.core.fault(error);
    }
  }

  /**
   * An ioctl that may take time, without blocking: the promise of what `ioctl` would have answered had it slept. Only requests that say so take
   * time (VFIO_DEVICE_CCW_CMD_REQUEST); for all others the promise is settled at once. The argument is written when the promise is.
   * Rejects with VfioError.
   */
  async ioctlAsync(fd: number, request: number, arg?: IoctlArg): Promise<number> {
    const kind = this.task.file(fd)?.kind;
    return this.check(await this.ioctlAsyncRaw(fd, request, arg), () => `ioctl(${ioctlName(request, kind)})`);
  }
  /** The same with the kernel's number: a value, or -errno. */
  ioctlAsyncRaw(fd: number, request: number, arg?: IoctlArg): Promise<number> {
    return this.enter(async () => {
      const file = this.task.file(fd);
      if (file === undefined) return this.task.fail(EBADF, `descriptor ${fd} is not open`);
      return file.ioctlAsync(this.task, request, this.argument(arg));
    }).catch((error) => this.core.fault(error));
  }

  /** Reads into `buffer`: at `offset` (pread) or, without, from a stream. @returns bytes read. */
  read(fd: number, buffer: Uint8Array, offset?: bigint | number): number {
    return this.check(this.readRaw(fd, buffer, offset), () => `read(${fd})`);
  }
  /** The same with the kernel's number: a count, or -errno. */
  readRaw(fd: number, buffer: Uint8Array | UserBuffer, offset?: bigint | number): number {
    return this.enter(() => {
      const position = offset === undefined ? null : BigInt.asIntN(64, BigInt(offset));
      if (position !== null && position < 0n) return this.task.fail(EINVAL, 'the offset is negative');
      const file = this.task.file(fd);
      if (file === undefined) return this.task.fail(EBADF, `descriptor ${fd} is not open`);
      return file.read(this.task, asBuffer(buffer), position);
    });
  }

  /** Writes `data`: at `offset` (pwrite) or, without, to a stream. @returns bytes written. */
  write(fd: number, data: Uint8Array, offset?: bigint | number): number {
    return this.check(this.writeRaw(fd, data, offset), () => `write(${fd})`);
  }
  /** The same with the kernel's number: a count, or -errno. */
  writeRaw(fd: number, data: Uint8Array | UserBuffer, offset?: bigint | number): number {
    return this.enter(() => {
      const position = offset === undefined ? null : BigInt.asIntN(64, BigInt(offset));
      if (position !== null && position < 0n) return this.task.fail(EINVAL, 'the offset is negative');
      const file = this.task.file(fd);
      if (file === undefined) return this.task.fail(EBADF, `descriptor ${fd} is not open`);
      return file.write(this.task, asBuffer(data), position);
    });
  }

  /** Maps memory or a device region. @returns its virtual address. @throws VfioError ENOMEM, EINVAL, ENODEV. */
  mmap(length: bigint | number, options: MmapOptions = {}): bigint {
    const address = this.mmapRaw(length, options);
    if (address < 0n) this.check(Number(address), () => `mmap(${length})`);
    return address;
  }
  /** The same with the kernel's number: an address, or -errno. */
  mmapRaw(length: bigint | number, options: MmapOptions = {}): bigint {
    const size = BigInt(length);
    const prot = options.prot ?? 'rw';
    const read = prot.includes('r');
    const write = prot.includes('w');
    return this.enter(() => {
      const { task } = this;
      const addr = options.addr === undefined ? {} : { addr: BigInt(options.addr) };
      if (options.fd === undefined) {
        task.why = 'no room in the address space or in the memory';
        const linear = options.linear === undefined ? {} : { linear: options.linear };
        return task.mm.mapAnonymous(size, { read, write, backed: options.backed ?? true, ...addr, ...linear });
      }
      const offset = BigInt(options.offset ?? 0);
      if (offset % PAGE !== 0n) return BigInt(task.fail(EINVAL, 'the offset is not page aligned'));
      const file = task.file(options.fd);
      if (file === undefined) return BigInt(task.fail(EBADF, `descriptor ${options.fd} is not open`));
      if (size <= 0n) return BigInt(task.fail(EINVAL, 'length 0'));
      const rounded = (size + PAGE - 1n) & ~(PAGE - 1n);
      const mapping = file.mmap(task, { offset, length: rounded, read, write });
      if (typeof mapping === 'number') return BigInt(mapping);
      return task.mm.insert(rounded, mapping, read, write, file, addr.addr);
    });
  }

  /** Unmaps what mmap gave. @throws VfioError EINVAL. */
  munmap(address: bigint, length: bigint | number): void {
    this.check(this.munmapRaw(address, length), () => `munmap(0x${address.toString(16)})`);
  }
  /** The same with the kernel's number: 0, or -errno. */
  munmapRaw(address: bigint, length: bigint | number): number {
    return this.enter(() => this.task.mm.unmap(address, BigInt(length)));
  }

  /** Is any region of this device file mapped here? Then it may also be mapped for other devices to reach. */
  mapsFile(fd: number): boolean {
    const file = this.task.file(fd);
    return file !== undefined && this.task.mm.maps(file);
  }

  /** A live view of anonymous memory: `length` bytes at `address`. @throws RangeError when that is not one mapping with memory behind it. */
  view(address: bigint, length: number): Uint8Array {
    const view = this.task.mm.view(address, length);
    if (view === null) throw new RangeError(`0x${address.toString(16)} is not mapped memory of ${length} bytes`);
    return view;
  }

  /** Makes an eventfd. @returns its descriptor; `eventfdOf` gives the object. */
  eventfd(initval: bigint | number = 0, options: { semaphore?: boolean } = {}): number {
    return this.check(this.eventfdRaw(initval, options), () => 'eventfd()');
  }
  /** The same with the kernel's number: a descriptor, or -errno. */
  eventfdRaw(initval: bigint | number = 0, options: { semaphore?: boolean } = {}): number {
    return this.enter(() => {
      const count = BigInt(initval);
      if (count < 0n || count >= 1n << 32n) return this.task.fail(EINVAL, 'initval is an unsigned int');
      return this.task.install(new EventFd(count, options.semaphore ?? false));
    });
  }
  /** The eventfd behind a descriptor: its counter, callbacks, async iterator. @throws VfioError EBADF, EINVAL. */
  eventfdOf(fd: number): EventFd {
    const file = this.task.file(fd);
    if (file instanceof EventFd) return file;
    throw new VfioError(`eventfd ${fd}`, file === undefined ? EBADF : EINVAL, 'not an eventfd');
  }

  /** Content of a sysfs attribute. @throws VfioError ENOENT, EISDIR, EACCES (write-only), or the attribute's own. */
  sysfsRead(path: string): string {
    const text = this.sysfsReadRaw(path);
    if (typeof text === 'number') throw new VfioError(`read ${path}`, text, this.task.why);
    return text;
  }
  /** The same; -errno instead of an exception. */
  sysfsReadRaw(path: string): string | number {
    return this.enter(() => this.system.sysfs.read(this.task, path));
  }

  /** Writes a sysfs attribute. @returns bytes taken. @throws VfioError ENOENT, EISDIR, EACCES (read-only), or the attribute's own. */
  sysfsWrite(path: string, text: string): number {
    return this.check(this.sysfsWriteRaw(path, text), () => `write ${path}`);
  }
  /** The same; -errno instead of an exception. */
  sysfsWriteRaw(path: string, text: string): number {
    return this.enter(() => this.system.sysfs.write(this.task, path, text));
  }

  /** Reads an eventfd without waiting. @returns its counter, which is 0 (or 1 less) from now on. @throws VfioError EAGAIN it is 0; EBADF, EINVAL. */
  take(fd: number): bigint {
    const count = this.takeRaw(fd);
    if (count < 0n) this.check(Number(count), () => `take(${fd})`);
    return count;
  }
  /** The same with the kernel's number: the counter, or -errno. */
  takeRaw(fd: number): bigint {
    return this.enter(() => {
      const file = this.task.file(fd);
      if (file === undefined) return BigInt(this.task.fail(EBADF, `descriptor ${fd} is not open`));
      if (!(file instanceof EventFd)) return BigInt(this.task.fail(EINVAL, `descriptor ${fd} is not an eventfd`));
      return file.take() ?? BigInt(this.task.fail(EAGAIN, 'the counter is 0'));
    });
  }

  /** Reads the process's own memory; a mapped device region is one access. @throws VfioError EFAULT not mapped, not readable, a bus error. */
  peek(address: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.check(this.peekRaw(address, bytes), () => `peek(0x${address.toString(16)})`);
    return bytes;
  }
  /** The same with the kernel's number: 0, or -errno; `into` is filled. */
  peekRaw(address: bigint, into: Uint8Array): number {
    return this.enter(() =>
      this.task.mm.read(address, into) ? 0 : this.task.fail(EFAULT, 'the memory is not readable'),
    );
  }

  /** Writes the process's own memory, or a mapped device region as one access. @throws VfioError EFAULT. */
  poke(address: bigint, data: Uint8Array): void {
    this.check(this.pokeRaw(address, data), () => `poke(0x${address.toString(16)})`);
  }
  /** The same with the kernel's number: 0, or -errno. */
  pokeRaw(address: bigint, data: Uint8Array): number {
    return this.enter(() =>
      this.task.mm.write(address, data) ? 0 : this.task.fail(EFAULT, 'the memory is not writable'),
    );
  }

  /** Changes the limit on locked memory and the privilege that lifts it, as setrlimit and capset would. */
  rlimit({ memlock, lockCap }: { memlock?: number; lockCap?: boolean }): void {
    if (memlock !== undefined) this.task.memlockPages = Math.floor(memlock / PAGE_SIZE_4K);
    if (lockCap !== undefined) this.task.lockCap = lockCap;
  }

  /** Closes everything and unmaps everything. */
  exit(): void {
    this.enter(() => this.task.exit());
  }

  /** What an argument points to. @internal */
  protected argument(arg: IoctlArg): UserArg {
    if (arg === undefined) return new ValueArg(0n);
    if (typeof arg === 'bigint') return this.task.pointer(BigInt.asUintN(64, arg));
    if (typeof arg === 'number') return this.task.pointer(BigInt.asUintN(64, BigInt(arg)));
    if (typeof arg === 'string') return new DirectBuffer(encoder.encode(`${arg}\0`));
    if (arg instanceof Uint8Array) return new DirectBuffer(arg);
    return 'copyIn' in arg ? arg : new DirectBuffer(arg.bytes);
  }

  /** The result, or the exception for a negative one. */
  protected check(result: number, call: () => string): number {
    if (result < 0) throw new VfioError(call(), result, this.task.why);
    return result;
  }

  /** Every call goes through here: a trap inside the core marks it dead. @throws CoreFault */
  protected enter<T>(call: () => T): T {
    this.core.assertAlive();
    this.task.why = '';
    try {
      return call();
    } catch (error) {
      this.core.fault(error);
    }
  }
}

const asBuffer = (bytes: Uint8Array | UserBuffer): UserBuffer =>
  bytes instanceof Uint8Array ? new DirectBuffer(bytes) : bytes;
