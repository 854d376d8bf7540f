// One device of a migrating guest, through the same calls that any user has: states, transfers, errors in words.
import { ENOMSG, ENOTTY } from '../../assembly/abi.ts';
import { errnoName } from '../errno.ts';
import type { VfioProcess } from '../process.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
} from '../uapi/constants.ts';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET } from '../uapi/ioctl.ts';
import { stateName } from '../vfio/migration_states.ts';
import { type MigrationDevice, MigrationError } from './types.ts';

const HEADER = 8;
/** A device that fails an arc is asked again this often before it counts as broken. */
const TRIES = 3;

export class DeviceHandle {
  readonly name: string;
  readonly fd: number;
  readonly container: number | undefined;
  readonly #process: VfioProcess;
  /** VFIO_MIGRATION_*; 0: the device does not migrate. */
  readonly flags: number;
  /** The device can log its own writes. */
  readonly logs: boolean;
  #dataFd = -1;

  constructor(process: VfioProcess, device: MigrationDevice) {
    this.#process = process;
    this.name = device.name;
    this.fd = device.fd;
    this.container = device.container;
    const answer = this.feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(8));
    if (answer.result < 0 && answer.result !== -ENOTTY)
      throw this.#error(answer.result, 'cannot say whether it migrates');
    this.flags = answer.result < 0 ? 0 : answer.view.getUint32(0, true);
    const probe = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
    this.logs = this.feature(probe, new Uint8Array(0)).result === 0;
  }

  get p2p(): boolean {
    return (this.flags & VFIO_MIGRATION_P2P) !== 0;
  }
  get preCopies(): boolean {
    return (this.flags & VFIO_MIGRATION_PRE_COPY) !== 0;
  }

  /** A FEATURE call. `view` shows its data afterwards. */
  feature(flags: number, data: Uint8Array): { result: number; view: DataView } {
    const bytes = new Uint8Array(HEADER + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, flags, true);
    bytes.set(data, HEADER);
    const result = this.#process.ioctlRaw(this.fd, VFIO_DEVICE_FEATURE, bytes);
    return { result, view: new DataView(bytes.buffer, HEADER) };
  }

  get state(): number {
    const { result, view } = this.feature(
      VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
      new Uint8Array(8),
    );
    return result < 0 ? VFIO_DEVICE_STATE_ERROR : view.getUint32(0, true);
  }

  /** @throws MigrationError `device`; the device is where the failing step left it. */
  set(state: number): void {
    const data = new Uint8Array(8);
    const request = new DataView(data.buffer);
    request.setUint32(0, state, true);
    request.setInt32(4, -1, true);
    const flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
    const { result, view } = this.feature(flags, data);
    if (result < 0) throw this.#error(result, `cannot go to ${stateName(state)}, is in ${stateName(this.state)}`);
    const fd = view.getInt32(4, true);
    if (fd < 0) return;
    this.closeData();
    this.#dataFd = fd;
  }

  /** `set` by a side that has no way back: asked again when a step fails. */
  insist(state: number): void {
    for (let left = TRIES; ; left--) {
      try {
        this.set(state);
        return;
      } catch (error) {
        if (left === 1) throw error;
      }
    }
  }

  /**
   * Back to RUNNING whatever happened: the way of the states where there is one, otherwise RESET, which loses the device's own state.
   * @returns false: it took a RESET.
   */
  revive(): boolean {
    this.closeData();
    try {
      this.insist(VFIO_DEVICE_STATE_RUNNING);
      return true;
    } catch {
      this.reset();
      return false;
    }
  }

  reset(): void {
    const result = this.#process.ioctlRaw(this.fd, VFIO_DEVICE_RESET);
    if (result < 0) throw this.#error(result, 'cannot be reset');
  }

  /** Reads what the transfer has now, at most `buffer.length`. @returns bytes; 0: nothing now (pre-copy) or the end. */
  read(buffer: Uint8Array): number {
    const result = this.#process.readRaw(this.#dataFd, buffer);
    if (result === -ENOMSG) return 0;
    if (result < 0) throw this.#error(result, 'its transfer cannot be read');
    return result;
  }

  /** Reads the transfer to its end. */
  readAll(limit: number): Uint8Array {
    let all = new Uint8Array(4096);
    let length = 0;
    for (;;) {
      if (length === all.length) {
        const larger = new Uint8Array(all.length * 4);
        larger.set(all);
        all = larger;
      }
      const n = this.read(all.subarray(length));
      if (n === 0) return all.slice(0, length);
      length += n;
      if (length > limit) throw new MigrationError('device', `${this.name}: more than ${limit} bytes of state`);
    }
  }

  writeAll(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const result = this.#process.writeRaw(this.#dataFd, bytes.subarray(at, at + 65536));
      if (result <= 0) throw this.#error(result, 'refuses its state');
      at += result;
    }
  }

  closeData(): void {
    if (this.#dataFd >= 0) this.#process.closeRaw(this.#dataFd);
    this.#dataFd = -1;
  }

  #error(result: number, what: string): MigrationError {
    const { why } = this.#process.task;
    const detail = why === '' ? '' : `: ${why}`;
    return new MigrationError('device', `${this.name} ${what} (${errnoName(result)}${detail})`, { errno: -result });
  }
}
