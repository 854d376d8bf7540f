// The source: checks that the guest can go, copies while it runs, stops it, copies the rest, and hands it over. It alone decides: until the first
// byte of COMMIT an error or an abort lets the guest run on here; from then on it never runs here again. Source: spec migration section C.4.
import { EOPNOTSUPP, PAGE_SIZE_4K } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
} from '../uapi/constants.ts';
import { isPreCopy, stateName } from '../vfio/migration_states.ts';
import type { DeviceHandle } from './devices.ts';
import { DirtyTracker } from './dirty.ts';
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
} from './frames.ts';
import type { Link } from './link.ts';
import { fillPages, PageSet } from './ram.ts';
import { asMigrationError, CONTROL_FRAME, FAREWELL_MS, Session } from './session.ts';
import { FrameReader, FrameWriter, openFrames } from './stream.ts';
import { MigrationError, type MigrationGuest, type MigrationOptions, type MigrationReport } from './types.ts';

/** Pre-copy data of one device in one round, at most: a chatty device must not hold up the guest's pages. */
const PRE_COPY_SHARE = 1 << 20;

export class SourceSide {
  readonly session: Session;
  #decision: 'open' | 'committed' | 'aborted' = 'open';
  #link: Link | null = null;
  #writer: FrameWriter | null = null;
  #tracker: DirtyTracker | null = null;
  #paused = false;
  /** The whole stream was sent: a destination that loses the link from now on cannot know how it ends. */
  wholeSent = false;
  /** What the destination said out of turn: a refusal in the middle of the stream. */
  #refusal: MigrationError | null = null;

  /** @throws MigrationError `refused` with the reason; nothing was touched. */
  constructor(guest: MigrationGuest, options: MigrationOptions) {
    this.session = new Session('source', guest, options);
    for (const device of this.session.devices)
      if (device.flags === 0)
        throw new MigrationError('refused', `${device.name} does not migrate`, { errno: EOPNOTSUPP });
    refuseUnquiet(guest, this.session.devices);
  }

