// One run of a channel program, from the guest's memory to the IRB: the snapshots between which the reader steps.
import { type CcwView, inspectProgram, type ProgramView, VfioError, watchProgram } from '../../host/index.ts';
import { decode, describeIrb, type GuestCcw, TIC, unitStatusNames } from './ccw.ts';
import type { Recording } from './programs.ts';
import { DISK, REPLAY, type World } from './world.ts';

/** A moment of the run. */
export interface Moment {
  readonly title: string;
  readonly note: string;
  readonly phase: 'guest' | 'copied' | 'translated' | 'running' | 'interrupt' | 'released' | 'refused';
  /** Linear address of the CCW the channel is at. */
  readonly at?: number;
  /** Linear pages touched so far stay lit; index of the command that ended, if one did. */
  readonly status?: string;
}

/** What the guest has in memory: where it starts and which CCWs. */
export interface GuestProgram {
  readonly device: string;
  readonly devtype: string;
  readonly orb: Uint8Array;
  readonly format: 0 | 1;
  readonly areas: readonly { readonly iova: number; readonly bytes: Uint8Array }[];
  readonly reach: readonly { readonly iova: number; readonly length: number }[];
  readonly recording?: Recording;
}

export interface RunResult {
  readonly guest: readonly GuestCcw[];
  readonly program: ProgramView | null;
  readonly moments: readonly Moment[];
  readonly irb: Uint8Array | null;
  readonly error: string | null;
  /** Microseconds that the write of the I/O region took: copy, translate, pin, start. */
  readonly translateUs: number;
}

const fromHex = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

export function recorded(recording: Recording): GuestProgram {
  const areas = recording.memory.map(({ iova, hex }) => ({ iova: Number(iova), bytes: fromHex(hex) }));
  const reach = [
    ...areas.map(({ iova, bytes }) => ({ iova, length: bytes.length + 2048 })),
    ...recording.data.map(({ iova, len }) => ({ iova: Number(iova), length: len })),
  ];
  return {
    device: REPLAY,
    devtype: recording.devtype,
    orb: fromHex(recording.orb),
    format: recording.ccw_format,
    areas,
    reach,
    recording,
  };
}

/** A program of the reader's own for the live disk: CCWs at 0x1000, data wherever they say. */
export function own(
  ccws: readonly Omit<GuestCcw, 'address'>[],
  encodeCcw: (ccw: Omit<GuestCcw, 'address'>) => Uint8Array,
  data: { iova: number; bytes: Uint8Array }[],
): GuestProgram {
  const bytes = new Uint8Array(ccws.length * 8);
  for (const [index, ccw] of ccws.entries()) bytes.set(encodeCcw(ccw), 8 * index);
  const orb = Uint8Array.of(0, 0, 0, 0, 0, 0xc2, 0xff, 0, 0, 0, 0x10, 0);
  return { device: DISK, devtype: '3390', orb, format: 1, areas: [{ iova: 0x1000, bytes }, ...data], reach: [] };
}

/** Puts the program into guest memory; maps what it reaches and is not mapped yet. */
export function load(world: World, program: GuestProgram): void {
  const pages = new Set<number>();
  const reach = [...program.reach, ...program.areas.map(({ iova, bytes }) => ({ iova, length: bytes.length + 2048 }))];
  for (const { iova, length } of reach)
    for (let page = iova >>> 12; page <= (iova + Math.max(length, 1) - 1) >>> 12; page++) pages.add(page);
  const { maps } = world.inspect();
  const missing = [...pages]
    .filter((page) => !maps.some((map) => map.iova <= BigInt(page) * 4096n && BigInt(page) * 4096n <= map.last))
    .sort((a, b) => a - b);
  for (let i = 0; i < missing.length; ) {
    let n = 1;
    while (missing[i + n] === (missing[i] as number) + n) n++;
    world.map(BigInt(missing[i] as number) * 4096n, BigInt(n) * 4096n);
    i += n;
  }
  for (const { iova, bytes } of program.areas) poke(world, iova, bytes);
  if (program.recording !== undefined) world.action(REPLAY, 'load', { recording: program.recording.name });
}

/** Writes guest memory, page by page: two mappings need not lie side by side in the process. */
export function poke(world: World, iova: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const n = Math.min(bytes.length - done, 4096 - ((iova + done) & 4095));
    world.memory(BigInt(iova + done), n)?.set(bytes.subarray(done, done + n));
    done += n;
  }
}

/** The guest's chains as the guest sees them now, following TICs, at most 256 CCWs. */
export function guestChain(world: World, program: GuestProgram, known: ProgramView | null): GuestCcw[] {
  const read = (address: number): GuestCcw | null => {
    const bytes = world.memory(BigInt(address), 8);
    return bytes === null ? null : decode(bytes, program.format, address);
  };
  if (known !== null) return known.chains.flatMap((chain) => chain.ccws.flatMap((ccw) => read(ccw.guest) ?? []));
  const found: GuestCcw[] = [];
  const seen = new Set<number>();
  const starts = [new DataView(program.orb.buffer, program.orb.byteOffset).getUint32(8)];
  while (starts.length > 0 && found.length < 256) {
    for (let address = starts.shift() as number; !seen.has(address) && found.length < 256; address += 8) {
      const ccw = read(address);
      if (ccw === null) break;
      seen.add(address);
      found.push(ccw);
      if (ccw.cmd === TIC) starts.push(ccw.cda);
      if (ccw.cmd === TIC ? !seen.has(ccw.cda) : (ccw.flags & 0xc0) === 0) break;
    }
  }
  return found;
}

