import { describe, expect, it } from 'vitest';
import { EBADF, EFAULT, EINVAL, EIO, ENOTTY, EOPNOTSUPP, EPERM } from '../../assembly/abi.ts';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
} from '../../host/uapi/ioctl.ts';
import {
  VfioDeviceFeature,
  VfioDeviceInfo,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIrqInfo,
  VfioIrqSet,
  VfioRegionInfo,
} from '../../host/uapi/structs.ts';
import {
  VFIO_AP_AQIC,
  VFIO_AP_AQIC_ENABLE,
  VFIO_AP_DQAP,
  VFIO_AP_NQAP,
  VFIO_AP_PQAP,
  VFIO_AP_QCI,
  VFIO_AP_RAPQ,
  VFIO_AP_TAPQ,
  VfioApOp,
} from '../../host/uapi/zdev.ts';
import { openDevice } from '../../host/vmm/attach.ts';
import { apHost, HOST, RecordingVm, UUIDS } from '../support/ap.ts';

const code = (status: number): number => (status >>> 16) & 0xff;
const APQN = 0x0547;

/** Device `a` with queue 05.0047, open; memory of 4 pages mapped at iova 0x10000. */
async function opened(vm: RecordingVm | null = new RecordingVm()) {
  const host = await apHost(HOST, { withoutVm: vm === null });
  const { vfio } = host;
  host.write('a', 'assign_adapter', '5');
  host.write('a', 'assign_domain', '0x47');
  const { group } = host.device('a');
  vfio.kernel.vms.link(group, vm);
  const fds = openDevice(vfio, group.name, UUIDS.a);
  const memory = vfio.mmap(0x4000);
  const map = (iova = 0x10000n, flags = 3) =>
    vfio.ioctlRaw(
      fds.container,
      VFIO_IOMMU_MAP_DMA,
      new VfioIommuType1DmaMap({ flags, vaddr: memory, iova, size: 0x4000n }),
    );
  map();
  const pqap = (fields: ConstructorParameters<typeof VfioApOp>[0]) => {
    const op = new VfioApOp({ apqn: APQN, ...(fields as object) });
    const ret = vfio.ioctlRaw(fds.device, VFIO_AP_PQAP, op);
    return { ret, op, rc: code(op.status) };
  };
  const enable = (nib: bigint, eventfd = -1) =>
    pqap({ function: VFIO_AP_AQIC, addr: nib, control: (VFIO_AP_AQIC_ENABLE | 3) >>> 0, eventfd });
  const disable = () => pqap({ function: VFIO_AP_AQIC });
  const pins = () => [...host.device('a').pins.keys()].map(String);
  return { host, vfio, ...fds, memory, map, pqap, enable, disable, pins, queue: host.bus.queues.get(APQN)!, vm };
}

describe('vfio-ap: open and close (section 9)', () => {
  it('without a VM it is EINVAL, unless an option allows it', async () => {
    const host = await apHost();
    const { group } = host.device('a');
    expect(() => openDevice(host.vfio, group.name, UUIDS.a)).toThrow(expect.objectContaining({ errno: EINVAL }));
    const free = await apHost(HOST, { withoutVm: true });
    expect(openDevice(free.vfio, free.device('a').group.name, UUIDS.a).device).toBeGreaterThan(2);
  });

  it('a VM without AP facility opens without a hookup; a second device for the same VM is EPERM', async () => {
    const host = await apHost();
    const vm = new RecordingVm();
    for (const name of ['a', 'b'] as const) host.vfio.kernel.vms.link(host.device(name).group, vm);
    openDevice(host.vfio, host.device('a').group.name, UUIDS.a);
    expect(() => openDevice(host.vfio, host.device('b').group.name, UUIDS.b)).toThrow(
      expect.objectContaining({ errno: EPERM }),
    );
    const plain = await apHost();
    plain.vfio.kernel.vms.link(plain.device('a').group, { name: 'no ap', ap: null });
    openDevice(plain.vfio, plain.device('a').group.name, UUIDS.a);
  });

  it('opening pushes the masks, changes are pushed, closing clears them and resets the queues', async () => {
    const { host, vfio, device, vm, queue } = await opened();
    expect(vm!.pushes).toEqual(['5/71/']);
    host.write('a', 'assign_control_domain', '4');
    host.write('a', 'unassign_domain', '0x47');
    host.write('a', 'assign_domain', '0x47');
    expect(vm!.pushes.slice(1)).toEqual(['5/71/4', '5//4', '5/71/4']);
    queue.nqap(1n, Uint8Array.of(0, 1, 0, 0));
    vfio.close(device);
    expect(vm!.pushes.at(-1)).toBe('cleared');
    expect(queue.repliesWaiting).toBe(false);
    expect(vm!.owner).toBeNull();
  });

  it('an unbound queue takes its adapter from the running guest; its status tells', async () => {
    const { host, vm } = await opened();
    expect(host.read('/sys/devices/ap/card05/05.0047', 'status')).toBe('in use\n');
    host.write('/sys/bus/ap/drivers/vfio_ap', 'unbind', '05.0047');
    expect(vm!.pushes.at(-1)).toBe('/71/');
    expect(host.read('/sys/devices/ap/card05/05.0047', 'status')).toBe('unassigned\n');
  });
});

