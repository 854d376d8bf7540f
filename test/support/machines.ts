// A process with the devices of a machine open and RAM mapped for them: what a migration of real device models starts from.
import { ManualClock } from '../../host/clock.ts';
import type { DeviceDescription } from '../../host/devices/model.ts';
import { createVfio } from '../../host/inline.ts';
import type { MigrationGuest, MigrationRam } from '../../host/migration/types.ts';
import type { VfioInstance } from '../../host/source.ts';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../../host/uapi/ioctl.ts';
import { S32, VfioIommuType1DmaMap } from '../../host/uapi/structs.ts';

export interface OpenMachine {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly container: number;
  readonly fds: number[];
  readonly ram: MigrationRam;
  readonly guest: MigrationGuest;
  running: boolean;
}

/** @param devices each in a group of its own or as described; all in one container with `ramSize` bytes of RAM at `iova`. */
export async function openMachine(
  devices: readonly DeviceDescription[],
  ramSize = 65536,
  iova = 0n,
): Promise<OpenMachine> {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock, machine: { devices, memory: 8 << 20 } });
  const container = vfio.open('/dev/vfio/vfio');
  const groups = new Map<string, number>();
  for (const { group } of devices) {
    const path = `/dev/vfio/${group}`;
    if (groups.has(path)) continue;
    const fd = vfio.open(path);
    groups.set(path, fd);
    vfio.ioctl(fd, VFIO_GROUP_SET_CONTAINER, new S32({ value: container }));
  }
  vfio.ioctl(container, VFIO_SET_IOMMU, 3);
  const fds = devices.map(({ name, group }) =>
    vfio.ioctl(groups.get(`/dev/vfio/${group}`)!, VFIO_GROUP_GET_DEVICE_FD, name),
  );
  const address = vfio.mmap(ramSize);
  vfio.ioctl(
    container,
    VFIO_IOMMU_MAP_DMA,
    new VfioIommuType1DmaMap({ flags: 3, vaddr: address, iova, size: BigInt(ramSize) }),
  );
  const ram = { name: 'ram', address, size: ramSize, iova };
  const machine: OpenMachine = {
    vfio,
    clock,
    container,
    fds,
    ram,
    running: false,
    guest: {
      process: vfio,
      ram: [ram],
      devices: devices.map(({ name }, i) => ({ name, fd: fds[i]!, container })),
      pause: () => {
        machine.running = false;
      },
      resume: () => {
        machine.running = true;
      },
    },
  };
  return machine;
}
