// How a store to (or load from) PCI memory becomes instructions: PCISTB blocks, PCISTG and PCILG of at most 8 bytes, under the rules of one
// device; and the copy itself where the BAR is memory of this core. Kernel counterpart: arch/s390/include/asm/pci_io.h. Sheet: zdev,
// sections 3.2 and 4. The rule "inside one 4 KiB page" binds the I/O address here, which is the documented intent.
//
// Rules of a device, one u32:
//   bits  0..12  max       longest block in bytes: 0 no block store, else a multiple of 8 in 8..4096 (ISM: 4096)
//   bit      13  relaxed   PCISTB takes any alignment and any length from 1
//   bit      14  aware     a length is rounded down to a multiple of 8 before the alignment test (100 -> 96 + 4)
//   bit      15  split     the back end has no block store: pieces at natural alignment, 8, 4, 2, 1
//
// Piece of a plan, 8 bytes, little-endian:
//   offset size field
//        0    4 at        bytes from the start of the transfer
//        4    2 length    bytes
//        6    2 form      1 PCISTG or PCILG, 2 PCISTB
import {
  EINVAL,
  PAGE_SIZE_4K,
  ZPCI_FORM_BLOCK,
  ZPCI_FORM_SINGLE,
  ZPCI_PIECE_SIZE,
  ZPCI_RULE_AWARE,
  ZPCI_RULE_MAX,
  ZPCI_RULE_RELAXED,
  ZPCI_RULE_SPLIT,
} from '../abi';

// @ts-expect-error: decorator
@inline
const PAGE_MASK: u32 = PAGE_SIZE_4K - 1;

/** Largest power of two <= n, n in 1..8. */
function floor_pow2(n: u32): u32 {
  return 1 << (31 - clz<u32>(n));
}

/**
 * Length of the next piece (zdev section 4). @param io offset in PCI memory. @param mem address of the data, of which only the low 3 bits
 * matter. @param left bytes still to go, >= 1. @returns bytes, 1..max; more than 8, or any length of a relaxed device, is a block.
 */
function chunk(io: u32, mem: u32, left: u32, rules: u32): u32 {
  // Natural alignment: the largest of 8, 4, 2, 1 that divides `io`.
  if (rules & ZPCI_RULE_SPLIT) return floor_pow2(min<u32>(left, (io | 8) & (0 - (io | 8))));
  const max_block = rules & ZPCI_RULE_MAX;
  let n = min<u32>(left, <u32>PAGE_SIZE_4K - (io & PAGE_MASK));
  if (max_block != 0) {
    n = min<u32>(n, max_block);
    if (rules & ZPCI_RULE_RELAXED) return n;
    if (rules & ZPCI_RULE_AWARE && n > 8) n &= ~7;
    if (((io | mem | n) & 7) == 0) return n;
  }
  // A single operation stays inside its doubleword.
  return floor_pow2(min<u32>(n, 8 - (io & 7)));
}

// @ts-expect-error: decorator
@inline
function form_of(n: u32, rules: u32): u32 {
  if (rules & ZPCI_RULE_SPLIT || (rules & ZPCI_RULE_MAX) == 0) return ZPCI_FORM_SINGLE;
  return n > 8 || rules & ZPCI_RULE_RELAXED ? ZPCI_FORM_BLOCK : ZPCI_FORM_SINGLE;
}

/**
 * Plans a transfer. @param plan address of `capacity` pieces, 4-byte aligned. @param io offset in PCI memory (its low 32 bits are enough:
 * rules look at the page only). @param mem address of the data. @param len bytes. @param rules see above; max 0 for a load.
 * @returns how many pieces were written. Fewer bytes than `len` are covered when they did not fit: continue behind the last piece.
 */
