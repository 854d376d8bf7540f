// Common parts of the PCI instructions: the request register, its status byte, the handle lookup (spec zdev section 2).
import { PGM_PRIVILEGED, ProgramCheck, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import { FH_INDEX, type ZpciFunction } from './function.ts';

export const STATUS_FUNCTION_NOT_ENABLED = 4;
export const STATUS_FUNCTION_IN_ERROR = 8;
export const STATUS_BLOCKED = 12;
export const STATUS_INSUFFICIENT = 16;
export const STATUS_INVALID_AS = 20;
export const STATUS_SEQUENCE = 24;
export const STATUS_DMAAS_INVALID = 28;
export const STATUS_ERROR_RECOVERY = 40;

/** Sets the status byte, bits 31..24 of the register, and answers condition code 1. */
export function fail(registers: Registers, register: number, status: number): number {
  registers[register] = ((registers[register] as bigint) & ~0xff000000n) | (BigInt(status) << 24n);
  return 1;
}

export function supervisorOnly(problem: boolean): void {
  if (problem) throw new ProgramCheck(PGM_PRIVILEGED, 'the instruction is privileged');
}

export const handleOf = (request: bigint): number => Number(request >> 32n) >>> 0;

/** The function with exactly this handle. */
export function functionByHandle(vm: VirtualMachine, fh: number): ZpciFunction | undefined {
  const found = vm.functions.get(fh & FH_INDEX);
  return found?.fh === fh ? found : undefined;
}
