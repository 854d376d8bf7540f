// The operations of a script (spec script, "Operations"): which fields each takes and what it does. One table, one row per operation.
import type { ManualClock } from '../clock.ts';
import type { ActionResult } from '../devices/model.ts';
import { errnoName } from '../errno.ts';
import { toHex } from '../hex.ts';
import type { VfioInstance } from '../source.ts';
import { IOCTL_NUMBERS, OWN_IOCTL_NUMBERS } from '../uapi/ioctl.ts';
import type { VirtualMachine } from '../vmm/machine.ts';
import { ScriptBuffer } from './buffer.ts';
import { ActionReader } from './device.ts';
import type { Result } from './expect.ts';
import { VM_OPERATIONS } from './insn.ts';
import { encodeStruct, isStructType } from './structs.ts';
import { bytesOf, integer, type Json, type JsonObject, type Saved, ScriptError } from './values.ts';

/** What operations work on. */
export interface ScriptContext {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly saved: Map<string, Saved>;
  /** Virtual machines by the address of their storage. */
  readonly guests: Map<bigint, VirtualMachine>;
}

/** Kinds of fields, checked before anything runs. */
export type FieldKind = 'integer' | 'bytes' | 'text' | 'boolean' | 'object' | 'list' | 'request' | 'limit' | 'any';

export interface Operation {
  readonly fields: Readonly<Record<string, FieldKind>>;
  readonly required: readonly string[];
  /** More than the kinds of the fields say. @throws ScriptError */
  check?(op: JsonObject): void;
  /** Accepts fields that are not listed. */
  readonly open?: boolean;
  run(context: ScriptContext, op: JsonObject): Result;
}

/** Milliseconds that `wait` and `idle` let pass (vectors/abi). */
export const WAIT_MS = 3;
export const IDLE_MS = 220;
const MAX_IDLE_MS = 31_536_000_000n;
const MAX_TRANSFER = 1 << 26;
const encoder = new TextEncoder();

const outcome = (ret: number | bigint): Result =>
  ret < 0 ? { ret: BigInt(ret), errno: errnoName(Number(ret)) } : { ret: BigInt(ret) };

const value = (context: ScriptContext, op: JsonObject, name: string): bigint => integer(op[name], context.saved, name);
/** A descriptor is an int, whatever was written. */
const descriptor = (context: ScriptContext, op: JsonObject): number =>
  Number(BigInt.asIntN(32, value(context, op, 'fd')));
const address = (context: ScriptContext, op: JsonObject): bigint => BigInt.asUintN(64, value(context, op, 'addr'));

function length(context: ScriptContext, op: JsonObject): number {
  const size = value(context, op, 'length');
  if (size < 0n || size > MAX_TRANSFER) throw new ScriptError(`length ${size}: at most ${MAX_TRANSFER} bytes at once`);
  return Number(size);
}

/** Bytes; what a signed number cannot hold, -1 (RLIM_INFINITY) among it, is no limit. */
function memlock(context: ScriptContext, op: JsonObject): number {
  const bytes = op['memlock'] === 'unlimited' ? -1n : BigInt.asIntN(64, value(context, op, 'memlock'));
  return bytes < 0n ? Number.POSITIVE_INFINITY : Number(bytes);
}

