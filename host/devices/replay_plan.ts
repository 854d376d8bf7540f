// What a recording says its device did, command by command: the order of CCWs, how many bytes went through each, the status, the bytes stored.
// Where a recording is cut (600 CCWs, 200 steps) or has no trace at all, the rest follows from the program and the outcome: commands end
// normally, a TIC that was passed over means status modifier, and the last CCW is the one before the outcome's address.
import {
  CCW_CC,
  CCW_CD,
  CCW_SKIP,
  type Ccw,
  CHANNEL_PCI,
  CMD_NOP,
  CMD_TIC,
  decodeCcw,
  direction,
  ENDED,
  INCORRECT_LENGTH,
  STATUS_MODIFIER,
} from '../css/cio.ts';
import { fromHex } from '../hex.ts';
import { EXECUTED_KEPT, GuestImage, type Recording, STEPS_KEPT } from './recording.ts';

export interface PlannedCommand {
  readonly command: number;
  /** Guest addresses of its CCWs; several when data were chained. */
  readonly addresses: readonly number[];
  /** Bytes that go through the whole chain. */
  readonly length: number;
  /** The device gives data (read and sense commands). */
  readonly gives: boolean;
  /** What was recorded of them. */
  readonly pieces: ReadonlyArray<{ readonly offset: number; readonly bytes: Uint8Array }>;
  readonly unitStatus: number;
  /** Without PCI and incorrect length. */
  readonly channelStatus: number;
  readonly incorrectLength: boolean;
  /** false: fetched, but the device never had it (suspended before it, or refused by the channel). */
  readonly executed: boolean;
}

interface Visit {
  readonly at: number;
  readonly ccw: Ccw;
}

/** What the device gives in a command: `length` bytes, zeros where the recording is silent. */
export function givenBytes({ gives, length, pieces }: PlannedCommand): Uint8Array {
  const given = new Uint8Array(gives ? length : 0);
  for (const { offset, bytes } of pieces) given.set(bytes, offset);
  return given;
}

/** Bound of the walk beyond what was recorded. */
const WALK_LIMIT = 10_000;

/** The recorded visits, and beyond them the walk to the CCW that the outcome names. */
function visits(recording: Recording, image: GuestImage): Visit[] {
  const { executed, fetched = [], outcome } = recording;
  const found: Visit[] = (executed ?? []).map((address, index) => {
    const at = Number(address);
    const real = fetched[index];
    if (real === undefined || Number(real[0]) !== at) return { at, ccw: image.ccw(at) };
    return { at, ccw: decodeCcw(new DataView(fromHex(real[1]).buffer), 0, image.format1) };
  });
  if (executed !== undefined && executed.length < EXECUTED_KEPT) return found;
  const last = Number(outcome.ccw_address) - 8;
  let at = image.start;
  const final = found.at(-1);
  // As many CCWs as are kept, and no more: the last one neither chains nor leads on.
  if (final?.at === last && final.ccw.command !== CMD_TIC && (final.ccw.flags & (CCW_CC | CCW_CD)) === 0) return found;
  if (final !== undefined) at = final.ccw.command === CMD_TIC ? final.ccw.address : final.at + 8;
  for (let steps = 0; steps < WALK_LIMIT; steps++) {
    const ccw = image.ccw(at);
    found.push({ at, ccw });
    if (at === last) break;
    if (ccw.command === CMD_TIC) at = ccw.address;
    else if ((ccw.flags & (CCW_CC | CCW_CD)) === 0) break;
    // A search is satisfied at once beyond the recording, or the walk would never leave its loop.
    else if (loops(image, at, ccw)) at += 16;
    else at += 8;
  }
  return found;
}

/** Is this CCW followed by a TIC back to itself? */
function loops(image: GuestImage, at: number, ccw: Ccw): boolean {
  if ((ccw.flags & CCW_CD) !== 0) return false;
  const next = image.ccw(at + 8);
  return next.command === CMD_TIC && next.address <= at;
}

/** Groups the visits into commands: TICs drop out, data chaining joins. The address that follows a group tells of status modifier. */
function groups(all: readonly Visit[]): Array<{ ccws: Visit[]; next: number | undefined }> {
  const result: Array<{ ccws: Visit[]; next: number | undefined }> = [];
  let chaining = false;
  all.forEach((visit, index) => {
    if (visit.ccw.command === CMD_TIC) return;
    const next = all[index + 1]?.at;
    const group = result.at(-1);
    if (chaining && group !== undefined) {
      group.ccws.push(visit);
      group.next = next;
    } else result.push({ ccws: [visit], next });
    chaining = (visit.ccw.flags & CCW_CD) !== 0;
  });
  return result;
}

