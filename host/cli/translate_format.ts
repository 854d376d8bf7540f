// Translator vectors: the JSON form of one guest, one ORB and what became of it (JSON Lines, one vector per line), and what is wrong with a
// line that does not have it. Addresses, commands, flags and frames are hex strings; counts, lengths, indexes and errnos numbers.

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

export interface VectorInput {
  readonly name: string;
  /** 12 bytes, big-endian. */
  readonly orb: string;
  readonly sch_lpm: string;
  readonly memory: ReadonlyArray<{ iova: string; hex: string }>;
  readonly frames: readonly FrameInput[];
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

type Rule = (value: unknown) => string | undefined;

const U64 = 0xffffffffffffffffn;

const number =
  (last: bigint, unit = 1n): Rule =>
  (value) => {
    if (typeof value !== 'string' || !/^0x[0-9a-f]{1,32}$/i.test(value)) return 'not a hex string with 0x';
    if (BigInt(value) > last) return `above ${hex(last)}`;
    return BigInt(value) % unit === 0n ? undefined : `not a multiple of ${hex(unit)}`;
  };
const bytes =
  (size?: number): Rule =>
  (value) => {
    if (typeof value !== 'string' || !/^([0-9a-f]{2})*$/i.test(value)) return 'not pairs of hex digits';
    return size === undefined || value.length === size * 2 ? undefined : `${value.length / 2} bytes instead of ${size}`;
  };
const integer: Rule = (value) => (Number.isSafeInteger(value) ? undefined : 'not an integer');
const errno: Rule = (value) =>
  Number.isSafeInteger(value) && (value as number) < 0 && (value as number) > -4096
    ? undefined
    : 'not a negative errno';
const boolean: Rule = (value) => (typeof value === 'boolean' ? undefined : 'not true or false');
const text: Rule = (value) => (typeof value === 'string' && value !== '' ? undefined : 'not a name');
const optional =
  (rule: Rule): Rule =>
  (value) =>
    value === undefined ? undefined : rule(value);
const list =
  (rule: Rule): Rule =>
  (value) => {
    if (!Array.isArray(value)) return 'not a list';
    for (const [index, item] of value.entries()) {
      const wrong = rule(item);
      if (wrong !== undefined) return `[${index}]${wrong.startsWith('.') ? '' : ': '}${wrong}`;
    }
    return undefined;
  };
const object =
  (fields: Record<string, Rule>): Rule =>
  (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'not an object';
    for (const [name, rule] of Object.entries(fields)) {
      const wrong = rule((value as Record<string, unknown>)[name]);
      if (wrong !== undefined) return `.${name}${wrong.startsWith('[') || wrong.startsWith('.') ? '' : ': '}${wrong}`;
    }
    return undefined;
  };

const vector = object({
  name: text,
  orb: bytes(12),
  sch_lpm: number(0xffn),
  memory: list(object({ iova: number(U64), hex: bytes() })),
  frames: list(
    object({
      iova: number(U64, 4096n),
      pfn: number((1n << 52n) - 1n),
      read_errno: optional(errno),
      pin_errno: optional(errno),
      pin_short: optional(boolean),
    }),
  ),
  expect: optional(
    object({
      scsw: optional(list(object({ chain: integer, offset: integer }))),
      iova_pinned: optional(list(object({ iova: number(U64), length: number(U64) }))),
    }),
  ),
});

/** What is wrong with a vector, or nothing. @param checked it will be compared, so it must say what it expects. */
export function vectorProblem(value: unknown, checked: boolean): string | undefined {
  const wrong = vector(value);
  if (wrong !== undefined) return wrong.replace(/^\./, '');
  const { memory, frames, expect } = value as VectorInput;
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
    if (end > U64 + 1n) return `memory[${index}]: goes beyond 64 bits`;
  }
  if (checked && expect === undefined) return 'expect: missing, nothing to check against';
  return undefined;
}
