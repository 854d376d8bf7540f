// Which queues a guest gets: the host's configuration and the driver's queues filter what was assigned. A single queue cannot be hidden, so an
// adapter with one that is missing goes as a whole; domains stay. Kernel counterpart: vfio_ap_mdev_filter_matrix. Source: spec ap section 4.
import { AP_RC_CHECKSTOPPED, AP_RC_DECONFIGURED, AP_RC_NORMAL } from '../../devices/ap/queue.ts';
import type { ApDevice, ApQueue } from './device.ts';
import { ApMatrix } from './matrix.ts';

const usable = (queue: ApQueue | undefined): boolean =>
  queue !== undefined && [AP_RC_NORMAL, AP_RC_DECONFIGURED, AP_RC_CHECKSTOPPED].includes(queue.resetStatus);

/**
 * Recomputes adapters and domains of the shadow. @returns whether it changed, and the queues of adapters that the guest had and that
 * were filtered out (they are to be reset).
 */
export function filterMatrix(device: ApDevice): { changed: boolean; filtered: ApQueue[] } {
  const { matrix, shadow, matrixDevice } = device;
  const { config } = matrixDevice.bus;
  const before = shadow.clone();
  const next = new ApMatrix();
  next.apm.copyFrom(matrix.apm.and(config.apm));
  next.aqm.copyFrom(matrix.aqm.and(config.aqm));
  const filtered: ApQueue[] = [];
  const domains = next.aqm.numbers();
  for (const apid of next.apm.numbers()) {
    if (domains.every((apqi) => usable(device.queues.get((apid << 8) | apqi)))) continue;
    next.apm.clear(apid);
    if (before.apm.has(apid))
      for (const queue of device.queues.values())
        if (queue.apqn >> 8 === apid && before.has(queue.apqn)) filtered.push(queue);
  }
  shadow.apm.copyFrom(next.apm);
  shadow.aqm.copyFrom(next.aqm);
  return { changed: !shadow.equals(before), filtered };
}

/** Control domains: assigned and there. @returns whether they changed. */
export function filterControlDomains(device: ApDevice): boolean {
  const before = device.shadow.clone();
  device.shadow.adm.copyFrom(device.matrix.adm.and(device.matrixDevice.bus.config.adm));
  return !device.shadow.equals(before);
}
