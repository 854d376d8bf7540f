// mtty in a machine: its parent, and the devices that the description names. Option `type`: mtty-1 or mtty-2 (default).
import type { ModelContext } from '../../devices/model.ts';
import { MTTY_PARENT, registerMttyParent } from './mtty.ts';

export function mttyModel({ vfio, description, groupName }: ModelContext): void {
  const parent = vfio.mdev.parents.find((other) => other.path === MTTY_PARENT) ?? registerMttyParent(vfio);
  const name = description['type'] ?? 'mtty-2';
  const type = parent.types.find((other) => `mtty-${other.sysfsName}` === name);
  if (type === undefined) throw new TypeError(`${description.name}: mtty has the types mtty-1 and mtty-2, not ${name}`);
  const mdev = vfio.mdev.create(type, description.name, groupName);
  if (typeof mdev === 'number') throw new TypeError(`${description.name}: not a uuid, in use, or no ports are left`);
}
