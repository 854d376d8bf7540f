// The migration state machine as data: which states a feature set has, and the next step of every path. No objects here; the machine that
// walks is in migration.ts. Kernel counterpart: vfio_mig_get_next_state. Source: spec migration sections B.1 to B.3.
import { EINVAL } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_STATE_ERROR as ERROR,
  VFIO_MIGRATION_P2P as P2P,
  VFIO_DEVICE_STATE_PRE_COPY as PRE,
  VFIO_MIGRATION_PRE_COPY as PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P as PRE_P2P,
  VFIO_DEVICE_STATE_RESUMING as RESUM,
  VFIO_DEVICE_STATE_RUNNING as RUN,
  VFIO_DEVICE_STATE_RUNNING_P2P as RUN_P2P,
  VFIO_DEVICE_STATE_STOP_COPY as SCOPY,
  VFIO_DEVICE_STATE_STOP as STOP,
  VFIO_MIGRATION_STOP_COPY as STOP_COPY,
  VFIO_DEVICE_STATE_NR,
} from '../uapi/constants.ts';

/** Flags that a device must have for each state; ERROR is no state to ask for. Indexed by state. */
const NEEDED: readonly number[] = [
  -1,
  STOP_COPY,
  STOP_COPY,
  STOP_COPY,
  STOP_COPY,
  STOP_COPY | P2P,
  STOP_COPY | PRE_COPY,
  STOP_COPY | P2P | PRE_COPY,
];

/**
 * Next state on the way from row to column, for a device with every feature. ERROR: there is no way. Both indexes are states
 * (0 ERROR, 1 STOP, 2 RUNNING, 3 STOP_COPY, 4 RESUMING, 5 RUNNING_P2P, 6 PRE_COPY, 7 PRE_COPY_P2P). Saving states are never passed
 * through, so that only the last step of a request opens a transfer.
 */
const NEXT: readonly (readonly number[])[] = [
  [ERROR, ERROR, ERROR, ERROR, ERROR, ERROR, ERROR, ERROR],
  [ERROR, STOP, RUN_P2P, SCOPY, RESUM, RUN_P2P, RUN_P2P, RUN_P2P],
  [ERROR, RUN_P2P, RUN, RUN_P2P, RUN_P2P, RUN_P2P, PRE, RUN_P2P],
  [ERROR, STOP, STOP, SCOPY, STOP, STOP, ERROR, ERROR],
  [ERROR, STOP, STOP, STOP, RESUM, STOP, STOP, STOP],
  [ERROR, STOP, RUN, STOP, STOP, RUN_P2P, RUN, PRE_P2P],
  [ERROR, RUN, RUN, PRE_P2P, RUN, RUN, PRE, PRE_P2P],
  [ERROR, RUN_P2P, RUN_P2P, SCOPY, RUN_P2P, RUN_P2P, PRE, PRE_P2P],
];

/** Does a device with these flags have the state? */
export function stateSupported(flags: number, state: number): boolean {
  const needed = NEEDED[state] ?? -1;
  return needed !== -1 && (flags & needed) === needed;
}

/**
 * The next single step from `current` towards `target`. @returns a state (`current` itself when it is the target), or -EINVAL: a state is
 * unknown or missing in the feature set, or the way is blocked (out of ERROR; STOP_COPY to a pre-copy state).
 */
export function nextState(flags: number, current: number, target: number): number {
  if (!stateSupported(flags, current) || !stateSupported(flags, target)) return -EINVAL;
  let next = NEXT[current]![target]!;
  while (next !== ERROR && !stateSupported(flags, next)) next = NEXT[next]![target]!;
  return next === ERROR ? -EINVAL : next;
}

const PRE_COPYING = (1 << PRE) | (1 << PRE_P2P);
const SAVING = PRE_COPYING | (1 << SCOPY);
const LIVE = PRE_COPYING | (1 << RUN) | (1 << RUN_P2P);
const within = (set: number, state: number): boolean =>
  state >= 0 && state < VFIO_DEVICE_STATE_NR && ((set >> state) & 1) === 1;

/** PRE_COPY or PRE_COPY_P2P. */
export const isPreCopy = (state: number): boolean => within(PRE_COPYING, state);
/** A state in which a saving transfer is open. */
export const isSaving = (state: number): boolean => within(SAVING, state);
/** A state in which the device operates: the user may touch it, it may interrupt. */
export const isLive = (state: number): boolean => within(LIVE, state);
/** A state in which the device may start DMA of any kind. */
export const mayDma = (state: number): boolean => state === RUN || state === PRE;

const NAMES = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];
/** The state's name without its prefix; states of the future are shown by number. */
export const stateName = (state: number): string => NAMES[state] ?? `state ${state}`;