const IOCTL_ARGUMENTS = ['value', 'arg', 'struct', 'string'];

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...VM_OPERATIONS,
  open: {
    fields: { path: 'text' },
    required: ['path'],
    run: ({ vfio }, op) => outcome(vfio.openRaw(op['path'] as string)),
  },
  close: {
    fields: { fd: 'integer' },
    required: ['fd'],
    run: (context, op) => outcome(context.vfio.closeRaw(descriptor(context, op))),
  },
  ioctl: {
    fields: { fd: 'integer', request: 'request', value: 'integer', arg: 'bytes', struct: 'object', string: 'text' },
    required: ['fd', 'request'],
    check(op) {
      const given = IOCTL_ARGUMENTS.filter((name) => name in op);
      if (given.length > 1) throw new ScriptError(`an ioctl has one argument, not ${given.join(' and ')}`);
      const type = (op['struct'] as JsonObject | undefined)?.['type'];
      if ('struct' in op && (typeof type !== 'string' || !isStructType(type)))
        throw new ScriptError(`unknown structure type ${JSON.stringify(type)}`);
    },
    run: ioctl,
  },
  read: {
    fields: { fd: 'integer', offset: 'integer', length: 'integer' },
    required: ['fd', 'length'],
    run(context, op) {
      const buffer = new Uint8Array(length(context, op));
      const offset = 'offset' in op ? value(context, op, 'offset') : undefined;
      const ret = context.vfio.readRaw(descriptor(context, op), buffer, offset);
      return ret < 0 ? outcome(ret) : { ret: BigInt(ret), data: toHex(buffer.subarray(0, ret)) };
    },
  },
  write: {
    fields: { fd: 'integer', offset: 'integer', data: 'bytes' },
    required: ['fd', 'data'],
    run(context, op) {
      const offset = 'offset' in op ? value(context, op, 'offset') : undefined;
      return outcome(context.vfio.writeRaw(descriptor(context, op), bytesOf(op['data'], 'data'), offset));
    },
  },
  mmap: {
    fields: { length: 'integer', fd: 'integer', offset: 'integer', prot: 'text', addr: 'integer', backed: 'boolean' },
    required: ['length'],
    check(op) {
      if ('prot' in op && !/^[rw]{0,2}$/.test(op['prot'] as string))
        throw new ScriptError(`prot is any of the letters r and w`);
    },
    run(context, op) {
      const ret = context.vfio.mmapRaw(BigInt.asUintN(64, value(context, op, 'length')), {
        ...('fd' in op ? { fd: descriptor(context, op) } : {}),
        ...('offset' in op ? { offset: value(context, op, 'offset') } : {}),
        ...('prot' in op ? { prot: op['prot'] as string } : {}),
        ...('addr' in op ? { addr: address(context, op) } : {}),
        ...('backed' in op ? { backed: op['backed'] as boolean } : {}),
      });
      return outcome(ret);
    },
  },
  munmap: {
    fields: { addr: 'integer', length: 'integer' },
    required: ['addr', 'length'],
    run: (context, op) =>
      outcome(context.vfio.munmapRaw(address(context, op), BigInt.asUintN(64, value(context, op, 'length')))),
  },
  poke: {
    fields: { addr: 'integer', data: 'bytes' },
    required: ['addr', 'data'],
    run: (context, op) => outcome(context.vfio.pokeRaw(address(context, op), bytesOf(op['data'], 'data'))),
  },
  peek: {
    fields: { addr: 'integer', length: 'integer' },
    required: ['addr', 'length'],
    run(context, op) {
      const buffer = new Uint8Array(length(context, op));
      const ret = context.vfio.peekRaw(address(context, op), buffer);
      return ret < 0 ? outcome(ret) : { ret: BigInt(ret), data: toHex(buffer) };
    },
  },
  eventfd: {
    fields: { initval: 'integer', semaphore: 'boolean' },
    required: [],
    run(context, op) {
      const initval = 'initval' in op ? value(context, op, 'initval') : 0n;
      return outcome(context.vfio.eventfdRaw(initval, { semaphore: op['semaphore'] === true }));
    },
  },
  wait: {
    fields: { fd: 'integer' },
    required: ['fd'],
    run(context, op) {
      context.clock.advance(WAIT_MS);
      const count = context.vfio.takeRaw(descriptor(context, op));
      return count < 0n ? outcome(count) : { ret: 0n, count };
    },
  },
  idle: {
    fields: { ms: 'integer' },
    required: [],
    run(context, op) {
      const ms = 'ms' in op ? value(context, op, 'ms') : BigInt(IDLE_MS);
      if (ms < 0n || ms > MAX_IDLE_MS) throw new ScriptError(`ms ${ms}: at most ${MAX_IDLE_MS}, a year`);
      context.clock.advance(Number(ms));
      return { ret: 0n };
    },
  },
  sysfs_read: {
    fields: { path: 'text' },
    required: ['path'],
    run({ vfio }, op) {
      const text = vfio.sysfsReadRaw(op['path'] as string);
      return typeof text === 'number' ? outcome(text) : { ret: 0n, text };
    },
  },
  sysfs_write: {
    fields: { path: 'text', data: 'text' },
    required: ['path', 'data'],
    run: ({ vfio }, op) => outcome(vfio.sysfsWriteRaw(op['path'] as string, op['data'] as string)),
  },
  rlimit: {
    fields: { memlock: 'limit', lock_cap: 'boolean' },
    required: [],
    run(context, op) {
      context.vfio.rlimit({
        ...('memlock' in op ? { memlock: memlock(context, op) } : {}),
        ...('lock_cap' in op ? { lockCap: op['lock_cap'] as boolean } : {}),
      });
      return { ret: 0n };
    },
  },
  device: {
    fields: { name: 'text', action: 'text' },
    required: ['name', 'action'],
    open: true,
    run(context, op) {
      const name = op['name'] as string;
      const actions = context.vfio.machine.actions.get(name);
      if (actions === undefined) throw new ScriptError(`the machine has no device "${name}" with actions`);
      const action = op['action'] as string;
      if (!Object.hasOwn(actions, action))
        throw new ScriptError(`"${name}" has no action "${action}"; it has ${Object.keys(actions).join(', ')}`);
      const { action: _action, name: _name, ...fields } = op;
      const result = ask(context, name, action, new ActionReader(fields, context.saved));
      if (typeof result === 'number') return outcome(result);
      return result.data === undefined || result.ret < 0
        ? outcome(result.ret)
        : { ret: BigInt(result.ret), data: toHex(result.data) };
    },
  },
};