/** A started program that waits: translated, pinned, not run yet. */
export class Run {
  readonly world: World;
  readonly program: GuestProgram;
  readonly view: ProgramView | null;
  readonly error: string | null;
  readonly translateUs: number;
  #fetched: number[] = [];
  #ended: { ccw: number; text: string }[] = [];
  #unwatch: () => void;

  constructor(world: World, program: GuestProgram) {
    this.world = world;
    this.program = program;
    this.#unwatch = watchProgram(world.vfio, program.device, {
      fetched: (address) => this.#fetched.push(address),
      commandEnded: ({ unitStatus, channelStatus, residual }) =>
        this.#ended.push({
          ccw: this.#fetched.length - 1,
          text: `status ${unitStatus.toString(16).padStart(2, '0')}${channelStatus === 0 ? '' : ` / ${channelStatus.toString(16).padStart(2, '0')}`} (${unitStatusNames(unitStatus)})${residual === 0 ? '' : `, ${residual} bytes left over`}`,
        }),
    });
    world.action(program.device, 'hold', { value: 1 });
    const region = new Uint8Array(24);
    region.set(program.orb);
    new DataView(region.buffer).setUint32(12, 0x4000);
    const begin = performance.now();
    let error: string | null = null;
    try {
      world.vfio.write(world.device(program.device).fd, region, 0);
    } catch (caught) {
      if (!(caught instanceof VfioError)) throw caught;
      error = caught.message;
    }
    this.translateUs = (performance.now() - begin) * 1000;
    this.error = error;
    const wide = new DataView(program.orb.buffer, program.orb.byteOffset).getUint32(4);
    const blocks = (wide & 0x00020000) !== 0 && (wide & 0x00010000) === 0 ? 4096 : 2048;
    this.view = error === null ? inspectProgram(world.vfio, program.device, blocks) : null;
    if (error !== null) this.#unwatch();
  }

  /** Lets the channel run it to the interrupt. */
  finish(): RunResult {
    const { world, program, view } = this;
    let irb: Uint8Array | null = null;
    if (this.error === null) {
      world.action(program.device, 'hold', { value: 0 });
      for (let i = 0; i < 400 && inspectProgram(world.vfio, program.device) !== null; i++) world.clock.advance(5);
      this.#unwatch();
      const area = new Uint8Array(64);
      world.vfio.read(world.device(program.device).fd, area, 24);
      irb = area;
    }
    return {
      guest: guestChain(world, program, view),
      program: view,
      moments: this.#moments(irb),
      irb,
      error: this.error,
      translateUs: this.translateUs,
    };
  }

  #moments(irb: Uint8Array | null): Moment[] {
    const moments: Moment[] = [
      {
        phase: 'guest',
        title: 'The guest’s program',
        note: 'CCWs and data lie in guest memory, at guest addresses. Nothing has been copied or pinned.',
      },
    ];
    if (this.error !== null || this.view === null) {
      moments.push({
        phase: 'refused',
        title: 'Refused',
        note: `${this.error ?? ''}. Everything that had been pinned is released.`,
      });
      return moments;
    }
    const pins = this.view.pinned.reduce((sum, pin) => sum + pin.count, 0);
    const total = this.view.chains.reduce((sum, chain) => sum + chain.ccws.length, 0);
    moments.push(
      {
        phase: 'copied',
        title: 'Copied',
        note: `Each chain is copied once, 2048 bytes from its start: ${this.view.chains.length} chain${this.view.chains.length > 1 ? 's' : ''}, ${total} CCWs. From here on the guest’s own copy is never looked at again.`,
      },
      {
        phase: 'translated',
        title: 'Translated and pinned',
        note: `Every CCW got a list of host addresses (IDAL); ${this.view.pinned.length} pages are held by ${pins} pins. The ORB for the channel names our copy.`,
      },
    );
    const ccws = new Map<number, CcwView>(
      this.view.chains.flatMap((chain) => chain.ccws.map((ccw) => [ccw.host, ccw] as const)),
    );
    this.#fetched.slice(0, 400).forEach((at, index) => {
      const ccw = ccws.get(at);
      const status = this.#ended.find((end) => end.ccw === index)?.text;
      moments.push({
        phase: 'running',
        title: ccw?.cmd === TIC ? 'Transfer in channel' : 'The channel takes a CCW',
        note:
          ccw === undefined
            ? 'outside the program'
            : `at 0x${at.toString(16)}, the copy of the guest’s 0x${ccw.guest.toString(16)}`,
        at,
        ...(status === undefined ? {} : { status }),
      });
    });
    if (irb !== null) {
      const { text, cpa } = describeIrb(irb);
      moments.push(
        {
          phase: 'interrupt',
          title: 'Interrupt',
          note: `${text}. The address in the status was turned back into the guest’s: 0x${cpa.toString(16)}.`,
        },
        {
          phase: 'released',
          title: 'Released',
          note: 'All pins are gone; the eventfd was signalled and the guest reads its IRB.',
        },
      );
    }
    return moments;
  }
}
