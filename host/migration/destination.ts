// The destination: believes nothing that is not checked, keeps a journal of what it overwrites, loads the devices when the whole stream has proved sound,
// and runs the guest only when the source has said so. Whatever fails before leaves it as it was. Source: spec migration sections C.3, C.4.
import {
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
} from '../uapi/constants.ts';
import { stateName } from '../vfio/migration_states.ts';
import type { DeviceHandle } from './devices.ts';
import {
  DEVICE_HEADER,
  FRAME_ABORT,
  FRAME_ACCEPT,
  FRAME_COMMIT,
  FRAME_DEVICE,
  FRAME_END,
  FRAME_HELLO,
  FRAME_OUTCOME,
  FRAME_PAGES,
  FRAME_QUERY,
  FRAME_READY,
  FRAME_REFUSED,
  FRAME_ROUND,
  FRAME_RUNNING,
  FRAME_STOPPED,
  frameName,
  StreamError,
} from './frames.ts';
import { checkHello, parseRound } from './hello.ts';
import type { Link } from './link.ts';
import { applyPages, PageJournal, pagesLanding } from './ram.ts';
import { asMigrationError, CONTROL_FRAME, FAREWELL_MS, Session } from './session.ts';
import { reasonOf } from './source.ts';
import { type Frame, type FrameReader, type FrameWriter, openFrames } from './stream.ts';
import { MigrationError, type MigrationGuest, type MigrationOptions, type MigrationReport } from './types.ts';

/** What one device holds back while the stream is not proved, and what it was before. */
interface Arrival {
  chunks: Uint8Array[];
  length: number;
  before: Uint8Array | null;
  touched: boolean;
}

export class DestinationSide {
  readonly session: Session;
  readonly #arrivals: Arrival[];
  readonly #journal: PageJournal;
  #oneWay = false;
  /** READY was on its way: only the source knows what became of it. */
  #inDoubt = false;
  #settled = false;
  #roundBegin = 0;
  #roundBytes = 0;

  /** @throws MigrationError `refused`; nothing was touched. */
  constructor(guest: MigrationGuest, options: MigrationOptions) {
    this.session = new Session('destination', guest, options);
    this.#arrivals = this.session.devices.map(() => ({ chunks: [], length: 0, before: null, touched: false }));
    this.#journal = new PageJournal(this.session.core, this.session.blocks);
    for (const device of this.session.devices)
      if (device.flags === 0) throw new MigrationError('refused', `${device.name} does not migrate`);
  }

  get inDoubt(): boolean {
    return this.#inDoubt && !this.#settled;
  }

