// The open file: what a descriptor refers to. The base class refuses every operation with the errno of the kernel's VFIO files; each kind of
// file overrides what it supports. Kernel counterpart: struct file_operations.
import { EINVAL, ENODEV, ENOTTY } from '../../assembly/abi.ts';
import type { FileKind } from '../uapi/ioctl.ts';
import type { Mapping } from './mm.ts';
import type { Task } from './task.ts';
import type { UserArg, UserBuffer } from './user.ts';

/** What an mmap of a file asks for. Lengths are bytes, page rounded by the caller. */
export interface MmapRequest {
  readonly offset: bigint;
  readonly length: bigint;
  readonly read: boolean;
  readonly write: boolean;
}

/** An open file. */
export abstract class VfioFile {
  abstract readonly kind: FileKind;
  /** Descriptors and mappings that hold the file. The last one to go releases it. */
  #refs = 0;

  /** @returns 0 or a value (fd, version, level); -errno on failure. @internal */
  ioctl(task: Task, _request: number, _arg: UserArg): number {
    return task.fail(ENOTTY, 'this kind of file knows no such request');
  }
  /**
   * The same for a caller that can wait. Only files with a request that takes time override it; everything else is done at once.
   * @returns a promise of what `ioctl` would have answered had it slept. @internal
   */
  async ioctlAsync(task: Task, request: number, arg: UserArg): Promise<number> {
    return this.ioctl(task, request, arg);
  }
  /** @param offset null for a plain read (stream position). @returns bytes read or -errno. @internal */
  read(task: Task, _buffer: UserBuffer, _offset: bigint | null): number {
    return task.fail(EINVAL, 'this kind of file cannot be read');
  }
  /** @returns bytes written or -errno. @internal */
  write(task: Task, _buffer: UserBuffer, _offset: bigint | null): number {
    return task.fail(EINVAL, 'this kind of file cannot be written');
  }
  /** @returns what the new range of the address space shows, or -errno. @internal */
  mmap(task: Task, _request: MmapRequest): Mapping | number {
    return task.fail(ENODEV, 'this kind of file cannot be mapped');
  }
  /** The last reference is gone. @internal */
  protected release(): void {}

  /** One reference more. @internal */
  get(): this {
    this.#refs++;
    return this;
  }
  /** One reference less; the last one to go releases the file. @internal */
  put(): void {
    if (--this.#refs === 0) this.release();
  }
}
