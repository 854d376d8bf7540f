// Who may open which function: the device's address, and the token that a physical function shares with the users of its virtual ones.
// Source: spec pci section 1.2, vfio-core section 9 (feature 0).
import { EACCES, EFAULT, EINVAL, ENOTTY } from '../../../assembly/abi.ts';
import { toHex } from '../../hex.ts';
import { VFIO_DEVICE_FEATURE_SET } from '../../uapi/constants.ts';
import { checkFeature } from '../../vfio/feature.ts';
import type { FeatureRequest } from '../../vfio/ops.ts';
import type { Task } from '../../vfio/task.ts';
import type { VfioPciDevice } from './device.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const OPTION = 'vf_token=';

/** The token of a physical function; nobody knows its first value. */
export class VfToken {
  readonly present: boolean;
  /** Virtual functions that are open. */
  users = 0;
  #uuid: string | null = null;

  constructor(present: boolean) {
    this.present = present;
  }
  set(uuid: string): void {
    this.#uuid = uuid.toLowerCase();
  }
  matches(uuid: string | null): boolean {
    return uuid !== null && this.#uuid === uuid.toLowerCase();
  }
}

/**
 * GET_DEVICE_FD's name: the address, then nothing or options behind a space; only `vf_token=<uuid>`, once.
 * @returns 1 it is this device; 0 it is not; -EINVAL bad, unknown or repeated option, or a token where none belongs; -EACCES no or another token.
 */
export function matchName(device: VfioPciDevice, task: Task, name: string): number {
  if (!name.startsWith(device.name)) return 0;
  const rest = name.slice(device.name.length);
  let token: string | null = null;
  if (rest !== '') {
    if (!rest.startsWith(' ')) return 0;
    for (const option of rest.split(' ').filter((text) => text !== '')) {
      const uuid = option.slice(OPTION.length, OPTION.length + 36);
      if (!option.startsWith(OPTION) || token !== null || option.length !== OPTION.length + 36 || !UUID.test(uuid))
        return task.fail(EINVAL, `"${option}" is not one vf_token=<uuid>`);
      token = uuid;
    }
  }
  return checkToken(device, task, token);
}

function checkToken(device: VfioPciDevice, task: Task, token: string | null): number {
  const physical = device.options.virtualFunctionOf;
  if (physical !== undefined) {
    if (physical === null)
      return token === null ? 1 : task.fail(EINVAL, 'the physical function belongs to another driver');
    return physical.vfToken.matches(token) ? 1 : task.fail(EACCES, 'this is not the token of the physical function');
  }
  const own = device.vfToken;
  if (own.present) {
    if (own.users > 0) return own.matches(token) ? 1 : task.fail(EACCES, 'virtual functions are in use under a token');
    if (token !== null) own.set(token);
    return 1;
  }
  return token === null ? 1 : task.fail(EINVAL, 'the device has no virtual functions');
}

/** FEATURE 0: sets the token of a physical function. @returns 0, or -ENOTTY without virtual functions, -EINVAL, -EFAULT. */
export function tokenFeature(device: VfioPciDevice, task: Task, feature: FeatureRequest): number {
  if (!device.vfToken.present) return task.fail(ENOTTY, 'the device has no virtual functions');
  const check = checkFeature(task, feature, VFIO_DEVICE_FEATURE_SET, 16);
  if (check !== 1) return check;
  const bytes = feature.data.copyIn(0, 16);
  if (bytes === null) return task.fail(EFAULT, 'the token is not readable');
  const hex = toHex(bytes);
  device.vfToken.set(hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'));
  return 0;
}
