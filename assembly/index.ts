// The binary interface at a glance: every export, grouped by the object it works on. Numbers only cross this line.
// Result >= 0 is success or a count, < 0 is -errno. `*_create` answers 0 when the heap is full.

import { CORE_ABI } from './abi';

/** @returns the version of this interface (abi.ts, CORE_ABI). */
export function core_abi(): i32 {
  return CORE_ABI;
}

// arena: the heap of records
export { arena_alloc, arena_create, arena_free } from './arena';

// zpci: stores and loads as instructions
export { zpci_block_check, zpci_plan, zpci_store } from './zpci/store';

// crc32c: check sums of migration frames
export { crc32c, crc32c_copy, crc32c_create, crc32c_destroy } from './crc32c';

// mem: pages that need not travel
export { is_zero } from './mem';
