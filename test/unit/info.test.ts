import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL } from '../../assembly/abi.ts';
import { PageAllocator } from '../../host/memory.ts';
import { chainCaps, walkCaps } from '../../host/uapi/caps.ts';
import { VFIO_DEVICE_FLAGS_CAPS } from '../../host/uapi/constants.ts';
import { VfioDeviceInfo, VfioRegionInfo } from '../../host/uapi/structs.ts';
import { getDeviceInfo, getIrqInfo, getRegionInfo, regionTypeCap, sparseMmapCap } from '../../host/vfio/info.ts';
import { Task } from '../../host/vfio/task.ts';
import { DirectBuffer, ValueArg } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';

const newTask = async () => {
  const core = await freshCore();
  return new Task(core, new PageAllocator(core));
};
const caps = [
  { id: 7, version: 1, data: new Uint8Array([1, 2, 3]) },
  { id: 8, version: 2, data: new Uint8Array(8).fill(9) },
];
const info = { flags: 2, numRegions: 9, numIrqs: 5, caps };

describe('capability chains', () => {
  it('rounds each capability to 8 bytes and links by buffer offset', () => {
    const chain = chainCaps(24, caps);
    expect([...chain.subarray(0, 16)]).toEqual([7, 0, 1, 0, 40, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
    expect([...chain.subarray(16, 24)]).toEqual([8, 0, 2, 0, 0, 0, 0, 0]);
    const buffer = new Uint8Array(24 + chain.length);
    buffer.set(chain, 24);
    expect(walkCaps(buffer, 24).map((cap) => [cap.id, cap.version, cap.data.length])).toEqual([
      [7, 1, 8],
      [8, 2, 8],
    ]);
  });
  it('walks no further than a loop or the end', () => {
    const buffer = new Uint8Array(40);
    buffer[20] = 16;
    expect(walkCaps(buffer, 16)).toHaveLength(1);
    expect(walkCaps(buffer, 36)).toEqual([]);
    expect(walkCaps(buffer, 0)).toEqual([]);
  });
});

describe('information calls', () => {
  it('enlarges argsz when the chain has no room, and succeeds', async () => {
    const task = await newTask();
    const small = new VfioDeviceInfo();
    expect(getDeviceInfo(task, new DirectBuffer(small.bytes), info)).toBe(0);
    expect([small.argsz, small.cap_offset, small.flags]).toEqual([56, 0, 2 | VFIO_DEVICE_FLAGS_CAPS]);
    const large = new VfioDeviceInfo({ argsz: small.argsz });
    expect(getDeviceInfo(task, new DirectBuffer(large.bytes), info)).toBe(0);
    expect([large.argsz, large.cap_offset]).toEqual([56, 24]);
    expect(walkCaps(large.bytes, large.cap_offset).map((cap) => cap.id)).toEqual([7, 8]);
  });
  it('needs 16 bytes for a device, 32 for a region, 16 for an interrupt, and writes no more than argsz', async () => {
    const task = await newTask();
    const bytes = new Uint8Array(16);
    bytes[0] = 16;
    expect(getDeviceInfo(task, new DirectBuffer(bytes), { ...info, caps: [] })).toBe(0);
    bytes[0] = 15;
    expect(getDeviceInfo(task, new DirectBuffer(bytes), info)).toBe(-EINVAL);
    expect(getIrqInfo(task, new DirectBuffer(bytes), () => null)).toBe(-EINVAL);
    expect(getDeviceInfo(task, new ValueArg(0n), info)).toBe(-EFAULT);
    expect(getRegionInfo(task, new DirectBuffer(bytes), () => null)).toBe(-EFAULT);
  });
  it('shows type and sparse areas of a region', async () => {
    const task = await newTask();
    const region = new VfioRegionInfo({ argsz: 128, index: 9 });
    const areas = [{ offset: 0x1000n, size: 0x2000n }];
    const describe = (index: number) =>
      index === 9
        ? { flags: 3, size: 0x4000n, offset: 9n << 40n, caps: [regionTypeCap(2, 1), sparseMmapCap(areas)] }
        : null;
    expect(getRegionInfo(task, new DirectBuffer(region.bytes), describe)).toBe(0);
    expect([region.size, region.offset, region.cap_offset]).toEqual([0x4000n, 9n << 40n, 32]);
    const [type, sparse] = walkCaps(region.bytes, 32);
    expect([...type!.data]).toEqual([2, 0, 0, 0, 1, 0, 0, 0]);
    expect(new DataView(sparse!.data.buffer).getBigUint64(16, true)).toBe(0x2000n);
    expect(getRegionInfo(task, new DirectBuffer(new VfioRegionInfo({ index: 10 }).bytes), describe)).toBe(-EINVAL);
  });
});
