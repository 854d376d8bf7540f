// What an instruction sees of the processor: general registers, program interruptions, the instruction's own bytes taken apart. The formats
// are those of the Principles of Operation (S, RRE, RRF, RXY, RSY); no instruction is executed here.

/** Program-interruption codes. */
export const PGM_OPERATION = 0x01;
export const PGM_PRIVILEGED = 0x02;
export const PGM_ADDRESSING = 0x05;
export const PGM_SPECIFICATION = 0x06;
export const PGM_OPERAND = 0x15;

/** Ends an instruction with a program interruption; registers and storage are as before it. */
export class ProgramCheck extends Error {
  override readonly name = 'ProgramCheck';
  readonly code: number;
  constructor(code: number, why: string) {
    super(why);
    this.code = code;
  }
}

/** The 16 general registers, 64 bits each. */
export type Registers = BigUint64Array;

/** How an instruction ended: with a condition code, or with a program interruption. */
export type Outcome = { readonly cc: number } | { readonly pgm: number };

export type InsnFormat = 'S' | 'RRE' | 'RRF' | 'RXY' | 'RSY';

/** An instruction taken apart. Fields that its format lacks are 0. */
export interface Insn {
  readonly name: string;
  readonly r1: number;
  readonly r2: number;
  readonly r3: number;
  readonly b2: number;
  readonly x2: number;
  /** Signed displacement. */
  readonly d2: number;
}

const BY_OPCODE: ReadonlyMap<number, readonly [name: string, format: InsnFormat]> = new Map([
  [0xb230, ['CSCH', 'S']],
  [0xb231, ['HSCH', 'S']],
  [0xb232, ['MSCH', 'S']],
  [0xb233, ['SSCH', 'S']],
  [0xb234, ['STSCH', 'S']],
  [0xb235, ['TSCH', 'S']],
  [0xb236, ['TPI', 'S']],
  [0xb238, ['RSCH', 'S']],
  [0xb239, ['STCRW', 'S']],
  [0xb23b, ['RCHP', 'S']],
  [0xb276, ['XSCH', 'S']],
  [0xb25f, ['CHSC', 'RRE']],
  [0xb2ad, ['NQAP', 'RRE']],
  [0xb2ae, ['DQAP', 'RRE']],
  [0xb2af, ['PQAP', 'RRE']],
  [0xb9a0, ['CLP', 'RRF']],
  [0xb9d0, ['PCISTG', 'RRE']],
  [0xb9d2, ['PCILG', 'RRE']],
  [0xb9d3, ['RPCIT', 'RRE']],
  [0xe3d0, ['MPCIFC', 'RXY']],
  [0xe3d4, ['STPCIFC', 'RXY']],
  [0xebd0, ['PCISTB', 'RSY']],
  [0xebd1, ['SIC', 'RSY']],
]);

const OPCODES: ReadonlyMap<string, readonly [opcode: number, format: InsnFormat]> = new Map(
  [...BY_OPCODE].map(([opcode, [name, format]]) => [name, [opcode, format]]),
);

/** Every instruction the layer knows. */
export const INSN_NAMES: readonly string[] = [...OPCODES.keys()];

const sign20 = (value: number): number => (value << 12) >> 12;

/** Takes an instruction's bytes apart. @returns null for an instruction that the layer does not know. */
export function decodeInsn(bytes: Uint8Array): Insn | null {
  const at = (index: number): number => bytes[index] ?? 0;
  const long = at(0) === 0xe3 || at(0) === 0xeb;
  if (bytes.length !== (long ? 6 : 4)) return null;
  const known = BY_OPCODE.get(long ? (at(0) << 8) | at(5) : (at(0) << 8) | at(1));
  if (known === undefined) return null;
  const [name, format] = known;
  const none = { name, r1: 0, r2: 0, r3: 0, b2: 0, x2: 0, d2: 0 };
  const b2 = at(2) >> 4;
  const d12 = ((at(2) & 15) << 8) | at(3);
  switch (format) {
    case 'S':
      return { ...none, r1: 1, b2, d2: d12 };
    case 'RRE':
    case 'RRF':
      return { ...none, r1: at(3) >> 4, r2: at(3) & 15 };
    case 'RXY':
      return { ...none, r1: at(1) >> 4, x2: at(1) & 15, b2, d2: sign20((at(4) << 12) | d12) };
    case 'RSY':
      return { ...none, r1: at(1) >> 4, r3: at(1) & 15, b2, d2: sign20((at(4) << 12) | d12) };
  }
}

/** The bytes of an instruction with these fields. @throws RangeError for an unknown name. */
export function encodeInsn(name: string, fields: Partial<Insn> = {}): Uint8Array {
  const known = OPCODES.get(name);
  if (known === undefined) throw new RangeError(`there is no instruction ${name}`);
  const [opcode, format] = known;
  const { r1 = 0, r2 = 0, r3 = 0, b2 = 0, x2 = 0, d2 = 0 } = fields;
  const base = [(b2 << 4) | ((d2 >> 8) & 15), d2 & 255];
  if (format === 'S') return Uint8Array.from([opcode >> 8, opcode & 255, ...base]);
  if (format === 'RRE' || format === 'RRF')
    return Uint8Array.from([opcode >> 8, opcode & 255, format === 'RRF' ? 2 : 0, (r1 << 4) | r2]);
  return Uint8Array.from([
    opcode >> 8,
    (r1 << 4) | (format === 'RXY' ? x2 : r3),
    ...base,
    (d2 >> 12) & 255,
    opcode & 255,
  ]);
}

/** Second-operand address: base, index and displacement, modulo 2^64. Register 0 counts as no base. */
export function operandAddress(insn: Insn, registers: Registers): bigint {
  const base = insn.b2 === 0 ? 0n : (registers[insn.b2] ?? 0n);
  const index = insn.x2 === 0 ? 0n : (registers[insn.x2] ?? 0n);
  return BigInt.asUintN(64, base + index + BigInt(insn.d2));
}
