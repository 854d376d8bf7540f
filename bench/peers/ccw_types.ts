// What the TypeScript translators offer for measuring and for being compared with each other and with the core.

/** A page of the guest. */
export interface PeerPage {
  /** iova >> 12. */
  readonly page: bigint;
  readonly bytes: Uint8Array;
  /** Frame number of the host. */
  readonly frame: number;
  readonly readErrno?: number;
  readonly pinErrno?: number;
}

/** A translated CCW: a TIC with its target, or an IDAL with its words; none when the CCW moves no data. */
export interface PeerCcw {
  readonly cmd: number;
  readonly flags: number;
  readonly count: number;
  readonly tic?: { chain: number; offset: number };
  readonly idaws?: bigint[];
}

export interface PeerSnapshot {
  readonly chains: Array<{ iova: number; len: number; ccws: PeerCcw[] }>;
  /** Pinned pages with the pins of each, by page. */
  readonly pins: Array<[page: bigint, count: number]>;
}

export interface Translator {
  init(word1: number, cpa: number): number;
  prefetch(): number;
  free(): void;
  /** After a successful prefetch. */
  snapshot(): PeerSnapshot;
  /** Pins on all pages of the guest. */
  readonly totalPins: number;
  /** Pages with a pin. */
  readonly lockedPages: number;
}
