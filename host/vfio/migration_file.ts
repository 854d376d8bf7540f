// The transfer files of migration: what SET of a saving or resuming state hands out. A stream without positions that the state machine
// ends when the device leaves the state; the descriptor stays the user's to close. Source: spec migration sections B.5 and B.6, mdev section 8.
import { EBADF, EFAULT, EINVAL, ENODEV, ENOMEM, ENOMSG, ENOTTY, ESPIPE } from '../../assembly/abi.ts';
import { VFIO_MIG_GET_PRECOPY_INFO } from '../uapi/ioctl.ts';
import { VfioPrecopyInfo } from '../uapi/structs.ts';
import { VfioFile } from './file.ts';
import { isPreCopy } from './migration_states.ts';
import type { MigrationSink, MigrationSource } from './ops.ts';
import type { Task } from './task.ts';
import type { UserArg, UserBuffer } from './user.ts';

const EMPTY = new Uint8Array(0);

/** What both directions share: a stream that can be ended under its user. */
abstract class MigrationFile extends VfioFile {
  readonly kind = 'migration';
  protected disabled = false;

  /** Ends the transfer: every later call fails with ENODEV. */
  disable(): void {
    this.disabled = true;
  }

  protected refuse(task: Task, offset: bigint | null): number {
    if (offset !== null) return task.fail(ESPIPE, 'a migration stream has no positions');
    if (this.disabled) return task.fail(ENODEV, 'the transfer has ended');
    return 0;
  }
}

/** The reading end of a save. */
export class SavingFile extends MigrationFile {
  readonly #source: MigrationSource;
  readonly #state: () => number;
  #chunk: Uint8Array = EMPTY;
  #position = 0;
  /** Bytes of `begin` that are not read yet. */
  #initial = 0;
  #complete = false;

  /** @param state the device's state, whenever it is asked. */
  constructor(source: MigrationSource, state: () => number) {
    super();
    this.#source = source;
    this.#state = state;
  }

  /** A pre-copy transfer begins. */
  begin(): void {
    this.#append(this.#source.begin?.() ?? EMPTY);
    this.#initial = this.#chunk.length;
  }

  /** The device stopped: what is missing is appended and the stream is complete. */
  complete(): void {
    this.#append(this.#source.end());
    this.#complete = true;
  }

  override disable(): void {
    super.disable();
    this.#chunk = EMPTY;
    this.#position = 0;
  }

