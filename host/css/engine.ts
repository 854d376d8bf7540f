// A subchannel with a device behind it: the channel-subsystem instructions over a ChannelProgram, interruptions, path masks, and the hold
// and condition codes that a test or script asks for. Programs run from the clock, in slices, never inside START SUBCHANNEL.
import { EBUSY, ENODEV } from '../../assembly/abi.ts';
import type { Clock } from '../clock.ts';
import type { Core } from '../core.ts';
import { CHANNEL_PCI, ENDED, isAlert, ORB_INITIAL_STATUS, ORB_SUPPRESS_SUSPENDED, ORB_SUSPEND } from './cio.ts';
import type { ChannelDevice } from './device.ts';
import { makeIrb, type Scsw } from './irb.ts';
import { Pmcw } from './pmcw.ts';
import { ChannelProgram, type ProgramObserver } from './program.ts';
import {
  SCSW_ACTL_DEVICE_ACTIVE,
  SCSW_ACTL_START_PENDING,
  SCSW_ACTL_SUBCHANNEL_ACTIVE,
  SCSW_ACTL_SUSPENDED,
  SCSW_FCTL_CLEAR,
  SCSW_FCTL_HALT,
  SCSW_FCTL_START,
  SCSW_STCTL_ALERT,
  SCSW_STCTL_INTERMEDIATE,
  SCSW_STCTL_PENDING,
  SCSW_STCTL_PRIMARY,
  SCSW_STCTL_SECONDARY,
} from './schib.ts';
import { openRules, type PinLedger, pinnedRules, type StorageRules } from './storage.ts';
import type { ConditionCode, SubchannelListener } from './subchannel.ts';

/** What a subchannel is made of. */
export interface EngineOptions {
  readonly busId: string;
  readonly core: Core;
  readonly clock: Clock;
  readonly device: ChannelDevice;
  readonly deviceNumber?: number;
  /** Channel-path ids, path 0 first. Default one path, 00. */
  readonly chpids?: readonly number[];
}

/** CCWs handled before other work gets its turn, and the pause after that in milliseconds. */
const SLICE = 4096;
const PAUSE = 1;
/** Slices that `settle` gives a program that does not end. */
const SETTLE_SLICES = 64;

/** An instruction whose condition code can be ordered. */
export type Instruction = 'ssch' | 'hsch' | 'csch';

/**
 * A subchannel that runs channel programs on the device behind it (docs/devices/engine.md). Its driver sees it as a SubchannelHardware, which
 * says what the instructions are; users see what an operator and a tester do to it.
 */
export class EngineSubchannel {
  /** Bus id, such as `0.0.0400`. */
  readonly busId: string;
  /** @internal */
  readonly pmcw: Pmcw;
  /** @internal */
  readonly saveDevice: (() => Uint8Array) | undefined;
  /** @internal */
  readonly loadDevice: ((state: Uint8Array) => boolean) | undefined;
  /** Hears of every CCW and of every command that ends. */
  observer: ProgramObserver = {};
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #device: ChannelDevice;
  #listener: SubchannelListener | null = null;
  #rules: StorageRules;
  #ledger: PinLedger | null = null;
  #program: ChannelProgram | null = null;
  #control = 0;
  /** Status nobody has taken yet: there was no listener. */
  #pending: Uint8Array[] = [];
  /** Status of halt and clear functions that is on its way. */
  #functions: Uint8Array[] = [];
  #cancelRun: (() => void) | null = null;
  #running = false;
  #held = false;
  #gone = false;
  #violations = 0;
  #started = 0;
  readonly #answers = new Map<Instruction, ConditionCode>();

  /** @internal */
  constructor(options: EngineOptions) {
    this.busId = options.busId;
    this.#core = options.core;
    this.#clock = options.clock;
    this.#device = options.device;
    this.#rules = openRules(options.core);
    this.pmcw = new Pmcw(options.deviceNumber ?? 0, options.chpids ?? [0]);
    const { saveState, loadState } = options.device;
    this.saveDevice = saveState?.bind(options.device);
    this.loadDevice = loadState?.bind(options.device);
    this.#device.connect?.({ clock: this.#clock, present: (status, sense) => this.#unsolicited(status, sense) });
  }

