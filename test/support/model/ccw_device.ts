// The slow twin of a vfio-ccw device over a scripted subchannel: the sheet's sentences one after the other, no table, no regions, no core. It predicts
// what a step of a scenario shows. Programs are known by their address: what translating them gives is a constant.
import type { Observed, Step } from '../../../host/cli/scenario_format.ts';

/** Guest programs of the walk: address -> result of copying and translating, and pins when that is 0. */
export const PROGRAMS: ReadonlyMap<number, { result: number; pins: number }> = new Map([
  [0x10000, { result: 0, pins: 3 }],
  [0x10800, { result: -22, pins: 0 }],
  [0x90000, { result: -22, pins: 0 }],
]);
/** Their storage: two reads over three pages; a read of a page that is not there. */
export const MEMORY = [
  { iova: '0x10000', hex: '02600010000500108600100000050800' },
  { iova: '0x10800', hex: '0200001000900000' },
];
export const FRAMES = ['0x10000', '0x11000', '0x50000', '0x51000'].map((iova, i) => ({ iova, pfn: `0x${i + 1}` }));
const PINNED_FIRST = 0x50;
const PINNED_LAST = 0x51;

type Irq = { final: boolean; solicited: boolean };

export class CcwTwin {
  #state = 'STANDBY';
  #open = false;
  #program: { pins: number } | null = null;
  #orb = { word1: 0, cpa: 0 };
  #functions = 0;
  #ret = 0;
  #cmdRet = 0;
  #lpm = 0xf0;
  #opm = 0xf0;
  #crws: string[] = [];
  #savedIrq: Irq | null = null;
  #lastIrq: Irq = { final: true, solicited: true };
  #ioQueued = false;
  #crwQueued = false;
  #notOperQueued = false;
  #cc = { ssch: 0, hsch: 0, csch: 0 };
  #stored = true;
  #valid = true;
  #enableResult = 0;
  #disableResults: number[] = [];
  #enabled = false;
  #seen = { valid: true, enabled: false };
  #waitIrq = false;
  #irqs = [false, false, false];
  #signals: Record<string, number> = {};
  #unregister = false;
  #unregisterQueued = false;

