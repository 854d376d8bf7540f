// The model `replay` in a machine: recordings by name, refusals with the reason.
import { describe, expect, it } from 'vitest';
import { createVfio } from '../../host/inline.ts';
import { loadLines } from '../support/data.ts';

const programs = await loadLines<{ name: string }>('ccw-real/3215.jsonl');
const entry = (recordings: unknown[]) => ({ devices: [{ bus: 'ccw', model: 'replay', name: '0.0.0100', recordings }] });
const text = (value: string) => ({
  has: () => true,
  integer: () => 0n,
  number: () => 0,
  bytes: () => new Uint8Array(0),
  text: () => value,
});

describe('model replay', () => {
  it('loads a recording by its name and knows no other', async () => {
    const vfio = await createVfio({ machine: entry(programs) });
    expect(vfio.actionRaw('0.0.0100', 'load', text(programs[0]!.name))).toBe(0);
    expect(vfio.actionRaw('0.0.0100', 'load', text('nothing'))).toBe(-2);
    expect(vfio.actionRaw('0.0.0100', 'hold', { ...text(''), number: () => 1 })).toBe(0);
  });

  it('refuses what is no recording, with the reason', async () => {
    const none = { devices: [{ bus: 'ccw', model: 'replay', name: '0.0.0100', recordings: {} }] };
    await expect(createVfio({ machine: none as never })).rejects.toThrow(/0\.0\.0100: recordings: a list is required/);
    await expect(createVfio({ machine: entry([{ name: 'x' }]) })).rejects.toThrow(/0\.0\.0100: recordings: /);
  });
});
