import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createVfio } from '../../host/inline.ts';
import { runScript } from '../../host/script/run.ts';

const folder = new URL('../../examples/', import.meta.url);
const scripts = readdirSync(folder).filter((name) => name.endsWith('.jsonl'));

describe('example scripts', () => {
  it('there are some', () => {
    expect(scripts).toEqual(expect.arrayContaining(['ap_request.jsonl', 'dasd_read.jsonl', 'ism_message.jsonl']));
  });

  for (const name of scripts)
    it(`${name}: every expectation holds`, async () => {
      const { mismatches, results } = await runScript(readFileSync(new URL(name, folder), 'utf8'), {
        create: createVfio,
      });
      expect(mismatches).toEqual([]);
      expect(results.length).toBeGreaterThan(10);
    });
});
