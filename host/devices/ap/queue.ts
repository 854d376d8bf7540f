// A crypto queue: requests go in, replies come out in order, a reset empties it. Status word and response codes: spec ap section 7. What its
// coprocessor does with a request is in coprocessor.ts.
import { serve } from './coprocessor.ts';

export const AP_STATUS_EMPTY = 0x80000000;
export const AP_STATUS_REPLIES = 0x40000000;
export const AP_STATUS_FULL = 0x20000000;
export const AP_STATUS_IRQ = 0x01000000;

export const AP_RC_NORMAL = 0x00;
export const AP_RC_NOT_AVAILABLE = 0x01;
export const AP_RC_RESET_IN_PROGRESS = 0x02;
export const AP_RC_DECONFIGURED = 0x03;
export const AP_RC_CHECKSTOPPED = 0x04;
export const AP_RC_BUSY = 0x05;
export const AP_RC_INVALID_ADDRESS = 0x06;
export const AP_RC_OTHERWISE_CHANGED = 0x07;
export const AP_RC_STATE_CHANGE = 0x0a;
/** The queue is full (NQAP), or there is no reply (DQAP). */
export const AP_RC_FULL_OR_EMPTY = 0x10;
export const AP_RC_MESSAGE_TOO_BIG = 0x15;

/** The response code of a status word. */
export const responseCode = (status: number): number => (status >>> 16) & 0xff;

const MAX_MESSAGE = 12 * 1024;

export interface Reply {
  readonly psmid: bigint;
  readonly message: Uint8Array;
}

export class CryptoQueue {
  readonly apqn: number;
  /** Requests and replies the queue holds together. */
  readonly depth: number;
  state: 'normal' | 'deconfigured' | 'checkstopped' = 'normal';
  /** How many polls a reset takes; a test makes it slow. */
  resetPolls = 0;
  /** Replies are made when asked for (`work`), not at once. */
  paused = false;
  /** Called when a reply is ready and interruptions are enabled. */
  onReply: (() => void) | null = null;
  #irq = false;
  #resetLeft = 0;
  #requests: Reply[] = [];
  #replies: Reply[] = [];

  constructor(apqn: number, depth = 8) {
    this.apqn = apqn;
    this.depth = depth;
  }

  get irqEnabled(): boolean {
    return this.#irq;
  }
  get repliesWaiting(): boolean {
    return this.#replies.length > 0;
  }

  /** Test: the status word. Each one is also a poll that a reset in progress waits for. */
  tapq(): number {
    const code = this.#code();
    if (this.#resetLeft > 0) this.#resetLeft--;
    return this.#status(code);
  }

  /** Reset: requests and replies are gone, interruptions are off. */
  rapq(): number {
    const code = this.#code();
    if (code !== AP_RC_NORMAL) return this.#status(code);
    this.#empty();
    this.#resetLeft = this.resetPolls;
    return this.#status(AP_RC_NORMAL);
  }

  /** Zeroize: a reset that forgets what the coprocessor knew, too. */
  zapq(): number {
    return this.rapq();
  }

  /** Switches interruptions. @returns 7 when they are in that state already. */
  aqic(enable: boolean): number {
    const code = this.#code();
    if (code !== AP_RC_NORMAL) return this.#status(code);
    if (this.#irq === enable) return this.#status(AP_RC_OTHERWISE_CHANGED);
    this.#irq = enable;
    return this.#status(AP_RC_NORMAL);
  }

  nqap(psmid: bigint, message: Uint8Array): number {
    const code = this.#code();
    if (code !== AP_RC_NORMAL) return this.#status(code);
    if (message.length === 0 || message.length > MAX_MESSAGE) return this.#status(AP_RC_MESSAGE_TOO_BIG);
    if (this.#requests.length + this.#replies.length >= this.depth) return this.#status(AP_RC_FULL_OR_EMPTY);
    this.#requests.push({ psmid, message: message.slice() });
    if (!this.paused) this.work();
    return this.#status(AP_RC_NORMAL);
  }

  /** The reply that `dqap` would give, still in the queue; null when it would give none. */
  peek(room: number): Reply | null {
    const first = this.#replies[0];
    return this.#code() === AP_RC_NORMAL && first !== undefined && first.message.length <= room ? first : null;
  }

  /** Takes the oldest reply when it fits into `room` bytes. */
  dqap(room: number): { status: number; reply: Reply | null } {
    const code = this.#code();
    const first = this.#replies[0];
    if (code !== AP_RC_NORMAL || first === undefined)
      return { status: this.#status(code === AP_RC_NORMAL ? AP_RC_FULL_OR_EMPTY : code), reply: null };
    if (first.message.length > room) return { status: this.#status(AP_RC_MESSAGE_TOO_BIG), reply: null };
    this.#replies.shift();
    return { status: this.#status(AP_RC_NORMAL), reply: first };
  }

  /** Answers every request that waits. */
  work(): void {
    const requests = this.#requests.splice(0);
    if (requests.length === 0) return;
    for (const { psmid, message } of requests) this.#replies.push({ psmid, message: serve(message) });
    if (this.#irq) this.onReply?.();
  }

  #empty(): void {
    this.#requests = [];
    this.#replies = [];
    this.#irq = false;
  }

  #code(): number {
    if (this.state === 'deconfigured') return AP_RC_DECONFIGURED;
    if (this.state === 'checkstopped') return AP_RC_CHECKSTOPPED;
    return this.#resetLeft > 0 ? AP_RC_RESET_IN_PROGRESS : AP_RC_NORMAL;
  }

  #status(code: number): number {
    const held = this.#requests.length + this.#replies.length;
    const bits =
      (held === 0 ? AP_STATUS_EMPTY : 0) |
      (this.#replies.length > 0 ? AP_STATUS_REPLIES : 0) |
      (held >= this.depth ? AP_STATUS_FULL : 0) |
      (this.#irq ? AP_STATUS_IRQ : 0);
    return (bits | (code << 16)) >>> 0;
  }
}
