// What every vfio device owes its user, whatever its driver: information calls, the common SET_IRQS check, FEATURE's header, refusals, and nothing left
// behind after the last close. One function, run for each driver. Source: spec vfio-core sections 5 to 9.
import { describe, expect, it } from 'vitest';
import { EBADF, EFAULT, EINVAL, ENOTTY } from '../../../assembly/abi.ts';
import type { MachineDescription } from '../../../host/devices/model.ts';
import type { VfioInstance } from '../../../host/source.ts';
import {
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
} from '../../../host/uapi/ioctl.ts';
import { VfioDeviceInfo } from '../../../host/uapi/structs.ts';
import { instance, irqInfo, irqSet, type Opened, open, readRegion, regionInfo, setIrqs, taken } from '../opened.ts';

const NONE = 1;
const BOOL = 2;
const EVENTFD = 4;
const MASK = 8;
const TRIGGER = 32;

export interface DeviceContract {
  readonly title: string;
  readonly group: number;
  readonly name: string;
  readonly machine?: MachineDescription;
  /** Done to the instance before the device is opened. */
  readonly prepare?: (vfio: VfioInstance) => void;
  /** VFIO_DEVICE_FLAGS_* of GET_INFO, without CAPS. */
  readonly flags: number;
  /** Bits that a region's index lies above in an offset. */
  readonly shift: bigint;
  /** Index of an interrupt that can be bound and triggered as one. */
  readonly irq: number;
  /** Subindexes that SET_IRQS lets pass for it; default what GET_IRQ_INFO says. */
  readonly irqLimit?: number;
  /** The driver looks at one action bit only, and its eventfds survive the last close (vfio-ccw). */
  readonly looseIrqs?: boolean;
}

