// Device scenarios: the JSON form of one vfio-ccw device, the hardware under it and what is done to both, and what is wrong with a line that does
// not have it. Addresses and masks are hex strings, everything else numbers; bytes are big-endian as on the architecture.
import {
  at,
  errno,
  hexBytes,
  hexNumber,
  integer,
  isRecord,
  list,
  object,
  oneOf,
  optional,
  problem,
  type Rule,
  text,
  within,
} from './shape.ts';
import { type GuestInput, guestFields, guestProblem } from './translate_format.ts';

/** What is seen after a step. */
export interface Observed {
  /** Result of the call; absent for calls without one. */
  ret?: number;
  /** Bytes read. */
  hex?: string;
  /** Operational path mask after a channel-path event. */
  opm?: string;
  state: string;
  program: boolean;
  pins: number;
  lpm: string;
  ret_code: number;
  cmd_ret_code: number;
  /** Instructions issued in this step; informative. */
  device_ops: string[];
  /** Eventfd number -> how often signalled in this step. */
  signals: Record<string, number>;
  /** The subchannel's unregistration was scheduled in this step. */
  unregister: boolean;
  /** The argument structure after an ioctl that succeeded. */
  out?: Record<string, unknown>;
}

export type PathStepEvent = 'offline' | 'online' | 'vary_off' | 'vary_on';

export type Step = { readonly expect?: Partial<Observed> } & (
  | { readonly op: 'open' | 'close' | 'reset' | 'work' | 'notoper' | 'shutdown' }
  | { readonly op: 'write'; readonly region: number; readonly pos: number; readonly hex: string }
  | { readonly op: 'cmd'; readonly command: number }
  | { readonly op: 'read'; readonly region: number; readonly pos: number; readonly count: number }
  | { readonly op: 'irq'; readonly irb: string; readonly host_cpa?: { chain: number; offset: number } }
  | { readonly op: 'unmap'; readonly iova: string; readonly length: string }
  | { readonly op: 'ioctl'; readonly cmd: string; readonly arg: Record<string, unknown>; readonly size: number }
  | { readonly op: 'cc'; readonly ssch: number; readonly hsch: number; readonly csch: number }
  | { readonly op: Switch; readonly value: number }
  | { readonly op: 'disable'; readonly results: readonly number[] }
  | { readonly op: 'chp'; readonly chpid: number; readonly mask: string; readonly event: PathStepEvent }
);
type Switch = 'stsch' | 'dnv' | 'enable' | 'waitirq' | 'request' | 'busylock' | 'fault';

export interface ScenarioInput extends GuestInput {
  readonly name: string;
  readonly initial?: Partial<Observed>;
  readonly steps: readonly Step[];
}

/** What came of a scenario: one observation per step, and the one before them. */
export interface ScenarioResult {
  readonly initial: Observed;
  readonly steps: Observed[];
}

const byte = within(0, 255);
const index = within(0, 2 ** 31);
const cc = within(0, 3);
const result: Rule = (value) => (value === 0 ? undefined : errno(value));
const flag = object({ value: within(0, 1) });
const none: Rule = () => undefined;

const field: Rule = (value) => (typeof value === 'string' ? hexNumber()(value) : integer(value));

/** Fields of a structure; a rule of its own for those that are none. */
function fieldsOf(inner: Readonly<Record<string, Rule>>): Rule {
  return (value) => {
    if (!isRecord(value)) return 'not an object';
    for (const [name, part] of Object.entries(value)) {
      const wrong = (Object.hasOwn(inner, name) ? inner[name]! : field)(part);
      if (wrong !== undefined) return at(`.${name}`, wrong);
    }
    return undefined;
  };
}

/** Fields of an argument structure: integers, and the capability behind it. */
const argument = fieldsOf({ cap: fieldsOf({}) });

/** The arguments of each operation. */
const STEPS: Readonly<Record<string, Rule>> = {
  open: none,
  close: none,
  reset: none,
  work: none,
  notoper: none,
  shutdown: none,
  write: object({ region: index, pos: index, hex: hexBytes() }),
  cmd: object({ command: within(0, 0xffffffff) }),
  read: object({ region: index, pos: index, count: within(0, 2 ** 20) }),
  irq: object({ irb: hexBytes(64), host_cpa: optional(object({ chain: within(0, 15), offset: integer })) }),
  unmap: object({ iova: hexNumber(), length: hexNumber() }),
  ioctl: object({
    cmd: hexNumber(0xffffffffn),
    arg: argument,
    size: within(0, 4096),
  }),
  cc: object({ ssch: cc, hsch: cc, csch: cc }),
  stsch: object({ value: cc }),
  dnv: flag,
  enable: object({ value: result }),
  disable: object({ results: list(result) }),
  waitirq: flag,
  chp: object({ chpid: byte, mask: hexNumber(0xffn), event: oneOf('offline', 'online', 'vary_off', 'vary_on') }),
  request: object({ value: within(0, 0xffffffff) }),
  busylock: flag,
  fault: flag,
};

const scenario = object({
  name: text,
  ...guestFields,
  initial: optional(object({})),
  steps: list(object({ op: text })),
});

/** What is wrong with a scenario, or nothing. @param checked it will be compared, so every step must say what it expects. */
export function scenarioProblem(value: unknown, checked: boolean): string | undefined {
  const wrong = problem(scenario, value) ?? guestProblem(value as GuestInput);
  if (wrong !== undefined) return wrong;
  for (const [index, step] of (value as ScenarioInput).steps.entries()) {
    const path = `steps[${index}]`;
    if (!Object.hasOwn(STEPS, step.op)) return `${path}.op: "${step.op}" is none of ${Object.keys(STEPS).join(', ')}`;
    const bad = STEPS[step.op]?.(step);
    if (bad !== undefined) return at(path, bad);
    if (checked && !isRecord(step.expect)) return `${path}.expect: missing, nothing to check against`;
  }
  return undefined;
}