  step(step: Step): Partial<Observed> {
    this.#signals = {};
    this.#unregister = false;
    const result = this.#perform(step);
    return {
      ...result,
      state: this.#state,
      program: this.#program !== null,
      pins: this.#program?.pins ?? 0,
      lpm: hex(this.#lpm),
      ret_code: this.#ret,
      cmd_ret_code: this.#cmdRet,
      signals: this.#signals,
      unregister: this.#unregister,
    };
  }

  #perform(step: Step): Partial<Observed> {
    switch (step.op) {
      case 'open':
        return { ret: this.#openDevice() };
      case 'close':
        this.#close();
        this.#ioQueued = false;
        this.#crwQueued = false;
        if (this.#notOperQueued) this.#program = null;
        this.#notOperQueued = false;
        this.#open = false;
        this.#program = null;
        return {};
      case 'reset':
        return { ret: this.#reset() };
      case 'write':
        return { ret: this.#write(step.hex) };
      case 'cmd':
        return { ret: this.#command(step.command) };
      case 'read':
        return this.#readCrw();
      case 'irq':
        this.#interrupt(irqOf(step.irb));
        return {};
      case 'work':
        this.#work();
        return {};
      case 'unmap': {
        const first = Number(BigInt(step.iova) >> 12n);
        const last = Number((BigInt(step.iova) + BigInt(step.length) - 1n) >> 12n);
        if (this.#program !== null && first <= PINNED_LAST && last >= PINNED_FIRST) this.#reset();
        return {};
      }
      case 'cc':
        this.#cc = { ssch: step.ssch, hsch: step.hsch, csch: step.csch };
        return {};
      case 'stsch':
        this.#stored = step.value === 0;
        return {};
      case 'dnv':
        this.#valid = step.value !== 0;
        return {};
      case 'enable':
        this.#enableResult = step.value;
        return {};
      case 'disable':
        this.#disableResults = [...step.results];
        return {};
      case 'waitirq':
        this.#waitIrq = step.value !== 0;
        return {};
      case 'notoper':
        if (!this.#store()) this.#notOper();
        return {};
      case 'shutdown':
        this.#close();
        this.#notOper();
        return {};
      case 'chp':
        return { ret: this.#path(step.event, step.chpid, Number(step.mask)), opm: hex(this.#opm) };
      case 'request':
        this.#signal(2);
        return {};
      case 'ioctl': {
        const { index, data } = step.arg as { index: number; data: number };
        this.#irqs[index] = data >= 0;
        return { ret: 0 };
      }
      default:
        throw new Error(`the twin does not know ${step.op}`);
    }
  }

  #openDevice(): number {
    if (this.#state === 'NOT_OPER') return -22;
    this.#open = true;
    if (this.#state === 'STANDBY') this.#enable();
    else this.#notOper();
    if (this.#is('NOT_OPER')) this.#open = false;
    return this.#is('NOT_OPER') ? -22 : 0;
  }
  #is(state: string): boolean {
    return this.#state === state;
  }

  #enable(): void {
    if (this.#stored && this.#valid && this.#enableResult === 0) {
      this.#enabled = true;
      this.#store();
      this.#state = 'IDLE';
    } else this.#notOper();
  }

  #disable(): number {
    if (!this.#stored || !this.#valid) return -19;
    const result = this.#disableResults.shift() ?? 0;
    if (result === 0) {
      this.#enabled = false;
      this.#store();
    }
    return result;
  }

  #close(): void {
    if (this.#state === 'NOT_OPER') return;
    if (this.#state === 'STANDBY' || !this.#seen.valid || !this.#seen.enabled) {
      this.#notOper();
      return;
    }
    let result = this.#disable();
    while (result === -16) {
      if (this.#endStep()) {
        if (this.#waitIrq) this.#interrupt(this.#lastIrq, false);
      }
      if (this.#ioQueued) this.#ioWork();
      result = this.#disable();
    }
    if (result !== 0) this.#notOper();
    else {
      this.#state = 'STANDBY';
      this.#program = null;
    }
  }

  /** Cancelling never helps here. @returns whether a halt or clear was accepted. */
  #endStep(): boolean {
    if (!this.#store() || !this.#enabled) return false;
    if (this.#cc.hsch === 3) return false;
    return this.#cc.hsch === 0 || this.#cc.csch === 0;
  }

  #reset(): number {
    this.#close();
    if (this.#state === 'STANDBY') this.#enable();
    else if (this.#state !== 'NOT_OPER') this.#notOper();
    return this.#is('NOT_OPER') ? -22 : 0;
  }

  #notOper(): void {
    if (this.#state === 'NOT_OPER') return;
    this.#unregister = !this.#unregisterQueued;
    this.#unregisterQueued = true;
    this.#state = 'NOT_OPER';
    this.#notOperQueued = true;
  }

  #write(bytes: string): number {
    const words = bytes.match(/.{8}/g)!.map((word) => Number.parseInt(word, 16));
    this.#orb = { word1: words[1]!, cpa: words[2]! };
    this.#functions = words[3]!;
    if (this.#state === 'NOT_OPER' || this.#state === 'STANDBY') this.#ret = -5;
    else if (this.#state === 'CP_PENDING') this.#ret = -16;
    else if ((this.#functions & 0x4000) !== 0) this.#ret = this.#start();
    else if ((this.#functions & 0x3000) !== 0) this.#ret = -95;
    return this.#ret !== 0 ? this.#ret : bytes.length / 2;
  }

  #start(): number {
    if ((this.#orb.word1 & 0x00040000) !== 0) return -95;
    const { result, pins } = PROGRAMS.get(this.#orb.cpa)!;
    if (result !== 0) return result;
    if (this.#cc.ssch === 1 || this.#cc.ssch === 2) return -16;
    if (this.#cc.ssch === 3) {
      const named = (this.#orb.word1 >> 8) & 0xff;
      this.#lpm = named === 0 ? 0 : this.#lpm & ~named;
      return this.#store() && this.#lpm !== 0 ? -13 : -19;
    }
    this.#program = { pins };
    this.#state = 'CP_PENDING';
    return 0;
  }

  #command(command: number): number {
    if (!this.#open) return -22;
    if (this.#state === 'NOT_OPER' || this.#state === 'STANDBY') this.#cmdRet = -5;
    else if (command === 1) this.#cmdRet = [0, -16, -16, -19][this.#cc.hsch]!;
    else if (command === 2) this.#cmdRet = [0, 1, 2, -19][this.#cc.csch]!;
    else this.#cmdRet = -22;
    return this.#cmdRet !== 0 ? this.#cmdRet : 4;
  }

  #readCrw(): Partial<Observed> {
    if (!this.#open) return { ret: -22 };
    const crw = this.#crws.shift() ?? '00000000';
    if (this.#crws.length > 0) this.#signal(1);
    return { ret: 8, hex: `${crw}00000000` };
  }

  #interrupt(irq: Irq, remember = true): void {
    if (remember) this.#lastIrq = irq;
    if (this.#state === 'NOT_OPER' || this.#state === 'STANDBY') this.#disable();
    else {
      this.#savedIrq = irq;
      this.#ioQueued = true;
    }
  }

  #work(): void {
    if (this.#ioQueued) this.#ioWork();
    if (this.#crwQueued && this.#crws.length > 0) this.#signal(1);
    this.#crwQueued = false;
    if (this.#notOperQueued) this.#program = null;
    this.#notOperQueued = false;
    this.#unregisterQueued = false;
  }

  #ioWork(): void {
    this.#ioQueued = false;
    const { final, solicited } = this.#savedIrq!;
    if (solicited && final && this.#state === 'CP_PENDING') {
      this.#program = null;
      this.#state = 'IDLE';
    }
    this.#signal(0);
  }

  #path(event: string, chpid: number, mask: number): number {
    if (mask === 0) return 0;
    if (!this.#store()) return -19;
    if (event === 'vary_off') {
      this.#opm &= ~mask;
      this.#lpm &= ~mask;
    } else if (event === 'vary_on') {
      this.#opm |= mask;
      this.#lpm |= mask;
    } else {
      if (event === 'online') this.#lpm |= mask & this.#opm;
      this.#crws.push(`04${event === 'online' ? '02' : '06'}00${chpid.toString(16).padStart(2, '0')}`);
      this.#crwQueued = true;
    }
    return 0;
  }

  #store(): boolean {
    if (this.#stored) this.#seen = { valid: this.#valid, enabled: this.#enabled };
    return this.#stored && this.#valid;
  }

  #signal(index: number): void {
    if (this.#irqs[index]) this.#signals[String(index + 1)] = (this.#signals[String(index + 1)] ?? 0) + 1;
  }
}

const hex = (value: number): string => `0x${value.toString(16).padStart(2, '0')}`;

function irqOf(irb: string): Irq {
  const word = Number.parseInt(irb.slice(0, 8), 16);
  return { final: (word & 0xc0) === 0, solicited: (word & 0x03000000) !== 0 || (word & 0x1f) !== 0x11 };
}
