// Recorded programs through the 2016 request: the guest and the device of a recording as in a replay, the program flattened by the caller's library, the
// IRB that the call brings back. What it shows has the form of a replay's report, so that the two ways can be compared.
import { FlatCaller } from '../../host/ccw/flat_caller.ts';
import { CCW_LISTS_SIZE, type FlatProgram, flattenProgram, type GuestStorage } from '../../host/ccw/flatten.ts';
import { ManualClock } from '../../host/clock.ts';
import { direction } from '../../host/css/cio.ts';
import { EXECUTED_KEPT, GuestImage, type Recording, toAddress } from '../../host/devices/recording.ts';
import { ReplayDevice } from '../../host/devices/replay.ts';
import { VfioError } from '../../host/errno.ts';
import { fromHex, toHex } from '../../host/hex.ts';
import { createVfio } from '../../host/inline.ts';
import { findChains } from '../../host/replay/chains.ts';
import { guestPages, ReplayGuest } from '../../host/replay/guest.ts';
import { type OpenDevice, ReplayMachine } from '../../host/replay/machine.ts';
import { outcomeOf } from '../../host/replay/outcome.ts';
import type { ReplayReport } from '../../host/replay/runner.ts';
import { CCW_BUFFER_SIZE } from '../../host/uapi/ccw_request.ts';

const COMMANDS: Readonly<Record<string, number>> = { halt: 1, clear: 2 };

/** What a program did: outcome, order and data; or the errno with which it is not admitted. */
export type FlatReport = Pick<ReplayReport, 'outcome' | 'executed' | 'result'> | { readonly errno: number };

export class FlatReplay {
  readonly #machine: ReplayMachine<ReplayDevice>;
  readonly #clock: ManualClock;
  constructor(machine: ReplayMachine<ReplayDevice>, clock: ManualClock) {
    this.#machine = machine;
    this.#clock = clock;
  }
  static async create(): Promise<FlatReplay> {
    const clock = new ManualClock();
    const vfio = await createVfio({ clock, machine: { devices: [] } });
    return new FlatReplay(new ReplayMachine(vfio, clock, new ReplayDevice()), clock);
  }

  get violations(): number {
    return this.#machine.hardware.violations;
  }

  async run(recording: Recording): Promise<FlatReport> {
    const image = new GuestImage(recording);
    const machine = this.#machine;
    const opened = machine.openContainer();
    const pages = guestPages(recording, image, findChains(image).starts);
    const guest = new ReplayGuest(machine.instance, opened.container, image, pages);
    const open = machine.openDevice(opened);
    machine.device.load(recording);
    const storage: GuestStorage = {
      vaddr: (address) => guest.vaddr(Number(address)),
      read: (address, into) => {
        into.set(guest.read(Number(address), into.length));
        return guest.vaddr(Number(address)) !== null && guest.vaddr(Number(address) + into.length - 1) !== null;
      },
    };
    const caller = new FlatCaller(machine.instance, open.device, storage);
    try {
      return await this.#execute(recording, image, guest, storage, caller, open);
    } catch (error) {
      if (error instanceof VfioError) return { errno: error.errno };
      throw error;
    } finally {
      machine.hardware.observer = {};
      machine.close(open);
      caller.close();
      guest.destroy();
    }
  }

  async #execute(
    recording: Recording,
    image: GuestImage,
    guest: ReplayGuest,
    storage: GuestStorage,
    caller: FlatCaller,
    open: OpenDevice,
  ): Promise<FlatReport> {
    const orb = fromHex(recording.orb).subarray(0, 12);
    const executed: string[] = [];
    const result: ReplayReport['result'][number][] = [];
    this.#observe(recording, image, guest, flattened(storage, orb), executed, result);
    const command = COMMANDS[recording.outcome.kind];
    let irb: Uint8Array;
    if (command === undefined) irb = caller.request(orb);
    else {
      const pending = caller.requestAsync(orb);
      this.#clock.advance(1);
      this.#machine.command(open, command);
      this.#clock.advance(1);
      irb = await pending;
    }
    return {
      outcome: outcomeOf(irb.subarray(0, 64), recording),
      executed: executed.slice(0, EXECUTED_KEPT),
      result: result.slice(0, recording.result?.length ?? 0),
    };
  }

  /** As a replay watches, with one step more: host address -> offset in the buffer -> the guest's address. */
  #observe(
    recording: Recording,
    image: GuestImage,
    guest: ReplayGuest,
    flat: FlatProgram,
    executed: string[],
    result: ReplayReport['result'][number][],
  ): void {
    const { driver, hardware } = this.#machine;
    const recorded = recording.result ?? [];
    const guestAddress = (host: number) => flat.guestCpa((driver.program?.guestCpa(host) ?? 0) + 8) - 8;
    hardware.observer = {
      fetched: (address) => void executed.push(toAddress(guestAddress(address))),
      commandEnded: ({ command, ccws }) => {
        if (direction(command) === 'write') return;
        for (const { at, moved, skipped } of ccws) {
          if (skipped) continue;
          for (const { iova, len } of image.areas(image.ccw(guestAddress(at)), moved)) {
            const size = (recorded[result.length]?.hex.length ?? 0) >> 1;
            result.push({ iova: toAddress(iova), len, hex: toHex(guest.read(iova, Math.min(len, size))) });
          }
        }
      },
    };
  }
}

/** The way back of a program, flattened into memory of the test's own. */
function flattened(storage: GuestStorage, orb: Uint8Array): FlatProgram {
  const area = { buffer: new Uint8Array(CCW_BUFFER_SIZE), lists: new Uint8Array(CCW_LISTS_SIZE), listsAddress: 0n };
  return flattenProgram(storage, orb, area);
}