  /**
   * Takes a guest from a link. @throws MigrationError: this side is as it was.
   * @returns outcome `committed`: the guest runs here; `in-doubt`: the link broke when only the source could know - `resolve` ends it.
   */
  async run(link: Link): Promise<MigrationReport> {
    const { session } = this;
    const { signal } = session.options;
    const frames = await this.#open(link);
    const { reader, writer } = frames;
    const onAbort = () => {
      if (!this.#inDoubt) void link.close(new MigrationError('aborted', 'asked to stop'));
    };
    signal?.addEventListener('abort', onAbort);
    try {
      await this.#receive(reader, writer);
      session.enter('hand-over');
      if (!this.#oneWay) {
        this.#inDoubt = true;
        session.bytes += await writer.sendBytes(FRAME_READY, new Uint8Array(0));
        await this.#decision(reader);
      }
      await this.#start();
      if (!this.#oneWay)
        await session.within(
          writer.sendBytes(FRAME_RUNNING, new Uint8Array(0)).catch(() => 0),
          FAREWELL_MS,
        );
      return session.report('committed');
    } catch (error) {
      if (this.inDoubt) {
        session.event('in doubt: the link broke before the decision was heard');
        return session.report('in-doubt');
      }
      if (this.#settled) throw error;
      const reason =
        signal?.aborted === true
          ? new MigrationError('aborted', 'asked to stop', { cause: error })
          : streamError(error);
      if (!this.#oneWay) writer.post(FRAME_REFUSED, { reason: reason.message });
      this.#undo();
      session.event(`refused (${reason.reason})`);
      session.enter('aborted');
      throw reason;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      await session.within(link.close(), FAREWELL_MS);
      frames.release();
    }
  }

  /**
   * Ends the doubt with what the source (or whoever can know) says. @returns a report.
   * @throws MigrationError `aborted` when the guest stayed at the source; this side is as it was.
   */
  async resolve(outcome: 'committed' | 'aborted'): Promise<MigrationReport> {
    if (!this.inDoubt) throw new MigrationError('refused', 'this migration is not in doubt');
    if (outcome === 'committed') {
      await this.#start();
      return this.session.report('committed');
    }
    this.#undo();
    this.session.enter('aborted');
    throw new MigrationError('aborted', 'the guest stayed at the source');
  }

  /** Asks the source over a new link. @returns what it says; `unknown`: no answer, or it never heard of this migration. */
  async query(link: Link): Promise<'committed' | 'aborted' | 'unknown'> {
    const { session } = this;
    const { reader, writer, release } = openFrames(session.core, link, CONTROL_FRAME, CONTROL_FRAME);
    try {
      await writer.sendJson(FRAME_QUERY, { id: session.id });
      const frame = await reader.next();
      if (frame?.type !== FRAME_OUTCOME) return 'unknown';
      const { id, outcome } = JSON.parse(new TextDecoder().decode(reader.payload(frame))) as Record<string, unknown>;
      return id === session.id && (outcome === 'committed' || outcome === 'aborted') ? outcome : 'unknown';
    } catch {
      return 'unknown';
    } finally {
      await session.within(link.close(), FAREWELL_MS);
      release();
    }
  }

  /** No room for frames is no reason to leave the peer waiting. */
  async #open(link: Link): Promise<ReturnType<typeof openFrames>> {
    try {
      return openFrames(this.session.core, link, this.session.frameSize, CONTROL_FRAME);
    } catch (error) {
      await link.close(error);
      throw error;
    }
  }

  /** Everything up to loaded, configured devices in STOP. */
  async #receive(reader: FrameReader, writer: FrameWriter): Promise<void> {
    const { session } = this;
    session.enter('setup');
    const first = await this.#next(reader);
    if (first.type !== FRAME_HELLO) reader.wrong('type', `${frameName(first.type)} where HELLO should be`);
    const hello = checkHello(reader, first, session);
    session.id = hello.id;
    this.#oneWay = hello.oneWay;
    for (const [index, device] of session.devices.entries()) {
      if (device.state !== VFIO_DEVICE_STATE_RUNNING)
        throw new MigrationError('refused', `${device.name} is in ${stateName(device.state)}, not RUNNING`);
      // What the device holds now is kept, for the case that it must be put back.
      const arrival = this.#arrivals[index]!;
      arrival.touched = true;
      device.set(VFIO_DEVICE_STATE_STOP_COPY);
      arrival.before = device.readAll(session.deviceLimit);
      device.set(VFIO_DEVICE_STATE_STOP);
      device.closeData();
      arrival.touched = false;
    }
    if (!this.#oneWay) session.bytes += await writer.sendBytes(FRAME_ACCEPT, new Uint8Array(0));
    session.enter('pre-copy');
    this.#roundBegin = session.clock.now();
    reader.landing = pagesLanding(session.blocks, this.#journal);
    for (;;) {
      const frame = await this.#next(reader);
      if (frame.type === FRAME_END) {
        reader.landing = null;
        this.#checkEnd(reader, frame);
        break;
      }
      this.#take(reader, frame);
    }
    this.#endRound();
    if (this.#oneWay) await this.#nothingBehind(reader);
    this.#load();
    await session.guest.setup?.();
    session.event('configured');
  }

  async #next(reader: FrameReader): Promise<Frame> {
    const before = reader.received;
    const frame = await reader.next();
    this.session.bytes += reader.received - before;
    if (frame === null) throw new StreamError('truncated', 0, 'the stream ends without its explicit end');
    if (frame.type === FRAME_ABORT)
      throw new MigrationError('aborted', `the source: ${reasonOf(new TextDecoder().decode(reader.payload(frame)))}`);
    return frame;
  }

  #take(reader: FrameReader, frame: Frame): void {
    const { session } = this;
    switch (frame.type) {
      case FRAME_PAGES: {
        const applied = applyPages(reader.room, frame.length, session.blocks, this.#journal, frame.landed);
        if (typeof applied === 'string') reader.wrong('content', `PAGES: ${applied}`);
        session.pages += applied.pages;
        session.zeroPages += applied.zeroPages;
        session.progress(0);
        return;
      }
      case FRAME_DEVICE:
        this.#keep(reader, reader.payload(frame));
        return;
      case FRAME_ROUND: {
        const { round, pages } = parseRound(reader, frame);
        if (round > 0) this.#endRound();
        session.round = round;
        session.rounds.push({ round, pages, bytes: 0, milliseconds: 0 });
        return;
      }
      case FRAME_STOPPED:
        session.markStopped();
        session.enter('stop-copy');
        return;
      default:
        reader.wrong('type', `${frameName(frame.type)} has no place here`);
    }
  }

  #endRound(): void {
    const { session } = this;
    const last = session.rounds.at(-1);
    const now = session.clock.now();
    if (last !== undefined) {
      const bytes = session.bytes - this.#roundBytes;
      const milliseconds = now - this.#roundBegin;
      session.rounds[session.rounds.length - 1] = { ...last, bytes, milliseconds };
      session.rate = milliseconds > 0 ? (bytes / milliseconds) * 1000 : 0;
    }
    this.#roundBegin = now;
    this.#roundBytes = session.bytes;
  }

  #keep(reader: FrameReader, payload: Uint8Array): void {
    const { session } = this;
    if (payload.length <= DEVICE_HEADER) reader.wrong('content', 'DEVICE without data');
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const arrival = this.#arrivals[view.getUint32(0, true)];
    if (arrival === undefined || view.getUint32(4, true) !== 0) reader.wrong('content', 'DEVICE of an unknown device');
    arrival.length += payload.length - DEVICE_HEADER;
    if (arrival.length > session.deviceLimit)
      reader.wrong('content', `more than ${session.deviceLimit} bytes for one device`);
    arrival.chunks.push(payload.slice(DEVICE_HEADER));
    session.deviceBytes += payload.length - DEVICE_HEADER;
  }

  #checkEnd(reader: FrameReader, frame: Frame): void {
    const expected = reader.digest.finish();
    const said = reader.payload(frame);
    if (said.length !== expected.length || said.some((byte, i) => byte !== expected[i]))
      reader.wrong('digest', 'the digest of the stream does not match');
  }

  /** A saved stream ends where it says: what is longer was not made in one piece. A link that is not closed, or breaks now, is no reason. */
  async #nothingBehind(reader: FrameReader): Promise<void> {
    const frame = await this.session.within(
      reader.next().catch((error: unknown) => {
        if (error instanceof StreamError) throw error;
        return null;
      }),
      FAREWELL_MS,
    );
    if (frame !== null) reader.wrong('content', `${frameName(frame.type)} behind the explicit end`);
  }

