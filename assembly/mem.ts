// Addresses and bytes: alignment, byte order, zeros. The lowest room of the core; imports nothing.
// Kernel counterpart: asm/byteorder.h, linux/align.h.

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

export function put_be32(p: usize, value: u32): void {
  store<u32>(p, bswap<u32>(value));
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