export function deviceContract(contract: DeviceContract): void {
  const opened = async (): Promise<Opened> => {
    const { vfio, clock } = await instance(contract.machine);
    contract.prepare?.(vfio);
    return open(vfio, clock, contract.group, contract.name);
  };
  const info = ({ vfio, fd }: Opened) => {
    const bytes = new VfioDeviceInfo();
    vfio.ioctl(fd, VFIO_DEVICE_GET_INFO, bytes);
    return bytes;
  };

  describe(`${contract.title}: what every device owes its user`, () => {
    it('GET_INFO takes 16 bytes, refuses 15, and says what the device is', async () => {
      const it = await opened();
      const bytes = new Uint8Array(24);
      for (const [argsz, result] of [
        [15, -EINVAL],
        [16, 0],
        [24, 0],
      ] as const) {
        bytes[0] = argsz;
        expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_GET_INFO, bytes)).toBe(result);
      }
      expect(info(it).flags & ~0x80).toBe(contract.flags);
      expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_GET_INFO)).toBe(-EFAULT);
    });

    it('every region up to num_regions has its offset, and reads give no byte beyond its size', async () => {
      const it = await opened();
      const { num_regions: count } = info(it);
      for (let index = 0; index < count; index++) {
        const region = regionInfo(it, index);
        if (typeof region === 'number') {
          expect(region).toBe(-EINVAL);
          continue;
        }
        expect(region.offset).toBe(BigInt(index) << contract.shift);
        expect(readRegion(it, region.offset + region.size, 1)).toBeLessThan(0);
      }
      expect(regionInfo(it, count)).toBe(-EINVAL);
      expect(regionInfo(it, 0xffffffff)).toBe(-EINVAL);
      expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_GET_REGION_INFO)).toBe(-EFAULT);
      expect(readRegion(it, BigInt(count) << contract.shift, 1)).toBeLessThan(0);
    });

    it('interrupt indexes end at num_irqs', async () => {
      const it = await opened();
      const { num_irqs: count } = info(it);
      expect(irqInfo(it, contract.irq)).toMatchObject({ index: contract.irq });
      expect(irqInfo(it, count)).toBe(-EINVAL);
      expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_GET_IRQ_INFO)).toBe(-EFAULT);
    });

    it('SET_IRQS checks in order: argument, argsz, index, wrap, flags, range, one kind of data, room for it', async () => {
      const it = await opened();
      const { num_irqs: indexes } = info(it);
      const { irq: index } = contract;
      const described = irqInfo(it, index) as { count: number };
      const limit = contract.irqLimit ?? described.count;
      const refused = [
        { flags: NONE | TRIGGER, index, argsz: 19 },
        { flags: NONE | TRIGGER, index: indexes, count: 1 },
        { flags: NONE | TRIGGER, index, start: 1, count: 0xfffffffe },
        { flags: NONE | TRIGGER | 64, index, count: 1 },
        { flags: NONE | TRIGGER, index, start: limit },
        { flags: NONE | TRIGGER, index, count: limit + 1 },
        { flags: TRIGGER, index, count: 1 },
        { flags: NONE | BOOL | TRIGGER, index, bools: [1] },
        { flags: EVENTFD | TRIGGER, index, fds: [-1], argsz: 23 },
        { flags: BOOL | TRIGGER, index, count: 1 },
      ];
      for (const request of refused) expect([request, setIrqs(it, request)]).toEqual([request, -EINVAL]);
      expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_SET_IRQS)).toBe(-EFAULT);
      const cut = irqSet({ flags: EVENTFD | TRIGGER, index, fds: [-1] }).subarray(0, 22);
      expect(it.vfio.ioctlRaw(it.fd, VFIO_DEVICE_SET_IRQS, cut)).toBe(-EFAULT);
      if (contract.looseIrqs === true) return;
      expect(setIrqs(it, { flags: NONE | MASK | TRIGGER, index, count: 1 })).toBe(-ENOTTY);
    });

    it('an eventfd is bound, fired by loop back, replaced and removed; errors leave the caller without interrupts', async () => {
      const it = await opened();
      const { irq: index } = contract;
      const [e, f] = [it.vfio.eventfd(), it.vfio.eventfd()];
      expect(setIrqs(it, { flags: EVENTFD | TRIGGER, index, fds: [e] })).toBe(0);
      expect(setIrqs(it, { flags: NONE | TRIGGER, index, count: 1 })).toBe(0);
      expect(taken(it, e)).toBe(1);
      expect(setIrqs(it, { flags: BOOL | TRIGGER, index, bools: [0] })).toBe(0);
      expect(taken(it, e)).toBe(0);
      expect(setIrqs(it, { flags: EVENTFD | TRIGGER, index, fds: [f] })).toBe(0);
      it.vfio.close(f);
      expect(setIrqs(it, { flags: EVENTFD | TRIGGER, index, fds: [999] })).toBe(-EBADF);
      expect(setIrqs(it, { flags: EVENTFD | TRIGGER, index, fds: [it.container] })).toBe(-EINVAL);
      expect(taken(it, e)).toBe(0);
      setIrqs(it, { flags: EVENTFD | TRIGGER, index, fds: [-1] });
      setIrqs(it, { flags: NONE | TRIGGER, index, count: 1 });
      expect(taken(it, e)).toBe(0);
    });

    it('FEATURE checks its header before it asks the driver', async () => {
      const { vfio, fd } = await opened();
      const feature = (argsz: number, flags: number) => {
        const bytes = new Uint8Array(64);
        new DataView(bytes.buffer).setUint32(0, argsz, true);
        new DataView(bytes.buffer).setUint32(4, flags, true);
        return vfio.ioctlRaw(fd, VFIO_DEVICE_FEATURE, bytes);
      };
      expect(vfio.ioctlRaw(fd, VFIO_DEVICE_FEATURE)).toBe(-EFAULT);
      expect(feature(7, 0x10000)).toBe(-EINVAL);
      expect(feature(64, 0x90000)).toBe(-EINVAL);
      expect(feature(64, 0x30000)).toBe(-EINVAL);
      expect(feature(64, 0x4fff0)).toBe(-ENOTTY);
    });

    it('an unknown request is ENOTTY', async () => {
      const { vfio, fd } = await opened();
      expect(vfio.ioctlRaw(fd, 0x3bff, new Uint8Array(64))).toBe(-ENOTTY);
    });

    it('leaves nothing behind after the last close, whatever was bound', async () => {
      const it = await opened();
      const second = it.vfio.ioctl(it.group, 0x3b6a, contract.name);
      const e = it.vfio.eventfd();
      setIrqs(it, { flags: EVENTFD | TRIGGER, index: contract.irq, fds: [e] });
      it.vfio.close(it.fd);
      expect(setIrqs({ ...it, fd: second }, { flags: NONE | TRIGGER, index: contract.irq, count: 1 })).toBe(0);
      expect(taken(it, e)).toBe(1);
      it.vfio.close(second);
      const again = { ...it, fd: it.vfio.ioctl(it.group, 0x3b6a, contract.name) };
      setIrqs(again, { flags: NONE | TRIGGER, index: contract.irq, count: 1 });
      expect(taken(it, e)).toBe(contract.looseIrqs === true ? 1 : 0);
      it.vfio.exit();
      expect(it.vfio.core.liveBytes).toBe(0);
      expect(it.vfio.task.openFiles).toBe(0);
    });
  });
}
