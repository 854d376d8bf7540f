import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, EIO, ENOENT } from '../../assembly/abi.ts';
import type { Zdev } from '../../host/drivers/pci/zdev.ts';
import { createVfio, type VfioInstance } from '../../host/inline.ts';
import { walkCaps } from '../../host/uapi/caps.ts';
import { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO } from '../../host/uapi/ioctl.ts';
import { VfioDeviceInfo, VfioIrqInfo, VfioRegionInfo } from '../../host/uapi/structs.ts';
import { openDevice } from '../../host/vmm/attach.ts';
import { ISM_REGION_INDEX, ismOf, pciDevice, regionOf, twoIsms } from '../support/zpci.ts';

const info = (vfio: VfioInstance, fd: number): InstanceType<typeof VfioDeviceInfo> => {
  const out = new VfioDeviceInfo({ argsz: 1024 });
  vfio.ioctl(fd, VFIO_DEVICE_GET_INFO, out);
  return out;
};

describe('zPCI capabilities (zdev section 1)', () => {
  it('the chain is BASE, GROUP, PFIP, with UTIL between only where there is a utility string', async () => {
    const vfio = await createVfio();
    const { device } = openDevice(vfio, '4', '0002:00:00.0');
    const out = info(vfio, device);
    const caps = walkCaps(out.bytes, out.cap_offset);
    expect(caps.map(({ id, version }) => [id, version])).toEqual([
      [1, 2],
      [2, 2],
      [4, 1],
    ]);
    expect(out.cap_offset).toBe(24);
  });

  it('all four lie at 24, 64, 112 and 192, and need 208 bytes', async () => {
    const vfio = await createVfio();
    const target = pciDevice(vfio, '0002:00:00.0');
    Object.assign((target.arch as Zdev).hw.identity, { util: new Uint8Array(64).fill(0xc1) });
    const { device } = openDevice(vfio, '4', '0002:00:00.0');
    const small = new VfioDeviceInfo({ argsz: 24 });
    vfio.ioctl(device, VFIO_DEVICE_GET_INFO, small);
    expect([small.argsz, small.cap_offset]).toEqual([208, 0]);
    const out = info(vfio, device);
    const next = (at: number) => out.view.getUint32(at + 4, true);
    expect([next(24), next(64), next(112), next(192)]).toEqual([64, 112, 192, 0]);
    expect(out.view.getUint32(112 + 8, true)).toBe(64);
    expect(out.bytes.slice(112 + 12, 112 + 14)).toEqual(Uint8Array.of(0xc1, 0xc1));
  });

  it('the software limit of a store block is 128 whatever the hardware takes', async () => {
    const vfio = await createVfio();
    const ism = info(vfio, openDevice(vfio, '3', '0001:00:00.0').device);
    const group = new DataView(ism.bytes.buffer, 64);
    expect([group.getUint16(36, true), group.getUint16(40, true)]).toEqual([128, 4096]);
    expect(group.getBigUint64(24, true)).toBe(1n);
    expect(new DataView(ism.bytes.buffer, 24).getUint8(30)).toBe(5);
    const net = info(vfio, openDevice(vfio, '4', '0002:00:00.0').device);
    expect(new DataView(net.bytes.buffer, 64).getUint16(40, true)).toBe(128);
    expect(new DataView(net.bytes.buffer, 24).getUint8(30)).toBe(0);
  });

  it('the unit in front reaches from start_dma to the end of its tables', async () => {
    const vfio = await createVfio();
    const { group } = pciDevice(vfio, '0001:00:00.0');
    expect(group.hw?.pageSizes).toBe(4096n);
    expect(group.hw?.ranges).toEqual([{ start: 0x100000000n, last: (1n << 42n) - 1n }]);
  });
});

describe('the hook (zdev section 7)', () => {
  const link = (vfio: VfioInstance) =>
    vfio.kernel.vms.link(pciDevice(vfio, '0001:00:00.0').group, { name: 'vm', ap: null });

  it('without a VM nothing happens, and nothing but the handle changes with one', async () => {
    const vfio = await createVfio();
    const before = openDevice(vfio, '3', '0001:00:00.0');
    const alone = info(vfio, before.device);
    vfio.close(before.device);
    vfio.close(before.group);
    const log: string[] = [];
    vfio.kernel.vms.zdevProvider = {
      register: (device) => {
        log.push(`register ${device.name}`);
        return 0;
      },
      unregister: (device) => {
        log.push(`unregister ${device.name}`);
      },
    };
    link(vfio);
    const linked = openDevice(vfio, '3', '0001:00:00.0');
    const inside = info(vfio, linked.device);
    const fh = (out: typeof alone) => out.view.getUint32(24 + 32, true);
    expect(fh(inside)).not.toBe(fh(alone));
    inside.view.setUint32(24 + 32, fh(alone), true);
    expect(inside.bytes).toEqual(alone.bytes);
    vfio.close(linked.device);
    expect(log).toEqual(['register 0001:00:00.0', 'unregister 0001:00:00.0']);
  });

  it('a VM without a provider is ENOENT; the provider can refuse', async () => {
    const vfio = await createVfio();
    link(vfio);
    expect(() => openDevice(vfio, '3', '0001:00:00.0')).toThrow(expect.objectContaining({ errno: ENOENT }));
  });
});

