// Why a status block or stored data of a channel sequence may differ from the recording: the traits of the emulator that FORMAT.md lists, and
// what vfio-ccw and the architecture do instead. A difference that no rule explains is a failure.
import { IRB_SIZE, SCHIB_SCSW, SCHIB_SIZE, SCSW_SIZE } from '../../css/schib.ts';
import { type Line, type LineResult, parseBytes, type Step } from './lines.ts';

const ORB_ECHO = 0xfbfc0000;
const FCTL_HALT_CLEAR = 0x3000;
const STATUS = 0x1f;
const ALERT = 0x10;
const PRIMARY = 0x04;
const PROGRAM_CHECK = 0x20;
const INCORRECT_LENGTH = 0x40;

export const TRAIT_FIELDS =
  'trait 2: fields of the SCSW are never cleared, residual counts are those of an earlier command';
export const TRAIT_LENGTH = 'trait 4: a wrong count is a program check or nothing, here incorrect length';
export const TRAIT_REJECT = 'trait 5: status of a rejected command, here the CCW was executed';
export const TRAIT_LIMIT = 'trait 6: limits on CCWs in a row, here only those of vfio-ccw';
export const TRAIT_HALT = 'trait 8: device status of HALT SUBCHANNEL';
export const TRAIT_CHAIN = 'trait 9: data chaining, MIDA, PCI, SKIP';
export const ECHO = 'architecture: the SCSW repeats the key and control bits of the ORB';
export const IDAL = 'vfio-ccw: an IDAL may lie anywhere, and that of every CCW is read (spec ccw section 5.2)';
export const WHOLE = 'vfio-ccw: the whole program is translated before it starts (spec ccw section 5)';
export const DEVICE = 'device: the described control unit, not its data, is modelled';

interface Scsw {
  readonly word: number;
  readonly cpa: number;
  readonly device: number;
  readonly subchannel: number;
  readonly count: number;
}

function scswAt(block: Uint8Array, offset: number): Scsw {
  const view = new DataView(block.buffer, block.byteOffset + offset, SCSW_SIZE);
  return {
    word: view.getUint32(0),
    cpa: view.getUint32(4),
    device: view.getUint8(8),
    subchannel: view.getUint8(9),
    count: view.getUint16(10),
  };
}

/** A block in storage after a step: what the step set, then what it changed. */
function blockAfter(step: Step, st: ReadonlyArray<readonly [string, string]>, base: number, size: number): Uint8Array {
  const block = new Uint8Array(size);
  for (const [address, text] of [...(step.set ?? []), ...st]) {
    const bytes = parseBytes(text);
    for (let i = 0; i < bytes.length; i++) {
      const at = Number(address) + i - base;
      if (at >= 0 && at < size) block[at] = bytes[i] as number;
    }
  }
  return block;
}

/** Reasons of every differing field of two SCSWs; null in the list: a field that nothing explains. */
function scswReasons(expected: Scsw, actual: Scsw): Array<string | null> {
  const reasons: Array<string | null> = [];
  const differing = expected.word ^ actual.word;
  if ((differing & ORB_ECHO) !== 0) reasons.push(ECHO);
  const halted = ((expected.word | actual.word) & FCTL_HALT_CLEAR) !== 0;
  const length = actual.subchannel === INCORRECT_LENGTH || expected.subchannel === PROGRAM_CHECK;
  // The emulator stopped at a CCW whose count it did not like; here the program went on to what really is a program check.
  const stoppedEarlier = expected.subchannel === PROGRAM_CHECK && actual.cpa > expected.cpa;
  const rest = differing & ~ORB_ECHO;
  const wrongCount = length && actual.subchannel !== PROGRAM_CHECK && ((expected.word | actual.word) & PRIMARY) !== 0;
  if (rest !== 0)
    reasons.push(
      (rest & ~ALERT & STATUS) === 0 && (rest & ~STATUS) === 0 && length ? TRAIT_LENGTH : halted ? TRAIT_HALT : null,
    );
  if (expected.device !== actual.device)
    reasons.push(
      wrongCount ? TRAIT_LENGTH : expected.device === 0x04 || (expected.word & STATUS) === 0 ? TRAIT_HALT : null,
    );
  if (expected.subchannel !== actual.subchannel)
    reasons.push(wrongCount ? TRAIT_LENGTH : (expected.word & PRIMARY) === 0 ? TRAIT_FIELDS : null);
  if (expected.cpa !== actual.cpa)
    reasons.push(
      halted || (expected.word & STATUS) === 0
        ? TRAIT_FIELDS
        : wrongCount
          ? TRAIT_LENGTH
          : expected.cpa === 0
            ? TRAIT_REJECT
            : stoppedEarlier
              ? TRAIT_LENGTH
              : null,
    );
  if (expected.count !== actual.count) reasons.push(TRAIT_FIELDS);
  return reasons;
}

