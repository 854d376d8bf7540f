// PCI stores in TypeScript as one writes it first: an object for each piece, subarray and set for the bytes. A peer of bench/zpci.ts.

interface Piece {
  readonly at: number;
  readonly length: number;
  readonly block: boolean;
}

function chunk(io: number, mem: number, left: number, max: number): number {
  const n = Math.min(left, 4096 - (io % 4096), max);
  if (io % 8 === 0 && mem % 8 === 0 && n % 8 === 0) return n;
  return [8, 4, 2, 1].find((size) => size <= Math.min(n, 8 - (io % 8))) ?? 1;
}

export function plan(io: number, mem: number, length: number, max: number): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < length; ) {
    const size = chunk(io + at, mem + at, length - at, max);
    pieces.push({ at, length: size, block: size > 8 });
    at += size;
  }
  return pieces;
}

/** @returns the number of instructions. */
export function store(bar: Uint8Array, io: number, memory: Uint8Array, mem: number, length: number): number {
  const pieces = plan(io, mem, length, 128);
  for (const { at, length: size } of pieces) bar.set(memory.subarray(mem + at, mem + at + size), io + at);
  return pieces.length;
}
