// Recorded 3390 programs that ended normally, against the 3390 model on a sparse volume of 3,339 cylinders: the same CCWs in the same order, the
// same status and residual; what they write is read back by a second program.
import { describe, expect, it } from 'vitest';
import { Volume } from '../../host/devices/dasd/volume.ts';
import { GuestImage, type Recording } from '../../host/devices/recording.ts';
import { DasdMachine } from '../support/dasd_machine.ts';
import { expectationOf } from '../support/dasd_tracks.ts';
import { loadLines } from '../support/data.ts';

const CYLINDERS = 3339;

/** Programs that cannot be equal on this device, by shape, and why. */
const REASONS: ReadonlyMap<string, string> = new Map([
  [
    'a5ee12',
    'format 0: an immediate command with a count is no incorrect length there; translated to format 1 it is one (spec ccw 5.3, engine)',
  ],
  ['5be78f-2', 'its extent ends before it begins: the recording emulator does not look, the model rejects it'],
]);

const all = await loadLines<Recording>('ccw-real/3390.jsonl');
const recordings = all.filter(
  ({ outcome, orb_origin, self_modifying }) =>
    outcome.unit_status === '0c' && orb_origin === 'SSCH' && self_modifying !== true,
);

const reasonOf = (name: string) => [...REASONS].find(([shape]) => name.includes(shape))?.[1];

/** Thousands of records are compared; toEqual looks at every byte by itself. */
const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

describe('recorded programs of a 3390', () => {
  it('are equal in order, status and residual, and leave what they write', async () => {
    const machine = await DasdMachine.create();
    let written = 0;
    const different: string[] = [];
    for (const recording of recordings) {
      const expected = expectationOf(recording, CYLINDERS);
      machine.mount(expected.volume);
      const { executed, outcome } = machine.run(recording);
      const { kind, unit_status, channel_status, residual_count, ccw_address } = recording.outcome;
      const equal =
        JSON.stringify(outcome) ===
          JSON.stringify({ kind, unit_status, channel_status, residual_count, ccw_address }) &&
        JSON.stringify(executed) === JSON.stringify(recording.executed);
      if (!equal) {
        different.push(recording.name);
        continue;
      }
      const lost = machine
        .read(expected.written)
        .filter((bytes, index) => !same(bytes, expected.written[index]!.bytes));
      written += expected.written.length;
      expect([recording.name, lost.length]).toEqual([recording.name, 0]);
      expect(machine.machine.hardware.violations).toBe(0);
    }
    expect(different.filter((name) => reasonOf(name) === undefined)).toEqual([]);
    expect(different.length).toBe(REASONS.size);
    expect(recordings.length).toBe(639);
    expect(written).toBeGreaterThan(1000);
  });

  it('read and write track data where the recording emulator rejects them, on tracks of the block size they are for', async () => {
    const machine = await DasdMachine.create();
    const rejected = all.filter((recording) => {
      const image = new GuestImage(recording);
      const at = Number(recording.executed?.at(-1));
      const commands = [image.ccw(at).command, image.ccw(at + 8).command];
      return recording.outcome.unit_status === '0e' && (commands[0] === 0xa6 || commands[1] === 0xa5);
    });
    expect(rejected.length).toBe(70);
    for (const recording of rejected) {
      const ends = [512, 1024, 2048, 4096].map((blockSize) => {
        machine.mount(Volume.empty(CYLINDERS, { blockSize }));
        const { outcome } = machine.run(recording);
        return `${outcome?.unit_status} ${outcome?.channel_status} ${outcome?.residual_count}`;
      });
      expect([recording.name, ends.includes('0c 00 0')]).toEqual([recording.name, true]);
    }
  });
});