/** Fields that an action cannot take are the script's mistake. */
function ask(context: ScriptContext, name: string, action: string, fields: ActionReader): ActionResult {
  try {
    return context.vfio.actionRaw(name, action, fields);
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw new ScriptError(`${action}: ${error.message}`);
    throw error;
  }
}

function ioctl(context: ScriptContext, op: JsonObject): Result {
  const { vfio, saved } = context;
  const fd = descriptor(context, op);
  const request = requestNumber(op['request']);
  if ('struct' in op) {
    const typed = encodeStruct(op['struct'] as JsonObject, saved);
    const ret = vfio.ioctlRaw(fd, request, new ScriptBuffer(typed.bytes, typed.type));
    return { ...outcome(ret), arg: toHex(typed.bytes), struct: typed.decode() };
  }
  if ('arg' in op) {
    const bytes = bytesOf(op['arg'], 'arg');
    const ret = vfio.ioctlRaw(fd, request, new ScriptBuffer(bytes));
    return { ...outcome(ret), arg: toHex(bytes) };
  }
  if ('string' in op)
    return outcome(vfio.ioctlRaw(fd, request, new ScriptBuffer(encoder.encode(`${op['string']}\0`), 'string')));
  return outcome(vfio.ioctlRaw(fd, request, 'value' in op ? value(context, op, 'value') : undefined));
}

/** The number of a request by name or number; ioctl(2) takes an unsigned int. @throws ScriptError */
export function requestNumber(request: Json | undefined): number {
  if (typeof request === 'string')
    for (const numbers of [IOCTL_NUMBERS, OWN_IOCTL_NUMBERS])
      if (Object.hasOwn(numbers, request)) return numbers[request] as number;
  if (typeof request === 'string' && !/^0x[0-9a-f]+$/i.test(request))
    throw new ScriptError(`unknown request "${request}"`);
  return Number(BigInt.asUintN(32, integer(request, new Map(), 'request')));
}
