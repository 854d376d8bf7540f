// A sparse table of 1 KiB leaves under a 64-bit leaf number: page entries and dirty bits both live in one. Its height follows the
// largest number in use, so that an ordinary guest pays two loads and 2^64 - 1 is still a valid iova. Kernel counterpart: lib/xarray.
//
// Record (8 bytes, part of its owner's record):       Inner node (4096 bytes): 1024 x u32 child, 0 = nothing there
//   offset size field
//        0    4 root      0: empty table
//        4    4 height    inner levels above the leaves, 2 or more; height h holds numbers below 2^(10h)
import { arena_free, arena_zalloc } from '../arena';
import { is_zero } from '../mem';

/** Bytes of a leaf; zeroed when made. */
export const LEAF_SIZE = 1024;
/** No leaf: the answer of radix_next at the end. */
export const NO_LEAF: u64 = 0xffffffffffffffff;

const ROOT = 0;
const HEIGHT = 4;
/** A table is no lower: entries of 256 GiB, or dirty bits of 32 TiB. */
const HEIGHT_MIN: u32 = 2;
/** Leaves that a table of the least height holds; a taller one has them below its first child. */
export const RADIX_LOW: u64 = 1 << 20;
const NODE_SIZE = 4096;
const BITS = 10;

/** The leaf of this number, or 0. */
export function radix_get(t: usize, index: u64): usize {
  let node = <usize>load<u32>(t, ROOT);
  let shift = <u64>load<u32>(t, HEIGHT) * BITS;
  if (index >> shift != 0) return 0;
  while (shift != 0 && node != 0) {
    shift -= BITS;
    node = <usize>load<u32>(node + ((<usize>(index >> shift) & 1023) << 2));
  }
  return node;
}

/**
 * Where the numbers below RADIX_LOW are found by two loads: the root of a table of the least height, or the node that took its place when the
 * table grew. 0: none of them has a leaf.
 */
export function radix_low(t: usize): usize {
  let node = <usize>load<u32>(t, ROOT);
  for (let h = load<u32>(t, HEIGHT); h > HEIGHT_MIN && node != 0; --h) node = <usize>load<u32>(node);
  return node;
}

/** radix_low without a call, for a table that has not grown; 0: it has, or it is empty. */
// @ts-expect-error: decorator
@inline
export function radix_root(t: usize): usize {
  return load<u32>(t, HEIGHT) == HEIGHT_MIN ? <usize>load<u32>(t, ROOT) : 0;
}

/** The inner node below a low root on the way to a leaf's number, or 0. */
// @ts-expect-error: decorator
@inline
export function radix_node(root: usize, index: u32): usize {
  return <usize>load<u32>(root + (index >> 10 << 2));
}

/** The leaf below that node, or 0. */
// @ts-expect-error: decorator
@inline
export function radix_leaf(node: usize, index: u32): usize {
  return <usize>load<u32>(node + ((index & 1023) << 2));
}

/** The leaf of this number, made (zeroed) when it is not there. 0: the heap is full, and the table is as before. */
export function radix_make(t: usize, arena: usize, index: u64): usize {
  if (load<u32>(t, ROOT) == 0) {
    let height = HEIGHT_MIN;
    while (index >> (<u64>height * BITS) != 0) height++;
    store<u32>(t, height, HEIGHT);
  }
  let shift = <u64>load<u32>(t, HEIGHT) * BITS;
  while (index >> shift != 0) {
    const node = arena_zalloc(arena, NODE_SIZE);
    if (node == 0) return undo(t, arena, index);
    store<u32>(node, load<u32>(t, ROOT));
    store<u32>(t, <u32>node, ROOT);
    shift += BITS;
    store<u32>(t, <u32>(shift / BITS), HEIGHT);
  }
  let slot = t;
  let node: usize = 0;
  for (;;) {
    node = <usize>load<u32>(slot);
    if (node == 0) {
      node = arena_zalloc(arena, shift == 0 ? LEAF_SIZE : NODE_SIZE);
      if (node == 0) return undo(t, arena, index);
      store<u32>(slot, <u32>node);
    }
    if (shift == 0) break;
    shift -= BITS;
    slot = node + ((<usize>(index >> shift) & 1023) << 2);
  }
  return node;
}

