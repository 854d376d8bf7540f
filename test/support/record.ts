// Records a script while it runs, then runs the recording.
import { createVfio } from '../../host/inline.ts';
import { runScript } from '../../host/script/run.ts';
import { trace } from '../../host/script/trace.ts';
import { describeMismatches } from './scripts.ts';

/** @returns the recording, and what did not hold when it was replayed. */
export async function recordAndReplay(text: string): Promise<{ recording: string; failures: string[] }> {
  const lines: string[] = [];
  await runScript(text, { create: createVfio, prepare: (vfio) => trace(vfio, (line) => lines.push(line)) });
  const recording = lines.join('\n');
  const { mismatches } = await runScript(recording, { create: createVfio });
  return { recording, failures: describeMismatches(mismatches) };
}
