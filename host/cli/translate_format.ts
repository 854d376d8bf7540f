// Translator vectors: the JSON form of one guest, one ORB and what became of it (JSON Lines, one vector per line), and what is wrong with a
// line that does not have it. Addresses, commands, flags and frames are hex strings; counts, lengths, indexes and errnos numbers.

import {
  boolean,
  errno,
  hexBytes,
  hexNumber,
  integer,
  list,
  object,
  optional,
  problem,
  type Rule,
  text,
  U64_MAX,
} from './shape.ts';

export interface FrameInput {
  readonly iova: string;
  readonly pfn: string;
  /** Negative errno of copying any byte out of the page. */
  readonly read_errno?: number;
  /** Negative errno of pinning the page. */
  readonly pin_errno?: number;
  /** A pin request that reaches the page ends before it. */
  readonly pin_short?: boolean;
}

/** Guest storage: what is in it, and which pages there are. */
export interface GuestInput {
  readonly memory: ReadonlyArray<{ iova: string; hex: string }>;
  readonly frames: readonly FrameInput[];
}

export interface VectorInput extends GuestInput {
  readonly name: string;
  /** 12 bytes, big-endian. */
  readonly orb: string;
  readonly sch_lpm: string;
  readonly expect?: Partial<Translation>;
}

export interface CcwOutput {
  cmd: string;
  flags: string;
  count: number;
  cda: string;
  kind?: 'tic' | 'idal' | 'nodata';
  tic?: { chain: number; index: number; byte: number };
  idaws?: string[];
  residual?: string[];
}

export interface ChainOutput {
  iova: string;
  len: number;
  translated?: number;
  ccws: CcwOutput[];
}

/** What became of a vector: the fields of `expect`, as computed. */
export interface Translation {
  cp_init: number;
  pfch_warning: boolean;
  cp_prefetch: number | null;
  chains: ChainOutput[];
  pinned: Array<{ iova: string; count: number }>;
  orb_out?: {
    word1: string;
    fmt: number;
    pfch: number;
    c64: number;
    i2k: number;
    lpm: string;
    cpa: { chain: number; index: number };
  };
  scsw?: Array<{ chain: number; offset: number; guest_cpa: string | null }>;
  iova_pinned?: Array<{ iova: string; length: string; result: boolean }>;
}

/** `0x` and lower-case digits, at least `width` of them. */
export const hex = (value: number | bigint, width = 1): string => `0x${value.toString(16).padStart(width, '0')}`;

/** The fields of a guest in any line that has one. */
export const guestFields: Readonly<Record<string, Rule>> = {
  memory: list(object({ iova: hexNumber(), hex: hexBytes() })),
  frames: list(
    object({
      iova: hexNumber(U64_MAX, 4096n),
      pfn: hexNumber((1n << 52n) - 1n),
      read_errno: optional(errno),
      pin_errno: optional(errno),
      pin_short: optional(boolean),
    }),
  ),
};

/** What a comparison walks through; values that are wrong in themselves only differ. */
const expectedChain = object({ ccws: list(object({ residual: optional(list(() => undefined)) })) });

const vector = object({
  name: text,
  orb: hexBytes(12),
  sch_lpm: hexNumber(0xffn),
  ...guestFields,
  expect: optional(
    object({
      chains: optional(list(expectedChain)),
      scsw: optional(list(object({ chain: integer, offset: integer }))),
      iova_pinned: optional(list(object({ iova: hexNumber(), length: hexNumber() }))),
    }),
  ),
});

/** What is wrong with a vector, or nothing. @param checked it will be compared, so it must say what it expects. */
export function vectorProblem(value: unknown, checked: boolean): string | undefined {
  const wrong = problem(vector, value) ?? guestProblem(value as GuestInput);
  if (wrong !== undefined) return wrong;
  if (checked && (value as VectorInput).expect === undefined) return 'expect: missing, nothing to check against';
  return undefined;
}

/** What is wrong between the parts of a guest whose fields are right, or nothing. */
export function guestProblem({ memory, frames }: GuestInput): string | undefined {
  const pages = new Set<bigint>();
  for (const frame of frames) {
    if (pages.has(BigInt(frame.iova))) return `frames: page ${frame.iova} is listed twice`;
    pages.add(BigInt(frame.iova));
  }
  let end = 0n;
  for (const [index, chunk] of memory.entries()) {
    const start = BigInt(chunk.iova);
    if (start < end) return `memory[${index}]: ${chunk.iova} lies before the end of the chunk in front of it`;
    end = start + BigInt(chunk.hex.length / 2);
    if (end > U64_MAX + 1n) return `memory[${index}]: goes beyond 64 bits`;
  }
  return undefined;
}
