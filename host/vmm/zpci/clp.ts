// CALL LOGICAL PROCESSOR, the PCI commands: list functions, query a function, query a group, enable and disable. A request block and a
// response block follow each other in storage; both begin with a length. Blocks are big-endian.
//
//   request   len u16@0, cmd u16@2, format and reserved u32@4, reserved u64@8, then the command's fields from 16
//   response  len u16@0, code u16@2, reserved to 16, then the answer
import { type Insn, PGM_OPERAND, ProgramCheck, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import type { FunctionGroup, ZpciFunction } from './function.ts';
import { FH_INDEX } from './function.ts';
import { functionByHandle, supervisorOnly } from './request.ts';

const CMD_LIST = 2;
const CMD_QUERY_FUNCTION = 3;
const CMD_QUERY_GROUP = 4;
const CMD_SET_FUNCTION = 5;

export const CLP_OK = 0x0010;
export const CLP_UNKNOWN_COMMAND = 0x0020;
export const CLP_BAD_FORMAT = 0x0040;
export const CLP_BAD_LENGTH = 0x0050;
export const CLP_RESERVED_NOT_ZERO = 0x0070;
export const CLP_UNKNOWN_HANDLE = 0x0101;
export const CLP_NOT_FOR_HANDLE = 0x0102;
export const CLP_DMA_SPACES = 0x0103;
export const CLP_RESOURCES = 0x0104;
export const CLP_BAD_RESUME = 0x010a;
export const CLP_UNKNOWN_GROUP = 0x010b;

const REQUEST_SIZE = 32;
const LIST_HEADER = 32;
const LIST_ENTRY = 16;
const BLOCKS_LIMIT = 8192;
const MAX_FUNCTIONS = 4096;
/** Which bits of a handle tell how its instructions are executed. */
const HANDLE_MARKS = 0x00ff0000;
const CONFIGURED = 0x80000000;
const SET_ENABLE = 0;
const SET_DISABLE = 1;

class Blocks {
  readonly bytes: Uint8Array;
  readonly request: DataView;
  readonly response: DataView;
  constructor(bytes: Uint8Array, requestLength: number) {
    this.bytes = bytes;
    this.request = new DataView(bytes.buffer, bytes.byteOffset, requestLength);
    // Answers are composed in a full-sized block; what the guest's length cuts off is not stored.
    const response = new Uint8Array(Math.max(bytes.length - requestLength, 256));
    response.set(bytes.subarray(requestLength));
    this.response = new DataView(response.buffer);
  }
  code(value: number): void {
    this.response.setUint16(2, value);
  }
  /** Request and response as they go back to storage. */
  result(): Uint8Array {
    const { byteLength } = this.request;
    const out = this.bytes.slice();
    out.set(new Uint8Array(this.response.buffer, 0, out.length - byteLength), byteLength);
    return out;
  }
}

const lengthOk = (length: number, least: number): boolean =>
  length >= least && length <= BLOCKS_LIMIT - 8 && length % 8 === 0;

/** CLP. Condition code 0 with a response code; 3 for a list whose length holds no whole number of entries. */
export function clp(vm: VirtualMachine, insn: Insn, registers: Registers, problem: boolean): number {
  supervisorOnly(problem);
  const address = registers[insn.r2] as bigint;
  const { storage } = vm;
  const be16 = (bytes: Uint8Array): number => ((bytes[0] as number) << 8) | (bytes[1] as number);
  const requestLength = be16(storage.fetch(address, 4));
  if (!lengthOk(requestLength, 16)) throw new ProgramCheck(PGM_OPERAND, 'length of the request block');
  const responseLength = be16(storage.fetch(address, requestLength + 8).subarray(requestLength));
  if (!lengthOk(responseLength, 8) || requestLength + responseLength > BLOCKS_LIMIT)
    throw new ProgramCheck(PGM_OPERAND, 'length of the response block');
  const blocks = new Blocks(storage.fetch(address, requestLength + responseLength), requestLength);
  const cc = requestLength === REQUEST_SIZE ? command(vm, blocks, responseLength) : 0;
  if (requestLength !== REQUEST_SIZE) blocks.code(CLP_BAD_LENGTH);
  storage.store(address, blocks.result());
  return cc;
}

function command(vm: VirtualMachine, blocks: Blocks, responseLength: number): number {
  switch (blocks.request.getUint16(2)) {
    case CMD_LIST:
      return list(vm, blocks, responseLength);
    case CMD_QUERY_FUNCTION: {
      const fn = functionByHandle(vm, blocks.request.getUint32(16));
      if (fn === undefined) blocks.code(CLP_UNKNOWN_HANDLE);
      else queryFunction(fn, blocks);
      return 0;
    }
    case CMD_QUERY_GROUP: {
      const id = blocks.request.getUint32(16) & 0xff;
      const group = [...vm.functions.values()].find((fn) => fn.group.id === id)?.group ?? vm.groups.get(id);
      if (group === undefined) blocks.code(CLP_UNKNOWN_GROUP);
      else queryGroup(group, blocks);
      return 0;
    }
    case CMD_SET_FUNCTION:
      blocks.code(setFunction(vm, blocks));
      return 0;
    default:
      blocks.code(CLP_UNKNOWN_COMMAND);
      return 0;
  }
}

function list(vm: VirtualMachine, blocks: Blocks, responseLength: number): number {
  const { request, response } = blocks;
  const refuse = (code: number): number => {
    blocks.code(code);
    return 0;
  };
  if ((request.getUint32(4) & 0xf0000000) !== 0) return refuse(CLP_BAD_FORMAT);
  if (request.getUint32(4) !== 0 || request.getBigUint64(8) !== 0n) return refuse(CLP_RESERVED_NOT_ZERO);
  if (responseLength < LIST_HEADER || (responseLength - LIST_HEADER) % LIST_ENTRY !== 0) {
    blocks.code(CLP_BAD_LENGTH);
    return 3;
  }
  const functions = [...vm.functions.values()].filter((fn) => fn.state !== 'reserved');
  let at = 0;
  const resume = request.getBigUint64(16);
  if (resume !== 0n) {
    at = functions.findIndex((fn) => BigInt(fn.index) === (resume & BigInt(FH_INDEX)));
    if (at < 0) return refuse(CLP_BAD_RESUME);
  }
  response.setUint32(24, HANDLE_MARKS);
  response.setUint16(28, MAX_FUNCTIONS);
  response.setUint8(30, 1);
  response.setUint8(31, LIST_ENTRY);
  let length = LIST_HEADER;
  for (; length < responseLength && at < functions.length; length += LIST_ENTRY, at++) {
    const fn = functions[at] as ZpciFunction;
    const entry = new DataView(response.buffer, length);
    entry.setUint16(0, fn.info.device);
    entry.setUint16(2, fn.info.vendor);
    entry.setUint32(4, fn.state === 'standby' ? 0 : CONFIGURED);
    entry.setUint32(8, fn.info.fid);
    entry.setUint32(12, fn.fh);
  }
  response.setBigUint64(16, BigInt(functions[at]?.index ?? 0));
  response.setUint16(0, length);
  blocks.code(CLP_OK);
  return 0;
}

function queryFunction(fn: ZpciFunction, blocks: Blocks): void {
  const { info, backend } = fn;
  const { response } = blocks;
  response.setUint16(16, info.vfn);
  response.setUint8(18, info.util.length > 0 ? 1 : 0);
  response.setUint8(19, info.gid);
  response.setUint32(20, info.fid);
  for (let bar = 0; bar < 6; bar++) {
    // Sizes are powers of two, given as their logarithm; the words hold what config space holds, little-endian.
    const size = backend.barSize(bar);
    response.setUint8(24 + bar, size === 0n ? 0 : size.toString(2).length - 1);
    const word = backend.readConfig(0x10 + 4 * bar, 4);
    for (let i = 0; i < 4; i++) response.setUint8(32 + 4 * bar + i, word[i] as number);
  }
  response.setUint16(30, info.pchid);
  for (let i = 0; i < 4; i++) response.setUint8(56 + i, info.pfip?.[i] ?? 0);
  response.setUint8(62, info.fmbLength);
  response.setUint8(63, info.pft);
  response.setBigUint64(64, info.startDma);
  response.setBigUint64(72, info.endDma);
  response.setUint32(124, info.uid);
  for (let i = 0; i < 64; i++) response.setUint8(128 + i, info.util[i] ?? 0);
  blocks.code(CLP_OK);
}

function queryGroup(group: FunctionGroup, blocks: Blocks): void {
  const { response } = blocks;
  response.setUint16(16, group.interrupts);
  response.setUint8(18, group.version);
  response.setUint8(19, (group.refresh ? 1 : 0) | (group.relaxedTranslation ? 2 : 0));
  response.setUint16(20, group.maxStoreBlock);
  response.setUint16(22, group.updateInterval);
  response.setUint8(24, group.dtsm);
  response.setBigUint64(32, group.dasm);
  response.setBigUint64(40, group.msiAddress);
  blocks.code(CLP_OK);
}

/** @returns the response code; the handle afterwards goes into the block. */
function setFunction(vm: VirtualMachine, blocks: Blocks): number {
  const { request } = blocks;
  const fn = functionByHandle(vm, request.getUint32(16));
  if (fn === undefined) return CLP_UNKNOWN_HANDLE;
  switch (request.getUint8(22)) {
    case SET_ENABLE: {
      const spaces = request.getUint8(23);
      if (spaces === 0) return CLP_DMA_SPACES;
      if (spaces > 1) return CLP_RESOURCES;
      if (fn.hasEnabledHandle || fn.state !== 'disabled') return CLP_NOT_FOR_HANDLE;
      fn.enable();
      break;
    }
    case SET_DISABLE:
      // A permanent error is left by the service processor only.
      if (!fn.hasEnabledHandle || fn.state === 'permanent-error') return CLP_NOT_FOR_HANDLE;
      fn.disable();
      break;
    default:
      return CLP_NOT_FOR_HANDLE;
  }
  blocks.response.setUint32(16, fn.fh);
  return CLP_OK;
}
