// A virtual machine as the instruction layer needs it: storage, zPCI functions, subchannels, an AP matrix, and what is pending. It executes one
// instruction at a time; every instruction does its work through what backends offer, and backends hold nothing but VFIO descriptors (or, in the
// accelerated executor, the devices that a provider linked).
import type { VfioProcess } from '../process.ts';
import { dqap, nqap, pqap } from './ap/instructions.ts';
import { ApUnit } from './ap/unit.ts';
import {
  decodeInsn,
  type Insn,
  type Outcome,
  PGM_OPERAND,
  PGM_OPERATION,
  ProgramCheck,
  type Registers,
} from './cpu.ts';
import { ChannelSubsystem } from './css/css.ts';
import { channelInstructions } from './css/instructions.ts';
import { chsc, type ErrorEvent } from './events.ts';
import { GuestStorage } from './storage.ts';
import { pcilg, pcistb, pcistg } from './zpci/access.ts';
import { clp } from './zpci/clp.ts';
import { mpcifc, rpcit, stpcifc } from './zpci/controls.ts';
import type { Fib } from './zpci/fib.ts';
import type { FunctionGroup, ZpciFunction } from './zpci/function.ts';
import { InterruptForwarder, MODE_ALL, MODE_SINGLE } from './zpci/interrupts.ts';
import { supervisorOnly } from './zpci/request.ts';
import { EVENT_NO_PERMISSION, EVENT_OUT_OF_RANGE, type ReadEntry } from './zpci/tables.ts';

/** An instruction: works on registers and the machine, answers its condition code, or throws ProgramCheck. */
export type InsnHandler = (vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean) => number;

const HANDLERS: ReadonlyMap<string, InsnHandler> = new Map<string, InsnHandler>([
  ['PCILG', pcilg],
  ['PCISTG', pcistg],
  ['PCISTB', pcistb],
  ['MPCIFC', mpcifc],
  ['STPCIFC', stpcifc],
  ['RPCIT', rpcit],
  ['CLP', clp],
  ['CHSC', chsc],
  ['SIC', sic],
  ['NQAP', nqap],
  ['DQAP', dqap],
  ['PQAP', pqap],
  ...channelInstructions,
]);

/** What a virtual machine is made of. */
export interface VirtualMachineOptions {
  /** Bytes of storage, a multiple of 4096. */
  readonly storage: number;
}

/** A guest without a processor: storage, devices, and one instruction at a time (docs/uapi/insn.md). */
export class VirtualMachine {
  /** The process that plays the VMM. */
  readonly process: VfioProcess;
  /** Absolute storage. */
  readonly storage: GuestStorage;
  /** Subchannels and pending interruptions. */
  readonly css: ChannelSubsystem;
  /** The AP queues. @internal */
  readonly ap = new ApUnit();
  /** By index, ascending. */
  readonly functions = new Map<number, ZpciFunction>();
  /** Groups that exist without a function. */
  readonly groups = new Map<number, FunctionGroup>();
  /** Error events of functions that the guest has not fetched yet. */
  readonly errorEvents: ErrorEvent[] = [];
  /** Turns messages of functions into bits of the guest's vectors. @internal */
  readonly interrupts: InterruptForwarder;
  /** Reads one entry of a translation table; 0 outside storage. @internal */
  readonly readEntry: ReadEntry;

  /** @throws VfioError ENOMEM when the process has no room for the storage. */
  constructor(process: VfioProcess, options: VirtualMachineOptions) {
    this.process = process;
    this.storage = new GuestStorage(process, options.storage);
    this.css = new ChannelSubsystem(this.storage);
    this.interrupts = new InterruptForwarder(this.storage, this.css);
    const whole = this.storage.view(0n, options.storage) as Uint8Array;
    const view = new DataView(whole.buffer, whole.byteOffset, whole.length);
    this.readEntry = (address) =>
      address >= 0n && this.storage.has(address, 8) ? view.getBigUint64(Number(address)) : 0n;
  }

  /** Executes one instruction given by its bytes. Registers and storage are unchanged after a program interruption. */
  execute(bytes: Uint8Array, registers: Registers, options: { problem?: boolean } = {}): Outcome {
    const insn = decodeInsn(bytes);
    const handler = insn === null ? undefined : HANDLERS.get(insn.name);
    if (insn === null || handler === undefined) return { pgm: PGM_OPERATION };
    try {
      return { cc: handler(this, insn, registers, options.problem ?? false) };
    } catch (error) {
      if (error instanceof ProgramCheck) return { pgm: error.code };
      throw error;
    }
  }

  /** Queues an error event for the guest. @internal */
  errorEvent(fn: ZpciFunction, code: number, address: bigint): void {
    this.errorEvents.push({ fh: fn.fh, fid: fn.info.fid, address, code });
  }

  /**
   * The bus tells that a transfer found no translation. Below the registered addresses or without permission the function goes into error
   * state; above them the transfer is dropped. @returns whether it failed. @internal
   */
  dmaFault(fn: ZpciFunction, iova: bigint): boolean {
    if (!fn.ioat) return true;
    if (iova > fn.registered.pal) return false;
    if (!fn.inError) {
      fn.state = 'error';
      this.errorEvent(fn, iova < fn.registered.pba ? EVENT_OUT_OF_RANGE : EVENT_NO_PERMISSION, iova);
    }
    return true;
  }

  /** Connects a function's interruptions to the guest's bit vectors. False: the device has no interrupts to give. @internal */
  registerInterrupts(fn: ZpciFunction, fib: Fib): boolean {
    return this.interrupts.register(fn, fib);
  }

  /** The service processor configures a function. @returns its response code: 0x20 done, 0x120 nothing to do, 0x9f0 unknown id. */
  configure(fid: number): number {
    const fn = this.#byFid(fid);
    if (fn === undefined) return 0x9f0;
    if (fn.state !== 'standby') return 0x120;
    fn.configure();
    return 0x20;
  }
  /** The service processor takes a function away. Response codes as `configure`. */
  deconfigure(fid: number): number {
    const fn = this.#byFid(fid);
    if (fn === undefined) return 0x9f0;
    if (fn.state === 'standby') return 0x120;
    fn.deconfigure();
    return 0x20;
  }

  /** Closes every device and gives the storage back. */
  destroy(): void {
    for (const fn of this.functions.values()) {
      fn.forget();
      fn.backend.close();
    }
    this.functions.clear();
    this.css.destroy();
    this.ap.detach();
    this.storage.destroy();
  }

  #byFid(fid: number): ZpciFunction | undefined {
    return [...this.functions.values()].find((fn) => fn.info.fid === fid);
  }
}

/** SET INTERRUPTION CONTROLS: the mode of one subclass, all or single. */
function sic(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const mode = Number((registers[insn.r1] as bigint) & 0xffffn);
  const isc = Number(((registers[insn.r3] as bigint) >> 27n) & 7n);
  if (mode !== MODE_ALL && mode !== MODE_SINGLE) throw new ProgramCheck(PGM_OPERAND, 'unknown interruption mode');
  vm.interrupts.setMode(isc, mode);
  return 0;
}
