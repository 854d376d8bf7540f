// Why a status block or stored data of a channel sequence may differ from the recording: the traits of the emulator that FORMAT.md lists, and
// what vfio-ccw and the architecture do instead. A difference that no rule explains is a failure.
import { IRB_SIZE, SCHIB_SCSW, SCHIB_SIZE, SCSW_SIZE } from '../../css/schib.ts';
import { type Line, type LineResult, parseBytes, type Step } from './lines.ts';
import {
  FLAG_CHAIN_DATA,
  FLAG_IDA,
  FLAG_SKIP,
  FLAG_SLI,
  memoryAfter,
  programOf,
  type RecordedCcw,
  type RecordedProgram,
} from './programs.ts';

const ORB_ECHO = 0xfbfc0000;
const FCTL_HALT_CLEAR = 0x3000;
const STATUS = 0x1f;
const CCW_SIZE = 8;
const IDAL_BOUNDARY = 8;
const NOP = 0x03;
const BASIC_SENSE = 0x04;
/** First sense byte after a command reject. */
const REJECTED = 0x80;
const ALERT = 0x10;
const DEVICE_END = 0x04;
const UNIT_CHECK = 0x02;
const NORMAL_END = 0x0c;
const PROGRAM_CHECK = 0x20;
const INCORRECT_LENGTH = 0x40;

export const TRAIT_FIELDS =
  'trait 2: fields of the SCSW are never cleared, residual counts are those of an earlier command';
export const TRAIT_LENGTH = 'trait 4: a wrong count is a program check or nothing, here incorrect length';
export const TRAIT_REJECT = 'trait 5: address of a command that ended with unit check';
export const ADDRESS_0 = 'emulator: a data address of 0 is a program check';
export const FORMAT_0 = 'vfio-ccw: a format-0 program reaches the channel as format 1, where a count of 0 is allowed';
export const TRAIT_LIMIT = 'trait 6: where the 256th CCW in a row without data is, TICs count differently';
export const TRAIT_HALT = 'trait 8: device status of HALT SUBCHANNEL';
export const TRAIT_CHAIN = 'trait 9: data chaining, MIDA, PCI, SKIP';
export const ECHO = 'architecture: the SCSW repeats the key and control bits of the ORB';
export const IDAL = 'vfio-ccw: an IDAL may lie anywhere, and that of every CCW is read (spec ccw section 5.2)';
export const WHOLE = 'vfio-ccw: the whole program is translated before it starts (spec ccw section 5)';
export const UNALIGNED = 'vfio-ccw: a chain may begin anywhere, its copy lies on a doubleword';
export const UNDESCRIBED = 'storage whose content the recording does not tell';
export const DEVICE = 'device: sense data of an earlier sequence';

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

/** How many bytes a command of the described control units moves; commands that are missing here move what they are asked for, or are unknown. */
const LENGTHS: ReadonlyMap<number, number> = new Map([
  [0x03, 0],
  [0x04, 32],
  [0xe4, 256],
  [0x11, 5],
  [0x12, 5],
  [0x31, 1],
  [0x72, 1],
  [0x32, 4],
  [0x33, 0],
  [0x43, 8],
  [0x53, 8],
  [0x73, 25],
  [0x83, 4],
]);
/** Their lengths depend on the device or its revision. */
const OPEN_LENGTHS: readonly number[] = [0x13, 0x21, 0x22];
/** NOP, sense and sense id take any count with SLI. */
const ANY_LENGTH_WITH_SLI: readonly number[] = [0x03, 0x04, 0xe4];
/** Commands whose residual count the emulator stores (FORMAT.md, trait 2); the others leave that of an earlier command. */
const COUNTING: readonly number[] = [0x04, 0xe4, 0x11, 0x12, 0x22, 0x72, 0x32];

/**
 * Is its count one that the emulator minds, or that is an incorrect length here? With SLI only too small a one for a virtio command is
 * (FORMAT.md, trait 4).
 */
function wrongCount({ command, count, flags }: RecordedCcw): boolean {
  const length = LENGTHS.get(command) ?? count;
  if ((flags & FLAG_SLI) !== 0) return count < length && !ANY_LENGTH_WITH_SLI.includes(command);
  return count !== length || OPEN_LENGTHS.includes(command);
}

