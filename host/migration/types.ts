// What a caller says about a guest that migrates, and what it hears back: options, policy, progress, reports, errors. Used by both sides.
import type { Clock } from '../clock.ts';
import type { VfioProcess } from '../process.ts';

/** One piece of the guest's RAM: anonymous memory of the process, in one mapping. */
export interface MigrationRam {
  /** The same on both sides. */
  readonly name: string;
  /** Virtual address in the process, page aligned. */
  readonly address: bigint;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Where containers map the piece; absent when no device reaches it. */
  readonly iova?: bigint;
}

/** One open device of the guest. */
export interface MigrationDevice {
  /** The same on both sides, in the same order. */
  readonly name: string;
  readonly fd: number;
  /** The container behind it, for dirty tracking. Absent: its DMA is seen through its own log only. */
  readonly container?: number;
}

/** A mapping of a device's BAR in the container of another device: how one device reaches the other. */
export interface PeerMapping {
  /** Name of the device whose BAR is mapped. */
  readonly target: string;
  /** Name of a device in the container that maps it. */
  readonly initiator: string;
}

/** Pages that the guest's processors wrote, if they run at all while the source copies. */
export interface CpuDirtyLog {
  /** From now on, what is written counts. */
  start(): void;
  /** Reports what was written since the last call (or start), and forgets it. */
  harvest(mark: (address: bigint, length: number) => void): void;
  /** Nothing counts any more. */
  stop(): void;
}

/** What moves: a process with its RAM and open devices, and how to stop and start its processors. */
export interface MigrationGuest {
  readonly process: VfioProcess;
  readonly ram: readonly MigrationRam[];
  readonly devices: readonly MigrationDevice[];
  readonly cpu?: CpuDirtyLog;
  readonly peers?: readonly PeerMapping[];
  /** Stops the virtual processors; no access to any device or RAM after it. */
  pause?(): void | Promise<void>;
  /** Starts them: on the source after an abort, on the destination after the commit. */
  resume?(): void | Promise<void>;
  /**
   * Destination, all devices loaded and in STOP: configuration space and SET_IRQS belong here (spec migration section C.3). What it throws refuses the
   * migration.
   */
  setup?(): void | Promise<void>;
}

/** When pre-copy ends. */
export interface ConvergencePolicy {
  /** Stop when what is left needs at most this long, in milliseconds. Default 300. */
  readonly downtimeLimit?: number;
  /** Never more rounds than this. Default 30. */
  readonly maxRounds?: number;
  /** Rounds in a row that may dirty more than they send before it counts as not converging. Default 3. */
  readonly patience?: number;
  /** What then: `stop` accepts a longer downtime, `abort` gives up and runs on. Default `stop`. */
  readonly otherwise?: 'stop' | 'abort';
  /** Bytes per second to assume, and not to exceed. Default: as measured, without a limit. */
  readonly bandwidth?: number;
}

/** How to move it. Both sides take the same kind of object; what only one side uses, the other ignores. */
export interface MigrationOptions {
  readonly clock?: Clock;
  readonly policy?: ConvergencePolicy;
  /** Bytes of the largest frame, header included: 4 KiB + 512 at least. The same or larger at the destination. Default 512 KiB. */
  readonly frameSize?: number;
  /** Compresses payloads with the platform's CompressionStream. Default false. */
  readonly compress?: boolean;
  /** Identifies the migration on both sides and in a query after a broken link. Default random. */
  readonly id?: string;
  /** Largest device state that a destination keeps until it is loaded, bytes per device. Default 64 MiB. */
  readonly deviceLimit?: number;
  /** How long the source waits to hear that the destination runs, milliseconds. It changes only `acknowledged`. Default 10 000. */
  readonly acknowledgeWithin?: number;
  /** Stops the migration: before the decision the source runs on, the destination is as before. */
  readonly signal?: AbortSignal;
  /** How far it is; at every frame. */
  readonly onProgress?: (progress: MigrationProgress) => void;
  /** Every step, for logs and tests. */
  readonly onEvent?: (event: string) => void;
}

/** Where a migration is. */
export type MigrationPhase = 'setup' | 'pre-copy' | 'stop-copy' | 'hand-over' | 'done' | 'aborted';

/** What `onProgress` hears after each frame of pages and at each change of phase. */
export interface MigrationProgress {
  readonly phase: MigrationPhase;
  readonly round: number;
  /** Bytes sent or received on the wire. */
  readonly bytes: number;
  /** Bytes per second of the last round. */
  readonly rate: number;
  /** Pages still to send in this round. */
  readonly pagesLeft: number;
  readonly pagesTotal: number;
  /** Milliseconds that the rest would take at this rate, if nothing were written. */
  readonly estimate: number;
}

/** One pass over the dirty pages; the last one is made while the guest is stopped. */
export interface RoundReport {
  readonly round: number;
  readonly pages: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

/**
 * How it ended for this side. `committed`: the guest belongs to the destination. `aborted`: it belongs to the source. `in-doubt` (destination only):
 * the link broke between READY and COMMIT; `Migration.resolve` ends it.
 */
export type MigrationOutcome = 'committed' | 'aborted' | 'in-doubt';

/** How a migration went. */
export interface MigrationReport {
  readonly id: string;
  readonly side: 'source' | 'destination';
  readonly outcome: MigrationOutcome;
  readonly rounds: readonly RoundReport[];
  /** Bytes on the wire. */
  readonly bytes: number;
  /** Pages sent or received with data, and as zero. */
  readonly pages: number;
  readonly zeroPages: number;
  /** Bytes of device state. */
  readonly deviceBytes: number;
  /** Milliseconds from the stop of the guest to the decision (source) or to running (destination). */
  readonly downtime: number;
  readonly milliseconds: number;
  /** Did the source hear that the destination runs? */
  readonly acknowledged: boolean;
  /** Devices that failed when there was no way back and had to be reset: they run, without their state. */
  readonly lost: readonly string[];
}

/** A migration that did not happen. The side that throws it is as it was: the source runs, the destination is unchanged and usable. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
  /** `refused`: it cannot work; `stream`: the bytes are wrong; `device`: a device failed; `link`; `aborted`: asked to; `policy`. */
  readonly reason: 'refused' | 'stream' | 'device' | 'link' | 'aborted' | 'policy';
  /** Errno of the device or of the refusal, 0 without one. */
  readonly errno: number;
  constructor(reason: MigrationError['reason'], message: string, options: { errno?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.errno = options.errno ?? 0;
  }
}
