// Migration, for a program that moves a guest: one object on each side, over any link, or through a stream of bytes into a file and out again.
import { DestinationSide } from './destination.ts';
import { type Link, LinkError, linkOf, Pipe } from './link.ts';
import { SourceSide } from './source.ts';
import { MigrationError, type MigrationGuest, type MigrationOptions, type MigrationReport } from './types.ts';

/**
 * One side of one migration. `send` or `save` make it the source, `receive` or `restore` the destination; it can be used once.
 *
 * At the end exactly one side holds a guest that runs. The source decides: until it sends COMMIT every failure lets the guest run on there and leaves the
 * destination as it was. When the link breaks while COMMIT may be on its way, the destination stays stopped and in doubt until it has asked the source
 * (`query` there, `answer` here) or was told (`resolve`).
 */
export class Migration {
  readonly #guest: MigrationGuest;
  readonly #options: MigrationOptions;
  readonly #abort = new AbortController();
  #source: SourceSide | null = null;
  #destination: DestinationSide | null = null;

  constructor(guest: MigrationGuest, options: MigrationOptions = {}) {
    this.#guest = guest;
    const { signal } = options;
    if (signal?.aborted === true) this.#abort.abort(signal.reason);
    signal?.addEventListener('abort', () => this.#abort.abort(signal.reason), { once: true });
    this.#options = { ...options, signal: this.#abort.signal };
  }

  /**
   * Moves the guest to whoever receives at the other end.
   * @returns a report; the guest is stopped here for good. @throws MigrationError (or a rejection): the guest runs on here.
   */
  async send(link: Link): Promise<MigrationReport> {
    return this.#asSource().run(link);
  }

  /**
   * Takes a guest. @returns a report: `committed`, the guest runs here, or `in-doubt`, see `query` and `resolve`.
   * @throws MigrationError: RAM and devices are as they were, and usable.
   */
  async receive(link: Link): Promise<MigrationReport> {
    return this.#asDestination().run(link);
  }

  /**
   * The guest as a stream of bytes, for a file. The guest is stopped at the end of it; `commit` when the bytes are safe, or `cancel`. Ending the
   * iteration early cancels. @throws MigrationError while iterating: the guest runs on.
   */
  async *save(): AsyncGenerator<Uint8Array, void, undefined> {
    const source = this.#asSource();
    const pipe = new Pipe();
    const done = source.save(linkOf(pipe, (bytes) => pipe.send(bytes))).then(
      () => pipe.close(),
      (error: unknown) => pipe.close(error),
    );
    let whole = false;
    try {
      yield* pipe;
      whole = true;
    } finally {
      if (!whole) {
        pipe.close(new LinkError('the reader went away'));
        await source.cancel();
      }
      await done;
    }
  }

  /** After `save`: the bytes are safe, the guest never runs here again. */
  commit(): MigrationReport {
    if (this.#source === null) throw new MigrationError('refused', 'nothing was saved');
    return this.#source.commit();
  }

  /** After `save`: the guest runs on here. */
  async cancel(): Promise<void> {
    await this.#source?.cancel();
  }

  /** Takes a guest from a saved stream. Results as `receive`, without doubt. */
  async restore(bytes: AsyncIterable<Uint8Array>): Promise<MigrationReport> {
    return this.#asDestination().run(linkOf(bytes, async () => {}));
  }

  /** Stops the migration, at any point before the decision. What was started ends with MigrationError `aborted`. */
  abort(): void {
    this.#abort.abort();
  }

  /** Source: the link broke so late that the destination may be in doubt, and ask (`answer`). */
  get mayBeAsked(): boolean {
    return this.#source?.wholeSent === true && !this.#source.session.acknowledged;
  }

  /** Source: answers one query of a destination in doubt, on a new link. */
  async answer(link: Link): Promise<void> {
    if (this.#source === null) throw new MigrationError('refused', 'nothing was sent');
    await this.#source.answer(link);
  }

  /** Destination in doubt: asks the source what it decided. @returns `unknown` without an answer. */
  async query(link: Link): Promise<'committed' | 'aborted' | 'unknown'> {
    if (this.#destination === null) throw new MigrationError('refused', 'nothing was received');
    return this.#destination.query(link);
  }

  /** Destination in doubt: ends it. @throws MigrationError `aborted` for that outcome, and when there is no doubt (`refused`). */
  async resolve(outcome: 'committed' | 'aborted'): Promise<MigrationReport> {
    if (this.#destination === null) throw new MigrationError('refused', 'nothing was received');
    return this.#destination.resolve(outcome);
  }

  #asSource(): SourceSide {
    this.#once();
    this.#source = new SourceSide(this.#guest, this.#options);
    return this.#source;
  }

  #asDestination(): DestinationSide {
    this.#once();
    this.#destination = new DestinationSide(this.#guest, this.#options);
    return this.#destination;
  }

  #once(): void {
    if (this.#source !== null || this.#destination !== null)
      throw new MigrationError('refused', 'a Migration is used once');
  }
}
