// The calls that a real kernel answered (test/data/abi): every script must give the kernel's answers, to the byte.
import { describe, expect, it } from 'vitest';
import { SCRIPTS } from '../support/script_names.ts';
import { failures } from '../support/scripts.ts';

describe('scripts answered by Linux', () => {
  it.each(SCRIPTS)('%s', async (name) => {
    expect(await failures(name)).toEqual([]);
  });
});
