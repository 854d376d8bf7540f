// Every step of a program with containers, device nodes and an iommufd is run with its 1st, 2nd, ... n-th allocation failing until it succeeds. After each
// failure the ledger equals the one before: records of the core, pages, pins, owners, descriptors.
import { describe, expect, it } from 'vitest';
import { ENOMEM } from '../../assembly/abi.ts';
import * as ioctl from '../../host/uapi/ioctl.ts';
import * as structs from '../../host/uapi/structs.ts';
import { type Objects, objects } from '../support/objects.ts';

const MAX_ALLOCATIONS = 60;

function ledger({ vfio, hw, md }: Objects): unknown {
  return {
    live: vfio.core.liveBytes,
    pages: vfio.core.usedPages,
    files: vfio.task.fds,
    locked: vfio.task.mm.lockedPages,
    devices: [hw, md].map((device) => [
      device.files,
      device.openCount,
      device.pins.size,
      device.devid,
      device.dma === null,
      device.group.containerUsers,
      device.group.cdevOpenCount,
      device.group.dmaOwned,
      device.group.attached,
    ]),
  };
}

/** Runs a step until no allocation fails in it. @returns the step's result, and how many allocations failed. */
function persist(all: Objects, name: string, step: () => number): { result: number; failures: number } {
  for (let nth = 1; nth <= MAX_ALLOCATIONS; nth++) {
    const before = ledger(all);
    all.vfio.core.failAllocation(nth);
    const result = step();
    all.vfio.core.failAllocation(0);
    if (result >= 0) return { result, failures: nth - 1 };
    expect(result, `${name}, allocation ${nth}`).toBe(-ENOMEM);
    expect(ledger(all), `${name}, allocation ${nth}`).toEqual(before);
  }
  throw new Error(`${name} never succeeds`);
}

describe('failing allocations', () => {
  it('container: choosing an IOMMU, joining, opening, mapping, pinning', async () => {
    const all = await objects();
    const { vfio, md } = all;
    const container = vfio.open('/dev/vfio/vfio');
    const [mediated, physical] = [vfio.open('/dev/vfio/2'), vfio.open('/dev/vfio/1')];
    const set = new structs.S32({ value: container });
    const ram = vfio.mmap(0x40000);
    const map = (iova: bigint) => new structs.VfioIommuType1DmaMap({ flags: 3, vaddr: ram, iova, size: 0x40000n });
    let failures = 0;
    const step = (name: string, run: () => number) => {
      const done = persist(all, name, run);
      failures += done.failures;
      return done.result;
    };
    step('join', () => vfio.ioctlRaw(mediated, ioctl.VFIO_GROUP_SET_CONTAINER, set));
    step('SET_IOMMU', () => vfio.ioctlRaw(container, ioctl.VFIO_SET_IOMMU, 3));
    step('open', () => vfio.ioctlRaw(mediated, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'md'));
    step('map', () => vfio.ioctlRaw(container, ioctl.VFIO_IOMMU_MAP_DMA, map(0n)));
    step('pin', () => md.pinPages(0n, 64, 3, new Uint32Array(64)));
    step('physical join', () => vfio.ioctlRaw(physical, ioctl.VFIO_GROUP_SET_CONTAINER, set));
    step('map again', () => vfio.ioctlRaw(container, ioctl.VFIO_IOMMU_MAP_DMA, map(0x100000n)));
    step('unmap', () =>
      vfio.ioctlRaw(container, ioctl.VFIO_IOMMU_UNMAP_DMA, new structs.VfioIommuType1DmaUnmap({ flags: 2 })),
    );
    expect(failures).toBeGreaterThan(2);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });

  it('iommufd: address spaces, binding, attaching, mapping, copying, a group with it as container', async () => {
    const all = await objects();
    const { vfio, md } = all;
    const iommufd = vfio.open('/dev/iommu');
    const other = vfio.open('/dev/iommu');
    const [hw, mediated] = [vfio.open('/dev/vfio/devices/vfio0'), vfio.open('/dev/vfio/devices/vfio1')];
    const ram = vfio.mmap(0x40000);
    let failures = 0;
    const step = (name: string, run: () => number) => {
      const done = persist(all, name, run);
      failures += done.failures;
      return done.result;
    };
    const alloc = () => {
      const argument = new structs.IommuIoasAlloc();
      step('IOAS_ALLOC', () => vfio.ioctlRaw(iommufd, ioctl.IOMMU_IOAS_ALLOC, argument));
      return argument.out_ioas_id;
    };
    const [first, second] = [alloc(), alloc()];
    const map = (iova: bigint) => () =>
      vfio.ioctlRaw(
        iommufd,
        ioctl.IOMMU_IOAS_MAP,
        new structs.IommuIoasMap({ flags: 7, ioas_id: first, user_va: ram, length: 0x20000n, iova }),
      );
    step('map', map(0n));
    for (const fd of [hw, mediated])
      step('bind', () =>
        vfio.ioctlRaw(fd, ioctl.VFIO_DEVICE_BIND_IOMMUFD, new structs.VfioDeviceBindIommufd({ iommufd })),
      );
    const attach = (fd: number, id: number) => () =>
      vfio.ioctlRaw(fd, ioctl.VFIO_DEVICE_ATTACH_IOMMUFD_PT, new structs.VfioDeviceAttachIommufdPt({ pt_id: id }));
    step('attach mediated', attach(mediated, first));
    step('pin', () => md.pinPages(0x1000n, 16, 3, new Uint32Array(16)));
    step('attach physical', attach(hw, first));
    step('map behind hardware', map(0x100000n));
    step('attach elsewhere', attach(hw, second));
    step('copy', () =>
      vfio.ioctlRaw(
        iommufd,
        ioctl.IOMMU_IOAS_COPY,
        new structs.IommuIoasCopy({
          flags: 6,
          dst_ioas_id: second,
          src_ioas_id: first,
          length: 0x20000n,
          src_iova: 0x100000n,
        }),
      ),
    );
    vfio.close(hw);
    const opened = vfio.open('/dev/vfio/1');
    step('iommufd as container', () =>
      vfio.ioctlRaw(opened, ioctl.VFIO_GROUP_SET_CONTAINER, new structs.S32({ value: other })),
    );
    step('open through it', () => vfio.ioctlRaw(opened, ioctl.VFIO_GROUP_GET_DEVICE_FD, 'hw'));
    expect(failures).toBeGreaterThan(2);
    vfio.exit();
    expect(vfio.core.liveBytes).toBe(0);
  });
});
