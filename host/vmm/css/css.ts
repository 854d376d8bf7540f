// The channel subsystem of a virtual machine: its subchannels, the interruptions that are pending, channel reports. One default image
// (cssid 0xfe), up to four subchannel sets; sets and images beyond the first appear when the guest enables them.
import { PGM_OPERAND, ProgramCheck } from '../cpu.ts';
import type { GuestStorage } from '../storage.ts';
import { type SubchannelBackend, VirtualSubchannel } from './subchannel.ts';

const ONE_BIT = 0x00010000;
const MULTIPLE = 0x00080000;
export const DEFAULT_CSS = 0xfe;

/** An interruption that TPI can store. */
export interface PendingInterruption {
  readonly id: number;
  readonly intparm: number;
  readonly isc: number;
  readonly adapter: boolean;
}

interface QueuedInterruption {
  readonly subchannel: VirtualSubchannel | null;
  readonly isc: number;
}

/** Subchannels of a virtual machine, its pending interruptions and channel reports. */
export class ChannelSubsystem {
  /** @internal */
  readonly storage: GuestStorage;
  /** Control register 6: bit 0 (0x80000000) enables subclass 0. */
  cr6 = 0xff000000;
  setsEnabled = false;
  imagesEnabled = false;
  suppressSuspended = false;
  /** Channel report words not yet stored. */
  readonly reports: number[] = [];
  /** Called when an adapter interruption of a subclass becomes pending. */
  onAdapterInterrupt: (isc: number) => void = () => {};
  readonly #subchannels = new Map<number, VirtualSubchannel>();
  readonly #hidden = new Set<number>();
  #queue: QueuedInterruption[] = [];

  /** @internal */
  constructor(storage: GuestStorage) {
    this.storage = storage;
  }

  /** @internal Why a subchannel cannot have this identification, or null. */
  refuses(id: number): string | null {
    if ((id & ONE_BIT) === 0 || id > 0x7ffff) return 'it is 0x1nnnn, with the set in bits 0x60000';
    return this.#subchannels.has(id) ? 'there is such a subchannel already' : null;
  }

  /** Adds a subchannel. @param id 0x0001nnnn, with the set in bits 0x00060000. @throws RangeError malformed or taken. @internal */
  attach(id: number, backend: SubchannelBackend): VirtualSubchannel {
    const why = this.refuses(id);
    if (why !== null) throw new RangeError(`0x${id.toString(16)}: ${why}`);
    const subchannel = new VirtualSubchannel(id, backend, this);
    this.#subchannels.set(id & 0x7ffff, subchannel);
    return subchannel;
  }

  /** @internal */
  subchannels(): Iterable<VirtualSubchannel> {
    return this.#subchannels.values();
  }

  /** Takes a subchannel out of the guest's sight, or shows it again. */
  show(id: number, visible: boolean): void {
    if (visible) this.#hidden.delete(id & 0x7ffff);
    else this.#hidden.add(id & 0x7ffff);
  }

  /**
   * The subchannel that a subsystem identification names. @returns null when there is none, or it is not visible.
   * @throws ProgramCheck operand: the one-bit is missing, or an image is named without m. @internal
   */
  find(identification: bigint): VirtualSubchannel | null {
    const id = Number(identification & 0xffffffffn);
    if ((id & ONE_BIT) === 0) throw new ProgramCheck(PGM_OPERAND, 'the subsystem identification lacks its one-bit');
    const image = id >>> 24;
    if ((id & MULTIPLE) === 0) {
      if (image !== 0) throw new ProgramCheck(PGM_OPERAND, 'an image is named without the m bit');
    } else if (image !== DEFAULT_CSS) return null;
    if ((id & 0x60000) !== 0 && !this.setsEnabled) return null;
    return this.#hidden.has(id & 0x7ffff) ? null : (this.#subchannels.get(id & 0x7ffff) ?? null);
  }

  /** Is the number behind the last subchannel of its set? STSCH then answers 3, otherwise an empty block. @internal */
  isBehindLast(identification: bigint): boolean {
    const id = Number(identification & 0xffffffffn);
    if ((id & MULTIPLE) !== 0 && id >>> 24 !== DEFAULT_CSS) return true;
    if ((id & 0x60000) !== 0 && !this.setsEnabled) return true;
    const set = id & 0x60000;
    for (const known of this.#subchannels.keys())
      if (!this.#hidden.has(known) && (known & 0x60000) === set && (known & 0xffff) >= (id & 0xffff)) return false;
    return true;
  }

  /** @internal */
  pending(subchannel: VirtualSubchannel): void {
    if (!this.#queue.some((entry) => entry.subchannel === subchannel))
      this.#queue.push({ subchannel, isc: subchannel.isc });
  }

  /** @internal */
  withdraw(subchannel: VirtualSubchannel): void {
    this.#queue = this.#queue.filter((entry) => entry.subchannel !== subchannel);
  }

  /** @internal */
  adapterInterrupt(isc: number): void {
    if (!this.#queue.some((entry) => entry.subchannel === null && entry.isc === isc))
      this.#queue.push({ subchannel: null, isc });
    this.onAdapterInterrupt(isc);
  }

  /** The interruption TPI would take: enabled by control register 6, lowest subclass first, oldest first. */
  peek(): PendingInterruption | null {
    const entry = this.#next();
    if (entry === undefined) return null;
    const { subchannel, isc } = entry;
    // With several images an identification tells whose subchannel it is.
    const image = subchannel !== null && this.imagesEnabled ? DEFAULT_CSS * 0x1000000 + MULTIPLE : 0;
    return { id: image + (subchannel?.id ?? 0), intparm: subchannel?.intparm ?? 0, isc, adapter: subchannel === null };
  }

  /** Takes what `peek` showed. */
  take(): void {
    const entry = this.#next();
    this.#queue = this.#queue.filter((other) => other !== entry);
  }

  /** Reset of the channel subsystem: subchannels as at power-on, nothing pending, one image, one set. */
  reset(): void {
    for (const subchannel of this.#subchannels.values()) subchannel.reset();
    this.#queue = [];
    this.reports.length = 0;
    this.cr6 = 0xff000000;
    this.setsEnabled = false;
    this.imagesEnabled = false;
  }

  /** Closes every subchannel. @internal */
  destroy(): void {
    for (const subchannel of this.#subchannels.values()) subchannel.backend.close();
    this.#subchannels.clear();
    this.#queue = [];
  }

  #next(): QueuedInterruption | undefined {
    let best: QueuedInterruption | undefined;
    for (const entry of this.#queue) {
      if (((this.cr6 << entry.isc) & 0x80000000) === 0) continue;
      if (best === undefined || entry.isc < best.isc) best = entry;
    }
    return best;
  }
}
