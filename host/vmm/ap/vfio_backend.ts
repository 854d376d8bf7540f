// The plain executor's side of the AP instructions: the logical queue operations on the descriptor of a matrix device (docs/uapi/ap.md).

import type { VfioProcess } from '../../process.ts';
import { VFIO_DEVICE_FLAGS_AP } from '../../uapi/constants.ts';
import * as uapi from '../../uapi/zdev.ts';
import { deviceInfoOf } from '../kind.ts';
import { AP_NOT_AVAILABLE, type ApBackend, apStatus } from './unit.ts';

const FUNCTIONS = { tapq: uapi.VFIO_AP_TAPQ, rapq: uapi.VFIO_AP_RAPQ, zapq: uapi.VFIO_AP_ZAPQ } as const;

export class VfioApBackend implements ApBackend {
  readonly #process: VfioProcess;
  readonly #device: number;
  /** Messages pass through memory of the layer's own, whatever lies where in the guest's storage. */
  readonly #buffer: bigint;
  /** One eventfd for each interruption subclass that a queue uses. */
  readonly #eventfds = new Map<number, number>();
  readonly #interrupt: (isc: number) => void;

  /** @param interrupt told of an adapter interruption. The container maps storage at the same addresses, so a nib is an I/O address. @throws VfioError the descriptor is not of a matrix. */
  constructor(process: VfioProcess, device: number, interrupt: (isc: number) => void) {
    deviceInfoOf(process, device, VFIO_DEVICE_FLAGS_AP);
    this.#process = process;
    this.#device = device;
    this.#interrupt = interrupt;
    this.#buffer = process.mmap(uapi.VFIO_AP_MESSAGE_MAX);
  }

  nqap(apqn: number, psmid: bigint, message: Uint8Array): number {
    if (message.length <= uapi.VFIO_AP_MESSAGE_MAX) this.#process.view(this.#buffer, message.length).set(message);
    return this.#do(uapi.VFIO_AP_NQAP, { apqn, psmid, addr: this.#buffer, length: message.length }).status;
  }

  dqap(apqn: number, room: number): { status: number; psmid: bigint; reply: Uint8Array } {
    const op = this.#do(uapi.VFIO_AP_DQAP, {
      apqn,
      addr: this.#buffer,
      length: Math.min(room, uapi.VFIO_AP_MESSAGE_MAX),
    });
    return { status: op.status, psmid: op.psmid, reply: this.#process.view(this.#buffer, op.length).slice() };
  }

  control(operation: 'tapq' | 'rapq' | 'zapq', apqn: number): number {
    return this.#do(uapi.VFIO_AP_PQAP, { apqn, function: FUNCTIONS[operation] }).status;
  }

  aqic(apqn: number, enable: boolean, nib: bigint, isc: number): number {
    const control = enable ? (uapi.VFIO_AP_AQIC_ENABLE | isc) >>> 0 : 0;
    const eventfd = enable ? this.#eventfd(isc) : -1;
    return this.#do(uapi.VFIO_AP_PQAP, { apqn, function: uapi.VFIO_AP_AQIC, addr: nib, control, eventfd }).status;
  }

  qci(): Uint8Array {
    this.#do(uapi.VFIO_AP_PQAP, { function: uapi.VFIO_AP_QCI, addr: this.#buffer });
    return this.#process.view(this.#buffer, uapi.VFIO_AP_QCI_SIZE).slice();
  }

  close(): void {
    this.#process.closeRaw(this.#device);
    for (const fd of this.#eventfds.values()) this.#process.closeRaw(fd);
    this.#eventfds.clear();
    this.#process.munmapRaw(this.#buffer, uapi.VFIO_AP_MESSAGE_MAX);
  }

  #eventfd(isc: number): number {
    const known = this.#eventfds.get(isc);
    if (known !== undefined) return known;
    const fd = this.#process.eventfd();
    this.#process.eventfdOf(fd).onSignal(() => this.#interrupt(isc));
    this.#eventfds.set(isc, fd);
    return fd;
  }

  #do(
    request: number,
    fields: {
      apqn?: number;
      function?: number;
      psmid?: bigint;
      addr?: bigint;
      length?: number;
      control?: number;
      eventfd?: number;
    },
  ): InstanceType<typeof uapi.VfioApOp> {
    const op = new uapi.VfioApOp(fields);
    // A refused call means that the device is not there to ask (closed, or not running): the queue is not available.
    if (this.#process.ioctlRaw(this.#device, request, op) < 0) {
      op.status = apStatus(AP_NOT_AVAILABLE);
      op.length = 0;
    }
    return op;
  }
}
