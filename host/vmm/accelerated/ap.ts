// The AP unit of the accelerated executor: queues of the guest's matrix without a descriptor between.
import { AP_RC_NOT_AVAILABLE, type CryptoQueue } from '../../devices/ap/queue.ts';
import { irqDisable, irqEnable } from '../../drivers/ap/aqic.ts';
import type { ApDevice, ApQueue } from '../../drivers/ap/device.ts';
import { configurationOf } from '../../drivers/ap/logical.ts';
import type { VfioProcess } from '../../process.ts';
import { type ApBackend, apStatus } from '../ap/unit.ts';

export class AcceleratedApBackend implements ApBackend {
  readonly #process: VfioProcess;
  readonly #fd: number;
  readonly #device: ApDevice;

  constructor(process: VfioProcess, fd: number, device: ApDevice) {
    this.#process = process;
    this.#fd = fd;
    this.#device = device;
  }

  nqap(apqn: number, psmid: bigint, message: Uint8Array): number {
    return this.#with(apqn, (queue) => queue.nqap(psmid, message));
  }

  dqap(apqn: number, room: number): { status: number; psmid: bigint; reply: Uint8Array } {
    const queue = this.#queue(apqn);
    const taken = queue?.hardware.dqap(room);
    const { psmid = 0n, message = new Uint8Array(0) } = taken?.reply ?? {};
    return { status: taken?.status ?? apStatus(AP_RC_NOT_AVAILABLE), psmid, reply: message };
  }

  control(operation: 'tapq' | 'rapq' | 'zapq', apqn: number): number {
    return this.#with(apqn, (queue) => queue[operation]());
  }

  aqic(apqn: number, enable: boolean, nib: bigint, isc: number): number {
    const queue = this.#queue(apqn);
    if (queue === undefined) return apStatus(AP_RC_NOT_AVAILABLE);
    return enable ? irqEnable(this.#device, queue, nib, isc) : irqDisable(queue);
  }

  qci(): Uint8Array {
    return configurationOf(this.#device);
  }

  close(): void {
    this.#process.closeRaw(this.#fd);
  }

  #queue(apqn: number): ApQueue | undefined {
    return this.#device.shadow.has(apqn) ? this.#device.queues.get(apqn) : undefined;
  }

  #with(apqn: number, act: (queue: CryptoQueue) => number): number {
    const queue = this.#queue(apqn);
    return queue === undefined ? apStatus(AP_RC_NOT_AVAILABLE) : act(queue.hardware);
  }
}
