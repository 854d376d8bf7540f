// The face of a subchannel towards the driver that owns it: the channel-subsystem instructions and what comes back. The engine
// (engine.ts) implements it over device models; the scripted device answers it from a test. Kernel counterpart: struct subchannel
// and asm/cio.h. All blocks are big-endian as in the architecture.
import type { PinLedger } from './storage.ts';

/** Condition code of an I/O instruction. */
export type ConditionCode = 0 | 1 | 2 | 3;

/** What the owner of a subchannel is told. Called synchronously, outside any instruction of the owner's (`elapse` is none). */
export interface SubchannelListener {
  /** An interruption: the IRB that TEST SUBCHANNEL stored, 64 bytes (12 SCSW, 20 ESW, 32 ECW) or 96. */
  interrupt(irb: Uint8Array): void;
  /** A channel path of the subchannel went offline or online, physically or logically varied. `mask` is its bit in the path masks. */
  channelPath(event: 'offline' | 'online' | 'vary-off' | 'vary-on', chpid: number, mask: number): void;
  /** The subchannel is to be looked at again: it may have become not operational. */
  examine(): void;
}

export interface SubchannelHardware {
  /** Bus id, such as `0.0.0313`. */
  readonly busId: string;
  listener: SubchannelListener | null;
  /** Which pages a started program may touch: those that its owner pinned for it. null: all of the memory. */
  ledger: PinLedger | null;
  /** START SUBCHANNEL with this ORB (32 bytes; CCWs and IDALs at linear addresses of the core's memory). */
  ssch(orb: Uint8Array): ConditionCode;
  /** HALT SUBCHANNEL. */
  hsch(): ConditionCode;
  /** CLEAR SUBCHANNEL. */
  csch(): ConditionCode;
  /** CANCEL SUBCHANNEL. */
  xsch(): ConditionCode;
  /** RESUME SUBCHANNEL. */
  rsch(): ConditionCode;
  /** STORE SUBCHANNEL: fills 52 bytes (PMCW 28, SCSW 12, model dependent 12). 0, or 3 when the subchannel is gone. */
  stsch(schib: Uint8Array): ConditionCode;
  /** Enables with this interruption parameter. 0 or -errno. */
  enable(intparm: number): number;
  /** Disables. 0, -EBUSY while a program or status is pending, or another -errno. */
  disable(): number;
  /**
   * The owner sleeps for an interruption, at most `ms` milliseconds. Calls are synchronous, so nothing else can run meanwhile: the hardware
   * does here what it would do in that time, and delivers an interruption that becomes pending to the listener before it returns.
   */
  elapse(ms: number): void;
  /**
   * The owner takes back the storage of the program that it started: the hardware drops it at once, touches none of its CCWs, IDALs and data
   * any more, and presents no status for it. Not an instruction; nothing happens when no program is there.
   */
  revoke(): void;
  /** true: a program that is started now ends without time passing, unless it loops. A caller that cannot wait asks before it starts. */
  readonly immediate: boolean;
  /** Runs what needs no time to pass, and delivers its interruptions. @returns true when no start function is left pending or active. */
  settle(): boolean;
  /** What the device keeps between programs, for a migration; absent: the device does not migrate. */
  readonly saveDevice?: (() => Uint8Array) | undefined;
  /** Takes what `saveDevice` gave. @returns false: it is not such state; nothing was changed. */
  readonly loadDevice?: ((state: Uint8Array) => boolean) | undefined;
}
