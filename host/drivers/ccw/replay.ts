// Model `replay`: a subchannel whose device answers from recorded channel programs (docs/devices/engine.md). Options of an entry: `subchannel`,
// `device` (bus ids) and `recordings`, a list in the form of the recorded programs. Action `load` {`recording`: name} chooses the one to answer from.
import { ENOENT } from '../../../assembly/abi.ts';
import type { ModelFactory } from '../../devices/model.ts';
import { checkRecording, type Recording } from '../../devices/recording.ts';
import { ReplayDevice } from '../../devices/replay.ts';
import { addChannelDevice } from './model.ts';

/** Puts the subchannel into the machine. @throws TypeError an option that it cannot honour; the first recording that is none, and why. */
export const replaySubchannel: ModelFactory = (context) => {
  const { description } = context;
  const recordings = new Map<string, Recording>();
  const list = description['recordings'] ?? [];
  if (!Array.isArray(list)) throw new TypeError(`${description.name}: recordings: a list is required`);
  for (const value of list as unknown[]) {
    const wrong = checkRecording(value);
    if (wrong !== undefined) throw new TypeError(`${description.name}: recordings: ${wrong}`);
    recordings.set((value as Recording).name, value as Recording);
  }
  const device = new ReplayDevice();
  addChannelDevice(context, device);
  context.addActions({
    load(fields) {
      const recording = recordings.get(fields.text('recording'));
      if (recording === undefined) return -ENOENT;
      device.load(recording);
      return 0;
    },
  });
};