/** @returns the reason of a difference in what was stored, or null. */
export function explainStorage(line: Line, result: LineResult, index: number): string | null {
  const step = line.steps[index] as Step;
  const expectedSt = step.st ?? [];
  const actualSt = result.steps[index]?.st ?? [];
  const address = Number(step.in?.['r6'] ?? 0);
  if (step.i === 'TSCH' || step.i === 'STSCH') {
    const [size, scsw] = step.i === 'TSCH' ? [IRB_SIZE, 0] : [SCHIB_SIZE, SCHIB_SCSW];
    const [expected, actual] = [blockAfter(step, expectedSt, address, size), blockAfter(step, actualSt, address, size)];
    const outside = expected.some((byte, at) => (at < scsw || at >= scsw + SCSW_SIZE) && byte !== actual[at]);
    if (outside) return null;
    const got = scswAt(actual, scsw);
    const program = programOf(line, index);
    // The driver refused the program: nothing of it ran, and the status is a program check at its first CCW.
    if (got.subchannel === PROGRAM_CHECK && got.cpa === program.address + 8) return program.idal ? IDAL : WHOLE;
    const reasons = scswReasons(scswAt(expected, scsw), got);
    return reasons.includes(null) ? null : (reasons[0] ?? null);
  }
  return step.i === 'SSCH' ? explainData(line, result, index) : null;
}

/** Data of a program: explained by how its status differs, or by what its CCWs ask for. */
function explainData(line: Line, result: LineResult, index: number): string | null {
  const program = programOf(line, index);
  const after = line.steps.findIndex((step, i) => i > index && step.i === 'TSCH' && step.cc === 0);
  if (after >= 0) {
    const reason = explainStorage(line, result, after);
    if (reason !== null && reason !== ECHO && reason !== TRAIT_FIELDS) return reason;
  }
  return program.commands.some((command) => DEVICE_DATA.includes(command)) ? DEVICE : null;
}

/** Sense, sense id, and the commands that read features, configuration and queue sizes. */
const DEVICE_DATA: readonly number[] = [0x04, 0xe4, 0x12, 0x22, 0x32];
const MAX_COMMANDS = 32;
const FORMAT_1 = 0x80;
const IDAL_FLAG = 0x04;
const CHAINED = 0xc0;

/** Address and commands of the program that the last SSCH up to a step started, as far as the steps set them. */
function programOf(line: Line, index: number): { address: number; commands: number[]; idal: boolean } {
  const none = { address: -1, commands: [], idal: false };
  const memory = new Map<number, number>();
  let started: Step | undefined;
  line.steps.slice(0, index + 1).forEach((step) => {
    for (const [address, text] of step.set ?? [])
      parseBytes(text).forEach((byte, i) => {
        memory.set(Number(address) + i, byte);
      });
    if (step.i === 'SSCH') started = step;
  });
  if (started === undefined) return none;
  const at = Number(started.in?.['r6'] ?? 0);
  const byte = (offset: number): number => memory.get(offset) ?? 0;
  const address = byte(at + 8) * 0x1000000 + byte(at + 9) * 0x10000 + byte(at + 10) * 0x100 + byte(at + 11);
  const flagsAt = (byte(at + 5) & FORMAT_1) !== 0 ? 1 : 4;
  const commands: number[] = [];
  let idal = false;
  for (let ccw = address; commands.length < MAX_COMMANDS; ccw += 8) {
    commands.push(byte(ccw));
    idal ||= (byte(ccw + flagsAt) & IDAL_FLAG) !== 0;
    if ((byte(ccw + flagsAt) & CHAINED) === 0) break;
  }
  return { address, commands, idal };
}
