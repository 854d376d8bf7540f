// Migration of one device: the machine that walks its states, the transfers it opens and ends, and the FEATURE calls that reach it. Kernel
// counterpart: the migration part of vfio_main.c, and what every migratable driver repeats. Source: spec migration section B.
import { EFAULT, EINVAL, ENOTTY } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_MIGRATION_PRE_COPY,
} from '../uapi/constants.ts';
import { VfioDeviceFeatureMigState } from '../uapi/structs.ts';
import type { VfioDevice } from './device.ts';
import { checkFeature } from './feature.ts';
import { ResumingFile, SavingFile } from './migration_file.ts';
import { isPreCopy, isSaving, nextState, stateName } from './migration_states.ts';
import type { FeatureRequest, VfioMigrationOps } from './ops.ts';
import type { Task } from './task.ts';
import { viewOf } from './user.ts';

/** What a request for a state left: the new transfer, if its last step opened one. */
export interface StateChange {
  /** 0, or -errno of the step that failed; `state` of the machine tells how far it got. */
  readonly result: number;
  readonly file: SavingFile | ResumingFile | null;
}

export class MigrationMachine {
  readonly #device: VfioDevice;
  readonly #ops: VfioMigrationOps;
  #state: number = VFIO_DEVICE_STATE_RUNNING;
  #saving: SavingFile | null = null;
  #resuming: ResumingFile | null = null;
  /** A request is being carried out: the state lock of the kernel. */
  #busy = false;
  #resetPending = false;
  /** The device was loaded from a stream since its last restart. */
  #restored = false;
  /** Interrupts that wait for their eventfd, and those that have had one since the restore. */
  readonly #held = new Set<number>();
  readonly #claimed = new Set<number>();
  /** How often RUNNING was forced: by RESET or the last close. A face that keeps state of its own watches it. */
  restarts = 0;
  /** Called after each change of the state. The access table zaps and restores mappings and interrupts by it. */
  onChange: ((from: number, to: number) => void) | null = null;

  constructor(device: VfioDevice, ops: VfioMigrationOps) {
    this.#device = device;
    this.#ops = ops;
  }

  get state(): number {
    return this.#state;
  }
  get flags(): number {
    return this.#ops.flags(this.#device);
  }
  get dataSize(): bigint {
    return this.#ops.dataSize(this.#device);
  }

  /**
   * Walks to `target` by single steps. On failure the machine stays at the last step that was completed (or in ERROR when the driver
   * said so), and no transfer is handed out.
   * @returns -EINVAL: unknown, unsupported or unreachable state; otherwise the driver's errno.
   */
  set(target: number): StateChange {
    if (this.#busy) return { result: -EINVAL, file: null };
    this.#busy = true;
    const change = this.#walk(target);
    this.#busy = false;
    if (this.#resetPending) {
      this.#resetPending = false;
      this.#restart();
    }
    return change;
  }

  /**
   * The device was reset: RUNNING from every state, transfers ended. In the middle of a request (from a step of the driver or whom it called)
   * it happens when the request lets go of the machine, before its caller returns.
   */
  reset(): void {
    if (this.#busy) this.#resetPending = true;
    else this.#restart();
  }

  /** For the driver, inside a step: the device cannot keep any state. Only RESET leaves ERROR. */
  fail(): void {
    this.#endTransfers();
    this.#enter(VFIO_DEVICE_STATE_ERROR);
  }

  /** The last file of the device was closed: transfers end, the next open finds RUNNING. */
  close(): void {
    this.#restart();
  }

  /**
   * For drivers: an interrupt that finds no eventfd. Between a restore and SET_IRQS it must not be lost (spec migration section C.3); at
   * other times nobody asked for it. @param vector which one, in the driver's own numbering.
   */
  holdInterrupt(vector: number): void {
    if (this.#restored && !this.#claimed.has(vector)) this.#held.add(vector);
  }

  /** For drivers, when SET_IRQS binds an eventfd: is one waiting? Then it is delivered now. */
  releaseInterrupt(vector: number): boolean {
    if (this.#restored) this.#claimed.add(vector);
    return this.#held.delete(vector);
  }

  #walk(target: number): StateChange {
    let file: StateChange['file'] = null;
    for (;;) {
      const from = this.#state;
      const next = nextState(this.flags, from, target);
      if (next < 0) return { result: next, file: null };
      if (next === from) return { result: 0, file };
      const result = this.#step(from, next);
      if (typeof result === 'number') {
        if (result < 0) return { result, file: null };
        file = null;
      } else file = result;
    }
  }

  /** One arc: the hardware first, then the transfer. @returns 0, a new transfer, or -errno with the state as before (or ERROR). */
  #step(from: number, to: number): number | SavingFile | ResumingFile {
    const device = this.#device;
    const ops = this.#ops;
    if (from === VFIO_DEVICE_STATE_RESUMING) {
      const loaded = this.#resuming?.load() ?? -EINVAL;
      if (loaded < 0) return loaded;
      this.#restored = true;
      this.#forgetInterrupts();
    }
    const stepped = ops.step?.(device, from, to) ?? 0;
    if (stepped < 0) return stepped;
    // A driver that fell into ERROR inside its step has no way on, whatever it returned.
    if (this.#state === VFIO_DEVICE_STATE_ERROR) return -EINVAL;
    const file = this.#transfer(from, to);
    this.#enter(to);
    return file;
  }

  #transfer(from: number, to: number): number | SavingFile | ResumingFile {
    if (isSaving(from) && isSaving(to)) {
      if (to === VFIO_DEVICE_STATE_STOP_COPY) this.#saving?.complete();
      return 0;
    }
    this.#endTransfers();
    if (to === VFIO_DEVICE_STATE_RESUMING) {
      this.#resuming = new ResumingFile(this.#ops.sink(this.#device));
      return this.#resuming;
    }
    if (!isSaving(to)) return 0;
    this.#saving = new SavingFile(this.#ops.source(this.#device), () => this.#state);
    if (isPreCopy(to)) this.#saving.begin();
    else this.#saving.complete();
    return this.#saving;
  }

  #endTransfers(): void {
    this.#saving?.disable();
    this.#resuming?.disable();
    this.#saving = null;
    this.#resuming = null;
  }

  #restart(): void {
    this.restarts++;
    this.#restored = false;
    this.#forgetInterrupts();
    this.#endTransfers();
    if (this.#state !== VFIO_DEVICE_STATE_RUNNING) this.#ops.restart?.(this.#device);
    this.#enter(VFIO_DEVICE_STATE_RUNNING);
  }

  #forgetInterrupts(): void {
    this.#held.clear();
    this.#claimed.clear();
  }

