// Runs guest programs against a 3390 through the whole subsystem: a guest with the given storage, container, group, device, I/O region.
import { ManualClock } from '../../host/clock.ts';
import { CCW_CC } from '../../host/css/cio.ts';
import type { ChannelDevice, CommandEnd, Transfer } from '../../host/css/device.ts';
import { EckdDevice } from '../../host/devices/dasd/eckd.ts';
import { HEADS } from '../../host/devices/dasd/track.ts';
import { Volume } from '../../host/devices/dasd/volume.ts';
import { GuestImage, type RecordedOutcome, type Recording, toAddress } from '../../host/devices/recording.ts';
import { fromHex, toHex } from '../../host/hex.ts';
import { createVfio } from '../../host/inline.ts';
import { findChains } from '../../host/replay/chains.ts';
import { guestPages, ReplayGuest } from '../../host/replay/guest.ts';
import { ReplayMachine } from '../../host/replay/machine.ts';
import { outcomeOf } from '../../host/replay/outcome.ts';
import { extentArgument, locateArgument } from './dasd.ts';
import type { Written } from './dasd_tracks.ts';

export interface Ran {
  readonly outcome: RecordedOutcome | null;
  readonly executed: readonly string[];
  /** What the areas of `data` hold afterwards, in order. */
  readonly areas: readonly Uint8Array[];
}

/** A drive whose pack can be changed. */
class Drive implements ChannelDevice {
  disk = new EckdDevice({ volume: Volume.empty(1) });
  execute(command: number, transfer: Transfer): CommandEnd {
    return this.disk.execute(command, transfer);
  }
}

export class DasdMachine {
  readonly machine: ReplayMachine<Drive>;

  constructor(machine: ReplayMachine<Drive>) {
    this.machine = machine;
  }

  static async create(): Promise<DasdMachine> {
    const clock = new ManualClock();
    const instance = await createVfio({ clock, machine: { devices: [] } });
    return new DasdMachine(new ReplayMachine(instance, clock, new Drive()));
  }

  /** Puts another pack on the drive. */
  mount(volume: Volume): void {
    this.machine.device.disk = new EckdDevice({ volume });
  }

  /** Runs a program given as a recording gives it. @throws Error the request is refused. */
  run(recording: Recording): Ran {
    const { machine } = this;
    const image = new GuestImage(recording);
    const opened = machine.openContainer();
    const guest = new ReplayGuest(
      machine.instance,
      opened.container,
      image,
      guestPages(recording, image, findChains(image).starts),
    );
    const open = machine.openDevice(opened);
    const executed: string[] = [];
    machine.hardware.observer = {
      fetched: (host) => executed.push(toAddress(machine.driver.program?.guestCpa(host) ?? host)),
    };
    const result = machine.start(open, fromHex(recording.orb));
    if (result < 0) throw new Error(`${recording.name}: refused, ${result}`);
    const irb = machine.wait(open, 100);
    const areas = recording.data.map(({ iova, len }) => guest.read(Number(iova), len));
    machine.close(open);
    guest.destroy();
    return { outcome: irb === null ? null : outcomeOf(irb, recording), executed, areas };
  }

  /** Reads records back by programs of their own, keys and data. An empty record answers with unit exception. */
  read(records: readonly Written[]): Uint8Array[] {
    const [empty, full] = [records.filter(isEndOfFile), records.filter((record) => !isEndOfFile(record))];
    for (const record of empty) this.#read([record], '0d');
    const found = new Map<Written, Uint8Array>(empty.map((record) => [record, record.bytes]));
    for (let at = 0; at < full.length; at += PER_PROGRAM) {
      const group = full.slice(at, at + PER_PROGRAM);
      const areas = this.#read(group, '0c');
      group.forEach((record, index) => {
        found.set(record, areas[index] as Uint8Array);
      });
    }
    return records.map((record) => found.get(record) as Uint8Array);
  }

  #read(records: readonly Written[], unitStatus: string): readonly Uint8Array[] {
    const { areas, outcome } = this.run(readingProgram(records, this.machine.device.disk.volume.cylinders));
    if (outcome?.unit_status !== unitStatus || outcome.channel_status !== '00')
      throw new Error(`reading back ended with ${JSON.stringify(outcome)}`);
    return areas;
  }
}

const isEndOfFile = ({ bytes, keyLength }: Written): boolean => bytes.length === keyLength;

/** Records that one reading program reads. */
const PER_PROGRAM = 32;
const PROGRAM = 0x10000;
const PARAMETERS = 0x11000;
const DATA = 0x20000;

/** DEFINE EXTENT over everything, then LOCATE RECORD and READ KEY AND DATA for each. */
function readingProgram(records: readonly Written[], cylinders: number): Recording {
  const program: number[] = [];
  const parameters: number[] = [];
  const data: Array<{ iova: string; len: number; dir: string }> = [];
  const ccw = (command: number, flags: number, count: number, address: number) =>
    program.push(command, flags, count >> 8, count & 255, ...[24, 16, 8, 0].map((shift) => (address >>> shift) & 255));
  const parameter = (bytes: readonly number[], command: number) => {
    ccw(command, CCW_CC, bytes.length, PARAMETERS + parameters.length);
    parameters.push(...bytes);
  };
  parameter(extentArgument(0x40, [0, 0], [cylinders - 1, HEADS - 1]), 0x63);
  let next = DATA;
  records.forEach(({ track, record, bytes }, index) => {
    const address = [Math.floor(track / HEADS), track % HEADS] as const;
    parameter(locateArgument({ operation: 0x06, count: 1, track: address, record }), 0x47);
    ccw(0x8e, index === records.length - 1 ? 0 : CCW_CC, bytes.length, next);
    data.push({ iova: toAddress(next), len: bytes.length, dir: 'read' });
    next += bytes.length;
  });
  return {
    name: 'read back',
    orb: `0000000000c28000${PROGRAM.toString(16).padStart(8, '0')}`,
    memory: [
      { iova: toAddress(PROGRAM), hex: toHex(Uint8Array.from(program)) },
      { iova: toAddress(PARAMETERS), hex: toHex(Uint8Array.from(parameters)) },
    ],
    data,
    outcome: { kind: 'ended', unit_status: '0c', channel_status: '00', residual_count: 0, ccw_address: '0x0' },
  };
}
