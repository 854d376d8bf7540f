// The disk of the default machine, through the public calls: a guest reads it, writes it and reads it back; options and images.
import { describe, expect, it } from 'vitest';
import { ManualClock } from '../../host/clock.ts';
import { writeImage } from '../../host/devices/dasd/image.ts';
import { Volume } from '../../host/devices/dasd/volume.ts';
import type { ActionFields } from '../../host/devices/model.ts';
import { createVfio } from '../../host/inline.ts';
import type { VfioInstance } from '../../host/source.ts';
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE1v2_IOMMU } from '../../host/uapi/constants.ts';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
} from '../../host/uapi/ioctl.ts';
import { VfioIommuType1DmaMap } from '../../host/uapi/structs.ts';
import { type CcwSpec, irbFields } from '../support/channel.ts';
import { searchArgument, seekArgument } from '../support/dasd.ts';

const UUID = '11111111-1111-4111-8111-111111111111';
const RAM = 0x10000;
const IO_REGION_SIZE = 124;

/** A guest with 64 KiB at 0 and the disk of a machine's group open. */
class Guest {
  readonly vfio: VfioInstance;
  readonly clock: ManualClock;
  readonly device: number;
  readonly memory: Uint8Array;

  constructor(vfio: VfioInstance, clock: ManualClock) {
    this.vfio = vfio;
    this.clock = clock;
    const container = vfio.open('/dev/vfio/vfio');
    const group = vfio.open('/dev/vfio/5');
    const argument = new Uint8Array(4);
    new DataView(argument.buffer).setInt32(0, container, true);
    vfio.ioctl(group, VFIO_GROUP_SET_CONTAINER, argument);
    vfio.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
    const map = new VfioIommuType1DmaMap();
    map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    map.vaddr = vfio.mmap(RAM);
    map.size = BigInt(RAM);
    vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, map);
    this.memory = vfio.view(map.vaddr, RAM);
    this.device = vfio.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, UUID);
  }

  static async open(options: Record<string, unknown> = {}): Promise<Guest> {
    const clock = new ManualClock();
    const entry = { bus: 'ccw', model: 'dasd-3390', name: UUID, group: 5, subchannel: '0.0.0313', device: '0.0.0120' };
    return new Guest(await createVfio({ clock, machine: { devices: [{ ...entry, ...options }] } }), clock);
  }

  start(ccws: readonly CcwSpec[]): void {
    const view = new DataView(this.memory.buffer, this.memory.byteOffset);
    ccws.forEach(({ command, flags = 0, count = 0, address = 0 }, i) => {
      view.setUint32(8 * i, ((command << 24) | (flags << 16) | count) >>> 0);
      view.setUint32(8 * i + 4, address);
    });
    const region = new Uint8Array(IO_REGION_SIZE);
    const orb = new DataView(region.buffer);
    orb.setUint32(4, 0x00c28000);
    orb.setUint32(12, 0x4000);
    this.vfio.write(this.device, region, 0);
  }

  irb() {
    const region = new Uint8Array(IO_REGION_SIZE);
    this.vfio.read(this.device, region, 0);
    return irbFields(region.subarray(24));
  }

  run(ccws: readonly CcwSpec[]) {
    this.start(ccws);
    this.clock.advance(1);
    return this.irb();
  }
}

const SEEK = 0x1000;
const SEARCH = 0x1010;
const DATA = 0x2000;
/** Seek and search to record 2 of cylinder 9 head 3, then one data command. */
function at(guest: Guest, command: number, count: number): CcwSpec[] {
  guest.memory.set(seekArgument([9, 3]), SEEK);
  guest.memory.set(searchArgument([9, 3], 2), SEARCH);
  return [
    { command: 0x07, flags: 0x40, count: 6, address: SEEK },
    { command: 0x31, flags: 0x40, count: 5, address: SEARCH },
    { command: 0x08, address: 8 },
    { command, count, address: DATA },
  ];
}
const fields = (values: Record<string, number | Uint8Array>): ActionFields => ({
  has: (name) => name in values,
  integer: (name) => BigInt(values[name] as number),
  number: (name) => values[name] as number,
  bytes: (name) => values[name] as Uint8Array,
  text: (name) => String(values[name]),
});