/** Reasons of every differing field of two SCSWs; null in the list: a field that nothing explains. */
function scswReasons(expected: Scsw, actual: Scsw, program: RecordedProgram | null): Array<string | null> {
  const reasons: Array<string | null> = [];
  const differing = expected.word ^ actual.word;
  if ((differing & ORB_ECHO) !== 0) reasons.push(ECHO);
  const halted = ((expected.word | actual.word) & FCTL_HALT_CLEAR) !== 0;
  const taken = (expected.word & STATUS) === 0;
  // The emulator stopped at, or did not mind, a CCW whose count is not the device's.
  const stopped = expected.subchannel === PROGRAM_CHECK || actual.subchannel === INCORRECT_LENGTH;
  const ended = [expected.cpa, actual.cpa].some((cpa) => program !== null && wrongCount(program.at(cpa - CCW_SIZE)));
  const chained = program?.ccws.some(({ flags }) => (flags & FLAG_CHAIN_DATA) !== 0) ?? false;
  const length = stopped && ended ? TRAIT_LENGTH : (programReason(expected, program) ?? (chained ? TRAIT_CHAIN : null));
  if ((differing & ~ORB_ECHO) !== 0)
    reasons.push(
      (differing & ~ORB_ECHO) === ALERT && length !== null
        ? length
        : halted && (differing & ~ORB_ECHO & ~STATUS) === 0
          ? TRAIT_HALT
          : null,
    );
  if (expected.device !== actual.device)
    reasons.push(length ?? (expected.device === DEVICE_END && (halted || taken) ? TRAIT_HALT : null));
  if (expected.subchannel !== actual.subchannel) reasons.push(length ?? (halted || taken ? TRAIT_FIELDS : null));
  if (expected.cpa !== actual.cpa)
    reasons.push(
      halted || taken
        ? TRAIT_FIELDS
        : rejected(expected, actual)
          ? TRAIT_REJECT
          : limited(expected, actual, program)
            ? TRAIT_LIMIT
            : length,
    );
  if (expected.count !== actual.count) reasons.push(countReason(expected, actual, program, length));
  return reasons;
}

/** Rejected here too, but the emulator's block does not tell where. */
const rejected = (expected: Scsw, actual: Scsw): boolean =>
  expected.device === UNIT_CHECK && actual.device === UNIT_CHECK && expected.cpa === 0;

/** A program check on both sides, behind a loop of commands that move no data. */
const limited = (expected: Scsw, actual: Scsw, program: RecordedProgram | null): boolean =>
  (expected.subchannel & actual.subchannel) === PROGRAM_CHECK &&
  program?.at(actual.cpa - CCW_SIZE).command === NOP &&
  program.at(expected.cpa - CCW_SIZE).command === NOP;

/** Storage that is zero before a line and seen to change (FORMAT.md); below it lies the program that recorded. */
const isDescribed = (address: number): boolean =>
  (address >= 0x100000 && address < 0x110000) || (address >= 0x400000 && address < 0x420000);

/** What else the emulator takes for a program check. */
function programReason(expected: Scsw, program: RecordedProgram | null): string | null {
  const last = program?.at(expected.cpa - CCW_SIZE);
  if (last === undefined || expected.subchannel !== PROGRAM_CHECK) return null;
  const { command, flags, count, address, format } = last;
  if (expected.cpa % CCW_SIZE !== 0) return UNALIGNED;
  if (format === 0 && count === 0) return FORMAT_0;
  if ((flags & FLAG_IDA) !== 0 && address % IDAL_BOUNDARY !== 0) return IDAL;
  if ((flags & FLAG_IDA) !== 0 && !isDescribed(address)) return UNDESCRIBED;
  const virtio = LENGTHS.has(command) || OPEN_LENGTHS.includes(command);
  return virtio && !ANY_LENGTH_WITH_SLI.includes(command) && address === 0 ? ADDRESS_0 : null;
}

/** Why a residual count differs: all but those of commands that store one, and came to their end on both sides. */
function countReason(
  expected: Scsw,
  actual: Scsw,
  program: RecordedProgram | null,
  length: string | null,
): string | null {
  const last = program?.at(expected.cpa - CCW_SIZE);
  const done = expected.cpa === actual.cpa && (expected.subchannel | actual.subchannel) === 0;
  if (last === undefined || !done || expected.device !== NORMAL_END || !COUNTING.includes(last.command))
    return length ?? TRAIT_FIELDS;
  return length === TRAIT_CHAIN ? length : null;
}

/** Reasons of a status that explain that other data, or none, were stored. */
const DATA_REASONS: readonly string[] = [TRAIT_LENGTH, ADDRESS_0, FORMAT_0, IDAL, UNALIGNED, UNDESCRIBED];