  /** Does a read give bytes, or the end of the stream, rather than ENOMSG? (What poll reports.) */
  get readable(): boolean {
    if (this.disabled || this.#complete) return true;
    this.#refill();
    return this.#position < this.#chunk.length;
  }

  /**
   * @returns bytes read; 0 at the end of a complete stream, again and again. -ESPIPE with an offset; -ENODEV the transfer ended;
   * -ENOMSG nothing now, while pre-copying; -EFAULT the buffer is not writable (nothing is taken).
   */
  override read(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    const refused = this.refuse(task, offset);
    if (refused < 0) return refused;
    if (buffer.length === 0) return 0;
    const bytes = this.peek(buffer.length);
    if (bytes.length === 0) return this.#complete ? 0 : task.fail(ENOMSG, 'nothing more to pre-copy at the moment');
    if (!buffer.copyOut(0, bytes)) return task.fail(EFAULT, 'the buffer is not writable');
    this.consume(bytes.length);
    return bytes.length;
  }

  /** Bytes waiting, with what the device estimates behind them. */
  get pending(): number {
    if (this.disabled) return 0;
    this.#refill();
    return this.#chunk.length - this.#position + (this.#complete ? 0 : (this.#source.dirtyBytes?.() ?? 0));
  }

  /** Up to `max` of the next bytes, not taken yet. */
  peek(max: number): Uint8Array {
    this.#refill();
    return this.#chunk.subarray(this.#position, this.#position + max);
  }

  /** Takes `n` of the bytes that `peek` showed. */
  consume(n: number): void {
    this.#position += n;
    this.#initial = Math.max(0, this.#initial - n);
  }

  override write(task: Task, _buffer: UserBuffer, offset: bigint | null): number {
    if (offset !== null) return task.fail(ESPIPE, 'a migration stream has no positions');
    return task.fail(EBADF, 'a saving transfer is only read');
  }

  override ioctl(task: Task, request: number, arg: UserArg): number {
    if (request !== VFIO_MIG_GET_PRECOPY_INFO) return task.fail(ENOTTY, 'a migration stream knows no such request');
    const bytes = task.copyArgsz(arg, VfioPrecopyInfo.size);
    if (typeof bytes === 'number') return bytes;
    if (!isPreCopy(this.#state())) return task.fail(EINVAL, 'the device is not pre-copying');
    if (this.disabled) return task.fail(ENODEV, 'the transfer has ended');
    const info = new VfioPrecopyInfo(bytes);
    const rest = this.#chunk.length - this.#position - this.#initial;
    info.flags = 0;
    info.initial_bytes = BigInt(this.#initial);
    info.dirty_bytes = BigInt(rest + (this.#source.dirtyBytes?.() ?? 0));
    return task.copyOut(arg, 0, info.bytes);
  }

  #append(bytes: Uint8Array): void {
    const rest = this.#chunk.subarray(this.#position);
    this.#position = 0;
    if (rest.length === 0) {
      this.#chunk = bytes;
      return;
    }
    this.#chunk = new Uint8Array(rest.length + bytes.length);
    this.#chunk.set(rest);
    this.#chunk.set(bytes, rest.length);
  }

  #refill(): void {
    if (this.#position === this.#chunk.length && !this.#complete) this.#append(this.#source.more?.() ?? EMPTY);
  }
}

/** The writing end of a restore. */
export class ResumingFile extends MigrationFile {
  readonly #sink: MigrationSink;
  #received: Uint8Array;
  #filled = 0;
  #dead = 0;

  constructor(sink: MigrationSink) {
    super();
    this.#sink = sink;
    this.#received = new Uint8Array(Math.min(sink.capacity, 4096));
  }

  /** RESUMING -> STOP: the device loads what came. @returns 0 or -errno; then the transfer goes on. */
  load(): number {
    if (this.#dead !== 0) return -EINVAL;
    return this.#sink.load(this.#received.subarray(0, this.#filled));
  }

  override disable(): void {
    super.disable();
    this.#received = EMPTY;
  }

  /**
   * @returns bytes written. -ESPIPE with an offset; -ENODEV the transfer ended; -ENOMEM more than the device takes (nothing is taken); -EFAULT
   * the buffer is not readable, or the device refuses what it sees: then the transfer is dead, RESET is the way out.
   */
  override write(task: Task, buffer: UserBuffer, offset: bigint | null): number {
    const refused = this.refuse(task, offset);
    if (refused < 0) return refused;
    const { length } = buffer;
    const { capacity } = this.#sink;
    if (this.#filled + length > capacity)
      return task.fail(ENOMEM, `the device takes at most ${capacity} bytes, ${this.#filled + length} were written`);
    const bytes = buffer.copyIn(0, length);
    if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
    const result = this.feed(bytes);
    return result < 0 ? task.fail(-result, 'the device refuses this stream') : length;
  }

  /** Bytes that the device still takes. */
  get room(): number {
    return this.disabled ? 0 : this.#sink.capacity - this.#filled;
  }

  /** Gives the device at most `room` bytes. @returns 0, or -errno: the device refuses the stream, now and from now on. */
  feed(bytes: Uint8Array): number {
    if (this.#dead !== 0) return this.#dead;
    this.#reserve(this.#filled + bytes.length);
    this.#received.set(bytes, this.#filled);
    this.#filled += bytes.length;
    this.#dead = Math.min(0, this.#sink.check?.(this.#received.subarray(0, this.#filled)) ?? 0);
    return this.#dead;
  }

  override read(task: Task, _buffer: UserBuffer, offset: bigint | null): number {
    if (offset !== null) return task.fail(ESPIPE, 'a migration stream has no positions');
    return task.fail(EBADF, 'a resuming transfer is only written');
  }

  #reserve(size: number): void {
    if (size <= this.#received.length) return;
    const larger = new Uint8Array(Math.min(this.#sink.capacity, Math.max(size, this.#received.length * 2)));
    larger.set(this.#received.subarray(0, this.#filled));
    this.#received = larger;
  }
}
