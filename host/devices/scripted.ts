// A subchannel that answers as it is told: condition codes, results of enabling and disabling, what STORE SUBCHANNEL gives, and interruptions, all
// set from outside. It runs nothing. For the state machine's scenarios, for tests, and for scripts.
import { ENODEV } from '../../assembly/abi.ts';
import {
  IRB_SIZE,
  PMCW_DEVNO,
  PMCW_DNV,
  PMCW_ENABLED,
  PMCW_FLAGS,
  PMCW_LPM,
  PMCW_LPUM,
  PMCW_PAM,
  PMCW_PIM,
  PMCW_POM,
  PMCW_QF,
} from '../css/schib.ts';
import type { PinLedger } from '../css/storage.ts';
import type { ConditionCode, SubchannelHardware, SubchannelListener } from '../css/subchannel.ts';

export interface ScriptedOptions {
  /** Bus id of the subchannel. Default `0.0.0000`. */
  readonly busId?: string;
  /** Device number. Default 0x1234. */
  readonly devno?: number;
  /** Paths installed, available and logically usable. Default 0xf0. */
  readonly paths?: number;
  /** The path used last. Default 0x80. */
  readonly lastPath?: number;
  /** A QDIO subchannel, which has no channel programs. */
  readonly qdio?: boolean;
}

/** An instruction that the owner issued; `wait` is its sleep for an interruption. */
export type SubchannelOp = 'ssch' | 'hsch' | 'csch' | 'xsch' | 'rsch' | 'enable' | 'disable' | 'wait';
type Instruction = 'ssch' | 'hsch' | 'csch' | 'xsch' | 'rsch';

export class ScriptedSubchannel implements SubchannelHardware {
  readonly busId: string;
  readonly devno: number;
  readonly paths: number;
  readonly lastPath: number;
  readonly qdio: boolean;
  /** Its programs end when somebody presents an interruption, never by themselves. */
  readonly immediate = false;
  listener: SubchannelListener | null = null;
  ledger: PinLedger | null = null;

  /** Condition code of STORE SUBCHANNEL: 0, or 3 for a subchannel that is gone. */
  stored: ConditionCode = 0;
  /** Device number valid. */
  valid = true;
  enabled = false;
  /** Result of enabling: 0 or -errno. */
  enableResult = 0;
  /** Results of the next attempts to disable; 0 after the last one. */
  disableResults: number[] = [];
  /** The last interruption comes again while the owner sleeps. */
  interruptWhileWaiting = false;
  /** What the owner issued since this was last emptied. */
  readonly ops: SubchannelOp[] = [];
  /** The ORB of the last START SUBCHANNEL, 32 bytes. */
  orb: Uint8Array | null = null;
  /** Cancelling does not help unless told so. */
  readonly #cc: Record<Instruction, ConditionCode> = { ssch: 0, hsch: 0, csch: 0, xsch: 2, rsch: 0 };
  #lastIrb: Uint8Array = new Uint8Array(IRB_SIZE);

  constructor(options: ScriptedOptions = {}) {
    this.busId = options.busId ?? '0.0.0000';
    this.devno = options.devno ?? 0x1234;
    this.paths = options.paths ?? 0xf0;
    this.lastPath = options.lastPath ?? 0x80;
    this.qdio = options.qdio ?? false;
  }

  /** The condition code that an instruction gives from now on. */
  answer(instruction: Instruction, cc: ConditionCode): void {
    this.#cc[instruction] = cc;
  }
  /** Presents an interruption: 64 bytes, big-endian. */
  interrupt(irb: Uint8Array): void {
    this.#lastIrb = irb.slice();
    this.listener?.interrupt(irb);
  }
  /** Every program is held until an interruption ends it; there is nothing to switch. */
  hold(_value: boolean): void {}
  /** A channel path changes; the owner is told. @param mask its bit in the path masks. */
  channelPath(event: Parameters<SubchannelListener['channelPath']>[0], chpid: number, mask: number): void {
    this.listener?.channelPath(event, chpid, mask);
  }
  /** The owner is asked to look at the subchannel again. */
  examine(): void {
    this.listener?.examine();
  }

  ssch(orb: Uint8Array): ConditionCode {
    this.orb = orb.slice();
    return this.#issue('ssch');
  }
  hsch(): ConditionCode {
    return this.#issue('hsch');
  }
  csch(): ConditionCode {
    return this.#issue('csch');
  }
  xsch(): ConditionCode {
    return this.#issue('xsch');
  }
  rsch(): ConditionCode {
    return this.#issue('rsch');
  }

  stsch(schib: Uint8Array): ConditionCode {
    if (this.stored !== 0) return this.stored;
    const view = new DataView(schib.buffer, schib.byteOffset, schib.byteLength);
    schib.fill(0);
    const flags = (this.qdio ? PMCW_QF : 0) | (this.enabled ? PMCW_ENABLED : 0) | (this.valid ? PMCW_DNV : 0);
    view.setUint16(PMCW_FLAGS, flags);
    view.setUint16(PMCW_DEVNO, this.devno);
    schib[PMCW_LPM] = this.paths;
    schib[PMCW_LPUM] = this.lastPath;
    schib[PMCW_PIM] = this.paths;
    schib[PMCW_POM] = 0xff;
    schib[PMCW_PAM] = this.paths;
    return 0;
  }

  enable(_intparm: number): number {
    this.ops.push('enable');
    if (this.#gone) return -ENODEV;
    if (this.enableResult === 0) this.enabled = true;
    return this.enableResult;
  }
  disable(): number {
    this.ops.push('disable');
    if (this.#gone) return -ENODEV;
    const result = this.disableResults.shift() ?? 0;
    if (result === 0) this.enabled = false;
    return result;
  }

  elapse(_ms: number): void {
    this.ops.push('wait');
    if (this.interruptWhileWaiting) this.listener?.interrupt(this.#lastIrb);
  }
  settle(): boolean {
    return false;
  }
  revoke(): void {}

  get #gone(): boolean {
    return this.stored !== 0 || !this.valid;
  }
  #issue(instruction: Instruction): ConditionCode {
    this.ops.push(instruction);
    return this.#cc[instruction];
  }
}
