// Actions of the simulated hardware from JavaScript, with the fields that a script would give.
import type { ActionResult } from '../devices/model.ts';
import type { VfioInstance } from '../source.ts';
import { ActionReader } from './device.ts';
import type { JsonObject } from './values.ts';

/**
 * Asks the hardware behind a device for something that a driver cannot (docs/script.md lists the actions of each model), such as
 * `deviceAction(vfio, '0000:00:01.0', 'dma_write', { iova: 0, data: '00ff' })`. A traced instance records it.
 * @returns 0, a count or -errno, alone or with the bytes read. @throws TypeError no such device or action; ScriptError a field is wrong.
 */
export function deviceAction(vfio: VfioInstance, name: string, action: string, fields: JsonObject = {}): ActionResult {
  return vfio.actionRaw(name, action, new ActionReader(fields));
}
