// vfio-ccw in a machine: a subchannel with a device behind it, the driver on it, and, when the description names a uuid, its mediated device (spec
// script, "Default machine"). Options of an entry: `subchannel` and `device` (bus ids).

import type { ChannelDevice } from '../../css/device.ts';
import { EngineSubchannel } from '../../css/engine.ts';
import type { SubchannelHardware } from '../../css/subchannel.ts';
import type { DeviceDescription, ModelContext, ModelFactory } from '../../devices/model.ts';
import { ScriptedSubchannel } from '../../devices/scripted.ts';
import { type DirectedSubchannel, subchannelActions } from '../../devices/subchannel_actions.ts';
import { errnoName } from '../../errno.ts';
import { bindVfioCcw } from './vfio_ccw.ts';

/** Form of a bus id, such as 0.0.0313. */
export const BUS_ID = /^[0-9a-f]{1,2}\.[0-3]\.[0-9a-f]{4}$/;

/** Bus id of the subchannel of an entry: the option, or the entry's own name. @throws TypeError it is none. */
export function subchannelId(description: DeviceDescription): string {
  return busId(description['subchannel'] ?? description.name, description.name);
}

/** Device number of an entry, or 0. @throws TypeError the option is no bus id. */
export function deviceNumber(description: DeviceDescription): number {
  const id = description['device'];
  return id === undefined ? 0 : Number.parseInt(busId(id, description.name).slice(-4), 16);
}

function busId(value: unknown, name: string): string {
  if (typeof value === 'string' && BUS_ID.test(value)) return value;
  throw new TypeError(`${name}: ${JSON.stringify(value)} is no bus id such as 0.0.0313`);
}

/** Puts a subchannel into the machine, driven by vfio-ccw. @throws TypeError the driver refuses it, or the mediated device cannot be made. */
export function addSubchannel(context: ModelContext, hardware: SubchannelHardware & DirectedSubchannel): void {
  const { vfio, description, groupName } = context;
  const refused = (result: number) => new TypeError(`${description.name}: vfio-ccw refuses it, ${errnoName(result)}`);
  const parent = bindVfioCcw(vfio, hardware);
  if (typeof parent === 'number') throw refused(parent);
  if (!BUS_ID.test(description.name)) {
    const mdev = vfio.mdev.create(parent.types[0]!, description.name, groupName);
    if (typeof mdev === 'number') throw refused(mdev);
  }
  context.addActions(subchannelActions(hardware));
}

/** Puts a subchannel that runs channel programs on `device` into the machine. @throws TypeError as addSubchannel, and a bus id that is none. */
export function addChannelDevice(context: ModelContext, device: ChannelDevice): void {
  const { description, vfio } = context;
  const { core, clock } = vfio;
  const busId = subchannelId(description);
  addSubchannel(context, new EngineSubchannel({ busId, core, clock, device, deviceNumber: deviceNumber(description) }));
}

/** Model `scripted`: a subchannel that answers as a script tells it. Options: `paths` (mask), `qdio`. @throws TypeError an option that cannot be. */
export const scriptedSubchannel: ModelFactory = (context) => {
  const { description } = context;
  const paths = Number(description['paths'] ?? 0xf0);
  if (!Number.isInteger(paths) || paths < 0 || paths > 0xff)
    throw new TypeError(`${description.name}: paths: ${JSON.stringify(description['paths'])} is no mask of eight bits`);
  const qdio = description['qdio'] === true;
  addSubchannel(
    context,
    new ScriptedSubchannel({ busId: subchannelId(description), devno: deviceNumber(description), paths, qdio }),
  );
};