  /** @internal */
  get listener(): SubchannelListener | null {
    return this.#listener;
  }
  /** @internal */
  set listener(listener: SubchannelListener | null) {
    this.#listener = listener;
    while (this.#listener !== null && this.#pending.length > 0) this.#listener.interrupt(this.#pending.shift()!);
  }

  /** @internal */
  get ledger(): PinLedger | null {
    return this.#ledger;
  }
  /** @internal */
  set ledger(ledger: PinLedger | null) {
    this.#ledger = ledger;
    this.#rules = ledger === null ? openRules(this.#core) : pinnedRules(this.#core, ledger);
  }

  /** Accesses to storage that was not the running program's, refused and counted since the subchannel was made. */
  get violations(): number {
    return this.#violations + (this.#program?.violations ?? 0);
  }

  /** Programs started since the subchannel was made. */
  get started(): number {
    return this.#started;
  }

  /** true: a program that is started now ends without time passing (unless it loops). @internal */
  get immediate(): boolean {
    return !this.#held && this.#device.deferred !== true;
  }

  /** @internal */
  ssch(orb: Uint8Array): ConditionCode {
    const forced = this.#answers.get('ssch');
    if (forced !== undefined && forced !== 0) return forced;
    const view = new DataView(orb.buffer, orb.byteOffset, 12);
    const flags = view.getUint32(4);
    const path = this.#path((flags >>> 8) & 0xff);
    if (this.#gone || !this.pmcw.enabled || path === 0) return 3;
    if (this.#pending.length > 0) return 1;
    if (this.#program !== null || this.#functions.length > 0) return 2;
    this.pmcw.lpum = path;
    const device = this.#device;
    const orbWords = { flags, address: view.getUint32(8) };
    this.#program = new ChannelProgram(this.#core, this.#rules, device, orbWords, this.#programListener, this);
    this.#control = SCSW_FCTL_START | SCSW_ACTL_START_PENDING;
    this.#started += 1;
    if (!this.#held) this.#schedule(0);
    return 0;
  }

  /** @internal */
  hsch(): ConditionCode {
    const forced = this.#answers.get('hsch');
    if (forced !== undefined && forced !== 0) return forced;
    if (this.#gone || !this.pmcw.enabled) return 3;
    if (this.#pending.length > 0) return 1;
    const active = (this.#control & (SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE)) !== 0;
    const program = this.#drop();
    const unitStatus = this.#device.halt?.() ?? ENDED;
    const status = active ? SCSW_STCTL_PRIMARY | SCSW_STCTL_SECONDARY | SCSW_STCTL_PENDING : SCSW_STCTL_PENDING;
    const control = (program === null ? 0 : SCSW_FCTL_START) | SCSW_FCTL_HALT | status;
    const { ccwAddress = 0, residual = 0 } = active && program !== null ? program : {};
    this.#later({ control, unitStatus: active ? unitStatus : 0, ccwAddress, residual }, program);
    return 0;
  }

  /** @internal */
  csch(): ConditionCode {
    const forced = this.#answers.get('csch');
    if (forced !== undefined && forced !== 0) return forced;
    if (this.#gone || !this.pmcw.enabled) return 3;
    this.#pending = [];
    this.#functions = [];
    this.#drop();
    this.#device.reset?.();
    this.#later({ control: SCSW_FCTL_CLEAR | SCSW_STCTL_PENDING }, null);
    return 0;
  }

  /** @internal */
  xsch(): ConditionCode {
    if (this.#gone || !this.pmcw.enabled) return 3;
    if (this.#pending.length > 0) return 1;
    if ((this.#control & SCSW_ACTL_START_PENDING) === 0) return 2;
    this.#drop();
    return 0;
  }

  /** @internal */
  rsch(): ConditionCode {
    if (this.#gone || !this.pmcw.enabled) return 3;
    if (this.#pending.length > 0) return 1;
    const program = this.#program;
    if (program === null || (program.orbFlags & ORB_SUSPEND) === 0 || program.resumePending) return 2;
    program.resume();
    if (program.state === 'ready' && (this.#control & SCSW_ACTL_SUSPENDED) !== 0) {
      this.#control = SCSW_FCTL_START | SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE;
      this.#schedule(0);
    }
    return 0;
  }

  /** @internal */
  stsch(schib: Uint8Array): ConditionCode {
    if (this.#gone) return 3;
    this.pmcw.store(schib, this.#scsw({ control: this.#control }, this.#program));
    return 0;
  }

  /** @internal */
  enable(intparm: number): number {
    if (this.#gone) return -ENODEV;
    this.pmcw.intparm = intparm >>> 0;
    this.pmcw.enabled = true;
    return 0;
  }

  /** @internal */
  disable(): number {
    if (this.#gone) return -ENODEV;
    if (this.#program !== null || this.#pending.length > 0 || this.#functions.length > 0) return -EBUSY;
    this.pmcw.enabled = false;
    return 0;
  }

  /** @internal */
  elapse(_ms: number): void {
    this.#presentFunctions();
    this.settle();
  }

  /** @internal */
  revoke(): void {
    if (this.#drop() !== null) this.#device.halt?.();
  }

  /** Runs what needs no time to pass. @returns true when no start function is left pending or active. @internal */
  settle(): boolean {
    for (let slices = 0; slices < SETTLE_SLICES && this.#program?.state === 'ready' && !this.#held; slices++)
      this.#run();
    return this.#program === null;
  }

  /** From now on this instruction answers this condition code and does nothing else; 0: as the hardware would. */
  answer(instruction: Instruction, cc: ConditionCode): void {
    this.#answers.set(instruction, cc);
  }

  /** true: a program started from now on stays start-pending; false: what is held runs. */
  hold(value: boolean): void {
    this.#held = value;
    if (!value && this.#program?.state === 'ready') this.#schedule(0);
  }

  /** An interruption as given, 64 bytes. One without subchannel- and device-active ends the program in progress. */
  interrupt(irb: Uint8Array): void {
    const word0 = new DataView(irb.buffer, irb.byteOffset, 4).getUint32(0);
    const solicited = (word0 & 0x1f) !== (SCSW_STCTL_ALERT | SCSW_STCTL_PENDING);
    if (solicited && (word0 & (SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE)) === 0) this.#drop();
    this.#deliver(irb.slice());
  }

  /** A channel path changes; the owner is told. Offline takes the path out of the available mask, online puts it back. */
  channelPath(event: 'offline' | 'online' | 'vary-off' | 'vary-on', chpid: number): void {
    const mask = this.pmcw.mask(chpid);
    if (event === 'offline') this.pmcw.pam &= ~mask;
    if (event === 'online') this.pmcw.pam |= mask;
    this.#listener?.channelPath(event, chpid, mask);
  }

  /** The device and its subchannel go away. */
  detach(): void {
    this.#drop();
    this.#pending = [];
    this.#functions = [];
    this.#gone = true;
    this.#listener?.examine();
  }

  readonly #programListener = {
    intermediate: (program: ChannelProgram, kind: 'pci' | 'initial'): void => {
      if (kind === 'initial' && (program.orbFlags & ORB_INITIAL_STATUS) === 0) return;
      const control = this.#control | SCSW_STCTL_INTERMEDIATE | SCSW_STCTL_PENDING;
      const channelStatus = kind === 'pci' ? CHANNEL_PCI : 0;
      this.#present({ control, channelStatus, zeroCc: kind === 'initial', ccwAddress: program.ccwAddress }, program);
    },
    suspended: (program: ChannelProgram): void => {
      this.#control = SCSW_FCTL_START | SCSW_ACTL_SUSPENDED;
      if ((program.orbFlags & ORB_SUPPRESS_SUSPENDED) !== 0) return;
      const control = this.#control | SCSW_STCTL_INTERMEDIATE | SCSW_STCTL_PENDING;
      this.#present({ control, ccwAddress: program.ccwAddress }, program);
    },
    ready: (): void => {
      if (!this.#running) this.#schedule(0);
    },
    ended: (program: ChannelProgram, deviceActive: boolean): void => {
      this.#control = SCSW_FCTL_START | (deviceActive ? SCSW_ACTL_DEVICE_ACTIVE : 0);
      const alert = isAlert(program.unitStatus, program.channelStatus) ? SCSW_STCTL_ALERT : 0;
      const control =
        this.#control | SCSW_STCTL_PRIMARY | (deviceActive ? 0 : SCSW_STCTL_SECONDARY) | SCSW_STCTL_PENDING | alert;
      this.#final(program, control, deviceActive);
    },
    deviceEnded: (program: ChannelProgram): void => {
      const alert = isAlert(program.unitStatus, 0) ? SCSW_STCTL_ALERT : 0;
      this.#final(program, SCSW_FCTL_START | SCSW_STCTL_SECONDARY | SCSW_STCTL_PENDING | alert, false);
    },
  };

  #final(program: ChannelProgram, control: number, deviceActive: boolean): void {
    if (!deviceActive) this.#drop();
    const { ccwAddress, unitStatus, channelStatus, residual, sense } = program;
    this.#present({ control, ccwAddress, unitStatus, channelStatus, residual, sense }, program);
  }

  #run(): void {
    const program = this.#program;
    if (program === null) return;
    this.#cancelRun?.();
    this.#cancelRun = null;
    if ((this.#control & SCSW_ACTL_START_PENDING) !== 0)
      this.#control = SCSW_FCTL_START | SCSW_ACTL_SUBCHANNEL_ACTIVE | SCSW_ACTL_DEVICE_ACTIVE;
    this.#running = true;
    const more = program.run(SLICE);
    this.#running = false;
    if (more && program === this.#program) this.#schedule(PAUSE);
  }

  #schedule(ms: number): void {
    this.#cancelRun?.();
    this.#cancelRun = this.#clock.after(ms, () => {
      this.#cancelRun = null;
      this.#run();
    });
  }

  /** Forgets the program in progress. @returns it. */
  #drop(): ChannelProgram | null {
    const program = this.#program;
    this.#cancelRun?.();
    this.#cancelRun = null;
    this.#violations += program?.violations ?? 0;
    program?.abandon();
    this.#program = null;
    this.#control = 0;
    return program;
  }

  /** Status of a halt or clear: the owner hears of it after its instruction returned. */
  #later(scsw: Partial<Scsw> & { control: number }, program: ChannelProgram | null): void {
    const irb = makeIrb(this.#scsw(scsw, program), this.pmcw.lpum);
    this.#functions.push(irb);
    this.#clock.after(0, () => this.#presentFunctions());
  }

  #presentFunctions(): void {
    for (const irb of this.#functions.splice(0)) this.#deliver(irb);
  }

  #unsolicited(unitStatus: number, sense?: Uint8Array): void {
    if (this.#gone || !this.pmcw.enabled) return;
    this.#present({ control: SCSW_STCTL_ALERT | SCSW_STCTL_PENDING, unitStatus, sense: sense ?? null }, null);
  }

  #present(scsw: Partial<Scsw> & { control: number }, program: ChannelProgram | null): void {
    const irb = makeIrb(this.#scsw(scsw, program), this.pmcw.lpum);
    this.#device.amend?.(irb);
    this.#deliver(irb);
  }

  #deliver(irb: Uint8Array): void {
    if (this.#listener === null) this.#pending.push(irb);
    else this.#listener.interrupt(irb);
  }

  #scsw(scsw: Partial<Scsw> & { control: number }, program: ChannelProgram | null): Scsw {
    const orbFlags = program?.orbFlags ?? 0;
    return { orbFlags, ccwAddress: 0, unitStatus: 0, channelStatus: 0, residual: 0, ...scsw };
  }

  /** The first usable path of the logical path mask, 0 for none. */
  #path(lpm: number): number {
    const usable = (lpm === 0 ? this.pmcw.lpm : lpm) & this.pmcw.pam & this.pmcw.pom;
    return usable === 0 ? 0 : 0x80 >> (Math.clz32(usable) - 24);
  }
}
