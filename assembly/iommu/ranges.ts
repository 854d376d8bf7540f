// An ordered table of ranges [key, last] of 64-bit numbers that never overlap: the maps of a container, the runs of a translation domain, the
// ranges of an address space. A B+tree of fan-out 16 with linked leaves. Kernel counterpart: lib/maple_tree, lib/interval_tree.
// This file draws the records and finds; ranges_edit.ts inserts and removes.
//
// A slot is the address of its leaf plus its place 0..15 (leaves are 16-byte aligned); it is valid until the next edit. 0 is "none".
//
// Record (64 bytes, part of its owner's record)       Leaf (464 bytes)                        Inner node (208 bytes)
//   offset size field                                   0   4 count                             0   4 count
//        0    4 root                                    4   4 next   leaf or 0                 16 128 key   lower bounds, biased
//        4    4 height   inner levels                   8   4 prev   leaf or 0                144  64 child
//        8    4 count    ranges in the table           16 128 key    biased, unused = largest
//       12    4 hit      slot of the last find, or 0  144 128 last   inclusive
//       16   48 path     of the last descent:         272 128 value  the owner's
//                        node + place, top first      400  64 meta   the owner's
//
// Keys are stored with the top bit flipped, so that the signed compares of SIMD order them.

export const RANGES_SIZE = 64;
export const ROOT = 0;
export const HEIGHT = 4;
export const COUNT = 8;
export const HIT = 12;
export const PATH = 16;

export const LEN = 0;
export const NEXT = 4;
export const PREV = 8;
export const KEY = 16;
export const LAST = 144;
export const VALUE = 272;
export const META = 400;
export const CHILD = 144;
export const LEAF_BYTES = 464;
export const NODE_BYTES = 208;
export const FAN_OUT: u32 = 16;

// @ts-expect-error: decorator
@inline
export function biased(key: u64): i64 {
  return <i64>(key ^ 0x8000000000000000);
}

/** How many keys of a leaf or node are <= key. All 16 are compared; unused ones are the largest number. */
// @ts-expect-error: decorator
@inline
function rank(node: usize, key: i64): u32 {
  const k = i64x2.splat(key);
  const a = i64x2.add(i64x2.gt_s(v128.load(node, KEY), k), i64x2.gt_s(v128.load(node, KEY + 16), k));
  const b = i64x2.add(i64x2.gt_s(v128.load(node, KEY + 32), k), i64x2.gt_s(v128.load(node, KEY + 48), k));
  const c = i64x2.add(i64x2.gt_s(v128.load(node, KEY + 64), k), i64x2.gt_s(v128.load(node, KEY + 80), k));
  const d = i64x2.add(i64x2.gt_s(v128.load(node, KEY + 96), k), i64x2.gt_s(v128.load(node, KEY + 112), k));
  const sum = i64x2.add(i64x2.add(a, b), i64x2.add(c, d));
  const le = FAN_OUT + <u32>(i64x2.extract_lane(sum, 0) + i64x2.extract_lane(sum, 1));
  return min(le, load<u32>(node, LEN));
}

/**
 * The leaf for `k` in a table that is not empty, with the way to it in the record. The first bound of a node is below every number, so
 * that each number has a way.
 * @returns the leaf, and in the upper half how many of its keys are <= k.
 */
export function descend(t: usize, k: i64): u64 {
  let node = <usize>load<u32>(t, ROOT);
  const leaf = t + (<usize>load<u32>(t, HEIGHT) << 2);
  let r: u32 = 0;
  for (;;) {
    r = rank(node, k);
    if (t == leaf) break;
    store<u32>(t, <u32>node + (r - 1), PATH);
    node = <usize>load<u32>(node + (<usize>(r - 1) << 2), CHILD);
    t += 4;
  }
  return (<u64>r << 32) | node;
}

/** From where the columns of eight bytes have a slot's place at their offset in the leaf. */
// @ts-expect-error: decorator
@inline
function eights(slot: usize): usize {
  return slot + (slot & 15) * 7;
}

/** First value of the range. */
export function slot_key(slot: usize): u64 {
  return key_at(slot);
}

/** Last value of the range, inclusive. */
export function slot_last(slot: usize): u64 {
  return last_at(slot);
}

/** slot_key for loops. */
// @ts-expect-error: decorator
@inline
export function key_at(slot: usize): u64 {
  return load<u64>(eights(slot), KEY) ^ 0x8000000000000000;
}

