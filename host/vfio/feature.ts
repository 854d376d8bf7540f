// VFIO_DEVICE_FEATURE: the header checks that every feature shares and the way to who answers: the core for migration and DMA logging, the
// driver for the rest. Kernel counterpart: vfio_ioctl_device_feature. Source: spec vfio-core section 9.
import { EINVAL, ENOTTY } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../uapi/constants.ts';
import type { FeatureRequest } from './ops.ts';
import type { Task } from './task.ts';
import { type UserArg, viewOf } from './user.ts';

const KNOWN = VFIO_DEVICE_FEATURE_MASK | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PROBE;

/** Copies the header once and checks it. @returns the request, -EFAULT, or -EINVAL: argsz < 8, unknown flags, GET and SET without PROBE. */
export function readFeature(task: Task, arg: UserArg): FeatureRequest | number {
  const header = task.copyArgsz(arg, 8);
  if (typeof header === 'number') return header;
  const view = viewOf(header);
  const flags = view.getUint32(4, true);
  if ((flags & ~KNOWN) !== 0) return task.fail(EINVAL, `unknown feature flags 0x${flags.toString(16)}`);
  const feature: FeatureRequest = {
    id: flags & VFIO_DEVICE_FEATURE_MASK,
    get: (flags & VFIO_DEVICE_FEATURE_GET) !== 0,
    set: (flags & VFIO_DEVICE_FEATURE_SET) !== 0,
    probe: (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0,
    size: view.getUint32(0, true) - 8,
    data: {
      value: arg.value + 8n,
      copyIn: (offset, length) => arg.copyIn(8 + offset, length),
      copyOut: (offset, bytes) => arg.copyOut(8 + offset, bytes),
    },
  };
  if (!feature.probe && feature.get && feature.set) return task.fail(EINVAL, 'GET and SET together');
  return feature;
}

/** The answer for an id that nobody knows. */
export const unknownFeature = (task: Task, name: string, feature: FeatureRequest): number =>
  task.fail(ENOTTY, `${name} has no feature ${feature.id}`);

/**
 * The check every feature makes before it runs. @returns 1: execute; 0: PROBE, done; -EINVAL.
 * @param supported VFIO_DEVICE_FEATURE_GET and/or SET. @param minsz bytes of data that the feature needs.
 */
export function checkFeature(task: Task, feature: FeatureRequest, supported: number, minsz: number): number {
  const getOk = (supported & VFIO_DEVICE_FEATURE_GET) !== 0;
  const setOk = (supported & VFIO_DEVICE_FEATURE_SET) !== 0;
  if ((feature.get && !getOk) || (feature.set && !setOk))
    return task.fail(EINVAL, `feature ${feature.id} does not support ${feature.get && !getOk ? 'GET' : 'SET'}`);
  if (feature.probe) return 0;
  if (!feature.get && !feature.set) return task.fail(EINVAL, 'neither GET nor SET nor PROBE');
  if (feature.size < minsz)
    return task.fail(EINVAL, `feature ${feature.id} needs ${minsz} bytes of data, got ${feature.size}`);
  return 1;
}
