// The vfio-ap driver as a whole: its queues, its mediated devices, and what happens when either come and go. Kernel counterpart:
// vfio_ap_ops.c. Source: spec ap sections 2 and 6.
import { EADDRINUSE, EADDRNOTAVAIL } from '../../../assembly/abi.ts';
import type { ApBus, ApConfig, ApListener } from '../../devices/ap/bus.ts';
import { ApMask } from '../../devices/ap/mask.ts';
import type { CryptoQueue } from '../../devices/ap/queue.ts';
import { freeIrq } from './aqic.ts';
import { type ApDevice, ApQueue } from './device.ts';
import { filterControlDomains, filterMatrix } from './filter.ts';
import type { ApMatrix } from './matrix.ts';
import { resetQueues } from './reset.ts';

const MAX_WITHOUT_APXA = { adapter: 63, domain: 15 } as const;

export class MatrixDevice implements ApListener {
  readonly bus: ApBus;
  readonly mdevs = new Set<ApDevice>();
  /** Queues bound to the driver. */
  readonly queues = new Map<number, ApQueue>();
  readonly apmMax: number;
  readonly aqmMax: number;

  constructor(bus: ApBus) {
    this.bus = bus;
    this.apmMax = bus.apxa ? bus.na : MAX_WITHOUT_APXA.adapter;
    this.aqmMax = bus.apxa ? bus.nd : MAX_WITHOUT_APXA.domain;
  }

  get admMax(): number {
    return this.aqmMax;
  }

  /** The whole cross product is judged. @returns 0; -EADDRNOTAVAIL a queue is reserved for default drivers; -EADDRINUSE another device has it. */
  validate(device: ApDevice, matrix: ApMatrix): number {
    for (const apqn of matrix.queues()) if (this.bus.isReserved(apqn)) return -EADDRNOTAVAIL;
    return this.#sharing(matrix, device);
  }

  /** Links the driver's queues that are in the device's matrix. */
  link(device: ApDevice): void {
    for (const queue of this.queues.values()) if (device.matrix.has(queue.apqn)) this.#link(device, queue);
  }

  /** Takes queues that left the matrix away. @returns those that the guest had. */
  unlink(device: ApDevice): ApQueue[] {
    const gone = [...device.queues.values()].filter((queue) => !device.matrix.has(queue.apqn));
    const had = gone.filter((queue) => device.shadow.has(queue.apqn));
    for (const queue of gone) device.queues.delete(queue.apqn);
    for (const queue of gone) if (!had.includes(queue)) queue.mdev = null;
    return had;
  }

  /** Recomputes what the guest gets, gives it to the guest, and resets the queues it lost. */
  refresh(device: ApDevice, control = false): void {
    const before = device.shadow.clone();
    const filtered = this.filter(device, control);
    if (!device.shadow.equals(before)) device.push();
    resetQueues(filtered);
  }

  /** The same without telling the guest. @returns the queues it lost by filtering. */
  filter(device: ApDevice, control: boolean): ApQueue[] {
    const { filtered } = filterMatrix(device);
    if (control) filterControlDomains(device);
    return filtered;
  }

  // ---- what the bus tells ----

  probe(hardware: CryptoQueue): void {
    const queue = new ApQueue(hardware);
    this.queues.set(queue.apqn, queue);
    const device = [...this.mdevs].find((candidate) => candidate.matrix.has(queue.apqn));
    if (device === undefined) return;
    this.#link(device, queue);
    if (device.additions === null) this.refresh(device);
  }

  remove(hardware: CryptoQueue): void {
    const queue = this.queues.get(hardware.apqn);
    if (queue === undefined) return;
    this.queues.delete(queue.apqn);
    const device = queue.mdev;
    if (device === null) return;
    if (device.shadow.has(queue.apqn)) {
      const adapter = queue.apqn >> 8;
      const lost = [...device.queues.values()].filter(({ apqn }) => apqn >> 8 === adapter && device.shadow.has(apqn));
      device.shadow.apm.clear(adapter);
      device.push();
      resetQueues(lost);
    } else if (this.bus.config.apm.has(queue.apqn >> 8) && this.bus.config.aqm.has(queue.apqn & 0xff))
      resetQueues([queue]);
    else freeIrq(queue);
    device.queues.delete(queue.apqn);
    queue.mdev = null;
  }

  inUse(apm: ApMask, aqm: ApMask): number {
    for (const device of this.mdevs)
      for (const apqn of device.matrix.queues()) if (apm.has(apqn >> 8) && aqm.has(apqn & 0xff)) return -EADDRINUSE;
    return 0;
  }

  configChanged(added: ApConfig, removed: ApConfig): void {
    const passable = ApMask.of(...added.apm.numbers().filter((apid) => this.bus.passable(apid)));
    for (const device of this.mdevs) {
      const { matrix, shadow } = device;
      const before = shadow.clone();
      for (const apid of removed.apm.numbers()) shadow.apm.clear(apid);
      for (const apqi of removed.aqm.numbers()) shadow.aqm.clear(apqi);
      for (const domain of removed.adm.numbers()) shadow.adm.clear(domain);
      if (!shadow.equals(before)) device.push();
      const additions = {
        apm: matrix.apm.and(passable),
        aqm: matrix.aqm.and(added.aqm),
        adm: matrix.adm.and(added.adm),
      };
      const some = !additions.apm.isEmpty || !additions.aqm.isEmpty || !additions.adm.isEmpty;
      device.additions = some ? additions : null;
    }
  }

  scanComplete(): void {
    for (const device of this.mdevs) {
      if (device.additions === null) continue;
      device.additions = null;
      this.refresh(device, true);
    }
  }

  status(hardware: CryptoQueue): string {
    const device = this.queues.get(hardware.apqn)?.mdev ?? null;
    if (device === null) return 'unassigned';
    return device.guestHas(hardware.apqn) ? 'in use' : 'assigned';
  }

  #link(device: ApDevice, queue: ApQueue): void {
    queue.mdev = device;
    device.queues.set(queue.apqn, queue);
  }

  #sharing(matrix: ApMatrix, device: ApDevice): number {
    for (const other of this.mdevs) {
      if (other === device) continue;
      for (const apqn of matrix.queues()) if (other.matrix.has(apqn)) return -EADDRINUSE;
    }
    return 0;
  }
}