describe('the ISM region (zdev section 5)', () => {
  const open = async () => {
    const vfio = await twoIsms();
    const { device } = openDevice(vfio, '3', '0001:00:00.0');
    const region = regionOf(vfio, device, ISM_REGION_INDEX);
    const buffer = vfio.mmap(8192);
    const base = { flags: 1n, address: buffer, offset: 0n, length: 4, pcias: 2 };
    const request = (fields: Partial<typeof base> = {}, size = 32): Uint8Array => {
      const { flags, address, offset, length, pcias } = { ...base, ...fields };
      const bytes = new Uint8Array(size);
      const view = new DataView(bytes.buffer);
      view.setBigUint64(0, flags, true);
      view.setBigUint64(8, address, true);
      view.setBigUint64(16, offset, true);
      view.setUint16(28, length, true);
      view.setUint8(30, pcias);
      return bytes;
    };
    const send = (fields: Partial<typeof base> = {}) => vfio.writeRaw(device, request(fields), region.offset + 16n);
    return { vfio, device, region, buffer, request, send };
  };

  it('exists for function type 5 without MSI-X only: type 0x80001014, subtype 2, 48 bytes, no mapping', async () => {
    const { vfio, device, region } = await open();
    expect([region.size, region.flags]).toEqual([48n, 3 | 8]);
    const [type] = walkCaps(region.bytes, region.cap_offset);
    const view = new DataView(type!.data.slice().buffer);
    expect([type!.id, view.getUint32(0, true), view.getUint32(4, true)]).toEqual([2, 0x80001014, 2]);
    expect(() => vfio.mmap(4096, { fd: device, offset: region.offset })).toThrow(
      expect.objectContaining({ errno: EINVAL }),
    );
    const net = openDevice(vfio, '5', '0003:00:00.0').device;
    const none = new VfioRegionInfo({ index: ISM_REGION_INDEX });
    expect(vfio.ioctlRaw(net, VFIO_DEVICE_GET_REGION_INFO, none)).toBe(-EINVAL);
    const msix = new VfioIrqInfo({ index: 2 });
    vfio.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, msix);
    expect(msix.count).toBe(0);
  });

  it('the header is read-only and tells the hardware maximum, the request area write-only', async () => {
    const { vfio, device, region } = await open();
    const header = new Uint8Array(16);
    expect(vfio.readRaw(device, header, region.offset)).toBe(16);
    expect(new DataView(header.buffer).getUint16(8, true)).toBe(4096);
    expect(vfio.readRaw(device, new Uint8Array(17), region.offset)).toBe(-EFAULT);
    expect(vfio.readRaw(device, new Uint8Array(8), region.offset + 16n)).toBe(-EFAULT);
    expect(vfio.writeRaw(device, new Uint8Array(16), region.offset)).toBe(-EFAULT);
    expect(vfio.readRaw(device, new Uint8Array(1), region.offset + 48n)).toBe(-EINVAL);
    expect(vfio.writeRaw(device, new Uint8Array(1), region.offset + 48n)).toBe(-EINVAL);
  });

  it('a request is written whole or not at all', async () => {
    const { vfio, device, region, request } = await open();
    expect(vfio.writeRaw(device, request({}, 32).subarray(0, 31), region.offset + 16n)).toBe(-EINVAL);
    expect(vfio.writeRaw(device, request({}, 32).subarray(0, 16), region.offset + 32n)).toBe(-EINVAL);
    // What reaches beyond the region is clipped, as everywhere.
    expect(vfio.writeRaw(device, request({}, 40), region.offset + 16n)).toBe(32);
  });

  it('reserved fields and unknown flags are EINVAL; neither READ nor BLOCKW is EIO', async () => {
    const { vfio, device, region, request, send } = await open();
    for (const at of [24, 25, 26, 27, 31]) {
      const bytes = request();
      bytes[at] = 1;
      expect(vfio.writeRaw(device, bytes, region.offset + 16n), `byte ${at}`).toBe(-EINVAL);
    }
    expect(send({ flags: 4n })).toBe(-EINVAL);
    expect(send({ flags: 0n })).toBe(-EIO);
  });

  it('READ leaves the register of PCILG: 8 bytes at the address', async () => {
    const { vfio, buffer, send } = await open();
    vfio.view(buffer, 16).fill(0xee);
    expect(send()).toBe(32);
    // 'ISM1' as a number whose first byte is the one at the lowest offset.
    expect(new DataView(vfio.view(buffer, 8).slice().buffer).getBigUint64(0, true)).toBe(0x49534d31n);
    expect(vfio.view(buffer, 16)[8]).toBe(0xee);
    expect(send({ pcias: 15, length: 4, offset: 0n })).toBe(32);
    expect(new DataView(vfio.view(buffer, 8).slice().buffer).getBigUint64(0, true)).toBe(0x1410ed04n);
  });

  it('READ is an operation that PCILG has: inside a doubleword of a BAR or a word of configuration space, aligned', async () => {
    const { send } = await open();
    for (const [pcias, offset, length, result] of [
      [2, 0n, 8, 32],
      [2, 4n, 8, -EIO],
      [2, 2n, 4, -EIO],
      [2, 7n, 1, 32],
      [2, 7n, 2, -EIO],
      [15, 2n, 2, 32],
      [15, 0n, 3, -EIO],
      [15, 3n, 2, -EIO],
      [15, 0n, 8, -EIO],
    ] as const)
      expect(send({ pcias, offset, length }), `${pcias} ${offset} ${length}`).toBe(result);
  });

  it('READ wins when both bits are set', async () => {
    const { send } = await open();
    expect(send({ flags: 3n, length: 8, offset: 8n })).toBe(32);
    expect(send({ flags: 3n, length: 9 })).toBe(-EIO);
  });

  it('every rule of the data is EIO: length, alignment, page, address space, mapping, permission', async () => {
    const { vfio, buffer, send } = await open();
    expect(send({ length: 0 }), 'length 0').toBe(-EIO);
    expect(send({ length: 9 }), 'READ of 9').toBe(-EIO);
    expect(send({ flags: 2n, length: 4097, pcias: 0 }), 'block of 4097').toBe(-EIO);
    expect(send({ address: buffer + 4n }), 'address + 4').toBe(-EIO);
    expect(send({ flags: 2n, address: buffer + 4088n, length: 9, pcias: 0 }), 'data cross a page').toBe(-EIO);
    expect(send({ flags: 2n, offset: 4090n, length: 7, pcias: 0 }), 'block crosses a page').toBe(-EIO);
    expect(send({ flags: 2n, pcias: 15 }), 'block to config space').toBe(-EIO);
    expect(send({ pcias: 6 }), 'address space 6').toBe(-EIO);
    expect(send({ pcias: 1 }), 'no such BAR').toBe(-EIO);
    expect(send({ address: 0x1000n }), 'nothing mapped').toBe(-EIO);
    const readOnly = vfio.mmap(4096, { prot: 'r' });
    expect(send({ address: readOnly }), 'READ into read-only memory').toBe(-EIO);
  });

  it('a block of any length reaches the function as one operation; the BAR gives pieces of 8', async () => {
    const { vfio, device, send } = await open();
    const ism = ismOf(vfio, '0001:00:00.0');
    const seen: Array<[number, number]> = [];
    const deliver = ism.storeBlock.bind(ism);
    ism.storeBlock = (bar, offset, block) => {
      seen.push([offset, block.length]);
      return deliver(bar, offset, block);
    };
    for (const length of [1, 7, 100, 4096]) send({ flags: 2n, pcias: 0, offset: 0n, length });
    expect(seen).toEqual([
      [0, 1],
      [0, 7],
      [0, 100],
      [0, 4096],
    ]);
    const pieces: number[] = [];
    const store = ism.store.bind(ism);
    ism.store = (bar, offset, width, from, at) => {
      pieces.push(width);
      store(bar, offset, width, from, at);
    };
    vfio.writeRaw(device, new Uint8Array(21), 0n);
    expect(pieces).toEqual([8, 8, 4, 1]);
  });
});

it('zdev: the handle changes with every disable and enable', async () => {
  const vfio = await twoIsms();
  const zdev = pciDevice(vfio, '0001:00:00.0').arch as Zdev;
  const seen = new Set<number>();
  for (let i = 0; i < 100; i++) {
    seen.add(zdev.fh);
    zdev.reenable();
  }
  expect(seen.size).toBe(100);
  for (const fh of seen) expect((fh & 0x8000ffff) >>> 0).toBe(0x80000001);
});