interface Status {
  unit: number;
  channel: number;
  residual: number;
}

/** Reads a recording as the list of its commands. */
export function planCommands(recording: Recording): PlannedCommand[] {
  const image = new GuestImage(recording);
  const { steps, outcome } = recording;
  const final: Status = {
    unit: Number.parseInt(outcome.unit_status, 16),
    channel: Number.parseInt(outcome.channel_status, 16),
    residual: outcome.residual_count,
  };
  const remaining = [...(steps ?? [])];
  const results = [...(recording.result ?? [])];
  const all = groups(visits(recording, image));
  return all.map(({ ccws, next }, index) => {
    const isLast = index === all.length - 1;
    const addresses = ccws.map(({ at }) => at);
    const last = ccws.at(-1) as Visit;
    let status: Status | undefined;
    while (remaining.length > 0 && addresses.includes(Number(remaining[0]![0]))) {
      const [address, unit, channel, residual] = remaining.shift()!;
      status = { unit: Number.parseInt(unit, 16), channel: Number.parseInt(channel, 16), residual };
      if (Number(address) === last.at) break;
    }
    // No step although steps are kept: the device never had this CCW.
    const executed = status !== undefined || steps === undefined || steps.length >= STEPS_KEPT;
    if (status === undefined) {
      const unit = ENDED | (next !== undefined && next === last.at + 16 ? STATUS_MODIFIER : 0);
      status = isLast ? final : { unit, channel: 0, residual: shortfall(image, ccws, results) };
    }
    const moved = ccws.map(({ ccw }, i) => Math.max(0, ccw.count - (i === ccws.length - 1 ? status.residual : 0)));
    const length = moved.reduce((sum, count) => sum + count, 0);
    const gives = direction(ccws[0]!.ccw.command) !== 'write';
    return {
      command: ccws[0]!.ccw.command,
      addresses,
      length,
      gives,
      pieces: gives ? takeResults(image, ccws, moved, results) : [],
      unitStatus: status.unit,
      channelStatus: status.channel & ~(CHANNEL_PCI | INCORRECT_LENGTH),
      incorrectLength: (status.channel & INCORRECT_LENGTH) !== 0,
      executed,
    };
  });
}

type Result = NonNullable<Recording['result']>[number];

/**
 * Residual count of a command whose status was not kept: a no-operation moves nothing, a read stored what the recording shows of its areas,
 * everything else moved all.
 */
function shortfall(image: GuestImage, ccws: readonly Visit[], results: readonly Result[]): number {
  const { command } = ccws[0]!.ccw;
  const { count } = ccws.at(-1)!.ccw;
  if (command === CMD_NOP) return count;
  if (direction(command) === 'write') return 0;
  let index = 0;
  let stored = 0;
  for (const { ccw } of ccws) {
    stored = 0;
    if ((ccw.flags & CCW_SKIP) !== 0) continue;
    for (const area of image.areas(ccw, ccw.count)) {
      const result = results[index];
      if (result === undefined || Number(result.iova) !== area.iova) break;
      index += 1;
      stored += Math.min(result.len, area.len);
      if (result.len < area.len) break;
    }
  }
  return stored === 0 ? 0 : count - stored;
}

/** Takes the recorded bytes (each area's prefix) that belong to this command. */
function takeResults(image: GuestImage, ccws: Visit[], moved: number[], results: Result[]): PlannedCommand['pieces'] {
  const pieces: Array<{ offset: number; bytes: Uint8Array }> = [];
  let offset = 0;
  ccws.forEach(({ ccw }, index) => {
    const count = moved[index]!;
    if ((ccw.flags & CCW_SKIP) === 0 && results.length > 0) {
      let at = offset;
      for (const area of image.areas(ccw, count)) {
        const result = results[0];
        if (result !== undefined && Number(result.iova) === area.iova) {
          pieces.push({ offset: at, bytes: fromHex(result.hex).subarray(0, area.len) });
          results.shift();
        }
        at += area.len;
      }
    }
    offset += count;
  });
  return pieces;
}
