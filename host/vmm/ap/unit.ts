// The adjunct processors of a virtual machine: the queues that a matrix gives it, reached through a backend.

/** Status word of an AP operation: queue empty, replies waiting, full, interrupts enabled, response code. */
export const AP_EMPTY = 0x80000000;
export const AP_REPLIES = 0x40000000;
export const AP_FULL = 0x20000000;
export const AP_IRQ_ENABLED = 0x01000000;

/** Response code of a status word. */
export const apResponse = (status: number): number => (status >>> 16) & 0xff;
/** A status word with this response code and nothing else. */
export const apStatus = (response: number): number => (response << 16) >>> 0;

export const AP_NORMAL = 0x00;
export const AP_NOT_AVAILABLE = 0x01;

export interface ApBackend {
  /** Enqueues a request. `psmid` comes back with its reply. @returns the status word. */
  nqap(apqn: number, psmid: bigint, message: Uint8Array): number;
  /** Takes the oldest reply that fits into `room` bytes. */
  dqap(apqn: number, room: number): { status: number; psmid: bigint; reply: Uint8Array };
  /** Test, reset or zeroize a queue. */
  control(operation: 'tapq' | 'rapq' | 'zapq', apqn: number): number;
  /** Switches the interruptions of a queue; `nib` is the absolute address of the notification byte. */
  aqic(apqn: number, enable: boolean, nib: bigint, isc: number): number;
  /** The configuration: 128 bytes (masks of adapters at 16, domains at 48, control domains at 80). */
  qci(): Uint8Array;
  close(): void;
}

/** The machine's AP unit; without a backend no queue exists. */
export class ApUnit {
  backend: ApBackend | null = null;

  detach(): void {
    this.backend?.close();
    this.backend = null;
  }
}
