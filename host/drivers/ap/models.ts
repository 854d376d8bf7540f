// The `ap` model of a machine: the host's AP bus with its adapters and domains, the vfio-ap driver, one matrix device (spec script, "Default
// machine"). Options of an entry: `adapters`, `domains`, `control_domains` (lists), `na`, `nd`, `logical` (true: open without a VM).
import { EINVAL } from '../../../assembly/abi.ts';
import { ApBus } from '../../devices/ap/bus.ts';
import { ApMask } from '../../devices/ap/mask.ts';
import type { DeviceActions, DeviceDescription, ModelContext } from '../../devices/model.ts';
import { errnoName } from '../../errno.ts';
import type { MdevParent } from '../../vfio/mdev.ts';
import { loadVfioAp, MATRIX_PATH } from './vfio_ap.ts';

const QUEUE_STATES = { 0: 'normal', 3: 'deconfigured', 4: 'checkstopped' } as const;

const isNumber = (item: unknown): item is number => Number.isInteger(item) && Number(item) >= 0 && Number(item) <= 255;

function highest(description: DeviceDescription, name: string, fallback: number): number {
  const value = description[name] ?? fallback;
  if (!isNumber(value)) throw new TypeError(`${description.name}: ${name} is a number up to 255`);
  return value;
}

function numbers(description: DeviceDescription, name: string, fallback: readonly number[]): readonly number[] {
  const value = description[name] ?? fallback;
  const good = Array.isArray(value) && value.every(isNumber);
  if (!good) throw new TypeError(`${description.name}: ${name} is a list of numbers up to 255`);
  return value as number[];
}

/** @throws TypeError an option is malformed, or the device cannot be made. */
export function apModel(context: ModelContext): void {
  const { vfio, description, groupName } = context;
  const refused = (result: number) => new TypeError(`${description.name}: vfio-ap refuses it, ${errnoName(result)}`);
  const existing = vfio.mdev.parents.find(({ path }) => path === MATRIX_PATH);
  const parent = existing ?? load(context);
  if (typeof parent === 'number') throw refused(parent);
  const mdev = vfio.mdev.create(parent.types[0]!, description.name, groupName);
  if (typeof mdev === 'number') throw refused(mdev);
}

function load(context: ModelContext): MdevParent | number {
  const { vfio, description } = context;
  const bus = new ApBus(
    {
      adapters: numbers(description, 'adapters', [4, 5, 6]),
      domains: numbers(description, 'domains', [4, 0x47, 0xab]),
      ...(description['control_domains'] === undefined
        ? {}
        : { controlDomains: numbers(description, 'control_domains', []) }),
      na: highest(description, 'na', 255),
      nd: highest(description, 'nd', 0xab),
    },
    vfio.sysfs,
  );
  context.addActions(apActions(bus));
  return loadVfioAp(vfio, bus, { withoutVm: description['logical'] === true });
}

/**
 * What a script may ask of the host's crypto hardware: `queue` {apqn, state 0 normal | 3 deconfigured | 4 checkstopped, paused} and `configure`
 * {apm, aqm, adm: 32 bytes each}, a change of the machine's configuration with the bus scan after it.
 */
function apActions(bus: ApBus): DeviceActions {
  return {
    queue(fields) {
      const queue = bus.queues.get(fields.number('apqn'));
      const state = QUEUE_STATES[fields.number('state', 0) as keyof typeof QUEUE_STATES];
      if (queue === undefined || state === undefined) return -EINVAL;
      queue.state = state;
      queue.paused = fields.number('paused', 0) !== 0;
      if (!queue.paused) queue.work();
      return 0;
    },
    configure(fields) {
      const masks = (['apm', 'aqm', 'adm'] as const).map((name) => {
        const mask = new ApMask();
        mask.bytes.set(fields.bytes(name).subarray(0, 32));
        return mask;
      });
      const [apm, aqm, adm] = masks as [ApMask, ApMask, ApMask];
      bus.reconfigure({ apm, aqm, adm });
      return 0;
    },
  };
}
