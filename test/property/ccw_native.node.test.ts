// The C twin that the core is measured against: the same IDAWs and pins for the programs that are measured.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadGuest, nativeInput } from '../../bench/ccw.ts';
import { buildNative, runNative } from '../../bench/native.ts';
import { ModelProgram } from '../support/model/ccw.ts';

const FIRST_FRAME = 0x100000 / 4096;

describe('the C twin', () => {
  const program = buildNative('ccw');
  // Without a compiler there is nothing to measure either.
  for (const file of program === null
    ? []
    : ['perf-a-1x4k', 'perf-b-dasd-8x4k', 'perf-c-64x4k', 'perf-d-8x60k-idal', 'perf-e-256x64b'])
    it(`${file}: the same words and pins`, () => {
      const guest = loadGuest(file);
      const pages = new Map(
        guest.pages.map((iova, index) => [iova / 4096n, { bytes: new Uint8Array(4096), frame: FIRST_FRAME + index }]),
      );
      for (const { iova, bytes } of guest.memory)
        bytes.forEach((byte, index) => {
          const at = iova + BigInt(index);
          pages.get(at / 4096n)?.bytes.fill(byte, Number(at % 4096n), Number(at % 4096n) + 1);
        });
      const model = new ModelProgram(pages, guest.word1);
      expect([model.init(guest.cpa), model.prefetch()]).toEqual([0, 0]);
      const words = model.chains.flatMap(({ ccws }) => ccws.flatMap(({ idaws = [] }) => idaws));
      const path = join(mkdtempSync(join(tmpdir(), 'vfio-wasm-')), 'guest.txt');
      writeFileSync(path, nativeInput(guest));
      expect(runNative(program as string, [path])).toMatchObject({
        pins: [...model.pins.values()].reduce((sum, pins) => sum + pins, 0),
        words: Number(words.reduce((sum, word) => sum + word, 0n)),
      });
    });

  it('is built wherever there is a C compiler', () => {
    expect(program === null).toBe(spawnSync('cc', ['--version']).status !== 0);
  });
});
