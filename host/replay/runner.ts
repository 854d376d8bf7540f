// Replays recorded channel programs end to end: a guest with the recorded storage opens container, group and device, writes the ORB into the I/O
// region, and the program goes through translation, pinning, the channel engine and the recorded device back to the IRB.
import { EINVAL } from '../../assembly/abi.ts';
import { ManualClock } from '../clock.ts';
import { CCW_MIDA, direction } from '../css/cio.ts';
import type { CommandRecord } from '../css/program.ts';
import {
  EXECUTED_KEPT,
  type GuestArea,
  GuestImage,
  type RecordedOutcome,
  type Recording,
  toAddress,
} from '../devices/recording.ts';
import { ReplayDevice } from '../devices/replay.ts';
import { errnoName } from '../errno.ts';
import { fromHex, toHex } from '../hex.ts';
import type { VfioInstance, VfioOptions } from '../source.ts';
import { type Chains, findChains } from './chains.ts';
import { compare, type ResultEntry } from './compare.ts';
import { guestPages, ReplayGuest } from './guest.ts';
import { type OpenDevice, ReplayMachine } from './machine.ts';
import { outcomeOf } from './outcome.ts';

/** How a refused program is reported: the write of the I/O region answered this errno. */
export interface RefusedOutcome {
  readonly kind: 'refused';
  readonly errno: string;
}

export interface ReplayReport {
  readonly name: string;
  /** Everything equal; null: there is nothing to compare with, see `reason`. */
  readonly ok: boolean | null;
  /** Why it is not compared, or why it was rightly refused. */
  readonly reason?: string;
  readonly outcome: RecordedOutcome | RefusedOutcome | null;
  readonly executed: readonly string[];
  readonly result: readonly ResultEntry[];
  readonly differences: readonly string[];
}

/** Milliseconds that a program may run before it is cleared. */
const PATIENCE_MS = 200;
const CMD_HALT = 1;
const CMD_CLEAR = 2;

/** Why no prefetching translator can be held to a recording, or undefined. */
export function whyNotCompared(recording: Recording): string | undefined {
  if (recording.self_modifying === true)
    return 'the program changes itself while it runs; a translator that copies it beforehand runs what it was before';
  if (recording.resumed === true) return 'the continuation of a suspended program, which no start function begins';
  const origin = recording.orb_origin ?? 'SSCH';
  if (origin !== 'SSCH') return `the guest gave no ORB: ${origin}`;
  const image = new GuestImage(recording);
  if ((recording.executed ?? []).some((address) => (image.ccw(Number(address)).flags & CCW_MIDA) !== 0))
    return 'it uses modified IDAWs, which the translator takes for plain addresses';
  if (recording.data.some((area) => area.outside_memory === true))
    return 'it names storage that the guest does not have';
  return undefined;
}

interface Trace {
  readonly executed: string[];
  readonly result: ResultEntry[];
  /** Commands whose data did not reach the device as they lay in the guest's storage. */
  readonly mangled: string[];
}

export class ReplayRunner {
  readonly #machine: ReplayMachine<ReplayDevice>;
  readonly #atRest: number;

  constructor(instance: VfioInstance, clock: ManualClock) {
    this.#machine = new ReplayMachine(instance, clock, new ReplayDevice());
    this.#atRest = instance.core.liveBytes;
  }

  /** An instance made by `create` with an empty machine and a clock of its own, and a runner on it. */
  static async create(create: (options: VfioOptions) => Promise<VfioInstance>): Promise<ReplayRunner> {
    const clock = new ManualClock();
    return new ReplayRunner(await create({ clock, machine: { devices: [] } }), clock);
  }

  /** Accesses to pages that a program had not pinned; the channel refuses them. */
  get violations(): number {
    return this.#machine.hardware.violations;
  }

