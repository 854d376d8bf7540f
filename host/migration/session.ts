// What both sides of a migration share: the guest as handles and blocks, the running account, and the text of HELLO.
import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { Core } from '../core.ts';
import { toHex } from '../hex.ts';
import { DeviceHandle } from './devices.ts';
import { STREAM_MAJOR, STREAM_MINOR } from './frames.ts';
import { type RamBlock, ramBlocks } from './ram.ts';
import {
  MigrationError,
  type MigrationGuest,
  type MigrationOptions,
  type MigrationOutcome,
  type MigrationPhase,
  type MigrationReport,
  type RoundReport,
} from './types.ts';

/** Large enough that the sum runs at full speed, small enough that a frame stays in the cache from one step to the next. */
const DEFAULT_FRAME = 512 * 1024;
/** How long a side waits for the peer to take its last words, milliseconds. */
export const FAREWELL_MS = 2000;
/** Answers and queries are small; their reader needs no more. */
export const CONTROL_FRAME = 4096 + 512;

/** What HELLO says, as JSON. */
export interface Hello {
  readonly major: number;
  readonly minor: number;
  readonly id: string;
  readonly frameSize: number;
  readonly pageSize: number;
  readonly ram: ReadonlyArray<{ name: string; size: number }>;
  readonly devices: ReadonlyArray<{ name: string; flags: number }>;
  /** No answers will be read: the stream goes to a file. */
  readonly oneWay: boolean;
}

export class Session {
  readonly guest: MigrationGuest;
  readonly options: MigrationOptions;
  readonly clock: Clock;
  readonly core: Core;
  readonly blocks: readonly RamBlock[];
  readonly devices: readonly DeviceHandle[];
  readonly frameSize: number;
  readonly deviceLimit: number;
  readonly side: MigrationReport['side'];
  id: string;
  phase: MigrationPhase = 'setup';
  round = 0;
  bytes = 0;
  rate = 0;
  pages = 0;
  zeroPages = 0;
  deviceBytes = 0;
  acknowledged = false;
  readonly rounds: RoundReport[] = [];
  readonly lost: string[] = [];
  readonly #begin: number;
  #stopped: number | null = null;
  #ended: number | null = null;

  /** @throws MigrationError `refused`: RAM that is not RAM, a device that does not migrate. */
  constructor(side: MigrationReport['side'], guest: MigrationGuest, options: MigrationOptions) {
    this.side = side;
    this.guest = guest;
    this.options = options;
    this.clock = options.clock ?? systemClock;
    this.core = guest.process.core;
    this.frameSize = options.frameSize ?? DEFAULT_FRAME;
    this.deviceLimit = options.deviceLimit ?? 64 * 1024 * 1024;
    this.id = options.id ?? randomId();
    this.#begin = this.clock.now();
    if (this.frameSize < CONTROL_FRAME || this.frameSize > 1 << 24)
      throw new MigrationError(
        'refused',
        `frames of ${this.frameSize} bytes: ${CONTROL_FRAME} to ${1 << 24} are possible`,
      );
    try {
      this.blocks = ramBlocks(guest.process, guest.ram);
    } catch (cause) {
      throw new MigrationError('refused', cause instanceof Error ? cause.message : String(cause), { cause });
    }
    this.devices = guest.devices.map((device) => new DeviceHandle(guest.process, device));
  }

  get pagesTotal(): number {
    return this.blocks.reduce((sum, block) => sum + block.pages, 0);
  }

  hello(oneWay: boolean): Hello {
    return {
      major: STREAM_MAJOR,
      minor: STREAM_MINOR,
      id: this.id,
      frameSize: this.frameSize,
      pageSize: PAGE_SIZE_4K,
      ram: this.blocks.map(({ name, size }) => ({ name, size })),
      devices: this.devices.map(({ name, flags }) => ({ name, flags })),
      oneWay,
    };
  }

  /** Waits for something that a silent peer could hold up for ever, but not longer than this. @returns null: it took too long. */
  async within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
    let cancel = () => {};
    const late = new Promise<null>((resolve) => {
      cancel = this.clock.after(ms, () => resolve(null));
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      cancel();
    }
  }

  event(text: string): void {
    this.options.onEvent?.(text);
  }

  /** A device had to be reset: its own state is gone. */
  lose(device: string): void {
    if (!this.lost.includes(device)) this.lost.push(device);
    this.event(`${device}: lost its state in a reset`);
  }

  enter(phase: MigrationPhase): void {
    this.phase = phase;
    this.event(`phase ${phase}`);
    this.progress(0);
  }

  /** @param pagesLeft of this round. */
  progress(pagesLeft: number): void {
    const { phase, round, bytes, rate, pagesTotal } = this;
    const estimate = rate > 0 ? ((pagesLeft * PAGE_SIZE_4K) / rate) * 1000 : 0;
    this.options.onProgress?.({ phase, round, bytes, rate, pagesLeft, pagesTotal, estimate });
  }

  /** Downtime begins. */
  markStopped(): void {
    this.#stopped ??= this.clock.now();
  }
  /** Downtime ends. */
  markEnded(): void {
    this.#ended ??= this.clock.now();
  }

  report(outcome: MigrationOutcome): MigrationReport {
    const { id, side, rounds, bytes, pages, zeroPages, deviceBytes, acknowledged, lost } = this;
    const now = this.clock.now();
    const downtime = this.#stopped === null ? 0 : (this.#ended ?? now) - this.#stopped;
    const milliseconds = now - this.#begin;
    return {
      id,
      side,
      outcome,
      rounds,
      bytes,
      pages,
      zeroPages,
      deviceBytes,
      downtime,
      milliseconds,
      acknowledged,
      lost,
    };
  }
}

function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return toHex(bytes);
}

/** The error itself when it is one of ours, else wrapped: whatever a link throws is the link's fault. */
export const asMigrationError = (error: unknown, fallback: MigrationError['reason']): MigrationError =>
  error instanceof MigrationError
    ? error
    : new MigrationError(fallback, error instanceof Error ? error.message : String(error), { cause: error });
