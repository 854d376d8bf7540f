// NQAP, DQAP and PQAP. General register 0 names the queue (low 16 bits) and, for PQAP, the function (bits 32 to 39 from the left); register
// 1 receives the status word in its low half. Condition code 0 with response code 0, 3 when there is no such queue, else 1.
import { VFIO_AP_MESSAGE_MAX, VFIO_AP_QCI_SIZE } from '../../uapi/zdev.ts';
import { type Insn, PGM_ADDRESSING, PGM_SPECIFICATION, ProgramCheck, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import { supervisorOnly } from '../zpci/request.ts';
import { AP_NORMAL, AP_NOT_AVAILABLE, apResponse, apStatus } from './unit.ts';

const TAPQ = 0;
const RAPQ = 1;
const ZAPQ = 2;
const AQIC = 3;
const QCI = 4;

function finish(registers: Registers, status: number): number {
  registers[1] = ((registers[1] as bigint) & ~0xffffffffn) | BigInt(status >>> 0);
  const response = apResponse(status);
  if (response === AP_NORMAL) return 0;
  return response === AP_NOT_AVAILABLE ? 3 : 1;
}

const queueOf = (registers: Registers): number => Number((registers[0] as bigint) & 0xffffn);

function evenPairs(insn: Insn): void {
  if (((insn.r1 | insn.r2) & 1) !== 0) throw new ProgramCheck(PGM_SPECIFICATION, 'a register of a pair is odd');
}

const lengthOf = (value: bigint): number =>
  value > BigInt(VFIO_AP_MESSAGE_MAX) ? VFIO_AP_MESSAGE_MAX + 1 : Number(value);

/** ENQUEUE: r1 pair = address and length of the message, r2 pair = its identifier (high and low 32 bits). */
export function nqap(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  evenPairs(insn);
  const { backend } = vm.ap;
  if (backend === null) return finish(registers, apStatus(AP_NOT_AVAILABLE));
  const length = lengthOf(registers[insn.r1 + 1] as bigint);
  if (length > VFIO_AP_MESSAGE_MAX) return finish(registers, apStatus(0x15));
  const message = vm.storage.fetch(registers[insn.r1] as bigint, length);
  const psmid = ((registers[insn.r2] as bigint) << 32n) | ((registers[insn.r2 + 1] as bigint) & 0xffffffffn);
  return finish(registers, backend.nqap(queueOf(registers), BigInt.asUintN(64, psmid), message));
}

/** DEQUEUE: r2 pair = address and length of the buffer, r1 pair receives the identifier; the length becomes that of the reply. */
export function dqap(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  evenPairs(insn);
  const { backend } = vm.ap;
  if (backend === null) return finish(registers, apStatus(AP_NOT_AVAILABLE));
  const address = registers[insn.r2] as bigint;
  const room = Math.min(lengthOf(registers[insn.r2 + 1] as bigint), VFIO_AP_MESSAGE_MAX);
  vm.storage.check(address, room);
  const { status, psmid, reply } = backend.dqap(queueOf(registers), room);
  if (apResponse(status) === AP_NORMAL) {
    vm.storage.store(address, reply);
    registers[insn.r1] = psmid >> 32n;
    registers[insn.r1 + 1] = psmid & 0xffffffffn;
    registers[insn.r2 + 1] = BigInt(reply.length);
  }
  return finish(registers, status);
}

/** PROCESS ADJUNCT PROCESSOR QUEUE: TAPQ, RAPQ, ZAPQ, AQIC, QCI. */
export function pqap(vm: VirtualMachine, _insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const { backend } = vm.ap;
  const fc = Number(((registers[0] as bigint) >> 24n) & 0xffn);
  if (fc > QCI) throw new ProgramCheck(PGM_SPECIFICATION, 'unknown function of PQAP');
  if (fc === QCI) {
    const address = registers[2] as bigint;
    if ((address & 7n) !== 0n) throw new ProgramCheck(PGM_SPECIFICATION, 'the block is not on a doubleword');
    if (!vm.storage.has(address, VFIO_AP_QCI_SIZE))
      throw new ProgramCheck(PGM_ADDRESSING, 'the block is outside storage');
    vm.storage.store(address, backend?.qci() ?? new Uint8Array(VFIO_AP_QCI_SIZE));
    return 0;
  }
  if (backend === null) return finish(registers, apStatus(AP_NOT_AVAILABLE));
  const apqn = queueOf(registers);
  if (fc === AQIC) {
    const control = registers[1] as bigint;
    const enable = ((control >> 47n) & 1n) !== 0n;
    return finish(registers, backend.aqic(apqn, enable, registers[2] as bigint, Number(control & 7n)));
  }
  const operation = fc === TAPQ ? 'tapq' : fc === RAPQ ? 'rapq' : 'zapq';
  return finish(registers, backend.control(operation, apqn));
}

export { AQIC as PQAP_AQIC, QCI as PQAP_QCI, RAPQ as PQAP_RAPQ, TAPQ as PQAP_TAPQ, ZAPQ as PQAP_ZAPQ };