describe('vfio-ap: ioctls (section 9)', () => {
  it('GET_INFO: AP and RESET, no regions, one interrupt, 16 bytes', async () => {
    const { vfio, device } = await opened();
    const info = new VfioDeviceInfo({ argsz: 24, cap_offset: 0x55 });
    vfio.ioctl(device, VFIO_DEVICE_GET_INFO, info);
    expect([info.flags, info.num_regions, info.num_irqs, info.cap_offset]).toEqual([0x21, 0, 1, 0x55]);
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_GET_INFO, new VfioDeviceInfo({ argsz: 15 }))).toBe(-EINVAL);
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_GET_INFO)).toBe(-EFAULT);
  });

  it('GET_IRQ_INFO: one index; the second of newer headers is EINVAL', async () => {
    const { vfio, device } = await opened();
    const irq = new VfioIrqInfo({ index: 0 });
    vfio.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, irq);
    expect([irq.count, irq.flags]).toEqual([1, 1]);
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_GET_IRQ_INFO, new VfioIrqInfo({ index: 1 }))).toBe(-EINVAL);
  });

  it('an unknown ioctl is EOPNOTSUPP, every feature ENOTTY, read, write and mmap EINVAL', async () => {
    const { vfio, device } = await opened();
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_GET_REGION_INFO, new VfioRegionInfo())).toBe(-EOPNOTSUPP);
    expect(vfio.ioctlRaw(device, 0x3bff)).toBe(-EOPNOTSUPP);
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_FEATURE, new VfioDeviceFeature({ argsz: 8, flags: 0x10001 }))).toBe(
      -ENOTTY,
    );
    expect(vfio.readRaw(device, new Uint8Array(4), 0n)).toBe(-EINVAL);
    expect(vfio.writeRaw(device, new Uint8Array(4), 0n)).toBe(-EINVAL);
    expect(() => vfio.mmap(4096, { fd: device })).toThrow(expect.objectContaining({ errno: EINVAL }));
  });

  it('SET_IRQS: only EVENTFD with TRIGGER and count 1; -1 clears, less is EINVAL', async () => {
    const { vfio, device, host } = await opened();
    const send = (flags: number, fd?: number, count = 1) => {
      const set = new VfioIrqSet({ argsz: 24, flags, index: 0, start: 0, count }, 4);
      if (fd !== undefined) set.view.setInt32(20, fd, true);
      return vfio.ioctlRaw(device, VFIO_DEVICE_SET_IRQS, set);
    };
    const eventfd = vfio.eventfd();
    expect(send(4 | 0x20, eventfd)).toBe(0);
    host.device('a').ops.request?.(host.device('a'), 0);
    expect(vfio.eventfdOf(eventfd).take()).toBe(1n);
    expect(send(4, eventfd), 'no action').toBe(-EINVAL);
    expect(send(4 | 8, eventfd), 'mask').toBe(-EINVAL);
    expect(send(1 | 0x20), 'NONE').toBe(-EINVAL);
    expect(send(2 | 0x20), 'BOOL').toBe(-EINVAL);
    expect(send(4 | 0x20, 0, 0), 'count 0').toBe(-EINVAL);
    expect(send(4 | 0x20, 99)).toBe(-EBADF);
    expect(send(4 | 0x20, device)).toBe(-EINVAL);
    expect(send(4 | 0x20, -2)).toBe(-EINVAL);
    expect(send(4 | 0x20, -1)).toBe(0);
    host.device('a').ops.request?.(host.device('a'), 1);
    expect(vfio.eventfdOf(eventfd).take()).toBeNull();
  });

  it('RESET waits for slow queues; a deconfigured or checkstopped one makes it EIO', async () => {
    const { vfio, device, queue } = await opened();
    queue.resetPolls = 7;
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_RESET)).toBe(0);
    expect(code(queue.tapq())).toBe(0);
    queue.state = 'deconfigured';
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_RESET)).toBe(-EIO);
    queue.state = 'checkstopped';
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_RESET)).toBe(-EIO);
    queue.state = 'normal';
    expect(vfio.ioctlRaw(device, VFIO_DEVICE_RESET)).toBe(0);
  });
});

