// Power management and PCI Express of an endpoint: the two standard capabilities without behaviour of the model's own.
import { PCI_CAP_ID_EXP, PCI_CAP_ID_PM, type PciConfigSpace } from './pci_config.ts';

export const PM_PMC = 2;
export const PM_CTRL = 4;
export const PM_CTRL_STATE = 0x3;
const PM_CTRL_NO_SOFT_RESET = 0x8;
const PM_SIZE = 8;

export const EXP_FLAGS = 2;
export const EXP_DEVCAP = 4;
export const EXP_DEVCAP_FLR = 0x10000000;
export const EXP_DEVCTL = 8;
export const EXP_DEVCTL_FLR = 0x8000;
export const EXP_DEVCTL2 = 0x28;
const EXP_LNKCAP = 0xc;
const EXP_LNKCTL = 0x10;
const EXP_LNKSTA = 0x12;
const EXP_SIZE_V2 = 60;

/** Version 3, D1 and D2 supported, PME from D0 and D3hot, no reset on the way back from D3hot. */
export function addPowerManagement(config: PciConfigSpace): number {
  const at = config.addCapability(PCI_CAP_ID_PM, PM_SIZE);
  config.set(at + PM_PMC, 2, 0x4e03);
  config.set(at + PM_CTRL, 2, PM_CTRL_NO_SOFT_RESET);
  config.allowWrites(at + PM_CTRL, 2, 0x0100 | PM_CTRL_STATE);
  return at;
}

/** Version 2, endpoint, one lane of 2.5 GT/s, payload up to 256 bytes. @param flr the function can reset itself. */
export function addExpress(config: PciConfigSpace, flr: boolean): number {
  const at = config.addCapability(PCI_CAP_ID_EXP, EXP_SIZE_V2);
  config.set(at + EXP_FLAGS, 2, 0x0002);
  config.set(at + EXP_DEVCAP, 4, 0x00008001 | (flr ? EXP_DEVCAP_FLR : 0));
  config.set(at + EXP_DEVCTL, 2, 0x2810);
  config.allowWrites(at + EXP_DEVCTL, 2, flr ? 0xffff : 0x7fff);
  config.set(at + EXP_LNKCAP, 4, 0x00000011);
  config.allowWrites(at + EXP_LNKCTL, 2, 0x00ff);
  config.set(at + EXP_LNKSTA, 2, 0x0011);
  config.allowWrites(at + EXP_DEVCTL2, 2, 0x041f);
  return at;
}