  #enter(to: number): void {
    const from = this.#state;
    this.#state = to;
    if (from !== to) this.onChange?.(from, to);
  }
}

/**
 * The FEATURE ids of migration (1, 2, 9, 12). Errors in the order of spec vfio-core section 9 and migration section B.4: -ENOTTY the device does
 * not migrate, even for PROBE; -EINVAL wrong operation, data too short, a state that is unknown, unsupported or out of reach; -EFAULT;
 * otherwise the driver's. undefined: not one of these ids.
 */
export function migrationFeature(device: VfioDevice, task: Task, feature: FeatureRequest): number | undefined {
  const machine = device.migration;
  switch (feature.id) {
    case VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
      // Asks before it looks at the operation: a device without PRE_COPY knows the id, but not for itself.
      if (machine === null || (machine.flags & VFIO_MIGRATION_PRE_COPY) === 0)
        return task.fail(EINVAL, 'the device does not pre-copy');
      return Math.min(0, checkFeature(task, feature, VFIO_DEVICE_FEATURE_SET, 0));
    case VFIO_DEVICE_FEATURE_MIGRATION:
    case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
      if (machine === null || machine.flags === 0) return task.fail(ENOTTY, 'the device does not migrate');
      return answerU64(task, feature, () =>
        feature.id === VFIO_DEVICE_FEATURE_MIGRATION ? BigInt(machine.flags) : machine.dataSize,
      );
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
      if (machine === null || machine.flags === 0) return task.fail(ENOTTY, 'the device does not migrate');
      return deviceState(machine, task, feature);
    default:
      return undefined;
  }
}

function answerU64(task: Task, feature: FeatureRequest, value: () => bigint): number {
  const go = checkFeature(task, feature, VFIO_DEVICE_FEATURE_GET, 8);
  if (go <= 0) return go;
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value(), true);
  return task.copyOut(feature.data, 0, bytes);
}

function deviceState(machine: MigrationMachine, task: Task, feature: FeatureRequest): number {
  const go = checkFeature(task, feature, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET, 8);
  if (go <= 0) return go;
  if (feature.get) {
    const answer = new VfioDeviceFeatureMigState({ device_state: machine.state, data_fd: -1 });
    return task.copyOut(feature.data, 0, answer.bytes);
  }
  const bytes = feature.data.copyIn(0, VfioDeviceFeatureMigState.size);
  if (bytes === null) return task.fail(EFAULT, 'the data are not readable');
  const argument = new VfioDeviceFeatureMigState(bytes);
  const { result, file } = machine.set(argument.device_state);
  argument.data_fd = -1;
  if (file === null || result < 0) {
    if (result < 0)
      task.fail(-result, `no way to ${stateName(argument.device_state)}; the device is in ${stateName(machine.state)}`);
    const copied = feature.data.copyOut(0, argument.bytes);
    return copied ? result : task.fail(EFAULT, 'the data are not writable');
  }
  // The transfer stays the device's even when its descriptor cannot be handed over; the user leaves the state to end it.
  const fd = task.install(file);
  if (fd < 0) return fd;
  argument.data_fd = fd;
  const copied = task.copyOut(feature.data, 0, argument.bytes);
  if (copied < 0) task.close(fd);
  return copied;
}
