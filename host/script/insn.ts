// Virtual machines in scripts: `vm` makes one and puts opened devices into it, `insn` executes an instruction on it (docs/uapi/insn.md).
import { VfioError } from '../errno.ts';
import { VfioApBackend } from '../vmm/ap/vfio_backend.ts';
import { attachFunction } from '../vmm/attach.ts';
import { encodeInsn, INSN_NAMES, type Insn } from '../vmm/cpu.ts';
import { VfioSubchannelBackend } from '../vmm/css/vfio_backend.ts';
import { VirtualMachine } from '../vmm/machine.ts';
import { VfioFunctionBackend } from '../vmm/zpci/vfio_backend.ts';
import type { Operation, ScriptContext } from './ops.ts';
import { bytesOf, type Decoded, integer, type JsonObject, ScriptError } from './values.ts';

const DEFAULT_STORAGE = 1 << 20;
const MAX_STORAGE = 1 << 30;
const REGISTER = /^r(1[0-5]|[0-9])$/;

/** Which registers an instruction uses when only its name is given; displacements are 0. */
const ROLES: Readonly<Record<string, Partial<Insn>>> = {
  PCILG: { r1: 2, r2: 4 },
  PCISTG: { r1: 2, r2: 4 },
  PCISTB: { r1: 2, r3: 3, b2: 6 },
  MPCIFC: { r1: 2, b2: 6 },
  STPCIFC: { r1: 2, b2: 6 },
  RPCIT: { r1: 2, r2: 4 },
  SIC: { r1: 2, r3: 3, b2: 6 },
  CLP: { r1: 2, r2: 3 },
  CHSC: { r1: 3 },
  NQAP: { r1: 4, r2: 2 },
  DQAP: { r1: 2, r2: 4 },
  PQAP: {},
  HSCH: {},
  CSCH: {},
  RSCH: {},
  XSCH: {},
};

/** The machine named by `vm` (what the `vm` operation returned), or the one made last. */
function guest(context: ScriptContext, op: JsonObject): VirtualMachine {
  const key =
    'vm' in op ? BigInt.asUintN(64, integer(op['vm'], context.saved, 'vm')) : [...context.guests.keys()].at(-1);
  const vm = key === undefined ? undefined : context.guests.get(key);
  if (vm === undefined) throw new ScriptError('there is no such virtual machine: "vm" makes one');
  return vm;
}

const number = (context: ScriptContext, op: JsonObject, name: string): number =>
  Number(integer(op[name], context.saved, name));

/** A call inside the operation that is refused makes a result like that of any other call. */
function refused(act: () => { ret: bigint }): { ret: bigint; errno?: string } {
  try {
    return act();
  } catch (error) {
    if (error instanceof VfioError) return { ret: BigInt(-error.errno), errno: error.code };
    throw error;
  }
}

/** @throws VfioError the descriptors are not what the kind says, or a call on them is refused. */
function attach(context: ScriptContext, op: JsonObject): { ret: bigint } {
  const vm = guest(context, op);
  const { vfio } = context;
  const device = number(context, op, 'fd');
  if (op['kind'] === 'ap') {
    if (vm.ap.backend !== null) throw new ScriptError('the machine has a matrix already');
    vm.ap.backend = new VfioApBackend(vfio, device, (isc) => vm.css.adapterInterrupt(isc));
    return { ret: 0n };
  }
  if (op['kind'] === 'ccw') {
    const id = number(context, op, 'id');
    const why = vm.css.refuses(id);
    if (why !== null) throw new ScriptError(`id 0x${id.toString(16)}: ${why}`);
    vm.css.attach(id, new VfioSubchannelBackend(vfio, device));
    return { ret: 0n };
  }
  const backend = new VfioFunctionBackend(vfio, vm.storage, {
    device,
    container: number(context, op, 'container'),
  });
  const fn = attachFunction(vm, backend, device, {
    fid: 'fid' in op ? number(context, op, 'fid') : vm.functions.size,
  });
  if (op['enable'] === true) fn.enable();
  return { ret: BigInt(fn.fh) };
}

export const VM_OPERATIONS: Readonly<Record<string, Operation>> = {
  vm: {
    fields: { storage: 'integer' },
    required: [],
    run(context, op) {
      const size = 'storage' in op ? number(context, op, 'storage') : DEFAULT_STORAGE;
      if (size <= 0 || size > MAX_STORAGE || size % 4096 !== 0)
        throw new ScriptError(`storage ${size} is no number of pages`);
      return refused(() => {
        const vm = new VirtualMachine(context.vfio, { storage: size });
        context.guests.set(vm.storage.vaddr, vm);
        return { ret: vm.storage.vaddr };
      });
    },
  },
  attach: {
    fields: {
      vm: 'integer',
      kind: 'text',
      fd: 'integer',
      container: 'integer',
      fid: 'integer',
      id: 'integer',
      enable: 'boolean',
    },
    required: ['kind', 'fd'],
    check(op) {
      if (!['pci', 'ccw', 'ap'].includes(op['kind'] as string)) throw new ScriptError('kind is pci, ccw or ap');
      if (op['kind'] === 'pci' && !('container' in op)) throw new ScriptError('a function needs its container');
      if (op['kind'] === 'ccw' && !('id' in op)) throw new ScriptError('a subchannel needs its id, such as "0x10000"');
    },
    run(context, op) {
      return refused(() => attach(context, op));
    },
  },
  insn: {
    fields: { vm: 'integer', i: 'text', code: 'bytes', registers: 'object', problem: 'boolean' },
    required: [],
    check(op) {
      if ('i' in op === 'code' in op) throw new ScriptError('an instruction is "i", its name, or "code", its bytes');
      if ('i' in op && !INSN_NAMES.includes(op['i'] as string))
        throw new ScriptError(`there is no instruction ${op['i']}`);
      const bad = Object.keys((op['registers'] ?? {}) as JsonObject).find((name) => !REGISTER.test(name));
      if (bad !== undefined) throw new ScriptError(`${bad} is no register`);
    },
    run(context, op) {
      const vm = guest(context, op);
      const registers = new BigUint64Array(16);
      for (const [name, value] of Object.entries((op['registers'] ?? {}) as JsonObject))
        registers[Number(name.slice(1))] = BigInt.asUintN(64, integer(value, context.saved, name));
      const given = registers.slice();
      const name = op['i'] as string | undefined;
      const code = name === undefined ? bytesOf(op['code'], 'code') : encodeInsn(name, ROLES[name] ?? { b2: 6 });
      const outcome = vm.execute(code, registers, { problem: op['problem'] === true });
      // Whatever needs no time is done before the next instruction: channel programs, interruptions.
      context.clock.advance(0);
      const out: Record<string, Decoded> = {};
      registers.forEach((value, i) => {
        if (value !== given[i]) out[`r${i}`] = value;
      });
      const ended: Record<string, Decoded> =
        'cc' in outcome ? { cc: BigInt(outcome.cc) } : { pgm: BigInt(outcome.pgm) };
      return { ret: 0n, ...ended, ...(Object.keys(out).length > 0 ? { out } : {}) };
    },
  },
};
