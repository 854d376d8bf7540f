// The contract of a device, for every driver of the default machine, and a device of one’s own.
import { SumDevice } from '../../examples/sum_device.ts';
import { VFIO_DEVICE_FLAGS_CCW, VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET } from '../../host/uapi/constants.ts';
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
  title: 'ism',
  group: 3,
  name: '0001:00:00.0',
  irq: 4,
  flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
});
deviceContract({
  ...PCI,
  title: 'zpci-net',
  group: 4,
  name: '0002:00:00.0',
  irq: 2,
  flags: VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
});
deviceContract({
  title: 'dasd-3390',
  shift: 10n,
  flags: VFIO_DEVICE_FLAGS_CCW | VFIO_DEVICE_FLAGS_RESET,
  group: 5,
  name: '11111111-1111-4111-8111-111111111111',
  irq: 0,
  looseIrqs: true,
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
