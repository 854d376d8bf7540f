// MPCIFC, STPCIFC and RPCIT: a function's registrations and translations. Rules and their order: spec zdev sections 3.3 to 3.5.
import { type Insn, operandAddress, PGM_OPERAND, PGM_SPECIFICATION, ProgramCheck, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import { decodeFib, encodeFib, FIB_SIZE, type Fib } from './fib.ts';
import { FH_ENABLE, FH_INDEX, type ZpciFunction } from './function.ts';
import {
  fail,
  functionByHandle,
  handleOf,
  STATUS_DMAAS_INVALID,
  STATUS_ERROR_RECOVERY,
  STATUS_FUNCTION_IN_ERROR,
  STATUS_FUNCTION_NOT_ENABLED,
  STATUS_INSUFFICIENT,
  STATUS_SEQUENCE,
  supervisorOnly,
} from './request.ts';
import { EVENT_INVALID_AS, EVENT_MEASUREMENT_PROTECTION, EVENT_OUT_OF_RANGE } from './tables.ts';

const OC_REGISTER_INTERRUPTS = 2;
const OC_DEREGISTER_INTERRUPTS = 3;
const OC_REGISTER_IOAT = 4;
const OC_DEREGISTER_IOAT = 5;
const OC_REREGISTER_IOAT = 6;
const OC_RESET_ERROR = 7;
const OC_RESET_BLOCK = 9;
const OC_SET_MEASUREMENT = 10;

const IOTA_TRANSLATE = 0x800n;
const IOTA_TYPE = 0x1cn;
const IOTA_REGION_THIRD = 0x4n;
/** Reach of a region third table. */
const REACH = 1n << 42n;

const operand = (why: string): ProgramCheck => new ProgramCheck(PGM_OPERAND, why);

/** MODIFY PCI FUNCTION CONTROLS. */
export function mpcifc(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const request = registers[insn.r1] as bigint;
  const address = operandAddress(insn, registers);
  const dmaas = Number((request >> 16n) & 0xffn);
  if ((address & 7n) !== 0n) throw new ProgramCheck(PGM_SPECIFICATION, 'the block is not on a doubleword');
  const fn = functionByHandle(vm, handleOf(request));
  if (fn === undefined || !['enabled', 'blocked', 'error'].includes(fn.state)) return 3;
  const fib = decodeFib(vm.storage.fetch(address, FIB_SIZE));
  if (fib.format !== 0) throw operand('unknown format of the block');
  const failed = (status: number): number => fail(registers, insn.r1, status);
  switch (Number(request & 0xffn)) {
    case OC_REGISTER_INTERRUPTS: {
      if (fn.interrupts) return failed(STATUS_SEQUENCE);
      if (!vm.registerInterrupts(fn, fib)) return failed(STATUS_FUNCTION_NOT_ENABLED);
      fn.registered = { ...fn.registered, word: fib.word, aibv: fib.aibv, aisb: fib.aisb };
      fn.interrupts = true;
      return 0;
    }
    case OC_DEREGISTER_INTERRUPTS:
      if (!fn.interrupts) return failed(STATUS_SEQUENCE);
      fn.deregisterInterrupts();
      return 0;
    case OC_REGISTER_IOAT:
      if (dmaas !== 0) return failed(STATUS_DMAAS_INVALID);
      if (fn.ioat) return failed(STATUS_SEQUENCE);
      registerIoat(fn, fib);
      return 0;
    case OC_DEREGISTER_IOAT:
    case OC_REREGISTER_IOAT: {
      if (dmaas !== 0) return failed(STATUS_DMAAS_INVALID);
      if (!fn.ioat) return failed(STATUS_SEQUENCE);
      fn.deregisterIoat();
      if (Number(request & 0xffn) === OC_REREGISTER_IOAT) registerIoat(fn, fib);
      return 0;
    }
    case OC_RESET_ERROR:
      if (fn.state === 'enabled') return failed(STATUS_SEQUENCE);
      fn.state = 'enabled';
      return 0;
    case OC_RESET_BLOCK:
      if (fn.state !== 'error') return failed(STATUS_SEQUENCE);
      fn.state = 'blocked';
      return 0;
    case OC_SET_MEASUREMENT:
      if ((fib.fmb & 15n) !== 0n) {
        fn.registered = { ...fn.registered, fmb: 0n };
        vm.errorEvent(fn, EVENT_MEASUREMENT_PROTECTION, fib.fmb);
        return failed(0);
      }
      fn.registered = { ...fn.registered, fmb: fib.fmb };
      return 0;
    default:
      throw operand('unknown operation');
  }
}

/** Register an address space; an operand exception leaves the function without one. */
function registerIoat(fn: ZpciFunction, fib: Fib): void {
  const pba = fib.pba & ~0xfffn;
  const pal = fib.pal | 0xfffn;
  if (pba > pal || pba < fn.info.startDma || pal > fn.info.endDma || pal >= REACH) throw operand('bad range');
  const translate = (fib.iota & IOTA_TRANSLATE) !== 0n;
  if (!translate && !fn.group.relaxedTranslation) throw operand('translation is off');
  if (translate && (fib.iota & IOTA_TYPE) !== IOTA_REGION_THIRD) throw operand('unknown kind of table');
  fn.registered = { ...fn.registered, pba, pal, iota: fib.iota };
  fn.ioat = true;
}

/** STORE PCI FUNCTION CONTROLS. */
export function stpcifc(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const request = registers[insn.r1] as bigint;
  const address = operandAddress(insn, registers);
  const fh = handleOf(request);
  if (((request >> 16n) & 0xffn) !== 0n) return fail(registers, insn.r1, STATUS_DMAAS_INVALID);
  if ((address & 7n) !== 0n) throw new ProgramCheck(PGM_SPECIFICATION, 'the block is not on a doubleword');
  const fn = vm.functions.get(fh & FH_INDEX);
  if (fn === undefined) return 3;
  switch (fn.state) {
    case 'reserved':
    case 'standby':
      return 3;
    case 'disabled':
      if ((fh & FH_ENABLE) !== 0) return 3;
      vm.storage.store(address, new Uint8Array(FIB_SIZE));
      return 0;
    case 'permanent-error':
      return fail(registers, insn.r1, STATUS_FUNCTION_IN_ERROR);
    default:
      vm.storage.store(address, encodeFib(fn.controls, fn.registered));
      registers[insn.r1] = request | (BigInt(FH_ENABLE) << 32n);
      return 0;
  }
}

/** REFRESH PCI TRANSLATIONS. */
export function rpcit(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  if ((insn.r2 & 1) !== 0) throw new ProgramCheck(PGM_SPECIFICATION, 'the second register is odd');
  const start = registers[insn.r2] as bigint;
  const length = registers[insn.r2 + 1] as bigint;
  const fn = functionByHandle(vm, handleOf(registers[insn.r1] as bigint));
  if (fn === undefined || !['enabled', 'blocked', 'error'].includes(fn.state)) return 3;
  if (fn.state === 'error') return fail(registers, insn.r1, STATUS_ERROR_RECOVERY);
  const broken = (event: number, at: bigint): number => {
    fn.state = 'error';
    vm.errorEvent(fn, event, at);
    return fail(registers, insn.r1, STATUS_FUNCTION_IN_ERROR);
  };
  if (!fn.ioat) return broken(EVENT_INVALID_AS, start);
  const { pba, pal, iota } = fn.registered;
  // Exclusive and modulo 2^64, as the machine computes it: a range that ends where the registered one begins is still in order, and refreshes
  // nothing; one that wraps around ends before it starts.
  const end = BigInt.asUintN(64, start + length);
  if (end < pba || start > pal) return broken(EVENT_OUT_OF_RANGE, start);
  if ((iota & IOTA_TRANSLATE) === 0n || end <= start) return 0;
  const first = start < pba ? pba : start;
  const last = end > pal ? pal : end - 1n;
  const result = fn.shadow.refresh(vm.readEntry, iota, first, last);
  if (result.kind === 'error') return broken(result.event, result.address);
  return result.kind === 'exhausted' ? fail(registers, insn.r1, STATUS_INSUFFICIENT) : 0;
}
