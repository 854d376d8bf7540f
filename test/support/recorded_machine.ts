// The machine that the recorded instruction lines ran on, from its description in test/data/insn.
import { ManualClock } from '../../host/clock.ts';
import { createVfio, type VfioInstance } from '../../host/inline.ts';
import { parseMachine } from '../../host/vmm/recorded/description.ts';
import { buildRecordedMachine } from '../../host/vmm/recorded/machine.ts';
import type { RecordedMachine } from '../../host/vmm/recorded/runner.ts';
import { loadText } from './data.ts';

const MiB = 1024 * 1024;

/** A fresh instance, and that machine over it. */
export async function recordedMachine(): Promise<{ vfio: VfioInstance; machine: RecordedMachine }> {
  const clock = new ManualClock();
  const vfio = await createVfio({ length: 96 * MiB, heapSize: 16 * MiB, clock, machine: { devices: [] } });
  return { vfio, machine: buildRecordedMachine(vfio, clock, parseMachine(await loadText('insn/machine.json'))) };
}
