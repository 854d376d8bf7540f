// Runs recorded sequences on a machine: storage is set, the instruction executed, and what changed is reported in the recording's own form.
import { decodeInsn, type Registers } from '../cpu.ts';
import type { VirtualMachine } from '../machine.ts';
import { changes, type Line, type LineResult, parseBytes, type Step, type StepResult } from './lines.ts';

/** Storage that the recording looks at. */
const WATCHED = [
  { base: 0xb8, length: 12 },
  { base: 0x100000, length: 0x10000 },
] as const;
/** Storage that is zero before a line: where recorded programs have their blocks, tables and data, and the end, where some reach over it. */
const CLEARED_LOW = 0x500000;
const CLEARED_END = 0x10000;

/** A machine for recorded lines, and what the recording program could do besides executing instructions. */
export interface RecordedMachine {
  readonly vm: VirtualMachine;
  /** Load-normal reset before a line: every device and subchannel that its group has on board, back to power-on. */
  reset(line: Line): void;
  /** Lets everything that needs no time finish: programs, interrupts. */
  settle(): void;
  /** What this step is going to read from a device that is known by its recording only. */
  prepare(step: Step): void;
  /** The function moves data by DMA. @returns whether all of it moved. */
  dma(step: Step): boolean;
}

export function runLine(machine: RecordedMachine, line: Line): LineResult {
  const { vm } = machine;
  machine.reset(line);
  const size = Number(vm.storage.size);
  const low = Math.min(CLEARED_LOW, size);
  const high = Math.min(CLEARED_END, size - low);
  vm.storage.view(0n, low)?.fill(0);
  if (high > 0) vm.storage.view(vm.storage.size - BigInt(high), high)?.fill(0);
  const touched: Array<readonly [bigint, number]> = [];
  const before = WATCHED.map(({ base, length }) => vm.storage.fetch(BigInt(base), length));
  const refused: number[] = [];
  const refusals = (): number => [...vm.css.subchannels()].reduce((sum, one) => sum + one.refusals, 0);
  const steps = line.steps.map((step, index) => {
    for (const [address, text] of step.set ?? []) {
      const bytes = parseBytes(text);
      vm.storage.store(BigInt(address), bytes);
      touched.push([BigInt(address), bytes.length]);
      WATCHED.forEach(({ base, length }, i) => {
        const at = Number(address) - base;
        if (at >= 0 && at + bytes.length <= length) before[i]?.set(bytes, at);
      });
    }
    const refusedBefore = refusals();
    const result = step.i === undefined ? pseudo(machine, step) : execute(machine, step);
    if (refusals() > refusedBefore) refused.push(index);
    if (step.i === undefined) return result;
    const st = WATCHED.flatMap(({ base, length }, i) => {
      const after = vm.storage.fetch(BigInt(base), length);
      const changed = changes(before[i] as Uint8Array, after, base);
      before[i] = after;
      return changed;
    });
    if (st.length > 0) result.st = st;
    return result;
  });
  for (const [address, length] of touched) vm.storage.view(address, length)?.fill(0);
  return { id: line.id, steps, refused };
}

function execute(machine: RecordedMachine, step: Step): StepResult {
  const bytes = parseBytes(step.op ?? '');
  const insn = decodeInsn(bytes);
  if (insn !== null && insn.name !== step.i) throw new Error(`${step.op} is ${insn.name}, not ${step.i}`);
  const registers: Registers = new BigUint64Array(16);
  for (const [name, value] of Object.entries(step.in ?? {})) registers[Number(name.slice(1))] = BigInt(value);
  const given = registers.slice();
  machine.prepare(step);
  const outcome = machine.vm.execute(bytes, registers, { problem: step.problem === 1 });
  machine.settle();
  const out: Record<string, string> = {};
  registers.forEach((value, i) => {
    if (value !== given[i]) out[`r${i}`] = `0x${value.toString(16)}`;
  });
  return { ...outcome, ...(Object.keys(out).length > 0 ? { out } : {}) };
}

function pseudo(machine: RecordedMachine, step: Step): StepResult {
  const { vm } = machine;
  if (step.cr6 !== undefined) {
    vm.css.cr6 = Number(BigInt(step.cr6) & 0xffffffffn);
    return {};
  }
  if (step.sclp !== undefined) {
    const fid = Number(step.v);
    const code = step.sclp === 'configure' ? vm.configure(fid) : vm.deconfigure(fid);
    return { rc: `0x${code.toString(16)}` };
  }
  if (step.dma !== undefined) return { completed: machine.dma(step) ? 1 : 0 };
  throw new Error('a step without an instruction that this runner does not know');
}
