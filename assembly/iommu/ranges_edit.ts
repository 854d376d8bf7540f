// Inserting and removing in the table of ranges (ranges.ts draws the records). A full leaf first hands ranges to a neighbour, so that leaves
// stay well filled; an append leaves full leaves behind. Every allocation is made before the first change.
import { add_u32 } from '../mem';
import { arena_alloc, arena_free } from '../arena';
import {
  biased, CHILD, COUNT, descend, FAN_OUT, found_from, HEIGHT, HIT, KEY, LAST, LEAF_BYTES, LEN, META, NEXT, NODE_BYTES, PATH, PREV, RANGES_SIZE, ROOT, slot_key, VALUE,
} from './ranges';

const LARGEST: i64 = i64.MAX_VALUE;
/** First bound of every node. */
const SMALLEST: i64 = i64.MIN_VALUE;
/** A neighbour with fewer free places is not worth moving ranges to. */
const SHARE: u32 = 4;

/** Empties the record, without freeing anything. */
export function ranges_init(t: usize): void {
  memory.fill(t, 0, RANGES_SIZE);
}

/** Frees every leaf and node. */
export function ranges_destroy(t: usize, arena: usize): void {
  if (load<u32>(t, ROOT) != 0) destroy(<usize>load<u32>(t, ROOT), arena, load<u32>(t, HEIGHT));
  ranges_init(t);
}

function destroy(node: usize, arena: usize, height: u32): void {
  if (height == 0) return arena_free(arena, node, LEAF_BYTES);
  for (let i: u32 = 0; i < load<u32>(node, LEN); ++i) destroy(child(node, i), arena, height - 1);
  arena_free(arena, node, NODE_BYTES);
}

// @ts-expect-error: decorator
@inline
function child(node: usize, i: u32): usize {
  return <usize>load<u32>(node + (<usize>i << 2), CHILD);
}

// @ts-expect-error: decorator
@inline
function key_of(node: usize, i: u32): i64 {
  return load<i64>(node + (<usize>i << 3), KEY);
}

// @ts-expect-error: decorator
@inline
function set_key(node: usize, i: u32, key: i64): void {
  store<i64>(node + (<usize>i << 3), key, KEY);
}

// @ts-expect-error: decorator
@inline
function path_of(t: usize, level: u32): usize {
  return <usize>load<u32>(t + (<usize>level << 2), PATH);
}

/**
 * Copies n places of the four columns of a leaf, which may be the same leaf: then from the end on when they move up. A loop, because n is small
 * and memory.copy is a call out of the core.
 */
function copy_places(to: usize, at: u32, from: usize, first: u32, n: u32): void {
  const up = to == from && at > first ? 1 : 0;
  const step: u32 = 1 - 2 * up;
  at += (n - 1) * up;
  first += (n - 1) * up;
  for (; n != 0; n--) {
    const p = to + (<usize>at << 3);
    const q = from + (<usize>first << 3);
    store<u64>(p, load<u64>(q, KEY), KEY);
    store<u64>(p, load<u64>(q, LAST), LAST);
    store<u64>(p, load<u64>(q, VALUE), VALUE);
    store<u32>(to + (<usize>at << 2), load<u32>(from + (<usize>first << 2), META), META);
    at += step;
    first += step;
  }
}

/** Sets the length and marks the keys behind it unused. */
function set_len(node: usize, from: u32, len: u32): void {
  store<u32>(node, len, LEN);
  for (let i = len; i < from; ++i) set_key(node, i, LARGEST);
}

function new_block(arena: usize, size: usize): usize {
  const p = arena_alloc(arena, size);
  if (p != 0) {
    store<u64>(p, 0, NEXT);
    set_len(p, FAN_OUT, 0);
  }
  return p;
}

/** Moves the last n ranges of `leaf` to the front of `right`. */
function shift_right(leaf: usize, right: usize, n: u32): void {
  const len = load<u32>(leaf, LEN);
  const there = load<u32>(right, LEN);
  copy_places(right, n, right, 0, there);
  copy_places(right, 0, leaf, len - n, n);
  store<u32>(right, there + n, LEN);
  set_len(leaf, len, len - n);
}

/** Moves the first n ranges of `leaf` to the end of `left`. */
function shift_left(leaf: usize, left: usize, n: u32): void {
  const len = load<u32>(leaf, LEN);
  const there = load<u32>(left, LEN);
  copy_places(left, there, leaf, 0, n);
  store<u32>(left, there + n, LEN);
  copy_places(leaf, 0, leaf, n, len - n);
  set_len(leaf, len, len - n);
}

/** Answer of ranges_insert: a range is there. No slot has this address. */
export const OVERLAP: usize = 1;

