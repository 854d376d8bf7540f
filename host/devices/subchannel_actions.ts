// What a script may ask of the hardware behind any subchannel (spec script, `device`): `answer` {ssch, hsch, csch: condition codes from now on},
// `interrupt` {irb: 64 bytes}, `hold` {value: 1 keeps a started program pending until an interruption or 0}.
import { EINVAL } from '../../assembly/abi.ts';
import { IRB_SIZE } from '../css/schib.ts';
import type { ConditionCode } from '../css/subchannel.ts';
import type { DeviceActions } from './model.ts';

/** A subchannel that lets itself be told what to do. */
export interface DirectedSubchannel {
  answer(instruction: 'ssch' | 'hsch' | 'csch', cc: ConditionCode): void;
  interrupt(irb: Uint8Array): void;
  hold(value: boolean): void;
}

const INSTRUCTIONS = ['ssch', 'hsch', 'csch'] as const;

export const subchannelActions = (subchannel: DirectedSubchannel): DeviceActions => ({
  answer(fields) {
    const answers = INSTRUCTIONS.filter((name) => fields.has(name)).map((name) => [name, fields.number(name)] as const);
    if (answers.some(([, cc]) => cc < 0 || cc > 3)) return -EINVAL;
    for (const [name, cc] of answers) subchannel.answer(name, cc as ConditionCode);
    return 0;
  },
  interrupt(fields) {
    const irb = fields.bytes('irb');
    if (irb.length !== IRB_SIZE) return -EINVAL;
    subchannel.interrupt(irb);
    return 0;
  },
  hold(fields) {
    subchannel.hold(fields.number('value') !== 0);
    return 0;
  },
});
