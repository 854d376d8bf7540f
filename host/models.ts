// The models a machine can have, by the name that a description gives. A model's own file wires hardware and driver together; this table is the
// only place that knows all of them.
import type { ModelFactory } from './devices/model.ts';
import { bare, bareMediated } from './drivers/bare.ts';
import { scriptedSubchannel } from './drivers/ccw/model.ts';

export const MODELS: Readonly<Record<string, ModelFactory>> = {
  edu: bare,
  'pci-msix': bare,
  ism: bare,
  'zpci-net': bare,
  'dasd-3390': bareMediated,
  scripted: scriptedSubchannel,
  mtty: bareMediated,
  ap: bareMediated,
};
