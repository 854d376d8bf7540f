// What a recorded instruction sequence must look like (vectors/insn, FORMAT.md), before a machine sees it.
import { decodeInsn, INSN_NAMES } from '../vmm/cpu.ts';
import { parseBytes } from '../vmm/recorded/lines.ts';
import { at, hexBytes, hexNumber, isRecord, list, object, oneOf, optional, type Rule, text, within } from './shape.ts';

/** Longest run of bytes that a step may name, and longest movement of data. */
const MAX_BYTES = 1 << 24;

/** A hex string with 0x, or a number. */
const number: Rule = (value) =>
  typeof value === 'number' ? within(0, Number.MAX_SAFE_INTEGER)(value) : hexNumber()(value);

/** Hex digits, or `xx*n`: byte xx n times. */
const bytes: Rule = (value) => {
  const repeat = /^[0-9a-f]{2}\*(\d{1,9})$/i.exec(String(value));
  if (repeat !== null) return Number(repeat[1]) <= MAX_BYTES ? undefined : `more than ${MAX_BYTES} bytes`;
  return hexBytes()(value) === undefined ? undefined : 'neither pairs of hex digits nor xx*n';
};

const stored: Rule = list((pair) => {
  if (!Array.isArray(pair) || pair.length !== 2) return 'not a pair of address and bytes';
  const [address, content] = pair;
  return hexNumber()(address) ?? bytes(content);
});

const registers: Rule = (value) => {
  if (!isRecord(value)) return 'not an object';
  for (const [name, content] of Object.entries(value)) {
    if (!/^r(1[0-5]|[0-9])$/.test(name)) return `${name} is no register`;
    const wrong = hexNumber()(content);
    if (wrong !== undefined) return at(`.${name}`, wrong);
  }
  return undefined;
};

const expected = {
  cc: optional(within(0, 3)),
  pgm: optional(within(1, 0xffff)),
  out: optional(registers),
  st: optional(stored),
};

const fields = object({
  ...expected,
  set: optional(stored),
  in: optional(registers),
  problem: optional(within(0, 1)),
  quirk: optional(text),
  storage_order: optional(hexNumber()),
  v72: optional(object(expected)),
});

const instruction: Rule = (value) => {
  const step = value as Record<string, unknown>;
  const wrong = object({ i: text, op: hexBytes() })(value) ?? fields(value);
  if (wrong !== undefined) return wrong;
  const code = step['op'] as string;
  const decoded = decodeInsn(parseBytes(code))?.name;
  // A mnemonic that this layer does not know may stand for any instruction that it does not know either.
  const known = INSN_NAMES.includes(step['i'] as string) ? step['i'] : undefined;
  return decoded === known
    ? undefined
    : at('.op', `${code} is ${decoded ?? 'no instruction that is known'}, not ${step['i']}`);
};

/** What is not an instruction: control register 6, a call of the service processor, a movement of data by the function. */
const PSEUDO: Readonly<Record<string, Rule>> = {
  cr6: object({ cr6: number }),
  sclp: object({ sclp: oneOf('configure', 'deconfigure'), v: number, rc: optional(number) }),
  dma: object({
    dma: oneOf('write', 'read'),
    v: number,
    len: (value) =>
      number(value) ?? (BigInt(value as string) <= MAX_BYTES ? undefined : `more than ${MAX_BYTES} bytes`),
    completed: optional(within(0, 1)),
  }),
};

const step: Rule = (value) => {
  if (!isRecord(value)) return 'not an object';
  if ('i' in value || 'op' in value) return instruction(value);
  const kind = Object.keys(PSEUDO).find((name) => name in value);
  return kind === undefined ? 'neither an instruction (i, op) nor cr6, sclp or dma' : (PSEUDO[kind] as Rule)(value);
};

/** One line. */
export const insnLine: Rule = object({ id: text, quirk: optional(list(text)), steps: list(step) });

/** Where recorded programs have their blocks ends here; a machine has at least that. */
const LEAST_STORAGE = 0x110000n;
const MAX_STORAGE = 1n << 30n;

const storage: Rule = (value) =>
  hexNumber(MAX_STORAGE, 0x1000n)(value) ??
  (BigInt(value as string) < LEAST_STORAGE ? `below 0x${LEAST_STORAGE.toString(16)}` : undefined);

const bar: Rule = (value) => {
  const wrong = object({
    size: within(16, 2 ** 31),
    regions: optional(list(object({ at: within(0, 2 ** 31), len: within(1, 2 ** 31), sizes: optional(list(width)) }))),
  })(value);
  if (wrong !== undefined) return wrong;
  const { size, regions = [] } = value as { size: number; regions?: Array<{ at: number; len: number }> };
  const outside = regions.findIndex((region) => region.at + region.len > size);
  return outside < 0 ? undefined : at(`.regions[${outside}]`, 'outside the BAR');
};

const width: Rule = (value) => ([1, 2, 4, 8].includes(value as number) ? undefined : 'not 1, 2, 4 or 8');

const bars: Rule = (value) => {
  if (!isRecord(value)) return 'not an object';
  for (const [index, described] of Object.entries(value)) {
    const wrong = /^[0-5]$/.test(index) ? bar(described) : 'there are BARs 0 to 5';
    if (wrong !== undefined) return at(`.${index}`, wrong);
  }
  return undefined;
};

const vendorDevice: Rule = (value) =>
  /^[0-9a-f]{4}:[0-9a-f]{4}$/i.test(String(value)) ? undefined : 'not such as 1af4:1041';

/** machine.json. */
export const insnMachine: Rule = object({
  storage,
  functions: list(
    object({
      fid: hexNumber(0xffffffffn),
      uid: optional(hexNumber(0xffffffffn)),
      handle: hexNumber(0xffffffffn),
      group: optional(text),
      what: optional(text),
      vendor_device: optional(vendorDevice),
      bars: optional(bars),
      config: optional(hexBytes(256)),
    }),
  ),
  subchannels: list(object({ sid: hexNumber(0xffffffffn), devno: hexNumber(0xffffn), what: text })),
});