/**
 * Inserts a range. @returns its slot; 0: the heap is full; OVERLAP: it would overlap one of the table. The table is as before then.
 */
export function ranges_insert(t: usize, arena: usize, key: u64, last: u64, value: u64, meta: u32): usize {
  const k = biased(key);
  if (load<u32>(t, ROOT) == 0) {
    const root = new_block(arena, LEAF_BYTES);
    if (root == 0) return 0;
    store<u32>(t, <u32>root, ROOT);
  }
  let found = descend(t, k);
  if (load<u32>(t, COUNT) != 0) {
    const there = found_from(found, key);
    if (there != 0 && slot_key(there) <= last) return OVERLAP;
  }
  if (load<u32>(<usize>found, LEN) == FAN_OUT) {
    if (!make_room(t, arena, <usize>found, <u32>(found >> 32), k)) return 0;
    found = descend(t, k);
  }
  const leaf = <usize>found;
  const at = <u32>(found >> 32);
  const len = load<u32>(leaf, LEN);
  if (at != len) copy_places(leaf, at + 1, leaf, at, len - at);
  store<u32>(leaf, len + 1, LEN);
  const p = leaf + (<usize>at << 3);
  store<i64>(p, k, KEY);
  store<u64>(p, last, LAST);
  store<u64>(p, value, VALUE);
  store<u32>(leaf + (<usize>at << 2), meta, META);
  add_u32(t + COUNT, 1);
  store<u32>(t, 0, HIT);
  return leaf + at;
}

/** Makes room for `k`, which belongs at `place` of the full `leaf` whose path is recorded. @returns false: the heap is full. */
function make_room(t: usize, arena: usize, leaf: usize, place: u32, k: i64): bool {
  const height = load<u32>(t, HEIGHT);
  if (height != 0) {
    const step = path_of(t, height - 1);
    const parent = step & ~15;
    const i = <u32>step & 15;
    if (i + 1 < load<u32>(parent, LEN)) {
      const right = child(parent, i + 1);
      const free = FAN_OUT - load<u32>(right, LEN);
      if (free >= SHARE) {
        shift_right(leaf, right, free >> 1);
        set_key(parent, i + 1, key_of(right, 0));
        return true;
      }
    }
    if (i != 0) {
      const left = child(parent, i - 1);
      const free = FAN_OUT - load<u32>(left, LEN);
      if (free >= SHARE) {
        shift_left(leaf, left, free >> 1);
        set_key(parent, i, key_of(leaf, 0));
        return true;
      }
    }
  }
  // One leaf, one node for each full ancestor, one more when the root is full (or is the leaf).
  let full: u32 = 0;
  while (full < height && load<u32>(path_of(t, height - 1 - full) & ~15, LEN) == FAN_OUT) full++;
  const wanted = full == height ? full + 1 : full;
  let nodes: usize = 0;
  let right: usize = 0;
  for (let i: u32 = 0; i <= wanted; ++i) {
    const block = new_block(arena, i == wanted ? LEAF_BYTES : NODE_BYTES);
    if (block == 0) {
      while (nodes != 0) {
        const next = <usize>load<u32>(nodes, NEXT);
        arena_free(arena, nodes, NODE_BYTES);
        nodes = next;
      }
      return false;
    }
    if (i != wanted) {
      store<u32>(block, <u32>nodes, NEXT);
      nodes = block;
    } else right = block;
  }
  const after = <usize>load<u32>(leaf, NEXT);
  store<u32>(right, <u32>after, NEXT);
  store<u32>(right, <u32>leaf, PREV);
  store<u32>(leaf, <u32>right, NEXT);
  if (after != 0) store<u32>(after, <u32>right, PREV);
  const append = after == 0 && place == FAN_OUT;
  if (!append) shift_right(leaf, right, FAN_OUT / 2);
  insert_child(t, append ? k : key_of(right, 0), right, nodes);
  return true;
}

