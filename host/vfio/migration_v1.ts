// The first generation of migration: a device region (TYPE 3, subtype 1) with a state word and a window for the data, as a face on the machine
// that the FEATURE calls drive. Kernel counterpart: the v1 uAPI of Linux 5.8 to 5.17. Source: spec migration sections A and C.6.
//
// Head, 32 bytes, little-endian; each field is accessed with its own width at its own offset:
//   offset size field          access
//        0    4 device_state   rw   RUNNING 1, SAVING 2, RESUMING 4
//        4    4 reserved       reads 0, writes ignored
//        8    8 pending_bytes  ro   reading starts an iteration and confirms the last buffer
//       16    8 data_offset    ro   while saving: reading makes the next buffer available
//       24    8 data_size      ro while saving, wo while resuming: writing consumes the buffer
//       32    window           the buffer
import { EFAULT, EINVAL } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_STATE_V1_RESUMING as RESUMING,
  VFIO_DEVICE_STATE_V1_RUNNING as RUNNING,
  VFIO_DEVICE_STATE_V1_SAVING as SAVING,
  VFIO_DEVICE_STATE_V1_STOP as STOP,
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_MASK,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_MIGRATION_PRE_COPY,
} from '../uapi/constants.ts';
import { VfioDeviceMigrationInfo } from '../uapi/structs.ts';
import type { MigrationMachine } from './migration.ts';
import { ResumingFile, SavingFile } from './migration_file.ts';
import type { Task } from './task.ts';
import { type UserBuffer, viewOf } from './user.ts';

const { offsets } = VfioDeviceMigrationInfo;
const DATA = VfioDeviceMigrationInfo.size;
const ERROR = SAVING | RESUMING;
const WIDTH: Readonly<Record<number, number>> = {
  [offsets.device_state]: 4,
  [offsets.reserved]: 4,
  [offsets.pending_bytes]: 8,
  [offsets.data_offset]: 8,
  [offsets.data_size]: 8,
};

/** The v2 state that stands behind each legal v1 state. */
const V2: Readonly<Record<number, number>> = {
  [STOP]: VFIO_DEVICE_STATE_STOP,
  [RUNNING]: VFIO_DEVICE_STATE_RUNNING,
  [SAVING]: VFIO_DEVICE_STATE_STOP_COPY,
  [SAVING | RUNNING]: VFIO_DEVICE_STATE_PRE_COPY,
  [RESUMING]: VFIO_DEVICE_STATE_RESUMING,
};

/** The region of one device. The driver offers it with a TYPE capability (3, 1) and passes reads and writes on. */
export class MigrationRegion {
  readonly #machine: MigrationMachine;
  readonly #window: Uint8Array;
  #state: number = RUNNING;
  #restarts = 0;
  #saving: SavingFile | null = null;
  #resuming: ResumingFile | null = null;
  /** Saving: an iteration is open (pending_bytes was read); bytes of the buffer that was handed out, -1 without one; how many of them were read. */
  #iterating = false;
  #buffered = -1;
  #fetched = 0;
  #drained = false;
  /** Resuming: data_offset was read; bytes written to the window since. */
  #offered = false;
  #written = 0;

  /** @param window bytes of the data section. */
  constructor(machine: MigrationMachine, window = 65536) {
    this.#machine = machine;
    this.#restarts = machine.restarts;
    this.#window = new Uint8Array(window);
  }

  /** Size of the region in bytes. */
  get size(): number {
    return DATA + this.#window.length;
  }

  /** device_state as a read shows it. RESET and close, which v1 does not hear of, are seen in the machine. */
  get state(): number {
    const now = this.#machine.state;
    if (now === VFIO_DEVICE_STATE_ERROR) return ERROR;
    if (this.#restarts !== this.#machine.restarts) {
      this.#restarts = this.#machine.restarts;
      this.#state = RUNNING;
      this.#rewind();
    }
    return this.#state;
  }

  /** @returns bytes read. -EINVAL: not a field, wrong width, out of order, outside the buffer; -EFAULT. */
  read(task: Task, buffer: UserBuffer, position: number): number {
    const bytes = position < DATA ? this.#readField(task, position, buffer.length) : this.#readData(position, buffer);
    if (bytes === null) return task.fail(EINVAL, `migration region: no read of ${buffer.length} at ${position} now`);
    return buffer.copyOut(0, bytes) ? bytes.length : task.fail(EFAULT, 'the buffer is not writable');
  }

