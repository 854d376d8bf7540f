// The host's AP bus: which adapters and domains there are, their queues, the driver each queue is bound to, and the masks that reserve queues for
// the default drivers. A pass-through driver plugs in as listener. Spec ap sections 1, 5 and 6.
import { EADDRINUSE, EINVAL, ENODEV } from '../../../assembly/abi.ts';
import type { Sysfs } from '../../vfio/sysfs.ts';
import { ApMask } from './mask.ts';
import { CryptoQueue } from './queue.ts';

export type QueueDriver = 'vfio_ap' | 'default' | null;

/** A pass-through driver as the bus sees it. */
export interface ApListener {
  /** A queue was bound to the driver (or is about to go). */
  probe(queue: CryptoQueue): void;
  remove(queue: CryptoQueue): void;
  /** May the host take these queues for its default drivers? 0 or -errno. */
  inUse(apm: ApMask, aqm: ApMask): number;
  /** The host configuration changed; both are complete configurations. */
  configChanged(added: ApConfig, removed: ApConfig): void;
  scanComplete(): void;
  /** Content of a queue's `status`. */
  status(queue: CryptoQueue): string;
}

export interface ApConfig {
  readonly apm: ApMask;
  readonly aqm: ApMask;
  readonly adm: ApMask;
}

export interface ApBusOptions {
  readonly adapters: readonly number[];
  readonly domains: readonly number[];
  readonly controlDomains?: readonly number[];
  /** Highest adapter and domain number of the machine. Default 255 and 255. */
  readonly na?: number;
  readonly nd?: number;
  /** Extended addressing; without it adapters end at 63, domains at 15. Default true. */
  readonly apxa?: boolean;
  /** Card type by adapter: 4 is CEX4. Default 8; older than 4 cannot be passed through. */
  readonly types?: Readonly<Record<number, number>>;
}

const CEX4 = 4;
const sysfsName = (apqn: number): string =>
  `${(apqn >> 8).toString(16).padStart(2, '0')}.${(apqn & 0xff).toString(16).padStart(4, '0')}`;

export class ApBus {
  readonly config: ApConfig;
  readonly na: number;
  readonly nd: number;
  readonly apxa: boolean;
  /** Queues reserved for the default drivers: those with both bits set. */
  readonly apmask = new ApMask();
  readonly aqmask = new ApMask();
  readonly queues = new Map<number, CryptoQueue>();
  readonly #drivers = new Map<number, QueueDriver>();
  readonly #types: Readonly<Record<number, number>>;
  readonly #sysfs: Sysfs | null;
  #listener: ApListener | null = null;

  constructor(options: ApBusOptions, sysfs: Sysfs | null = null) {
    this.config = {
      apm: ApMask.of(...options.adapters),
      aqm: ApMask.of(...options.domains),
      adm: ApMask.of(...(options.controlDomains ?? options.domains)),
    };
    this.na = options.na ?? 255;
    this.nd = options.nd ?? 255;
    this.apxa = options.apxa ?? true;
    this.#types = options.types ?? {};
    this.#sysfs = sysfs;
    this.#publish();
    for (const apid of options.adapters) for (const apqi of options.domains) this.#addQueue((apid << 8) | apqi);
  }

  /** Connects the pass-through driver; queues that are not reserved get bound to it. */
  set listener(listener: ApListener | null) {
    this.#listener = listener;
    if (listener === null) return;
    for (const queue of this.queues.values()) this.#match(queue);
  }