/** What the recording and this machine have in storage behind a step. */
interface Storage {
  readonly expected: ReadonlyMap<number, number>;
  readonly actual: ReadonlyMap<number, number>;
}

function storageAfter(line: Line, result: LineResult, index: number): Storage {
  return {
    expected: memoryAfter(line, index, (step) => line.steps[step]?.st),
    actual: memoryAfter(line, index, (step) => result.steps[step]?.st),
  };
}

/** Addresses that a step stored to here or in the recording and whose bytes differ now. */
function differingBytes(line: Line, result: LineResult, index: number): { storage: Storage; at: number[] } {
  const storage = storageAfter(line, result, index);
  const named = [...(line.steps[index]?.st ?? []), ...(result.steps[index]?.st ?? [])].flatMap(([address, text]) =>
    Array.from(parseBytes(text), (_, i) => Number(address) + i),
  );
  const at = [...new Set(named)].filter(
    (address) => (storage.expected.get(address) ?? 0) !== (storage.actual.get(address) ?? 0),
  );
  return { storage, at };
}

/** Do both have the same in storage, although one of them had it before the step? */
export const storedTheSame = (line: Line, result: LineResult, index: number): boolean =>
  differingBytes(line, result, index).at.length === 0;

function block(memory: ReadonlyMap<number, number>, base: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => memory.get(base + i) ?? 0);
}

/** @returns the reason of a difference in what was stored, or null. */
export function explainStorage(line: Line, result: LineResult, index: number): string | null {
  const { i } = line.steps[index] as Step;
  if (i === 'SSCH') return explainData(line, result, index);
  const reasons = i === 'TSCH' || i === 'STSCH' ? statusReasons(line, result, index) : [null];
  return reasons.includes(null) ? null : (reasons.find((reason) => reason !== ECHO) ?? ECHO);
}

/** Reasons of the fields in which a block of TSCH or STSCH differs; null in the list: a field that nothing explains. */
function statusReasons(line: Line, result: LineResult, index: number): Array<string | null> {
  const step = line.steps[index] as Step;
  const { expected, actual } = storageAfter(line, result, index);
  const base = Number(step.in?.['r6'] ?? 0);
  const [size, scsw] = step.i === 'TSCH' ? [IRB_SIZE, 0] : [SCHIB_SIZE, SCHIB_SCSW];
  const [wanted, got] = [block(expected, base, size), block(actual, base, size)];
  if (wanted.some((byte, at) => (at < scsw || at >= scsw + SCSW_SIZE) && byte !== got[at])) return [null];
  const status = scswAt(got, scsw);
  const refusal = refusalOf(line, result, index);
  if (refusal !== null && status.subchannel === PROGRAM_CHECK) return [refusal];
  return scswReasons(scswAt(wanted, scsw), status, programOf(line, index));
}

/** The driver refused the program that the last SSCH started: nothing of it ran, and the status is a program check at its first CCW. */
function refusalOf(line: Line, result: LineResult, index: number): string | null {
  const start = line.steps.findLastIndex(({ i }, at) => at <= index && i === 'SSCH');
  if (!result.refused.includes(start)) return null;
  const indirect = programOf(line, index)?.ccws.some(({ flags }) => (flags & FLAG_IDA) !== 0) ?? false;
  return indirect ? IDAL : WHOLE;
}

/** Data of a program: explained by how its status differs, by a flag that the emulator ignores, or because they are sense bytes. */
function explainData(line: Line, result: LineResult, index: number): string | null {
  const refusal = refusalOf(line, result, index);
  if (refusal !== null) return refusal;
  const after = line.steps.findIndex((step, i) => i > index && step.i === 'TSCH' && step.cc === 0);
  const status = after >= 0 ? statusReasons(line, result, after) : [];
  const other = DATA_REASONS.find((reason) => status.includes(reason));
  if (other !== undefined) return other;
  const ccws = programOf(line, index)?.ccws ?? [];
  if (ccws.some(({ flags }) => (flags & (FLAG_SKIP | FLAG_CHAIN_DATA)) !== 0)) return TRAIT_CHAIN;
  const { storage, at } = differingBytes(line, result, index);
  const sense = at.every((address) => storage.expected.get(address) === REJECTED && storage.actual.get(address) === 0);
  return sense && ccws.some(({ command }) => command === BASIC_SENSE) ? DEVICE : null;
}
