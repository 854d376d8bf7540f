// The objects of vfio-ap: one matrix mediated device, and one queue bound to the driver. The rules are in matrix_dev.ts, aqic.ts, reset.ts and
// vfio_ap.ts; this file only holds. Kernel counterpart: struct ap_matrix_mdev, struct vfio_ap_queue.
import type { ApMask } from '../../devices/ap/mask.ts';
import type { CryptoQueue } from '../../devices/ap/queue.ts';
import { VfioDevice } from '../../vfio/device.ts';
import { EventFdSlot } from '../../vfio/irqs.ts';
import type { VfioDeviceOps } from '../../vfio/ops.ts';
import type { Vfio } from '../../vfio/vfio.ts';
import type { ApControl } from '../../vfio/vm.ts';
import { ApMatrix } from './matrix.ts';
import type { MatrixDevice } from './matrix_dev.ts';

export const NO_ISC = 0xff;

/** A queue bound to vfio_ap. */
export class ApQueue {
  readonly hardware: CryptoQueue;
  mdev: ApDevice | null = null;
  /** I/O address of the notification byte; 0 is none. */
  savedIova = 0n;
  savedIsc = NO_ISC;
  /** Linear page frame of the byte while it is pinned. */
  pfn = 0;
  /** Response code of the last reset. */
  resetStatus = 0;
  constructor(hardware: CryptoQueue) {
    this.hardware = hardware;
  }
  get apqn(): number {
    return this.hardware.apqn;
  }
}

export interface Additions {
  readonly apm: ApMask;
  readonly aqm: ApMask;
  readonly adm: ApMask;
}

export class ApDevice extends VfioDevice {
  readonly matrixDevice: MatrixDevice;
  /** What was assigned. */
  readonly matrix = new ApMatrix();
  /** What the guest really gets. */
  readonly shadow = new ApMatrix();
  /** Queues bound to the driver and inside the matrix. */
  readonly queues = new Map<number, ApQueue>();
  /** The guest whose processors use the queues; null while nobody has the device open, or its VM has no AP facility. */
  guest: ApControl | null = null;
  readonly reqIrq = new EventFdSlot();
  /** Host additions that wait for the end of the bus scan. */
  additions: Additions | null = null;

  constructor(vfio: Vfio, name: string, ops: VfioDeviceOps<ApDevice>, matrixDevice: MatrixDevice) {
    super(vfio, name, ops);
    this.matrixDevice = matrixDevice;
  }

  /** Does the guest have this queue now? */
  guestHas(apqn: number): boolean {
    return this.guest !== null && this.shadow.has(apqn);
  }

  /** Gives the guest its masks, as they are in the shadow. */
  push(): void {
    const { apm, aqm, adm } = this.shadow;
    this.guest?.setMasks(apm.bytes, aqm.bytes, adm.bytes);
  }
}