  /**
   * The whole way over a link. @throws MigrationError: the guest runs on here.
   * @returns a report with outcome `committed`: the guest is the destination's.
   */
  async run(link: Link): Promise<MigrationReport> {
    const { session } = this;
    const { signal } = session.options;
    this.#link = link;
    const onAbort = () => {
      if (this.#decision === 'open') void link.close(new MigrationError('aborted', 'asked to stop'));
    };
    signal?.addEventListener('abort', onAbort);
    let replies: FrameReader | null = null;
    try {
      replies = new FrameReader(session.core, link, CONTROL_FRAME);
      await this.#copy(link, replies);
      await this.#expect(replies, FRAME_READY);
      this.#check();
      this.#decision = 'committed';
      await this.#finish(replies);
      return session.report('committed');
    } catch (error) {
      if (this.#decision === 'committed') return session.report('committed');
      throw await this.#giveUp(error);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#writer?.release();
      this.#writer = null;
      await session.within(link.close(), FAREWELL_MS);
      replies?.release();
    }
  }

  /**
   * The way into a file: everything up to the explicit end, to a link that only takes. Then `commit` or `cancel`.
   * @throws MigrationError: the guest runs on.
   */
  async save(link: Link): Promise<void> {
    this.#link = link;
    try {
      await this.#copy(link, null);
    } catch (error) {
      throw await this.#giveUp(error);
    } finally {
      this.#writer?.release();
      this.#writer = null;
    }
  }

  /** The saved stream is safe: the guest never runs here again. */
  commit(): MigrationReport {
    if (this.#decision !== 'open') throw new MigrationError('aborted', 'the migration has ended already');
    this.#decision = 'committed';
    this.#letGo();
    return this.session.report('committed');
  }

  /** The guest runs on here. */
  async cancel(error: unknown = new MigrationError('aborted', 'asked to stop')): Promise<void> {
    if (this.#decision === 'open') await this.#giveUp(error);
  }

  /** Answers the QUERY of a destination in doubt on a new link. Asking before the decision makes it: aborted. */
  async answer(link: Link): Promise<void> {
    const { session } = this;
    const { reader, writer, release } = openFrames(session.core, link, CONTROL_FRAME, CONTROL_FRAME);
    try {
      const frame = await reader.next();
      if (frame?.type !== FRAME_QUERY) return;
      const query = new TextDecoder().decode(reader.payload(frame));
      const known = query === JSON.stringify({ id: session.id });
      if (known && this.#decision === 'open') {
        this.#decision = 'aborted';
        session.event('asked for the outcome before the decision');
        await this.#link?.close(new MigrationError('link', 'the destination lost the link'));
      }
      const outcome = known ? this.#decision : 'unknown';
      session.event(`outcome told: ${outcome}`);
      await writer.sendJson(FRAME_OUTCOME, { id: session.id, outcome });
    } finally {
      await session.within(link.close(), FAREWELL_MS);
      release();
    }
  }

  async #copy(link: Link, replies: FrameReader | null): Promise<void> {
    const { session } = this;
    const { guest, blocks, devices } = session;
    const writer = new FrameWriter(session.core, link, session.frameSize, session.options.compress ?? false);
    this.#writer = writer;
    session.enter('setup');
    session.bytes += await writer.sendJson(FRAME_HELLO, session.hello(replies === null));
    if (replies !== null) {
      await this.#expect(replies, FRAME_ACCEPT);
      this.#listen(replies);
    }
    const sets = blocks.map((block) => new PageSet(block.pages));
    for (const set of sets) set.fill();
    const tracker = new DirtyTracker(guest.process, blocks, devices, guest.cpu);
    this.#tracker = tracker;
    tracker.start();
    for (const device of devices) if (device.preCopies) device.set(VFIO_DEVICE_STATE_PRE_COPY);
    // Without a log of their writes the processors cannot run while pages are copied.
    if (guest.cpu === undefined) await this.#pause();
    session.enter('pre-copy');
    if (!tracker.blind) await this.#rounds(sets, tracker);
    await this.#stop();
    session.enter('stop-copy');
    session.bytes += await writer.send(FRAME_STOPPED, 0);
    tracker.harvest(sets);
    tracker.stop();
    await this.#sendRound(sets);
    for (const [index, device] of devices.entries()) await this.#sendDevice(index, device, Number.POSITIVE_INFINITY);
    this.wholeSent = true;
    session.bytes += await writer.sendBytes(FRAME_END, writer.digest.finish());
    session.enter('hand-over');
  }

  /** Pre-copy: rounds until the rest is small enough, or the policy ends it. */
  async #rounds(sets: readonly PageSet[], tracker: DirtyTracker): Promise<void> {
    const { session } = this;
    const policy = session.options.policy ?? {};
    const { downtimeLimit = 300, maxRounds = 30, patience = 3, otherwise = 'stop' } = policy;
    let stuck = 0;
    for (;;) {
      const sent = sets.reduce((sum, set) => sum + set.count, 0);
      await this.#sendRound(sets);
      for (const [index, device] of session.devices.entries())
        if (device.preCopies) await this.#sendDevice(index, device, PRE_COPY_SHARE);
      tracker.harvest(sets);
      const left = sets.reduce((sum, set) => sum + set.count, 0);
      const rest = (left * PAGE_SIZE_4K * 1000) / session.rate;
      session.event(`round ${session.round - 1}: ${sent} pages sent, ${left} dirty`);
      if (left === 0 || rest <= downtimeLimit || session.round >= maxRounds) return;
      stuck = left >= sent ? stuck + 1 : 0;
      if (stuck < patience) continue;
      if (otherwise === 'abort')
        throw new MigrationError(
          'policy',
          `the guest writes faster than it can be copied: ${left} pages after ${sent}`,
        );
      return;
    }
  }

  /** Sends all pages of the sets, emptying them. */
  async #sendRound(sets: readonly PageSet[]): Promise<void> {
    const { session } = this;
    const writer = this.#writer!;
    const begin = session.clock.now();
    const before = session.bytes;
    let left = sets.reduce((sum, set) => sum + set.count, 0);
    const pages = left;
    session.bytes += await writer.sendJson(FRAME_ROUND, { round: session.round, pages });
    for (const [index, set] of sets.entries())
      for (;;) {
        this.#check();
        const filled = fillPages(writer.room, index, session.blocks[index]!, set);
        if (filled === null) break;
        session.pages += filled.pages;
        session.zeroPages += filled.zeroPages;
        left -= filled.pages + filled.zeroPages;
        session.bytes += await writer.send(FRAME_PAGES, filled.length);
        await this.#throttle(session.bytes - before, begin);
        session.progress(left);
      }
    const milliseconds = session.clock.now() - begin;
    const bytes = session.bytes - before;
    const limit = session.options.policy?.bandwidth ?? Number.POSITIVE_INFINITY;
    session.rate = Math.min(limit, milliseconds > 0 ? (bytes / milliseconds) * 1000 : Number.POSITIVE_INFINITY);
    session.rounds.push({ round: session.round++, pages, bytes, milliseconds });
  }

  async #throttle(bytes: number, begin: number): Promise<void> {
    const { session } = this;
    const limit = session.options.policy?.bandwidth;
    if (limit === undefined) return;
    const wait = (bytes / limit) * 1000 - (session.clock.now() - begin);
    if (wait > 1) await new Promise<void>((resolve) => session.clock.after(wait, resolve));
  }

