// The attributes of a matrix mediated device in sysfs: assigning and taking away adapters, domains and control domains, the whole
// configuration at once, and what the guest gets. Order of checks and errno: spec ap section 3.
import { EINVAL, ENODEV, ERANGE } from '../../../assembly/abi.ts';
import type { ApMask } from '../../devices/ap/mask.ts';
import type { SysfsAttribute } from '../../vfio/sysfs.ts';
import type { Task } from '../../vfio/task.ts';
import type { ApDevice, ApQueue } from './device.ts';
import { filterControlDomains } from './filter.ts';
import { type ApMatrix, parseConfig, showConfig, showControlDomains, showMatrix } from './matrix.ts';
import { resetQueues } from './reset.ts';

const ULONG_MAX = 0xffffffffffffffffn;

/** kstrtoul with base 0. @returns the number, or -EINVAL (not a number), -ERANGE (too big for a word). */
function parseNumber(text: string): bigint | number {
  const match = /^\+?(?:(0x[0-9a-f]+)|0([0-7]*)|([1-9][0-9]*))\n?$/i.exec(text);
  if (match === null) return -EINVAL;
  const value = BigInt(match[1] ?? match[3] ?? `0o${match[2] === undefined || match[2] === '' ? '0' : match[2]}`);
  return value > ULONG_MAX ? -ERANGE : value;
}

/** A number of at most `max`. @returns it, or -errno with the reason noted: EINVAL, ERANGE, ENODEV above the maximum. */
function number(task: Task, text: string, max: number): number {
  const value = parseNumber(text);
  if (typeof value === 'number') return task.fail(-value, `"${text.trim()}" is not a number`);
  return value > BigInt(max) ? task.fail(ENODEV, `${value}: the machine ends at ${max}`) : Number(value);
}

type Dimension = 'apm' | 'aqm';

const attribute = (store: (task: Task, text: string) => number): SysfsAttribute => ({
  store: (task, text) => {
    const result = store(task, text);
    return result < 0 ? result : text.length;
  },
});

function assign(device: ApDevice, dimension: Dimension, task: Task, text: string): number {
  const { matrix, matrixDevice } = device;
  const value = number(task, text, dimension === 'apm' ? matrixDevice.apmMax : matrixDevice.aqmMax);
  if (value < 0) return value;
  const mask: ApMask = matrix[dimension];
  // Assigning again changes nothing, so nothing is judged again either.
  if (mask.has(value)) return 0;
  mask.set(value);
  const judged = matrixDevice.validate(device, matrix);
  if (judged < 0) {
    mask.clear(value);
    return task.fail(-judged, 'a queue of the product is reserved for default drivers or assigned to another device');
  }
  matrixDevice.link(device);
  matrixDevice.refresh(device);
  return 0;
}

function unassign(device: ApDevice, dimension: Dimension, task: Task, text: string): number {
  const { matrix, matrixDevice, shadow } = device;
  const value = number(task, text, dimension === 'apm' ? matrixDevice.apmMax : matrixDevice.aqmMax);
  if (value < 0) return value;
  if (!matrix[dimension].has(value)) return 0;
  matrix[dimension].clear(value);
  const lost = matrixDevice.unlink(device);
  if (shadow[dimension].has(value)) {
    shadow[dimension].clear(value);
    device.push();
  }
  detach(lost);
  return 0;
}

/** Queues that the guest had are reset before they are let go, so that nothing of it stays in them. */
function detach(lost: readonly ApQueue[]): void {
  resetQueues(lost);
  for (const queue of lost) queue.mdev = null;
}

function control(device: ApDevice, add: boolean, task: Task, text: string): number {
  const { matrix, matrixDevice } = device;
  const value = number(task, text, matrixDevice.admMax);
  if (value < 0) return value;
  if (matrix.adm.has(value) === add) return 0;
  if (add) matrix.adm.set(value);
  else matrix.adm.clear(value);
  if (filterControlDomains(device)) device.push();
  return 0;
}

/** Replaces the whole matrix, or nothing. */
function configure(device: ApDevice, task: Task, text: string): number {
  const { matrix, matrixDevice, shadow } = device;
  const wanted = parseConfig(text);
  if (wanted === null) return task.fail(EINVAL, 'three masks, separated by commas, are needed');
  const old: ApMatrix = matrix.clone();
  matrix.copyFrom(wanted);
  const judged = matrixDevice.validate(device, matrix);
  const beyond =
    matrix.apm.highest > matrixDevice.apmMax ||
    matrix.aqm.highest > matrixDevice.aqmMax ||
    matrix.adm.highest > matrixDevice.admMax;
  if (judged < 0 || beyond) {
    matrix.copyFrom(old);
    if (judged < 0) return task.fail(-judged, 'a queue of the product is reserved or assigned to another device');
    return task.fail(ENODEV, 'a bit is set beyond the last adapter or domain of the machine');
  }
  const before = shadow.clone();
  const lost = matrixDevice.unlink(device);
  for (const apid of shadow.apm.numbers()) if (!matrix.apm.has(apid)) shadow.apm.clear(apid);
  for (const apqi of shadow.aqm.numbers()) if (!matrix.aqm.has(apqi)) shadow.aqm.clear(apqi);
  matrixDevice.link(device);
  const filtered = matrixDevice.filter(device, true);
  if (!shadow.equals(before)) device.push();
  detach(lost);
  resetQueues(filtered);
  return 0;
}

/** The attributes of one device, for the mdev core to put into its directory. */
export function matrixAttributes(device: ApDevice): Readonly<Record<string, SysfsAttribute>> {
  return {
    assign_adapter: attribute((task, text) => assign(device, 'apm', task, text)),
    unassign_adapter: attribute((task, text) => unassign(device, 'apm', task, text)),
    assign_domain: attribute((task, text) => assign(device, 'aqm', task, text)),
    unassign_domain: attribute((task, text) => unassign(device, 'aqm', task, text)),
    assign_control_domain: attribute((task, text) => control(device, true, task, text)),
    unassign_control_domain: attribute((task, text) => control(device, false, task, text)),
    matrix: { show: () => showMatrix(device.matrix) },
    guest_matrix: { show: () => showGuestMatrix(device) },
    control_domains: { show: () => showControlDomains(device.matrix) },
    ap_config: {
      show: () => showConfig(device.matrix),
      ...attribute((task, text) => configure(device, task, text)),
    },
  };
}

/** As `matrix`; but where a whole product was assigned and none of it is left, there is nothing to list. */
function showGuestMatrix({ matrix, shadow }: ApDevice): string {
  const product = !matrix.apm.isEmpty && !matrix.aqm.isEmpty;
  return product && (shadow.apm.isEmpty || shadow.aqm.isEmpty) ? '' : showMatrix(shadow);
}