  /** All devices to RESUMING and loaded, then all to STOP. */
  #load(): void {
    const { devices } = this.session;
    for (const [index, device] of devices.entries()) {
      const arrival = this.#arrivals[index]!;
      arrival.touched = true;
      device.set(VFIO_DEVICE_STATE_RESUMING);
      for (const chunk of arrival.chunks) device.writeAll(chunk);
      arrival.chunks = [];
    }
    for (const device of devices) {
      device.set(VFIO_DEVICE_STATE_STOP);
      device.closeData();
      this.session.event(`${device.name}: loaded`);
    }
  }

  /** READY was sent: only the source's word counts now. */
  async #decision(reader: FrameReader): Promise<void> {
    const frame = await reader.next();
    if (frame === null) throw new Error('the link ended without a decision');
    if (frame.type === FRAME_COMMIT) return;
    if (frame.type !== FRAME_ABORT) throw new Error(`${frameName(frame.type)} where the decision should be`);
    this.#inDoubt = false;
    throw new MigrationError('aborted', `the source: ${reasonOf(new TextDecoder().decode(reader.payload(frame)))}`);
  }

  /** The guest is ours: everybody to the quiet point, then all run, then the processors. */
  async #start(): Promise<void> {
    const { session } = this;
    this.#settled = true;
    session.event('decision: committed');
    for (const device of session.devices) if (device.p2p) this.#run(device, VFIO_DEVICE_STATE_RUNNING_P2P);
    session.event('barrier: all quiet');
    for (const device of session.devices) this.#run(device, VFIO_DEVICE_STATE_RUNNING);
    await session.guest.resume?.();
    session.markEnded();
    session.event('running');
    session.enter('done');
  }

  /** There is no way back any more: a device that cannot run with its state runs without. */
  #run(device: DeviceHandle, state: number): void {
    try {
      device.insist(state);
    } catch {
      this.session.lose(device.name);
      device.reset();
    }
  }

  /** As before: pages from the journal, devices from what they held. */
  #undo(): void {
    const { session } = this;
    this.#settled = true;
    this.#journal.undo();
    for (const [index, device] of session.devices.entries()) {
      const arrival = this.#arrivals[index]!;
      const { before, touched } = arrival;
      device.closeData();
      try {
        if (touched && before !== null) {
          // From STOP the old state is loaded over the new; a transfer in the middle is given up by RESET.
          if (device.state !== VFIO_DEVICE_STATE_STOP) device.reset();
          device.insist(VFIO_DEVICE_STATE_RESUMING);
          device.writeAll(before);
        }
      } catch {
        session.lose(device.name);
        device.reset();
      }
      if (!device.revive()) session.lose(device.name);
      arrival.chunks = [];
      arrival.before = null;
    }
  }
}

const streamError = (error: unknown): MigrationError =>
  error instanceof StreamError
    ? new MigrationError('stream', error.message, { cause: error })
    : asMigrationError(error, 'link');