describe('vfio-ap: AQIC (section 8)', () => {
  it('pins the page of the notification byte; a reply sets it and interrupts the subclass', async () => {
    const { vfio, memory, enable, pins, queue, vm } = await opened();
    expect(enable(0x11008n).rc).toBe(0);
    expect(pins()).toEqual([String(0x11000n)]);
    expect(vm!.iscs).toBe(1);
    queue.nqap(1n, Uint8Array.of(0, 1, 0, 0));
    expect(vfio.view(memory, 0x4000)[0x1008]).toBe(1);
    expect(vm!.interrupts).toEqual([3]);
  });

  it('address 0, nothing mapped and no write permission are response code 6', async () => {
    const { enable, pins, map, vfio, container } = await opened();
    expect(enable(0n).rc).toBe(6);
    expect(enable(0x90000n).rc).toBe(6);
    vfio.ioctl(container, VFIO_IOMMU_UNMAP_DMA, new VfioIommuType1DmaUnmap({ iova: 0x10000n, size: 0x4000n }));
    map(0x10000n, 1);
    expect(enable(0x10008n).rc).toBe(6);
    expect(pins()).toEqual([]);
  });

  it('a subclass that cannot be registered is 6 and unpins; enabled twice is 7 and keeps the first', async () => {
    const { enable, pins, vm } = await opened();
    vm!.iscResult = -EINVAL;
    expect(enable(0x11008n).rc).toBe(6);
    expect(pins()).toEqual([]);
    vm!.iscResult = 0;
    expect(enable(0x11008n).rc).toBe(0);
    expect(enable(0x12010n).rc).toBe(7);
    expect(pins()).toEqual([String(0x11000n)]);
    expect(vm!.iscs).toBe(1);
  });

  it('disabling, resetting and unmapping give the pin and the subclass back', async () => {
    const { enable, disable, pins, vm, vfio, device, container } = await opened();
    enable(0x11008n);
    expect(disable().rc).toBe(0);
    expect([pins(), vm!.iscs]).toEqual([[], 0]);
    enable(0x11008n);
    vfio.ioctl(device, VFIO_DEVICE_RESET);
    expect([pins(), vm!.iscs]).toEqual([[], 0]);
    enable(0x11008n);
    vfio.ioctl(container, VFIO_IOMMU_UNMAP_DMA, new VfioIommuType1DmaUnmap({ iova: 0x10000n, size: 0x4000n }));
    expect([pins(), vm!.iscs]).toEqual([[], 0]);
  });

  it('without a VM the interruption goes to an eventfd', async () => {
    const { enable, queue, vfio } = await opened(null);
    const eventfd = vfio.eventfd();
    expect(enable(0x11008n, eventfd).rc).toBe(0);
    queue.nqap(1n, Uint8Array.of(0, 1, 0, 0));
    expect(vfio.eventfdOf(eventfd).take()).toBe(1n);
    expect(enable(0x11008n, 99).ret).toBe(-EBADF);
  });
});