/** Hangs `block` behind the path of the last descent, splitting full nodes with the ones in the list `nodes`. */
// @ts-expect-error: decorator
@inline
function insert_child(t: usize, bound: i64, block: usize, nodes: usize): void {
  const left = load<u32>(t, ROOT);
  for (let level = load<u32>(t, HEIGHT); level != 0; --level) {
    const step = path_of(t, level - 1);
    let node = step & ~15;
    let at = (<u32>step & 15) + 1;
    if (load<u32>(node, LEN) < FAN_OUT) return put_child(node, at, bound, block);
    const right = nodes;
    nodes = <usize>load<u32>(right, NEXT);
    const keep: u32 = at == FAN_OUT ? FAN_OUT : FAN_OUT / 2;
    const moved = FAN_OUT - keep;
    memory.copy(right + KEY, node + KEY + (<usize>keep << 3), <usize>moved << 3);
    memory.copy(right + CHILD, node + CHILD + (<usize>keep << 2), <usize>moved << 2);
    store<u32>(right, moved, LEN);
    set_len(node, FAN_OUT, keep);
    if (at > keep || moved == 0) {
      node = right;
      at -= keep;
    }
    put_child(node, at, bound, block);
    bound = key_of(right, 0);
    set_key(right, 0, SMALLEST);
    block = right;
  }
  const root = nodes;
  store<u32>(root, 2, LEN);
  set_key(root, 0, SMALLEST);
  set_key(root, 1, bound);
  store<u32>(root, left, CHILD);
  store<u32>(root, <u32>block, CHILD + 4);
  store<u32>(t, <u32>root, ROOT);
  add_u32(t + HEIGHT, 1);
}

function put_child(node: usize, at: u32, bound: i64, block: usize): void {
  const len = load<u32>(node, LEN);
  const key = node + KEY + (<usize>at << 3);
  const link = node + CHILD + (<usize>at << 2);
  memory.copy(key + 8, key, <usize>(len - at) << 3);
  memory.copy(link + 4, link, <usize>(len - at) << 2);
  store<i64>(key, bound);
  store<u32>(link, <u32>block);
  store<u32>(node, len + 1, LEN);
}

/** Removes `n` ranges from `slot` on; all lie in the leaf of `slot`. Slots held by the caller are void afterwards. */
export function ranges_remove(t: usize, arena: usize, slot: usize, n: u32): void {
  const leaf = slot & ~15;
  const at = <u32>slot & 15;
  const len = load<u32>(leaf, LEN) - n;
  add_u32(t + COUNT, 0 - n);
  store<u32>(t, 0, HIT);
  // A leaf that stays half full needs no path.
  if (len <= FAN_OUT / 4) descend(t, key_of(leaf, 0));
  if (len == 0) return drop_leaf(t, arena, leaf);
  copy_places(leaf, at, leaf, at + n, len - at);
  set_len(leaf, len + n, len);
  if (len > FAN_OUT / 4) return;
  const height = load<u32>(t, HEIGHT);
  if (height == 0) return;
  // What two neighbours hold goes into the left one.
  const step = path_of(t, height - 1);
  const parent = step & ~15;
  const i = max<u32>(<u32>step & 15, 1);
  if (i == load<u32>(parent, LEN)) return;
  const left = child(parent, i - 1);
  const right = child(parent, i);
  const there = load<u32>(right, LEN);
  if (load<u32>(left, LEN) + there > FAN_OUT - 2) return;
  shift_left(right, left, there);
  store<u32>(t + (<usize>(height - 1) << 2), <u32>parent + i, PATH);
  drop_leaf(t, arena, right);
}

/** Frees the empty leaf at the end of the path, and the nodes that are empty then. */
function drop_leaf(t: usize, arena: usize, leaf: usize): void {
  const next = <usize>load<u32>(leaf, NEXT);
  const prev = <usize>load<u32>(leaf, PREV);
  if (next != 0) store<u32>(next, <u32>prev, PREV);
  if (prev != 0) store<u32>(prev, <u32>next, NEXT);
  arena_free(arena, leaf, LEAF_BYTES);
  if (load<u32>(t, HEIGHT) == 0) store<u32>(t, 0, ROOT);
  for (let level = load<u32>(t, HEIGHT); level != 0; --level) {
    const step = path_of(t, level - 1);
    const node = step & ~15;
    const at = <u32>step & 15;
    const len = load<u32>(node, LEN) - 1;
    const key = node + KEY + (<usize>at << 3);
    const link = node + CHILD + (<usize>at << 2);
    memory.copy(key, key + 8, <usize>(len - at) << 3);
    memory.copy(link, link + 4, <usize>(len - at) << 2);
    set_len(node, len + 1, len);
    set_key(node, 0, SMALLEST);
    if (len != 0) break;
    arena_free(arena, node, NODE_BYTES);
    if (level == 1) {
      store<u32>(t, 0, ROOT);
      store<u32>(t, 0, HEIGHT);
    }
  }
  while (load<u32>(t, HEIGHT) != 0) {
    const root = <usize>load<u32>(t, ROOT);
    if (load<u32>(root, LEN) != 1) break;
    store<u32>(t, load<u32>(root, CHILD), ROOT);
    add_u32(t + HEIGHT, -1);
    arena_free(arena, root, NODE_BYTES);
  }
}