export function zpci_plan(plan: usize, capacity: u32, io: u32, mem: u32, len: u32, rules: u32): u32 {
  let done: u32 = 0;
  let count: u32 = 0;
  while (done < len && count < capacity) {
    const n = chunk(io + done, mem + done, len - done, rules);
    const piece = plan + count * ZPCI_PIECE_SIZE;
    store<u32>(piece, done);
    store<u16>(piece, <u16>n, 4);
    store<u16>(piece, <u16>form_of(n, rules), 6);
    done += n;
    count++;
  }
  return count;
}

/**
 * May a device take this PCISTB? (zdev section 3.2, steps 5-8.) @param gaddr address of the block. @returns 0, or -EINVAL where the
 * instruction gives a specification exception: offset, length or address not a multiple of 8, or length below 16 (strict); length 0
 * or above the maximum; the block leaves its 4 KiB page.
 */
export function zpci_block_check(io: u32, len: u32, gaddr: u32, rules: u32): i32 {
  const max_block = rules & ZPCI_RULE_MAX;
  if (!(rules & ZPCI_RULE_RELAXED) && ((io | len | gaddr) & 7 || len <= 8)) return -EINVAL;
  if (len == 0 || len > max_block) return -EINVAL;
  return (io & PAGE_MASK) + len > <u32>PAGE_SIZE_4K ? -EINVAL : 0;
}

/** 64 bytes through registers: faster than memory.copy for a few hundred bytes. */
// @ts-expect-error: decorator
@inline
function copy_64(to: usize, from: usize): void {
  const a = v128.load(from);
  const b = v128.load(from, 16);
  const c = v128.load(from, 32);
  const d = v128.load(from, 48);
  v128.store(to, a);
  v128.store(to, b, 16);
  v128.store(to, c, 32);
  v128.store(to, d, 48);
}

/** A block of any length: 16 bytes at a time, the last ones once more if need be; one memory.copy where that is faster, or shorter than 16. */
// @ts-expect-error: decorator
@inline
function copy_block(to: usize, from: usize, n: u32): void {
  if (n - 16 > 256 - 16) {
    memory.copy(to, from, n);
    return;
  }
  for (let i: u32 = 0; i < n - 16; i += 16) v128.store(to + i, v128.load(from + i));
  v128.store(to + n - 16, v128.load(from + n - 16));
}

// @ts-expect-error: decorator
@inline
function copy_single(to: usize, from: usize, n: u32): void {
  if (n == 8) store<u64>(to, load<u64>(from));
  else if (n == 4) store<u32>(to, load<u32>(from));
  else if (n == 2) store<u16>(to, load<u16>(from));
  else store<u8>(to, load<u8>(from));
}

/**
 * Stores `len` bytes into PCI memory that lies in this core, instruction by instruction as zpci_plan says; the bytes keep their order.
 * @param bar linear address of the first byte of the BAR. @param io offset in it. @param source linear address of the data; both ranges
 * are the caller's to have checked, and must not overlap. @returns the number of instructions.
 */
export function zpci_store(bar: usize, io: u32, source: usize, len: u32, rules: u32): u32 {
  let to = bar + io;
  let from = source;
  let left = len;
  let count: u32 = 0;
  const blocks_128 = (rules & (ZPCI_RULE_SPLIT | ZPCI_RULE_RELAXED | ZPCI_RULE_MAX)) == 128;
  while (left != 0) {
    if (blocks_128 && left >= 128 && ((io | <u32>from) & 7) == 0) {
      // Whole blocks of 128 to the end of the page: what a driver that writes descriptors or frames does nearly always.
      const span = min<u32>(left, <u32>PAGE_SIZE_4K - (io & PAGE_MASK)) & ~127;
      for (const end = from + span; from < end; from += 64, to += 64) copy_64(to, from);
      count += span >> 7;
      io += span;
      left -= span;
      if (left == 0) break;
    }
    const n = chunk(io, <u32>from, left, rules);
    if (form_of(n, rules) == ZPCI_FORM_BLOCK) copy_block(to, from, n);
    else copy_single(to, from, n);
    to += n;
    from += n;
    io += n;
    left -= n;
    count++;
  }
  return count;
}
