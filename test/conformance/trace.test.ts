// Recordings: every script, recorded while it runs, replays to the same results - whatever they were.
import { describe, expect, it } from 'vitest';
import { loadText } from '../support/data.ts';
import { recordAndReplay } from '../support/record.ts';
import { SCRIPTS } from '../support/script_names.ts';

describe('a recording replays to the same results', () => {
  it.each(SCRIPTS)('%s', async (name) => {
    const { failures, recording } = await recordAndReplay(await loadText(`abi/${name}.jsonl`));
    expect(failures).toEqual([]);
    expect(recording.split('\n').length).toBeGreaterThan(5);
  });
});
