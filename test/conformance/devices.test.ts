// The contract of a device, for the PCI drivers and the mediated card.
import { SumDevice } from '../../examples/sum_device.ts';
import { VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET } from '../../host/uapi/constants.ts';
import { deviceContract } from '../support/contract/device.ts';

const PCI = { shift: 40n, flags: VFIO_DEVICE_FLAGS_PCI };
const EDU_ON_A_PORT = {
  devices: [{ bus: 'pci', model: 'edu', name: '0000:01:00.0', group: 3, reset: 'bus' }],
};

deviceContract({ ...PCI, title: 'edu, INTx', group: 1, name: '0000:00:01.0', irq: 0 });
deviceContract({ ...PCI, title: 'edu, MSI', group: 1, name: '0000:00:01.0', irq: 1 });
deviceContract({
  ...PCI,
  title: 'edu behind a port',
  group: 3,
  name: '0000:01:00.0',
  irq: 1,
  machine: EDU_ON_A_PORT,
  flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
});
deviceContract({
  ...PCI,
  title: 'pci-msix',
  group: 2,
  name: '0000:00:02.1',
  irq: 2,
  flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
});
deviceContract({
  ...PCI,
  title: 'mtty',
  group: 6,
  name: '22222222-2222-4222-8222-222222222222',
  irq: 1,
  irqLimit: 5,
});
deviceContract({
  ...PCI,
  title: 'a device of one’s own',
  group: 8,
  name: '0000:00:10.0',
  irq: 2,
  flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
  prepare: (vfio) => vfio.plug(new SumDevice()),
});