function undo(t: usize, arena: usize, index: u64): usize {
  prune(t, arena, index);
  return 0;
}

/** Frees the leaf of this number and every inner node that is empty then. */
export function radix_remove(t: usize, arena: usize, index: u64): void {
  let slot = t;
  let shift = <u64>load<u32>(t, HEIGHT) * BITS;
  while (shift != 0) {
    shift -= BITS;
    slot = <usize>load<u32>(slot) + ((<usize>(index >> shift) & 1023) << 2);
  }
  arena_free(arena, <usize>load<u32>(slot), LEAF_SIZE);
  store<u32>(slot, 0);
  prune(t, arena, index);
}

/** Frees empty inner nodes on the way to `index`, then levels that only lead to slot 0. */
function prune(t: usize, arena: usize, index: u64): void {
  const height = load<u32>(t, HEIGHT);
  if (load<u32>(t, ROOT) != 0 && index >> (<u64>height * BITS) == 0) prune_node(t, arena, index, height);
  while (load<u32>(t, HEIGHT) > HEIGHT_MIN) {
    const root = <usize>load<u32>(t, ROOT);
    if (root == 0) return;
    const first = load<u32>(root);
    store<u32>(root, 0);
    if (!is_zero(root, NODE_SIZE)) return store<u32>(root, first);
    store<u32>(t, first, ROOT);
    arena_free(arena, root, NODE_SIZE);
    store<u32>(t, load<u32>(t, HEIGHT) - 1, HEIGHT);
  }
}

function prune_node(slot: usize, arena: usize, index: u64, height: u32): void {
  const node = <usize>load<u32>(slot);
  if (node == 0) return;
  if (height > 1)
    prune_node(node + ((<usize>(index >> (<u64>(height - 1) * BITS)) & 1023) << 2), arena, index, height - 1);
  if (!is_zero(node, NODE_SIZE)) return;
  arena_free(arena, node, NODE_SIZE);
  store<u32>(slot, 0);
}

/** The smallest number >= index that has a leaf, or NO_LEAF. Skips what is not there a subtree at a time. */
export function radix_next(t: usize, index: u64): u64 {
  const top = <u64>load<u32>(t, HEIGHT) * BITS;
  if (load<u32>(t, ROOT) == 0) return NO_LEAF;
  while (index >> top == 0) {
    let node = <usize>load<u32>(t, ROOT);
    let shift = top;
    while (shift != 0) {
      shift -= BITS;
      let slot = <u32>(index >> shift) & 1023;
      const from = slot;
      while (slot < 1024 && load<u32>(node + (<usize>slot << 2)) == 0) slot++;
      if (slot != from) index = ((index >> shift) + <u64>(slot - from)) << shift;
      if (slot == 1024) break;
      node = <usize>load<u32>(node + (<usize>slot << 2));
      if (shift == 0) return index;
    }
  }
  return NO_LEAF;
}

/** Frees everything. */
export function radix_destroy(t: usize, arena: usize): void {
  if (load<u32>(t, ROOT) != 0) destroy_node(<usize>load<u32>(t, ROOT), arena, load<u32>(t, HEIGHT));
  store<u64>(t, 0);
}

function destroy_node(node: usize, arena: usize, height: u32): void {
  if (height == 0) return arena_free(arena, node, LEAF_SIZE);
  for (let slot = node; slot < node + NODE_SIZE; slot += 4)
    if (load<u32>(slot) != 0) destroy_node(<usize>load<u32>(slot), arena, height - 1);
  arena_free(arena, node, NODE_SIZE);
}
