// PCILG, PCISTG, PCISTB: loads, stores and block stores of PCI memory and config space. Order of checks: spec zdev sections 3.1 and 3.2.
import { type Insn, operandAddress, PGM_OPERAND, PGM_SPECIFICATION, ProgramCheck, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import type { ZpciFunction } from './function.ts';
import { fail, functionByHandle, handleOf, STATUS_BLOCKED, STATUS_INVALID_AS, supervisorOnly } from './request.ts';

const CONFIG_SPACE = 15;
const PAGE = 4096;

/** The natural pieces of a block: at each step the largest power of two that divides the offset and fits. */
function* pieces(offset: bigint, length: number): Generator<{ at: number; size: number }> {
  for (let at = 0; at < length; ) {
    const address = Number((offset + BigInt(at)) & 7n);
    let size = 8;
    while (address % size !== 0 || size > length - at) size >>= 1;
    yield { at, size };
    at += size;
  }
}

const refused = (): ProgramCheck => new ProgramCheck(PGM_OPERAND, 'the address space does not take the access');

interface Target {
  readonly fn: ZpciFunction;
  readonly pcias: number;
  /** Bytes that move. */
  readonly length: number;
  readonly offset: bigint;
}

/** The common start of PCILG and PCISTG; a number is the condition code that ends the instruction. */
function target(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): Target | number {
  supervisorOnly(problem);
  if ((insn.r2 & 1) !== 0) throw new ProgramCheck(PGM_SPECIFICATION, 'the second register is odd');
  const request = registers[insn.r2] as bigint;
  const offset = registers[insn.r2 + 1] as bigint;
  const pcias = Number((request >> 16n) & 15n);
  const length = Number(request & 15n);
  const fn = functionByHandle(vm, handleOf(request));
  if (fn === undefined || !fn.hasEnabledHandle) return 3;
  if (fn.inError) return fail(registers, insn.r2, STATUS_BLOCKED);
  if (pcias <= 5) {
    if (length === 0 || length > 8 - Number(offset & 7n)) throw refused();
    // 3, 5, 6 and 7 are no transfers of their own: the lowest power of two in them is what moves.
    const moved = length & -length;
    if (!fn.backend.accepts(pcias, offset, moved)) throw refused();
    return { fn, pcias, length: moved, offset };
  }
  if (pcias === CONFIG_SPACE) {
    if (length === 0 || length === 3 || length > 4 - Number(offset & 3n)) throw refused();
    return { fn, pcias, length, offset };
  }
  return fail(registers, insn.r2, STATUS_INVALID_AS);
}

const toNumber = (bytes: Uint8Array): bigint => bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);

/** PCI LOAD: the bytes in storage order become a big-endian number. */
export function pcilg(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  const to = target(vm, insn, registers, problem);
  if (typeof to === 'number') return to;
  const { fn, pcias, length, offset } = to;
  if (pcias === CONFIG_SPACE) {
    registers[insn.r1] = toNumber(fn.backend.readConfig(Number(offset & 0xffffffffn), length));
    return 0;
  }
  const bytes = fn.backend.readBar(pcias, offset, length);
  if (bytes === null) throw refused();
  registers[insn.r1] = toNumber(bytes);
  return 0;
}

/** PCI STORE: the low bytes of the register, most significant first. */
export function pcistg(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  const to = target(vm, insn, registers, problem);
  if (typeof to === 'number') return to;
  const { fn, pcias, length, offset } = to;
  const value = registers[insn.r1] as bigint;
  const bytes = Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn));
  if (pcias === CONFIG_SPACE) {
    fn.backend.writeConfig(Number(offset & 0xffffffffn), bytes);
    return 0;
  }
  if (!fn.backend.writeBar(pcias, offset, bytes)) throw refused();
  return 0;
}

/** PCI STORE BLOCK. */
export function pcistb(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const request = registers[insn.r1] as bigint;
  const offset = registers[insn.r3] as bigint;
  const gaddr = operandAddress(insn, registers);
  const pcias = Number((request >> 16n) & 15n);
  const length = Number(request & 0x1fffn);
  const fn = functionByHandle(vm, handleOf(request));
  if (fn === undefined || !fn.hasEnabledHandle) return 3;
  if (fn.inError) return fail(registers, insn.r1, STATUS_BLOCKED);
  if (pcias > 5) return fail(registers, insn.r1, STATUS_INVALID_AS);
  const { maxStoreBlock } = fn.group;
  const unaligned = (offset & 7n) !== 0n || (gaddr & 7n) !== 0n || length % 8 !== 0 || length <= 8;
  if ((!fn.options.relaxed && unaligned) || length === 0 || length > maxStoreBlock)
    throw new ProgramCheck(PGM_SPECIFICATION, 'the block does not keep the rules of the function');
  if (Number(offset & 0xfffn) + length > PAGE)
    throw new ProgramCheck(PGM_SPECIFICATION, 'the block leaves its 4 KiB page');
  for (const { at, size } of pieces(offset, length))
    if (!fn.backend.accepts(pcias, offset + BigInt(at), size)) throw refused();
  const bytes = vm.storage.fetch(gaddr, length);
  if (!fn.backend.storeBlock(pcias, offset, gaddr, bytes)) throw refused();
  return 0;
}
