// Channel programs for a 3390: parameters as bytes, and a disk on a bench.
import { CCW_CC, CMD_TIC } from '../../host/css/cio.ts';
import { EckdDevice } from '../../host/devices/dasd/eckd.ts';
import { Volume } from '../../host/devices/dasd/volume.ts';
import { bench, type CcwSpec, type ChannelBench, type IrbFields, putCcws } from './channel.ts';

/** [cylinder, head]. */
export type TrackAddress = readonly [number, number];

const cchh = ([cylinder, head]: TrackAddress): number[] => [cylinder >> 8, cylinder & 255, head >> 8, head & 255];

export const seekArgument = (track: TrackAddress): number[] => [0, 0, ...cchh(track)];
export const searchArgument = (track: TrackAddress, record: number): number[] => [...cchh(track), record];
export const extentArgument = (mask: number, first: TrackAddress, last: TrackAddress): number[] => [
  mask,
  0xc0,
  ...new Array<number>(6).fill(0),
  ...cchh(first),
  ...cchh(last),
];

export interface LocateArgument {
  readonly operation: number;
  readonly count: number;
  readonly track: TrackAddress;
  readonly record: number;
  readonly length?: number;
}
export const locateArgument = ({ operation, count, track, record, length }: LocateArgument): number[] => [
  operation,
  length === undefined ? 0 : 0x80,
  0,
  count,
  ...cchh(track),
  ...cchh(track),
  record,
  0,
  (length ?? 0) >> 8,
  (length ?? 0) & 255,
];
/** Locate record extended: the same, extended operation, no parameters. */
export const locateExtendedArgument = (locate: LocateArgument, extended: number): number[] => [
  ...locateArgument(locate),
  0,
  extended,
  0,
  0,
];

/** One command of a story: what it is called on the wire, what is written, or how much is read. */
export interface Step {
  readonly command: number;
  readonly write?: readonly number[] | Uint8Array;
  readonly read?: number;
  readonly flags?: number;
  readonly count?: number;
  /** TIC to the step with this index instead. */
  readonly tic?: number;
}

export interface Ran extends IrbFields {
  /** What each reading step got, in order. */
  readonly read: Uint8Array[];
}

const DATA = 0x4000;

/** A disk behind a channel; programs are given as steps, all of them command-chained. */
export class DiskBench {
  readonly bench: ChannelBench;
  readonly disk: EckdDevice;

  constructor(channel: ChannelBench, disk: EckdDevice) {
    this.bench = channel;
    this.disk = disk;
  }

  run(steps: readonly Step[]): Ran {
    const { core, base } = this.bench;
    const reads: Array<{ at: number; size: number }> = [];
    let data = base + DATA;
    const ccws = steps.map((step, index): CcwSpec => {
      if (step.tic !== undefined) return { command: CMD_TIC, address: base + 8 * step.tic };
      const size = step.write?.length ?? step.read ?? 0;
      if (step.write !== undefined) core.u8.set(step.write, data);
      else core.u8.fill(0xee, data, data + size);
      if (step.read !== undefined) reads.push({ at: data, size });
      const address = data;
      data += Math.ceil(size / 8) * 8;
      const chain = index === steps.length - 1 ? 0 : CCW_CC;
      return { command: step.command, flags: (step.flags ?? 0) | chain, count: step.count ?? size, address };
    });
    putCcws(core, base, ccws);
    const irb = this.bench.run(base);
    return { ...irb, read: reads.map(({ at, size }) => core.u8.slice(at, at + size)) };
  }
}

export async function diskBench(volume: Volume = Volume.empty(10)): Promise<DiskBench> {
  const disk = new EckdDevice({ volume });
  return new DiskBench(await bench(disk), disk);
}
