// The PCI models of a machine: hardware, driver and the actions that a script may ask of the hardware (spec script, "Actions of device").
import { EINVAL } from '../../../assembly/abi.ts';
import type { StatefulHardware } from '../../devices/device_state.ts';
import { Edu } from '../../devices/edu.ts';
import type {
  ActionFields,
  ActionResult,
  DeviceActions,
  DeviceDescription,
  ModelContext,
} from '../../devices/model.ts';
import type { PciDevice } from '../../devices/pci_device.ts';
import { PciMsix } from '../../devices/pci_msix.ts';
import {
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../../uapi/constants.ts';
import { coreRequest, reportError } from './core.ts';
import { VfioPciDevice, type VfioPciOptions } from './device.ts';
import { MIGRATABLE_PCI_OPS, MigratablePciDevice } from './migratable.ts';
import { PciResetDomain } from './reset.ts';
import { VFIO_PCI_OPS } from './vfio_pci.ts';

/** `edu`. Options: `bar0` and `line` as firmware left them, `reset: "bus"` for a port of its own. */
export function eduModel(context: ModelContext): void {
  const { description } = context;
  const { bar0, line, reset } = description;
  if (reset !== undefined && reset !== 'bus') throw new TypeError(`${description.name}: reset is "bus" or absent`);
  const hw = new Edu({
    ...(bar0 === undefined ? {} : { bar0: integer(bar0, 'bar0') }),
    ...(line === undefined ? {} : { line: integer(line, 'line') }),
  });
  add(context, hw, reset === 'bus' || migrates(description) ? { resetDomain: new PciResetDomain() } : {});
}

/** `pci-msix`. Functions of one device number share a bus reset. */
export function pciMsixModel(context: ModelContext): void {
  const slot = context.description.name.replace(/\.[0-7]$/, '');
  const sibling = [...context.vfio.nodes.values()].find(
    (device): device is VfioPciDevice => device instanceof VfioPciDevice && device.name.startsWith(`${slot}.`),
  );
  add(context, new PciMsix(), { resetDomain: sibling?.options.resetDomain ?? new PciResetDomain() });
}

/** The option `driver`: `vfio-pci`, or its variant that migrates. */
function migrates(description: DeviceDescription): boolean {
  const { driver = 'vfio-pci' } = description;
  if (driver !== 'vfio-pci' && driver !== MIGRATABLE_PCI_OPS.name)
    throw new TypeError(`${description.name}: driver is vfio-pci or ${MIGRATABLE_PCI_OPS.name}, not ${driver}`);
  return driver === MIGRATABLE_PCI_OPS.name;
}

/** Binds a function to the driver that its entry names (`driver`, and `migrationRegion: true` with the one that migrates). @throws TypeError there is no such driver. */
export function bindDriver(
  { vfio, description }: ModelContext,
  hw: PciDevice & StatefulHardware,
  options: VfioPciOptions,
): VfioPciDevice {
  return migrates(description)
    ? new MigratablePciDevice(vfio, description.name, hw, options, description['migrationRegion'] === true)
    : new VfioPciDevice(vfio, description.name, VFIO_PCI_OPS, hw, options);
}

function add(context: ModelContext, hw: PciDevice & StatefulHardware, options: VfioPciOptions): void {
  const device = bindDriver(context, hw, options);
  context.addPhysical(device, context.pciIommu);
  context.addActions(pciActions(device));
}

/**
 * What a script may ask of any PCI function: `dma_write` {iova, data}, `dma_read` {iova, length}, `irq` {index, subindex, level}. An INTx stays
 * raised until `level` 0; a message that the function cannot send now is lost or pending as in hardware.
 */
export function pciActions(device: VfioPciDevice): DeviceActions {
  const { hw } = device;
  return {
    dma_write: (fields) => now(hw.dma.write(fields.integer('iova'), fields.bytes('data'))),
    dma_read: (fields) => {
      const data = new Uint8Array(fields.number('length'));
      const ret = now(hw.dma.read(fields.integer('iova'), data));
      return ret < 0 ? ret : { ret, data };
    },
    irq: (fields) => raise(device, fields),
  };
}

/** Memory of the machine answers at once; memory in another process is not for scripts. */
const now = (result: number | Promise<number>): number => (typeof result === 'number' ? result : -EINVAL);

function raise(device: VfioPciDevice, fields: ActionFields): ActionResult {
  const { hw } = device;
  const subindex = fields.number('subindex', 0);
  switch (fields.number('index')) {
    case VFIO_PCI_INTX_IRQ_INDEX:
      if (fields.number('level', 1) === 0) hw.lowerIntx();
      else hw.raiseIntx();
      return 0;
    case VFIO_PCI_MSI_IRQ_INDEX:
      if (hw.msi === null) return -EINVAL;
      if (hw.msi.enabled) hw.msi.signal(subindex);
      return 0;
    case VFIO_PCI_MSIX_IRQ_INDEX:
      if (hw.msix === null) return -EINVAL;
      if (hw.msix.enabled) hw.msix.signal(subindex);
      return 0;
    case VFIO_PCI_ERR_IRQ_INDEX:
      reportError(device);
      return 0;
    case VFIO_PCI_REQ_IRQ_INDEX:
      coreRequest(device);
      return 0;
    default:
      return -EINVAL;
  }
}

/** A number, or a string such as "0xfe600000". */
function integer(value: unknown, name: string): number {
  const number = typeof value === 'string' && /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0)
    throw new TypeError(`${name} is not an unsigned integer`);
  return number;
}
