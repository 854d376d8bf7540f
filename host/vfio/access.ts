// What may be done to a device in which migration state, as one table, and the gate that holds every driver to it. Forbidden writes are dropped and
// counted, forbidden reads give all ones, both "succeed"; request regions and operation ioctls answer EBUSY without effect; mappings of regions
// fault until the device is live again. Source: spec migration section C.2 (and E: this enforcement is the rule here).
import { EBUSY } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
} from '../uapi/ioctl.ts';
import type { VfioDevice } from './device.ts';
import { isLive, mayDma, stateName } from './migration_states.ts';
import type { IoMapping, Mapping } from './mm.ts';
import type { AccessKind } from './ops.ts';
import type { Task } from './task.ts';
import type { UserBuffer } from './user.ts';

/** Kinds that every state tolerates; the others need a live device (RUNNING, PRE_COPY and their P2P twins). */
const TOLERATED: Readonly<Record<AccessKind, boolean>> = {
  mmio: false,
  request: false,
  operation: false,
  config: true,
  irqs: true,
  info: true,
  reset: true,
};

const IOCTL_KINDS: ReadonlyMap<number, AccessKind> = new Map([
  [VFIO_DEVICE_GET_INFO, 'info'],
  [VFIO_DEVICE_GET_REGION_INFO, 'info'],
  [VFIO_DEVICE_GET_IRQ_INFO, 'info'],
  [VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, 'info'],
  [VFIO_DEVICE_SET_IRQS, 'irqs'],
  [VFIO_DEVICE_RESET, 'reset'],
  [VFIO_DEVICE_PCI_HOT_RESET, 'reset'],
]);

/** Is an access of this kind allowed in this migration state? */
export const accessAllowed = (state: number, kind: AccessKind): boolean => TOLERATED[kind] || isLive(state);

export type ViolationKind = 'read' | 'write' | 'mmap' | 'request' | 'operation' | 'dma' | 'interrupt';

/** A forbidden access: what a harness gets to see in test mode. */
export interface Violation {
  readonly device: string;
  readonly what: ViolationKind;
  /** Migration state, by name. */
  readonly state: string;
}

/** Stands in front of one migratable device. */
export class AccessGate {
  readonly #device: VfioDevice;
  readonly #counts = new Map<ViolationKind, number>();
  /** Test mode: hears of every violation. */
  onViolation: ((violation: Violation) => void) | null = null;

  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** Violations seen since the device was made. */
  count(what: ViolationKind): number {
    return this.#counts.get(what) ?? 0;
  }

  /** A read or write of a file offset. @returns undefined: go on to the driver; otherwise the answer. */
  region(task: Task, buffer: UserBuffer, offset: bigint, write: boolean): number | undefined {
    if (this.#live) return undefined;
    const place = this.#place(offset);
    if (place === undefined || place.left <= 0n || TOLERATED[place.kind]) return undefined;
    if (place.kind === 'request' || place.kind === 'operation') {
      this.#violated('request');
      return task.fail(EBUSY, `the device is in ${this.#stateName}`);
    }
    const length = BigInt(buffer.length) < place.left ? buffer.length : Number(place.left);
    if (!write && !buffer.copyOut(0, new Uint8Array(length).fill(0xff))) return undefined;
    this.#violated(write ? 'write' : 'read');
    return length;
  }

  /** What of a buffer may go on to the driver: a tolerated access ends where a forbidden place begins, such as behind the MSI-X table. */
  narrow(buffer: UserBuffer, offset: bigint): UserBuffer {
    if (this.#live) return buffer;
    const left = this.#place(offset)?.left ?? 0n;
    if (left <= 0n || left >= BigInt(buffer.length)) return buffer;
    const next = this.#place(offset + left);
    if (next === undefined || next.left <= 0n || TOLERATED[next.kind]) return buffer;
    return {
      value: buffer.value,
      length: Number(left),
      copyIn: (at, size) => buffer.copyIn(at, size),
      copyOut: (at, source) => buffer.copyOut(at, source),
    };
  }

  /** @returns undefined: go on to the driver; otherwise -EBUSY. */
  ioctl(task: Task, request: number): number | undefined {
    if (this.#live) return undefined;
    const { access } = this.#device.ops;
    const own = access?.ioctl === undefined ? 'operation' : access.ioctl(this.#device, request);
    const kind = IOCTL_KINDS.get(request) ?? own;
    if (kind === undefined || TOLERATED[kind]) return undefined;
    this.#violated('operation');
    return task.fail(EBUSY, `the device is in ${this.#stateName}`);
  }

  /**
   * A mapping of a region that is zapped while the device is not live: every access then is a bus error. Also another device's DMA
   * reaches the region through it, so a stopped device is safe from its peers.
   */
  mapping(mapping: Mapping, offset: bigint): Mapping {
    if (mapping.kind !== 'io') return mapping;
    const { io } = mapping;
    const open = (at: number): boolean => {
      if (this.#live) return true;
      const place = this.#place(offset + BigInt(at));
      if (place !== undefined && TOLERATED[place.kind]) return true;
      this.#violated('mmap');
      return false;
    };
    const guarded: IoMapping = {
      read: (at, into) => open(at) && open(at + into.length - 1) && io.read(at, into),
      write: (at, from) => open(at) && open(at + from.length - 1) && io.write(at, from),
    };
    return { kind: 'io', io: guarded };
  }

  /** May a write to a register that the user arranged beforehand be done now? One that comes without is dropped and counted. */
  store(): boolean {
    if (this.#live) return true;
    this.#violated('write');
    return false;
  }

  /** May the device start DMA now? A device that tries without is counted. */
  dma(): boolean {
    if (mayDma(this.#state)) return true;
    this.#violated('dma');
    return false;
  }

  get #state(): number {
    return this.#device.migration?.state ?? 0;
  }
  get #stateName(): string {
    return stateName(this.#state);
  }
  get #live(): boolean {
    return isLive(this.#state);
  }

  #place(offset: bigint): { readonly kind: AccessKind; readonly left: bigint } | undefined {
    const { access } = this.#device.ops;
    if (access === undefined) return { kind: 'mmio', left: 1n << 40n };
    return access.region(this.#device, offset);
  }

  #violated(what: ViolationKind): void {
    this.#counts.set(what, this.count(what) + 1);
    this.onViolation?.({ device: this.#device.name, what, state: this.#stateName });
  }
}