describe('vfio-ap: logical queue operations (section 10)', () => {
  it('requests come back as replies in order; empty and full have their bits and code 10', async () => {
    const { vfio, device, memory, pqap } = await opened(null);
    const nqap = (psmid: bigint, bytes: readonly number[]) => {
      vfio.view(memory, 64).set(bytes);
      const op = new VfioApOp({ apqn: APQN, psmid, addr: memory, length: bytes.length });
      vfio.ioctl(device, VFIO_AP_NQAP, op);
      return op.status;
    };
    const dqap = (room = 64) => {
      const op = new VfioApOp({ apqn: APQN, addr: memory + 0x1000n, length: room });
      vfio.ioctl(device, VFIO_AP_DQAP, op);
      return op;
    };
    expect(pqap({ function: VFIO_AP_TAPQ }).op.status).toBe(0x80000000);
    expect(dqap().status).toBe(0x80100000);
    for (let i = 0; i < 8; i++) expect(code(nqap(BigInt(i), [0, 1, 0, 1, i]))).toBe(0);
    expect(nqap(9n, [0, 1, 0, 1, 9])).toBe(0x60100000);
    expect(code(dqap(3).status), 'too small a buffer keeps the reply').toBe(0x15);
    for (let i = 0; i < 8; i++) {
      const op = dqap();
      expect([op.psmid, op.length]).toEqual([BigInt(i), 5]);
      expect([...vfio.view(memory + 0x1000n, 5)]).toEqual([0x80, 1, 0, 1, i]);
    }
    expect(code(dqap().status)).toBe(0x10);
    nqap(1n, [0, 1, 0, 0]);
    expect(pqap({ function: VFIO_AP_RAPQ }).rc).toBe(0);
    expect(pqap({ function: VFIO_AP_TAPQ }).op.status).toBe(0x80000000);
  });

  it('a queue outside the shadow has response code 1', async () => {
    const { pqap, host } = await opened(null);
    expect(pqap({ apqn: 0x0404, function: VFIO_AP_TAPQ }).rc).toBe(1);
    host.write('/sys/bus/ap/drivers/vfio_ap', 'unbind', '05.0047');
    expect(pqap({ function: VFIO_AP_TAPQ }).rc).toBe(1);
  });

  it('argsz, flags, a number over 16 bits and an unknown function are EINVAL, bad buffers EFAULT', async () => {
    const { vfio, device, pqap } = await opened(null);
    expect(pqap({ argsz: 47 }).ret).toBe(-EINVAL);
    expect(pqap({ flags: 1 }).ret).toBe(-EINVAL);
    expect(pqap({ apqn: 0x10000 }).ret).toBe(-EINVAL);
    expect(pqap({ function: 5 }).ret).toBe(-EINVAL);
    expect(pqap({ function: VFIO_AP_QCI, addr: 0x10n }).ret).toBe(-EFAULT);
    expect(vfio.ioctlRaw(device, VFIO_AP_NQAP, new VfioApOp({ apqn: APQN, addr: 0x10n, length: 8 }))).toBe(-EFAULT);
    expect(vfio.ioctlRaw(device, VFIO_AP_NQAP)).toBe(-EFAULT);
  });

  it('a reply that cannot be copied out stays in the queue', async () => {
    const { vfio, device, queue } = await opened(null);
    queue.nqap(5n, Uint8Array.of(0, 1, 0, 0));
    expect(vfio.ioctlRaw(device, VFIO_AP_DQAP, new VfioApOp({ apqn: APQN, addr: 0x10n, length: 64 }))).toBe(-EFAULT);
    expect(queue.repliesWaiting).toBe(true);
  });

  it('QCI gives the masks that the guest has', async () => {
    const { vfio, memory, pqap } = await opened(null);
    expect(pqap({ function: VFIO_AP_QCI, addr: memory }).ret).toBe(0);
    const info = vfio.view(memory, 128);
    expect([info[2], info[3]]).toEqual([255, 0xab]);
    expect(info[16]).toBe(0x80 >> 5);
    expect(info[48 + 8]).toBe(0x80 >> 7);
  });

  it('the coprocessor computes: modular power, and refusals as replies', async () => {
    const { queue } = await opened(null);
    const ask = (...bytes: number[]) => {
      queue.nqap(0n, Uint8Array.from(bytes));
      return [...queue.dqap(64).reply!.message];
    };
    expect(ask(0, 2, 0, 2, 0, 7, 1, 0, 3, 0xe8)).toEqual([0x80, 2, 0, 2, 2, 0x59]);
    expect(ask(0, 9, 0, 0)).toEqual([0x8f, 0xff, 0, 2, 0, 1]);
    expect(ask(0, 2, 0, 2, 0)).toEqual([0x8f, 0xff, 0, 2, 0, 2]);
    expect(ask(0, 2, 0, 1, 3, 3, 0)).toEqual([0x8f, 0xff, 0, 2, 0, 3]);
  });
});

it('vfio-ap: closing leaves no pin and no memory', async () => {
  const { vfio, enable } = await opened();
  enable(0x11008n);
  vfio.exit();
  expect(vfio.kernel.core.liveBytes).toBe(0);
  expect(vfio.kernel.pages.usedBytes).toBe(0);
});
