// Addresses and bytes: range checks, alignment, big-endian access, copies. The lowest room of the core; imports nothing.
// Kernel counterpart: asm/byteorder.h, linux/align.h, linux/overflow.h.

/** Does [start, start + size) leave the 64-bit address space? A range may end exactly at 2^64. size 0 wraps never. */
// @ts-expect-error: decorator
@inline
export function range_wraps(start: u64, size: u64): bool {
  return size != 0 && start + (size - 1) < start;
}

// @ts-expect-error: decorator
@inline
export function align_up(value: usize, alignment: usize): usize {
  return (value + (alignment - 1)) & ~(alignment - 1);
}

/** bswap for the loops whose time counts: elsewhere it is a call, which is smaller. */
// @ts-expect-error: decorator
@inline
export function swap32(value: u32): u32 {
  return rotl(value & 0xff00ff00, 8) | rotr(value & 0x00ff00ff, 8);
}

// @ts-expect-error: decorator
@inline
export function get_be16(p: usize): u32 {
  return <u32>bswap<u16>(load<u16>(p));
}

export function get_be32(p: usize): u32 {
  return bswap<u32>(load<u32>(p));
}

export function get_be64(p: usize): u64 {
  return bswap<u64>(load<u64>(p));
}

export function put_be32(p: usize, value: u32): void {
  store<u32>(p, bswap<u32>(value));
}

export function put_be64(p: usize, value: u64): void {
  store<u64>(p, bswap<u64>(value));
}

/** Adds to a counter in a record. */
export function add_u32(p: usize, delta: u32): void {
  store<u32>(p, load<u32>(p) + delta);
}

/** Are the bytes [p, p + len) all zero? `len` is a multiple of 64; the range must lie in memory. */
export function is_zero(p: usize, len: usize): bool {
  for (const end = p + len; p < end; p += 64) {
    const some = v128.or(
      v128.or(v128.load(p), v128.load(p, 16)),
      v128.or(v128.load(p, 32), v128.load(p, 48)),
    );
    if (v128.any_true(some)) return false;
  }
  return true;
}
