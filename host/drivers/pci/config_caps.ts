// What a user's write into a capability does beyond storing bits: power states, MSI control, function reset and read request size of PCI
// Express and advanced features, vital product data. Kernel counterpart: the write functions of vfio_pci_config.c. Source: spec pci section 3.4.
import { PM_CTRL, PM_CTRL_STATE } from '../../devices/pci_express.ts';
import { PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, PCI_MSI_FLAGS_QSIZE } from '../../devices/pci_msi.ts';
import { CAP_AF, CAP_EXP, CAP_MSI, CAP_PM, CAP_VPD } from './config_layout.ts';
import { defaultWrite } from './config_space.ts';
import type { VfioPciDevice } from './device.ts';
import { setPowerState } from './power.ts';
import { tryResetFunction } from './reset.ts';

const DEVCAP = 4;
const DEVCAP_FLR = 0x10000000;
const DEVCTL = 8;
const DEVCTL_FLR = 0x8000;
const DEVCTL_PAYLOAD = 0x00e0;
const DEVCTL_READRQ = 0x7000;
const AF_CAP = 3;
const AF_CAP_FLR = 0x2;
const AF_CTRL = 4;
const AF_CTRL_FLR = 0x1;
const VPD_ADDR = 2;
const VPD_DATA = 4;
const VPD_FLAG = 0x8000;

/** A write that lies in one capability; bits that cannot be written are dropped, but what the write triggers still happens. */
export function writeCapability(device: VfioPciDevice, offset: number, bytes: Uint8Array): void {
  const { layout } = device.config!;
  const start = layout.start[offset]!;
  const at = offset - start;
  defaultWrite(device, offset, bytes);
  switch (layout.owner[offset]) {
    case CAP_PM:
      if (at === PM_CTRL) setPowerState(device, bytes[0]! & PM_CTRL_STATE);
      break;
    case CAP_MSI:
      // Also a write that only reaches up to control takes it to hardware again (seen in vectors/abi).
      if (at <= PCI_MSI_FLAGS && at + bytes.length >= PCI_MSI_FLAGS) msiControl(device, start);
      break;
    case CAP_EXP:
      if (at <= DEVCTL + 1 && at + bytes.length > DEVCTL) deviceControl(device, start);
      break;
    case CAP_AF:
      if (at <= AF_CTRL && at + bytes.length > AF_CTRL) advancedFeatures(device, start);
      break;
    case CAP_VPD:
      if (at <= VPD_ADDR + 1 && at + bytes.length > VPD_ADDR + 1) vitalProductData(device, start);
      break;
  }
}

/** MSI is switched on by SET_IRQS only, and for no more vectors than that asked for; what is left goes to hardware too. */
function msiControl(device: VfioPciDevice, start: number): void {
  const config = device.config!;
  let flags = config.word(start + PCI_MSI_FLAGS);
  if (device.irqs.type !== 'msi') flags &= ~PCI_MSI_FLAGS_ENABLE;
  const most = device.irqs.messages.msiQueueMax;
  if ((flags & PCI_MSI_FLAGS_QSIZE) >> 4 > most) flags = (flags & ~PCI_MSI_FLAGS_QSIZE) | (most << 4);
  config.setWord(start + PCI_MSI_FLAGS, flags);
  device.hw.configWrite(start + PCI_MSI_FLAGS, 2, flags);
}

function deviceControl(device: VfioPciDevice, start: number): void {
  const config = device.config!;
  const at = start + DEVCTL;
  let control = config.word(at);
  if ((control & DEVCTL_FLR) !== 0) {
    control &= ~DEVCTL_FLR;
    config.setWord(at, control);
    if ((device.hw.configRead(start + DEVCAP, 4) & DEVCAP_FLR) !== 0) tryResetFunction(device);
  }
  // The read request size is passed on, but never below the payload size that the host has set.
  const real = device.hw.configRead(at, 2);
  const size = Math.max((control & DEVCTL_READRQ) >> 12, (real & DEVCTL_PAYLOAD) >> 5);
  device.hw.configWrite(at, 2, (real & ~DEVCTL_READRQ) | (Math.min(size, 5) << 12));
}

function advancedFeatures(device: VfioPciDevice, start: number): void {
  const { vconfig } = device.config!.layout;
  const at = start + AF_CTRL;
  if ((vconfig[at]! & AF_CTRL_FLR) === 0) return;
  vconfig[at] = vconfig[at]! & ~AF_CTRL_FLR;
  if ((device.hw.configRead(start + AF_CAP, 1) & AF_CAP_FLR) !== 0) tryResetFunction(device);
}

/** The flag asks for a transfer of four bytes and turns over when it is done: 1 write, 0 read. */
function vitalProductData(device: VfioPciDevice, start: number): void {
  const config = device.config!;
  const address = config.word(start + VPD_ADDR);
  const data = config.layout.vconfig.subarray(start + VPD_DATA, start + VPD_DATA + 4);
  const vpd = device.hw.vpd;
  const from = address & 0x7fff;
  if (vpd === null || from + 4 > vpd.length) return;
  if ((address & VPD_FLAG) !== 0) vpd.set(data, from);
  else data.set(vpd.subarray(from, from + 4));
  config.setWord(start + VPD_ADDR, address ^ VPD_FLAG);
}
