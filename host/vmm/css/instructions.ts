// The I/O instructions over virtual subchannels. Order of checks: privileged; then for STSCH, MSCH and SSCH operand alignment, access, the
// subsystem identification and the block's contents; TSCH looks at the identification first (vectors/insn, trait 11).
import { IRB_SIZE, SCHIB_SIZE } from '../../css/schib.ts';
import { type Insn, operandAddress, PGM_OPERAND, PGM_SPECIFICATION, ProgramCheck, type Registers } from '../cpu.ts';
import type { InsnHandler, VirtualMachine } from '../machine.ts';
import { supervisorOnly } from '../zpci/request.ts';
import type { VirtualSubchannel } from './subchannel.ts';

const ORB_SIZE = 12;
/** Reserved bits of ORB word 1, transport mode among them. */
const ORB_INVALID = 0x0004003e;
const PMCW_FLAGS_INVALID = 0x0700;
const PMCW_CHARACTERISTICS_INVALID = 0xff1ffffa;
/** Where TPI stores when its operand address is 0. */
const LOWCORE_IO_INTERRUPTION = 0xb8n;
const ADAPTER_INTERRUPTION = 0x80000000;

const operand = (why: string): ProgramCheck => new ProgramCheck(PGM_OPERAND, why);

function wordOperand(insn: Insn, registers: Registers): bigint {
  const address = operandAddress(insn, registers);
  if ((address & 3n) !== 0n) throw new ProgramCheck(PGM_SPECIFICATION, 'the operand is not on a word');
  return address;
}

/** An instruction that has only the subchannel: HSCH, CSCH, RSCH, XSCH. */
function simple(act: (subchannel: VirtualSubchannel) => number): InsnHandler {
  return (vm, _insn, registers, problem) => {
    supervisorOnly(problem);
    const subchannel = vm.css.find(registers[1] as bigint);
    return subchannel === null ? 3 : act(subchannel);
  };
}

function stsch(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const address = wordOperand(insn, registers);
  vm.storage.check(address, SCHIB_SIZE);
  const id = registers[1] as bigint;
  const subchannel = vm.css.find(id);
  if (subchannel === null && vm.css.isBehindLast(id)) return 3;
  vm.storage.store(address, subchannel?.store() ?? new Uint8Array(SCHIB_SIZE));
  return 0;
}

function msch(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const block = vm.storage.fetch(wordOperand(insn, registers), SCHIB_SIZE);
  const subchannel = vm.css.find(registers[1] as bigint);
  const view = new DataView(block.buffer);
  if ((view.getUint16(4) & PMCW_FLAGS_INVALID) !== 0) throw operand('reserved flags of the block');
  if ((view.getUint32(24) & PMCW_CHARACTERISTICS_INVALID) !== 0) throw operand('reserved bits of the block');
  return subchannel === null ? 3 : subchannel.modify(block);
}

function ssch(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const orb = vm.storage.fetch(wordOperand(insn, registers), ORB_SIZE);
  const subchannel = vm.css.find(registers[1] as bigint);
  const view = new DataView(orb.buffer);
  if ((view.getUint32(4) & ORB_INVALID) !== 0) throw operand('reserved bits of the ORB');
  if (view.getUint32(8) > 0x7fffffff) throw operand('the address of the program has more than 31 bits');
  return subchannel === null ? 3 : subchannel.start(orb);
}

function tsch(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const subchannel = vm.css.find(registers[1] as bigint);
  const address = wordOperand(insn, registers);
  vm.storage.check(address, IRB_SIZE);
  const result = subchannel?.test() ?? null;
  if (result === null) return 3;
  vm.storage.store(address, result.irb);
  return result.pending ? 0 : 1;
}

function tpi(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const address = wordOperand(insn, registers);
  const pending = vm.css.peek();
  // Nothing is stored then, so the operand is not looked at.
  if (pending === null) return 0;
  const lowcore = address === 0n;
  const code = new Uint8Array(lowcore ? 12 : 8);
  const view = new DataView(code.buffer);
  view.setUint32(0, pending.id);
  view.setUint32(4, pending.intparm);
  if (lowcore) view.setUint32(8, ((pending.isc << 27) | (pending.adapter ? ADAPTER_INTERRUPTION : 0)) >>> 0);
  vm.storage.store(lowcore ? LOWCORE_IO_INTERRUPTION : address, code);
  vm.css.take();
  return 1;
}

function stcrw(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const address = wordOperand(insn, registers);
  vm.storage.check(address, 4);
  const report = vm.css.reports.shift();
  const word = new Uint8Array(4);
  new DataView(word.buffer).setUint32(0, report ?? 0);
  vm.storage.store(address, word);
  return report === undefined ? 1 : 0;
}

export const channelInstructions: ReadonlyArray<readonly [string, InsnHandler]> = [
  ['STSCH', stsch],
  ['MSCH', msch],
  ['SSCH', ssch],
  ['TSCH', tsch],
  ['TPI', tpi],
  ['STCRW', stcrw],
  ['HSCH', simple((subchannel) => subchannel.halt())],
  ['CSCH', simple((subchannel) => subchannel.clear())],
  ['RSCH', simple((subchannel) => subchannel.resume())],
  ['XSCH', simple((subchannel) => subchannel.cancel())],
];