  /** @returns bytes written. -EINVAL as for read, or an illegal state; -EFAULT; the device's errno of a transition or of data. */
  write(task: Task, buffer: UserBuffer, position: number): number {
    if (position < DATA && WIDTH[position] !== buffer.length)
      return task.fail(EINVAL, `migration region: no write of ${buffer.length} at ${position}`);
    if (buffer.length > this.#window.length) return task.fail(EINVAL, 'the write is larger than the window');
    const bytes = buffer.copyIn(0, buffer.length);
    if (bytes === null) return task.fail(EFAULT, 'the buffer is not readable');
    let result = -EINVAL;
    if (position >= DATA) result = this.#writeData(bytes, position - DATA);
    else if (position === offsets.device_state) result = this.#setState(viewOf(bytes).getUint32(0, true));
    else if (position === offsets.reserved) result = 0;
    else if (position === offsets.data_size) result = this.#consume(viewOf(bytes).getBigUint64(0, true));
    return result < 0 ? task.fail(-result, `migration region: the write at ${position} is refused`) : buffer.length;
  }

  get #preCopies(): boolean {
    return (this.#machine.flags & VFIO_MIGRATION_PRE_COPY) !== 0;
  }

  #readField(task: Task, position: number, length: number): Uint8Array | null {
    if (WIDTH[position] !== length) return null;
    const bytes = new Uint8Array(length);
    const view = viewOf(bytes);
    const { state } = this;
    const saving = (state & SAVING) !== 0 && state !== ERROR;
    switch (position) {
      case offsets.device_state:
        view.setUint32(0, state, true);
        return bytes;
      case offsets.reserved:
        return bytes;
      case offsets.pending_bytes:
        view.setBigUint64(0, BigInt(saving ? this.#iterate() : 0), true);
        return bytes;
      case offsets.data_offset:
        if (saving && !this.#offer()) return null;
        if (state === RESUMING) this.#offered = true;
        view.setBigUint64(0, BigInt(DATA), true);
        return bytes;
      default:
        if (!saving || this.#buffered < 0) {
          task.why = 'data_size is read after data_offset';
          return null;
        }
        view.setBigUint64(0, BigInt(this.#buffered), true);
        return bytes;
    }
  }

  /** Reading pending_bytes: the last buffer is confirmed, an iteration begins. */
  #iterate(): number {
    this.#confirm();
    this.#iterating = true;
    if (this.#drained) return 0;
    const pending = this.#saving?.pending ?? 0;
    this.#drained = pending === 0 && this.#state === SAVING;
    return pending;
  }

  /** Reading data_offset while saving: fills the window, once in an iteration. */
  #offer(): boolean {
    if (!this.#iterating) return false;
    if (this.#buffered >= 0) return true;
    const bytes = this.#saving?.peek(this.#window.length) ?? new Uint8Array(0);
    this.#window.set(bytes);
    this.#buffered = bytes.length;
    this.#fetched = 0;
    return true;
  }

  /** The user has the buffer: it is out of the stream. One that was offered and not read stays in it. */
  #confirm(): void {
    if (this.#buffered > 0) this.#saving?.consume(this.#buffered);
    this.#buffered = -1;
  }

  #readData(position: number, buffer: UserBuffer): Uint8Array | null {
    const at = position - DATA;
    const end = at + buffer.length;
    if (end > Math.max(0, this.#buffered)) return null;
    if (at <= this.#fetched) this.#fetched = Math.max(this.#fetched, end);
    return this.#window.slice(at, at + buffer.length);
  }

  #writeData(bytes: Uint8Array, at: number): number {
    if (this.state !== RESUMING || !this.#offered || at + bytes.length > this.#window.length) return -EINVAL;
    if (at > this.#written) return -EINVAL;
    this.#window.set(bytes, at);
    this.#written = Math.max(this.#written, at + bytes.length);
    return 0;
  }

  /** Writing data_size while resuming: the device takes the chunk before the write returns. */
  #consume(size: bigint): number {
    if (this.state !== RESUMING || !this.#offered || size > BigInt(this.#written)) return -EINVAL;
    const file = this.#resuming;
    const length = Number(size);
    this.#offered = false;
    this.#written = 0;
    if (file === null || length > file.room) return -EINVAL;
    return file.feed(this.#window.slice(0, length));
  }

  /**
   * Any legal state may follow any other. The walk through the v2 table does the implied actions in the order of section A.3; a failure
   * goes back to the state before, or to the error state when there is no way back or when data were refused.
   */
  #setState(value: number): number {
    const wanted = value & VFIO_DEVICE_STATE_MASK;
    const before = this.state;
    if (V2[wanted] === undefined || before === ERROR) return -EINVAL;
    if (wanted === before) return 0;
    // A buffer that was read to its end counts, also when the state changes before pending_bytes confirms it.
    if (this.#buffered > 0 && this.#fetched === this.#buffered) this.#confirm();
    // v2 has no way from STOP_COPY back to pre-copy: the old transfer ends first.
    if (before === SAVING && wanted === (SAVING | RUNNING)) this.#walk(VFIO_DEVICE_STATE_STOP);
    const result = this.#walk(this.#target(wanted));
    if (result < 0) {
      if (before === RESUMING && this.#machine.state === VFIO_DEVICE_STATE_RESUMING) this.#machine.fail();
      else if (this.#walk(this.#target(before)) < 0) this.#machine.fail();
      return result;
    }
    this.#state = wanted;
    this.#rewind();
    return 0;
  }

  #rewind(): void {
    this.#iterating = false;
    this.#buffered = -1;
    this.#drained = false;
    this.#offered = false;
    this.#written = 0;
  }

  /** v1 demands that 011 works; a device without PRE_COPY stays RUNNING and has nothing to say. */
  #target(state: number): number {
    return state === (SAVING | RUNNING) && !this.#preCopies ? VFIO_DEVICE_STATE_RUNNING : V2[state]!;
  }

  #walk(target: number): number {
    const { result, file } = this.#machine.set(target);
    if (file instanceof SavingFile) this.#saving = file;
    if (file instanceof ResumingFile) this.#resuming = file;
    return result;
  }
}