  /** CEX4 or newer. */
  passable(apid: number): boolean {
    return (this.#types[apid] ?? 8) >= CEX4;
  }

  driver(apqn: number): QueueDriver {
    return this.#drivers.get(apqn) ?? null;
  }
  isReserved(apqn: number): boolean {
    return this.apmask.has(apqn >> 8) && this.aqmask.has(apqn & 0xff);
  }

  /** Binds a queue to a driver, or to none. @returns 0 or -ENODEV. */
  bind(apqn: number, driver: QueueDriver): number {
    const queue = this.queues.get(apqn);
    if (queue === undefined || (driver === 'vfio_ap' && !this.passable(apqn >> 8))) return -ENODEV;
    const before = this.driver(apqn);
    if (before === driver) return 0;
    if (before === 'vfio_ap') this.#listener?.remove(queue);
    this.#drivers.set(apqn, driver);
    if (driver === 'vfio_ap') this.#listener?.probe(queue);
    return 0;
  }

  /** Changes the reservation. @returns 0, or -EADDRINUSE when a queue that would be reserved is given to a guest. */
  reserve(apmask: ApMask, aqmask: ApMask): number {
    const newly = (apid: number, apqi: number): boolean =>
      apmask.has(apid) && aqmask.has(apqi) && !this.isReserved((apid << 8) | apqi);
    const used = this.#listener?.inUse(apmask, aqmask) ?? 0;
    if (used < 0) return used;
    const changed = [...this.queues.values()].filter(
      ({ apqn }) =>
        newly(apqn >> 8, apqn & 0xff) || (this.isReserved(apqn) && !(apmask.has(apqn >> 8) && aqmask.has(apqn & 0xff))),
    );
    this.apmask.copyFrom(apmask);
    this.aqmask.copyFrom(aqmask);
    for (const queue of changed) this.bind(queue.apqn, this.isReserved(queue.apqn) ? 'default' : 'vfio_ap');
    return 0;
  }

  /** The machine's configuration changes: adapters and domains come and go, then the bus is scanned. */
  reconfigure(config: ApConfig): void {
    const minus = (a: ApMask, b: ApMask): ApMask => ApMask.of(...a.numbers().filter((number) => !b.has(number)));
    const before = { apm: this.config.apm.clone(), aqm: this.config.aqm.clone(), adm: this.config.adm.clone() };
    const change = (from: ApConfig, to: ApConfig): ApConfig => ({
      apm: minus(from.apm, to.apm),
      aqm: minus(from.aqm, to.aqm),
      adm: minus(from.adm, to.adm),
    });
    this.config.apm.copyFrom(config.apm);
    this.config.aqm.copyFrom(config.aqm);
    this.config.adm.copyFrom(config.adm);
    this.#listener?.configChanged(change(this.config, before), change(before, this.config));
    for (const queue of [...this.queues.values()]) if (!this.#configured(queue.apqn)) this.#removeQueue(queue);
    for (const apid of this.config.apm.numbers())
      for (const apqi of this.config.aqm.numbers())
        if (!this.queues.has((apid << 8) | apqi)) this.#addQueue((apid << 8) | apqi);
    this.#listener?.scanComplete();
  }

  #configured(apqn: number): boolean {
    return this.config.apm.has(apqn >> 8) && this.config.aqm.has(apqn & 0xff);
  }

  #addQueue(apqn: number): void {
    const queue = new CryptoQueue(apqn);
    this.queues.set(apqn, queue);
    const path = `/sys/devices/ap/card${(apqn >> 8).toString(16).padStart(2, '0')}/${sysfsName(apqn)}`;
    this.#sysfs?.attribute(`${path}/status`, { show: () => `${this.#listener?.status(queue) ?? 'unassigned'}\n` });
    this.#match(queue);
  }

  #removeQueue(queue: CryptoQueue): void {
    const { apqn } = queue;
    if (this.driver(apqn) === 'vfio_ap') this.#listener?.remove(queue);
    this.#drivers.delete(apqn);
    this.queues.delete(apqn);
    this.#sysfs?.remove(`/sys/devices/ap/card${(apqn >> 8).toString(16).padStart(2, '0')}/${sysfsName(apqn)}`);
  }

  #match(queue: CryptoQueue): void {
    if (this.driver(queue.apqn) !== null) return;
    if (this.isReserved(queue.apqn)) this.#drivers.set(queue.apqn, 'default');
    else if (this.#listener !== null) this.bind(queue.apqn, 'vfio_ap');
  }

  /** /sys/bus/ap: the two masks, and bind and unbind of both drivers. */
  #publish(): void {
    const sysfs = this.#sysfs;
    if (sysfs === null) return;
    const mask = (name: 'apmask' | 'aqmask'): void => {
      sysfs.attribute(`/sys/bus/ap/${name}`, {
        show: () => `${this[name]}\n`,
        store: (task, text) => {
          const wanted = parseMask(text.trim(), this[name]);
          if (wanted === null) return task.fail(EINVAL, `"${text.trim()}" is neither a mask nor a list of changes`);
          const result = this.reserve(
            name === 'apmask' ? wanted : this.apmask,
            name === 'aqmask' ? wanted : this.aqmask,
          );
          return result < 0
            ? task.fail(EADDRINUSE, 'a queue of the mask is assigned to a mediated device')
            : text.length;
        },
      });
    };
    mask('apmask');
    mask('aqmask');
    for (const [name, driver] of [
      ['vfio_ap', 'vfio_ap'],
      ['cex4queue', 'default'],
    ] as const)
      for (const action of ['bind', 'unbind'] as const)
        sysfs.attribute(`/sys/bus/ap/drivers/${name}/${action}`, {
          store: (task, text) => {
            const match = /^([0-9a-f]{2})\.([0-9a-f]{4})\n?$/i.exec(text);
            const apqn =
              match === null
                ? -1
                : (Number.parseInt(match[1] as string, 16) << 8) | Number.parseInt(match[2] as string, 16);
            const bound = this.driver(apqn);
            if (!this.queues.has(apqn) || (action === 'unbind') !== (bound === driver))
              return task.fail(ENODEV, `"${text.trim()}" names no queue for this`);
            const result = this.bind(apqn, action === 'bind' ? driver : null);
            return result < 0 ? task.fail(-result, 'the queue cannot be bound to this driver') : text.length;
          },
        });
  }
}

/** A whole mask in hex, or changes such as `+5,-0x47`. */
function parseMask(text: string, current: ApMask): ApMask | null {
  if (!/^[+-]/.test(text)) return ApMask.parse(text);
  const mask = current.clone();
  for (const item of text.split(',')) {
    const match = /^([+-])(0x[0-9a-f]+|\d+)$/i.exec(item);
    const number = Number(match?.[2] ?? 256);
    if (match === null || number > 255) return null;
    if (match[1] === '+') mask.set(number);
    else mask.clear(number);
  }
  return mask;
}