describe('the disk of a machine', () => {
  it('is read, written and read back by a guest; the CPA is the guest’s', async () => {
    const guest = await Guest.open();
    expect(guest.run(at(guest, 0x06, 4096))).toMatchObject({ unitStatus: 0x0c, channelStatus: 0, ccwAddress: 32 });
    guest.memory.fill(0x5a, DATA, DATA + 4096);
    expect(guest.run(at(guest, 0x05, 4096))).toMatchObject({ unitStatus: 0x0c, residual: 0 });
    guest.memory.fill(0, DATA, DATA + 4096);
    guest.run(at(guest, 0x06, 4096));
    expect(guest.memory.subarray(DATA, DATA + 4096).every((byte) => byte === 0x5a)).toBe(true);
  });

  it('has the size and blocks that its entry asks for', async () => {
    const guest = await Guest.open({ cylinders: 3339, blockSize: 512 });
    expect(guest.run([{ command: 0x64, count: 64, address: DATA }]).unitStatus).toBe(0x0c);
    expect([...guest.memory.subarray(DATA + 12, DATA + 14)]).toEqual([0x0d, 0x0b]);
    expect(guest.run(at(guest, 0x06, 512))).toMatchObject({ unitStatus: 0x0c, channelStatus: 0, residual: 0 });
  });

  it('shows an image, and keeps what is written away from it', async () => {
    const volume = Volume.empty(10);
    volume.writable(9, 3).records[2]!.data.fill(0x77);
    const image = writeImage(volume);
    const before = image.slice();
    const guest = await Guest.open({ image });
    guest.run(at(guest, 0x06, 4096));
    expect(guest.memory[DATA]).toBe(0x77);
    guest.memory.fill(0x88, DATA, DATA + 4096);
    guest.run(at(guest, 0x05, 4096));
    guest.memory.fill(0, DATA, DATA + 4096);
    guest.run(at(guest, 0x06, 4096));
    expect(guest.memory[DATA]).toBe(0x88);
    expect(image.every((byte, i) => byte === before[i])).toBe(true);
  });

  it.each([
    [{ image: new Uint8Array(100) }, /image: truncated/],
    [{ image: '/no/such/file' }, /image: /],
    [{ image: 7 }, /neither bytes nor the path/],
    [{ cylinders: 0 }, /cylinders: 0/],
    [{ blockSize: 60000 }, /block size 60000/],
    [{ blockSize: -4 }, /block size -4/],
  ])('options that cannot be are refused with the reason: %o', async (options, reason) => {
    await expect(Guest.open(options)).rejects.toThrow(reason);
  });

  it('a script can hold a program, answer condition codes and interrupt', async () => {
    const guest = await Guest.open();
    const { vfio } = guest;
    expect(vfio.actionRaw(UUID, 'hold', fields({ value: 1 }))).toBe(0);
    guest.start([{ command: 0x03, flags: 0x20, count: 1 }]);
    guest.clock.advance(1000);
    expect(() => guest.start([{ command: 0x03 }])).toThrow(/EBUSY/);
    vfio.actionRaw(UUID, 'hold', fields({ value: 0 }));
    guest.clock.advance(1);
    expect(guest.irb()).toMatchObject({ unitStatus: 0x0c });
    vfio.actionRaw(UUID, 'answer', fields({ ssch: 1 }));
    expect(() => guest.start([{ command: 0x03 }])).toThrow(/EBUSY/);
  });

  it('closing while a held program is pending leaves nothing behind', async () => {
    const guest = await Guest.open();
    const { vfio } = guest;
    vfio.actionRaw(UUID, 'hold', fields({ value: 1 }));
    guest.start(at(guest, 0x06, 4096));
    vfio.close(guest.device);
    for (const fd of [...vfio.task.fds]) vfio.close(fd);
    expect(vfio.core.liveBytes).toBe((await createVfio({ machine: { devices: [] } })).core.liveBytes);
  });
});
