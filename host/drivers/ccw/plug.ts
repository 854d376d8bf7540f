// Attaches a channel device that an embedder wrote to a machine that runs: the public way to a subchannel of one's own.
import type { ChannelDevice } from '../../css/device.ts';
import { EngineSubchannel } from '../../css/engine.ts';
import { errnoName } from '../../errno.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import type { CcwDevice } from './device.ts';
import { BUS_ID } from './model.ts';
import { bindVfioCcw, subchannelPath } from './vfio_ccw.ts';

/** How a channel device is attached. Everything has a default. */
export interface ChannelPlugOptions {
  /** Bus id of the subchannel. Default the next free one from 0.0.0400. */
  readonly subchannel?: string;
  /** Device number, 16 bits. Default 0. */
  readonly deviceNumber?: number;
  /** Name of the mediated device that a user opens. Default one made from the subchannel's number. */
  readonly uuid?: string;
  /** Number of its group. Default the next free one from 8. */
  readonly group?: number;
  /** Channel-path ids, at most eight. Default one path, 00. */
  readonly chpids?: readonly number[];
}

/** An attached channel device. */
export interface PluggedChannelDevice {
  /** uuid of the mediated device: the argument of GROUP_GET_DEVICE_FD. */
  readonly name: string;
  /** Its group: `/dev/vfio/<groupName>`. */
  readonly groupName: string;
  /** The hardware: condition codes to order, programs to hold, paths to vary, interruptions to inject. */
  readonly subchannel: EngineSubchannel;
  /** The driver's side, for inspection. @internal */
  readonly device: CcwDevice;
}

const FIRST_SUBCHANNEL = 0x400;
const LAST_SUBCHANNEL = 0xffff;

/**
 * Puts a subchannel with `device` behind it into the machine, binds it to vfio-ccw and makes its mediated device.
 * @throws RangeError a bus id, uuid or path list that cannot be, or that is taken.
 */
export function plugChannelDevice(
  vfio: Vfio,
  device: ChannelDevice,
  options: ChannelPlugOptions = {},
): PluggedChannelDevice {
  const busId = options.subchannel ?? nextSubchannel(vfio);
  if (!BUS_ID.test(busId)) throw new RangeError(`${busId} is no bus id such as 0.0.0400`);
  const { chpids = [0], deviceNumber = 0 } = options;
  if (chpids.length < 1 || chpids.length > 8)
    throw new RangeError(`${chpids.length} channel paths: a subchannel has 1 to 8`);
  const subchannel = new EngineSubchannel({ busId, core: vfio.core, clock: vfio.clock, device, deviceNumber, chpids });
  const parent = bindVfioCcw(vfio, subchannel);
  if (typeof parent === 'number')
    throw new RangeError(`${busId}: ${errnoName(parent)}: a subchannel of this name has a driver`);
  const uuid = options.uuid ?? `00000000-0000-4000-8000-00000000${busId.slice(-4)}`;
  const groupName = options.group === undefined ? vfio.nextGroupName() : String(options.group);
  const mdev = vfio.mdev.create(parent.types[0]!, uuid, groupName);
  if (typeof mdev === 'number') {
    vfio.mdev.unregisterParent(parent);
    throw new RangeError(`${uuid}: ${errnoName(mdev)}: no uuid, or one that is taken`);
  }
  return { name: mdev.name, groupName, subchannel, device: mdev.device as CcwDevice };
}

function nextSubchannel(vfio: Vfio): string {
  const taken = new Set(vfio.mdev.parents.map((parent) => parent.path));
  for (let number = FIRST_SUBCHANNEL; number <= LAST_SUBCHANNEL; number++) {
    const busId = `0.0.${number.toString(16).padStart(4, '0')}`;
    if (!taken.has(subchannelPath(busId))) return busId;
  }
  throw new RangeError('no subchannel is free');
}
