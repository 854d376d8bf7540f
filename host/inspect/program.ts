// What a vfio-ccw device holds and does, for people and tools that watch: the copied and translated chains with their address lists, the pinned
// pages, and every CCW that the channel takes. Looks without touching.
import { ENODEV, ENOENT } from '../../assembly/abi.ts';
import type { PinnedPage } from '../ccw/channel_program.ts';
import { EngineSubchannel } from '../css/engine.ts';
import type { ProgramObserver } from '../css/program.ts';
import { CcwDevice } from '../drivers/ccw/device.ts';
import { VfioError } from '../errno.ts';
import type { VfioInstance } from '../source.ts';

/** One CCW of the translated program. */
export interface CcwView {
  /** Where the guest has it, and where our copy lies (linear address in the core's memory). */
  readonly guest: number;
  readonly host: number;
  readonly cmd: number;
  readonly flags: number;
  readonly count: number;
  /** Data address: of the IDAL, or the target of a TIC; linear. */
  readonly cda: number;
  /** The host's IDAWs, linear addresses; empty for a TIC. A CCW that moves no data has zeros. */
  readonly idaws: readonly bigint[];
}

/** A program that a device holds. */
export interface ProgramView {
  /** Chains in the order they were found; the first one is what the ORB names. */
  readonly chains: ReadonlyArray<{ readonly guest: number; readonly host: number; readonly ccws: readonly CcwView[] }>;
  readonly pinned: readonly PinnedPage[];
}

const TIC = 0x08;
const IDA = 0x04;

/** The device of this name. @throws VfioError ENOENT there is none; ENODEV it is not driven by vfio-ccw. */
function ccwDevice(vfio: VfioInstance, name: string): CcwDevice {
  for (const group of vfio.kernel.groups.values())
    for (const device of group.devices) {
      if (device.name !== name) continue;
      if (device instanceof CcwDevice) return device;
      throw new VfioError(`inspect(${name})`, ENODEV, 'not a vfio-ccw device');
    }
  throw new VfioError(`inspect(${name})`, ENOENT, 'no such device');
}

/**
 * The program that a vfio-ccw device holds from its start to its final interruption, or null. @param blockSize of its IDAWs: 4096, or 2048 when
 * the guest's ORB says so (the caller wrote it). @throws VfioError ENOENT, ENODEV.
 */
export function inspectProgram(vfio: VfioInstance, name: string, blockSize = 4096): ProgramView | null {
  const { program } = ccwDevice(vfio, name);
  if (program === null || !program.held) return null;
  const { view } = vfio.core;
  const chains = program.chains().map((chain) => ({
    guest: chain.iova,
    host: chain.host,
    ccws: program.ccws(chain).map((ccw, index) => {
      const idaws: bigint[] = [];
      if (ccw.cmd !== TIC && (ccw.flags & IDA) !== 0) {
        const offset = Number(view.getBigUint64(ccw.cda) % BigInt(blockSize));
        const n = Math.ceil((offset + Math.max(ccw.count, 1)) / blockSize);
        for (let i = 0; i < n; i++) idaws.push(view.getBigUint64(ccw.cda + 8 * i));
      }
      return { guest: (chain.iova + 8 * index) >>> 0, host: chain.host + 8 * index, ...ccw, idaws };
    }),
  }));
  return { chains, pinned: program.pinned() };
}

/**
 * Hears of every CCW that the channel fetches for this device from now on, and of every command that ends; addresses are linear, `inspectProgram`
 * says which CCW lies there. One observer a device: a new one takes the place of the last. @returns a function that ends it. @throws VfioError ENOENT, ENODEV: also a device without a channel engine behind it.
 */
export function watchProgram(vfio: VfioInstance, name: string, observer: ProgramObserver): () => void {
  const { hardware } = ccwDevice(vfio, name).subchannel;
  if (!(hardware instanceof EngineSubchannel))
    throw new VfioError(`watch(${name})`, ENODEV, 'no channel engine behind it');
  hardware.observer = observer;
  return () => {
    hardware.observer = {};
  };
}