  async #sendDevice(index: number, device: DeviceHandle, share: number): Promise<void> {
    const { session } = this;
    const writer = this.#writer!;
    for (let sent = 0; sent < share; ) {
      this.#check();
      const { room } = writer;
      const offset = room.payload - room.address;
      const n = device.read(room.bytes(offset + DEVICE_HEADER, room.capacity - DEVICE_HEADER));
      if (n === 0) return;
      room.view.setUint32(offset, index, true);
      room.view.setUint32(offset + 4, 0, true);
      session.bytes += await writer.send(FRAME_DEVICE, DEVICE_HEADER + n);
      session.deviceBytes += n;
      sent += n;
    }
  }

  /** Processors, then every device to where it starts no peer-to-peer DMA, and only when all are there, to the final copy. */
  async #stop(): Promise<void> {
    const { session } = this;
    this.#check();
    await this.#pause();
    for (const device of session.devices) {
      if (!device.p2p) continue;
      device.set(isPreCopy(device.state) ? VFIO_DEVICE_STATE_PRE_COPY_P2P : VFIO_DEVICE_STATE_RUNNING_P2P);
      session.event(`${device.name}: ${stateName(device.state)}`);
    }
    session.event('barrier: no peer-to-peer DMA');
    for (const device of session.devices) {
      device.set(VFIO_DEVICE_STATE_STOP_COPY);
      session.event(`${device.name}: STOP_COPY`);
    }
  }

  async #pause(): Promise<void> {
    if (this.#paused) return;
    this.session.markStopped();
    await this.session.guest.pause?.();
    this.#paused = true;
    this.session.event('processors stopped');
  }

  /** The decision is made: tell it, and wait to hear that the guest runs. Nothing that fails here changes it. */
  async #finish(replies: FrameReader): Promise<void> {
    const { session } = this;
    session.markEnded();
    session.event('decision: committed');
    try {
      session.bytes += await this.#writer!.sendBytes(FRAME_COMMIT, new Uint8Array(0));
      const frame = await session.within(replies.next(), session.options.acknowledgeWithin ?? 10_000);
      session.acknowledged = frame?.type === FRAME_RUNNING;
    } catch {
      session.event('link lost after the decision');
    }
    this.#letGo();
    session.enter('done');
  }

  /** The devices stay stopped; their transfers end. One that cannot even go to STOP is stopped in STOP_COPY or broken. */
  #letGo(): void {
    for (const device of this.session.devices) {
      device.closeData();
      try {
        device.insist(VFIO_DEVICE_STATE_STOP);
      } catch (error) {
        this.session.event(error instanceof Error ? error.message : String(error));
      }
    }
  }

  /** Everything back: tracking off, devices and processors running. @returns why. */
  async #giveUp(error: unknown): Promise<MigrationError> {
    const { session } = this;
    this.#decision = 'aborted';
    const aborted = session.options.signal?.aborted === true;
    const reason = aborted
      ? new MigrationError('aborted', 'asked to stop', { cause: error })
      : (this.#refusal ?? asMigrationError(error, 'link'));
    session.event(`decision: aborted (${reason.reason})`);
    this.#writer?.post(FRAME_ABORT, { reason: reason.message });
    this.#tracker?.stop();
    for (const device of session.devices) if (!device.revive()) session.lose(device.name);
    if (this.#paused) await session.guest.resume?.();
    session.enter('aborted');
    return reason;
  }

  #check(): void {
    if (this.#refusal !== null) throw this.#refusal;
    if (this.session.options.signal?.aborted === true) throw new MigrationError('aborted', 'asked to stop');
    if (this.#decision === 'aborted') throw new MigrationError('link', 'the destination lost the link');
  }

  #next: Promise<MigrationError | number> | null = null;

  /** Looks out for a refusal while the stream goes on. */
  #listen(replies: FrameReader): void {
    this.#next = this.#reply(replies).then((reply) => {
      if (reply instanceof MigrationError) this.#refusal = reply;
      return reply;
    });
    this.#next.catch(() => {});
  }

  async #expect(replies: FrameReader, type: number): Promise<void> {
    const reply = await (this.#next ?? this.#reply(replies));
    this.#next = null;
    if (reply instanceof MigrationError) throw reply;
    if (reply !== type) throw new MigrationError('stream', `${frameName(reply)} where ${frameName(type)} should be`);
  }

  async #reply(replies: FrameReader): Promise<MigrationError | number> {
    const frame = await replies.next();
    if (frame === null) throw new MigrationError('link', 'the destination closed the link');
    if (frame.type !== FRAME_REFUSED) return frame.type;
    const text = new TextDecoder().decode(replies.payload(frame));
    return new MigrationError('refused', `the destination refuses: ${reasonOf(text)}`);
  }
}

/** The reason in a REFUSED or ABORT payload; the text itself when it is not what it should be. */
export function reasonOf(text: string): string {
  try {
    const { reason } = JSON.parse(text) as { reason?: unknown };
    return typeof reason === 'string' ? reason : text;
  } catch {
    return text;
  }
}

/**
 * Several devices need a common quiet point. One without P2P has none before STOP, so nobody may be able to reach it by then: refused
 * when its BARs are mapped for a peer, or, without a list of such mappings, when they are mapped at all.
 */
function refuseUnquiet(guest: MigrationGuest, devices: readonly DeviceHandle[]): void {
  if (devices.length < 2) return;
  for (const device of devices) {
    if (device.p2p) continue;
    const peer = guest.peers?.find(({ target, initiator }) => target === device.name && initiator !== device.name);
    const exposed = guest.peers === undefined && guest.process.mapsFile(device.fd);
    if (peer === undefined && !exposed) continue;
    const who = peer === undefined ? 'other devices' : peer.initiator;
    throw new MigrationError(
      'refused',
      `${device.name} cannot quiesce before it stops (no P2P), and ${who} can reach it through its mapped BAR: remove the mapping first`,
      { errno: EOPNOTSUPP },
    );
  }
}