/** slot_last for loops. */
// @ts-expect-error: decorator
@inline
export function last_at(slot: usize): u64 {
  return load<u64>(eights(slot), LAST);
}

export function slot_value(slot: usize): u64 {
  return load<u64>(eights(slot), VALUE);
}

export function slot_meta(slot: usize): u32 {
  return load<u32>(slot + (slot & 15) * 3, META);
}

/** Moves the first value up or down without passing a neighbour. */
export function slot_set_key(slot: usize, key: u64): void {
  store<i64>(eights(slot), biased(key), KEY);
}

export function slot_set_last(slot: usize, last: u64): void {
  store<u64>(eights(slot), last, LAST);
}

export function slot_set_value(slot: usize, value: u64): void {
  store<u64>(eights(slot), value, VALUE);
}

export function slot_set_meta(slot: usize, meta: u32): void {
  store<u32>(slot + (slot & 15) * 3, meta, META);
}

/** The range behind `slot`, or 0 at the end. */
export function ranges_next(slot: usize): usize {
  const leaf = slot & ~15;
  return (<u32>slot & 15) + 1 < load<u32>(leaf, LEN) ? slot + 1 : <usize>load<u32>(leaf, NEXT);
}

/** The range that holds `key`, else the first one behind it, else 0. */
export function ranges_from(t: usize, key: u64): usize {
  return load<u32>(t, ROOT) == 0 ? 0 : found_from(descend(t, biased(key)), key);
}

/** The answer of ranges_from where descend has been. */
export function found_from(found: u64, key: u64): usize {
  const leaf = <usize>found;
  const r = <u32>(found >> 32);
  if (r != 0) {
    const at = leaf + (r - 1);
    return slot_last(at) >= key ? at : ranges_next(at);
  }
  // Below the first key of its leaf: a range of the leaf before may reach here, since lower bounds outlive what they were made for.
  const before = <usize>load<u32>(leaf, PREV);
  if (before != 0) {
    const at = before + load<u32>(before, LEN) - 1;
    if (slot_last(at) >= key) return at;
  }
  return leaf;
}

/** How many searches wait for memory together. */
const TOGETHER: usize = 16;

/**
 * Looks `n` keys (u64 each) up, a level at a time for many of them, so that their waits for memory overlap.
 * @param out n x u32: the meta word of the range that holds each key, or 0.
 */
// @ts-expect-error: decorator
@inline
export function ranges_find_many(t: usize, keys: usize, n: u32, out: usize): void {
  const end = out + (<usize>n << 2);
  const root = load<u32>(t, ROOT);
  while (out < end) {
    const stop = min(end, out + (TOGETHER << 2));
    const away = keys - (out << 1);
    // `out` holds the node each search has come to, then one behind its slot.
    for (let p = out; p < stop; p += 4) store<u32>(p, root);
    for (let h = root == 0 ? -1 : <i32>load<u32>(t, HEIGHT); h >= 0; --h) {
      for (let p = out; p < stop; p += 4) {
        const node = <usize>load<u32>(p);
        const r = rank(node, biased(load<u64>(away + (p << 1))));
        store<u32>(p, h != 0 ? load<u32>(node + (<usize>(r - 1) << 2), CHILD) : <u32>node + r);
      }
    }
    for (let p = out; p < stop; p += 4) {
      const key = load<u64>(away + (p << 1));
      const behind = <usize>load<u32>(p);
      // No range of the leaf begins at or before the key: one of the leaf before may reach here.
      const slot = (behind & 15) == 0 ? ranges_from(t, key) : behind - 1;
      store<u32>(p, slot != 0 && slot_key(slot) <= key && slot_last(slot) >= key ? slot_meta(slot) : 0);
    }
    keys += TOGETHER << 3;
    out = stop;
  }
}

/** The range that holds `key`, or 0. The last answer is tried first. */
export function ranges_find(t: usize, key: u64): usize {
  const hit = <usize>load<u32>(t, HIT);
  if (hit != 0) {
    const at = eights(hit);
    if (biased(key) >= load<i64>(at, KEY) && key <= load<u64>(at, LAST)) return hit;
  }
  const slot = ranges_from(t, key);
  if (slot == 0 || slot_key(slot) > key) return 0;
  store<u32>(t, <u32>slot, HIT);
  return slot;
}
