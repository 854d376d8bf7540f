// The models a machine can have, by the name that a description gives. A model's own file wires hardware and driver together; this table is the
// only place that knows all of them.
import type { ModelFactory } from './devices/model.ts';
import { apModel } from './drivers/ap/models.ts';
import { dasd3390 } from './drivers/ccw/dasd_3390.ts';
import { scriptedSubchannel } from './drivers/ccw/model.ts';
import { replaySubchannel } from './drivers/ccw/replay.ts';
import { eduModel, pciMsixModel } from './drivers/pci/models.ts';
import { ismModel, zpciNetModel } from './drivers/pci/zpci_models.ts';
import { mttyModel } from './drivers/sample/model.ts';

export const MODELS: Readonly<Record<string, ModelFactory>> = {
  edu: eduModel,
  'pci-msix': pciMsixModel,
  ism: ismModel,
  'zpci-net': zpciNetModel,
  'dasd-3390': dasd3390,
  replay: replaySubchannel,
  scripted: scriptedSubchannel,
  mtty: mttyModel,
  ap: apModel,
};
