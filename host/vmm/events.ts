// Error events of functions and the CHSC commands of the layer: store event information, set domain attributes. Blocks are big-endian: request
// length u16@0, command u16@2; the response follows the request: length u16@0, code u16@2.
import { type Insn, PGM_OPERAND, PGM_SPECIFICATION, ProgramCheck, type Registers } from './cpu.ts';
import type { VirtualMachine } from './machine.ts';
import { supervisorOnly } from './zpci/request.ts';

/** An error event of a function (spec zdev section 3.6). */
export interface ErrorEvent {
  readonly fh: number;
  readonly fid: number;
  readonly address: bigint;
  readonly code: number;
}

const CMD_STORE_EVENT_INFORMATION = 0x000e;
const CMD_SET_DOMAIN_ATTRIBUTES = 0x0031;
const BLOCK = 4096;
const RESPONSE_OK = 0x0001;
const RESPONSE_UNKNOWN_COMMAND = 0x0004;
const RESPONSE_BAD_REQUEST = 0x0003;
const RESPONSE_NO_EVENT = 0x0005;
const RESPONSE_UNKNOWN_OPERATION = 0x0101;
const NOTIFICATION_PCI = 2;
const CONTENT_ERROR = 1;
const MORE_PENDING = 0x80;
const SELECT_PCI = 1n << 61n;
const ENABLE_CSS_IMAGES = 0;
const ENABLE_SUBCHANNEL_SETS = 2;

/** CHANNEL SUBSYSTEM CALL. The block is a page; what the answer does not name is left alone. */
export function chsc(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const address = registers[insn.r1] as bigint;
  if ((address & 0xfffn) !== 0n) throw new ProgramCheck(PGM_SPECIFICATION, 'the block is not on a page');
  const page = vm.storage.fetch(address, BLOCK);
  const request = new DataView(page.buffer);
  const length = request.getUint16(0);
  if (length < 16 || length > 4088 || length % 8 !== 0) throw new ProgramCheck(PGM_OPERAND, 'length of the request');
  const answer = chscCommand(vm, request, page.subarray(length));
  vm.storage.store(address + BigInt(length), answer);
  return 0;
}

function short(code: number): Uint8Array {
  return Uint8Array.from([0, 8, code >> 8, code & 255, 0, 0, 0, 0]);
}

function chscCommand(vm: VirtualMachine, request: DataView, room: Uint8Array): Uint8Array {
  switch (request.getUint16(2)) {
    case CMD_STORE_EVENT_INFORMATION:
      if (request.getUint16(0) !== 16) return short(RESPONSE_BAD_REQUEST);
      return storeEvent(vm, request.getBigUint64(8), room);
    case CMD_SET_DOMAIN_ATTRIBUTES:
      return setDomain(vm, request);
    default:
      return short(RESPONSE_UNKNOWN_COMMAND);
  }
}

function storeEvent(vm: VirtualMachine, select: bigint, room: Uint8Array): Uint8Array {
  const event = (select & SELECT_PCI) === 0n ? undefined : vm.errorEvents.shift();
  if (event === undefined) return short(RESPONSE_NO_EVENT);
  const bytes = room.slice();
  bytes.fill(0, 0, bytes.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, bytes.length);
  view.setUint16(2, RESPONSE_OK);
  view.setUint8(7, NOTIFICATION_PCI);
  view.setUint8(8, vm.errorEvents.length > 0 ? MORE_PENDING : 0);
  view.setUint8(11, CONTENT_ERROR);
  view.setUint32(68, event.fh);
  view.setUint32(72, event.fid);
  view.setBigUint64(80, event.address);
  view.setUint16(94, event.code);
  return bytes;
}

function setDomain(vm: VirtualMachine, request: DataView): Uint8Array {
  if (request.getUint16(0) !== 0x400) return short(RESPONSE_BAD_REQUEST);
  switch (request.getUint16(6)) {
    case ENABLE_CSS_IMAGES:
      vm.css.imagesEnabled = true;
      return short(RESPONSE_OK);
    case ENABLE_SUBCHANNEL_SETS:
      vm.css.setsEnabled = true;
      return short(RESPONSE_OK);
    default:
      return short(RESPONSE_UNKNOWN_OPERATION);
  }
}
