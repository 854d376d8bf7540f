// A volume: its tracks by number. Only tracks that differ from the formatted empty one are kept, so a large empty volume costs nothing.
import { formattedTrack, HEADS, recordsPerTrack, type Track } from './track.ts';

/** Where tracks come from that nobody has written yet. */
export interface TrackSource {
  /** The track as it was at first, made anew on each call. */
  track(cylinder: number, head: number): Track;
}

/** How an empty volume is formatted. */
export interface EmptyOptions {
  /** Data length of the records that every track is formatted with; 0: tracks with R0 only. Default 4096. */
  readonly blockSize?: number;
}

/** The tracks of a disk. */
export class Volume {
  readonly cylinders: number;
  readonly heads: number = HEADS;
  readonly #source: TrackSource;
  readonly #tracks = new Map<number, Track>();

  constructor(cylinders: number, source: TrackSource) {
    if (!Number.isInteger(cylinders) || cylinders < 1 || cylinders > 65520)
      throw new RangeError(`cylinders: ${cylinders} is not between 1 and 65520`);
    this.cylinders = cylinders;
    this.#source = source;
  }

  /** A formatted volume of zeros. @throws RangeError cylinders or block size that a 3390 cannot have. */
  static empty(cylinders: number, options: EmptyOptions = {}): Volume {
    const { blockSize = 4096 } = options;
    const count = blockSize > 0 ? recordsPerTrack(blockSize) : 0;
    if (!Number.isInteger(blockSize) || blockSize < 0 || (blockSize > 0 && count === 0))
      throw new RangeError(`block size ${blockSize} does not fit on a track`);
    return new Volume(cylinders, { track: (cylinder, head) => formattedTrack(cylinder, head, count, blockSize) });
  }

  /** Tracks kept in memory. */
  get keptTracks(): number {
    return this.#tracks.size;
  }

  /** Is there such a track? */
  has(cylinder: number, head: number): boolean {
    return cylinder < this.cylinders && head < this.heads;
  }

  /** The track as it is now; not to be changed. */
  track(cylinder: number, head: number): Track {
    return this.#tracks.get(cylinder * this.heads + head) ?? this.#source.track(cylinder, head);
  }

  /** The track to be written on: kept from now on. */
  writable(cylinder: number, head: number): Track {
    const track = this.track(cylinder, head);
    this.#tracks.set(cylinder * this.heads + head, track);
    return track;
  }

  /** Replaces a track. */
  put(cylinder: number, head: number, track: Track): void {
    this.#tracks.set(cylinder * this.heads + head, track);
  }
}
