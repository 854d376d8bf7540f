// What the simulated coprocessor computes. The architecture's message formats are not public; this one is the package's own and documented in
// docs/uapi/ap.md. All fields are big-endian.
//
//   request   type u16@0, n u16@2, then the operands
//     1  echo             n bytes of data
//     2  modular power    base, exponent, modulus: n bytes each, n <= 512
//   reply     0x8000 | type u16@0, n u16@2, n bytes of result
//             or 0x8fff@0, 2@2, reason u16@4: 1 unknown type, 2 lengths disagree, 3 modulus 0

const ECHO = 1;
const MODEXP = 2;
const HEADER = 4;
const FAILED = 0x8fff;
const MAX_OPERAND = 512;

const toBigInt = (bytes: Uint8Array): bigint => bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);

function toBytes(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * (size - 1 - i))) & 0xffn));
}

function reply(type: number, result: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER + result.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type);
  view.setUint16(2, result.length);
  bytes.set(result, HEADER);
  return bytes;
}

const failed = (reason: number): Uint8Array => reply(FAILED, Uint8Array.of(0, reason));

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n % modulus;
  let square = base % modulus;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) !== 0n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

/** The reply to a request; every request has one. */
export function serve(request: Uint8Array): Uint8Array {
  if (request.length < HEADER) return failed(2);
  const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
  const [type, n] = [view.getUint16(0), view.getUint16(2)];
  const operand = (index: number): Uint8Array => request.subarray(HEADER + index * n, HEADER + (index + 1) * n);
  if (type === ECHO) return request.length === HEADER + n ? reply(0x8000 | ECHO, operand(0)) : failed(2);
  if (type !== MODEXP) return failed(1);
  if (n === 0 || n > MAX_OPERAND || request.length !== HEADER + 3 * n) return failed(2);
  const modulus = toBigInt(operand(2));
  if (modulus === 0n) return failed(3);
  return reply(0x8000 | MODEXP, toBytes(power(toBigInt(operand(0)), toBigInt(operand(1)), modulus), n));
}