  /** Replays one program. @throws VfioError when the guest itself cannot be built (memory). */
  run(recording: Recording): ReplayReport {
    const image = new GuestImage(recording);
    const chains = findChains(image);
    const machine = this.#machine;
    machine.device.load(recording);
    const violations = this.violations;
    const opened = machine.openContainer();
    let open: OpenDevice | undefined;
    let guest: ReplayGuest | undefined;
    let report: ReplayReport;
    try {
      const pages = guestPages(recording, image, chains.starts);
      guest = new ReplayGuest(machine.instance, opened.container, image, pages);
      open = machine.openDevice(opened);
      report = this.#execute(recording, image, chains, guest, open);
    } finally {
      machine.hardware.observer = {};
      machine.close(open ?? opened);
      guest?.destroy();
    }
    const differences = [...report.differences, ...machine.device.deviations, ...this.#leftovers()];
    if (this.violations !== violations)
      differences.push(
        `the channel was refused ${this.violations - violations} accesses to pages that were not pinned`,
      );
    const executed = report.executed.slice(0, EXECUTED_KEPT);
    return { ...report, executed, ok: report.ok === null ? null : differences.length === 0, differences };
  }

  #execute(
    recording: Recording,
    image: GuestImage,
    chains: Chains,
    guest: ReplayGuest,
    open: OpenDevice,
  ): ReplayReport {
    const reason = whyNotCompared(recording);
    const trace: Trace = { executed: [], result: [], mangled: [] };
    this.#observe(recording, image, guest, trace);
    const started = this.#machine.start(open, fromHex(recording.orb));
    if (started < 0) return this.#refused(recording, chains, started, reason);
    const irb = this.#wait(recording, open);
    const result = cut(trace.result, recording);
    const { executed } = trace;
    if (irb === null) {
      const differences = [`the program did not end within ${PATIENCE_MS} ms`];
      return { name: recording.name, ...verdict(reason), outcome: null, executed, result, differences };
    }
    const outcome = outcomeOf(irb, recording);
    const differences = [...compare(recording, { outcome, executed, result }), ...trace.mangled];
    if (chains.refusal !== undefined) differences.push(`not refused although it has ${chains.refusal}`);
    return { name: recording.name, ...verdict(reason), outcome, executed, result, differences };
  }

  #refused(recording: Recording, chains: Chains, errno: number, reason: string | undefined): ReplayReport {
    const rightly = chains.refusal !== undefined && errno === -EINVAL;
    return {
      name: recording.name,
      ok: reason === undefined ? rightly : null,
      ...(rightly ? { reason: `refused as it must be: ${chains.refusal}` } : reason === undefined ? {} : { reason }),
      outcome: { kind: 'refused', errno: errnoName(errno) },
      executed: [],
      result: [],
      differences: rightly ? [] : [`the request was refused: ${errnoName(errno)}`],
    };
  }

  /** Waits for the interruption that ends the program; programs recorded as halted or cleared are, once they wait for their device. */
  #wait(recording: Recording, open: OpenDevice): Uint8Array | null {
    let irb = this.#machine.wait(open, PATIENCE_MS);
    const { kind } = recording.outcome;
    if (irb === null && (kind === 'halt' || kind === 'clear')) {
      this.#machine.command(open, kind === 'halt' ? CMD_HALT : CMD_CLEAR);
      irb = this.#machine.wait(open, PATIENCE_MS);
    }
    return irb;
  }

  /** Notes what the channel does, in the guest's addresses, and what it stored, from the guest's own storage. */
  #observe(recording: Recording, image: GuestImage, guest: ReplayGuest, trace: Trace): void {
    const { driver, device } = this.#machine;
    const recorded = recording.result ?? [];
    const guestAddress = (host: number) => driver.program?.guestCpa(host) ?? host;
    this.#machine.hardware.observer = {
      fetched: (address) => {
        // One more than is kept shows that there were more; an endless program would fill the memory.
        if (trace.executed.length <= EXECUTED_KEPT) trace.executed.push(toAddress(guestAddress(address)));
      },
      commandEnded: ({ command, ccws }: CommandRecord) => {
        const moved = ccws
          .filter(({ skipped }) => !skipped)
          .flatMap(({ at, moved }) => image.areas(image.ccw(guestAddress(at)), moved));
        if (direction(command) === 'write') {
          if (moved.length > 0 && !reached(guest, moved, device.fetched.at(-1)))
            trace.mangled.push(`command ${toHex(Uint8Array.of(command))}: its data reached the device changed`);
          return;
        }
        for (const { iova, len } of moved) {
          const size = (recorded[trace.result.length]?.hex.length ?? 0) >> 1;
          if (trace.result.length < recorded.length)
            trace.result.push({ iova: toAddress(iova), len, hex: toHex(guest.read(iova, Math.min(len, size))) });
        }
      },
    };
  }

  /** What a closed device has left behind. */
  #leftovers(): string[] {
    const { core, kernel } = this.#machine.instance;
    const found: string[] = [];
    if (core.liveBytes !== this.#atRest)
      found.push(`${core.liveBytes - this.#atRest} bytes of the core's heap were not given back`);
    if (kernel.pages.usedBytes !== 0) found.push(`${kernel.pages.usedBytes} bytes of memory were not given back`);
    return found;
  }
}

/** Is what the device fetched what lies in these areas of the guest? */
function reached(guest: ReplayGuest, areas: readonly GuestArea[], fetched: Uint8Array | undefined): boolean {
  let at = 0;
  return areas.every(({ iova, len }) => {
    const from = at;
    at += len;
    return guest.read(iova, len).every((byte, i) => byte === fetched?.[from + i]);
  });
}

const verdict = (reason: string | undefined): { ok: boolean | null; reason?: string } =>
  reason === undefined ? { ok: true } : { ok: null, reason };

/** Only what the recording has can be compared. */
const cut = (result: readonly ResultEntry[], recording: Recording): ResultEntry[] =>
  result.slice(0, recording.result?.length ?? 0);
