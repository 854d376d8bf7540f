import { describe, expect, it } from 'vitest';
import { EFAULT } from '../../assembly/abi.ts';
import { PciConfigSpace } from '../../host/devices/pci_config.ts';
import { PciDevice, type PciDeviceOptions } from '../../host/devices/pci_device.ts';
import { EXTENDED, layOut, OWNER_GAP } from '../../host/drivers/pci/config_layout.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import type { PlugOptions } from '../../host/drivers/pci/plug.ts';
import { CONFIG, get, instance, type Opened, open, readRegion, set, writeRegion } from '../support/opened.ts';

const IDENTITY = { vendor: 1, device: 2, classCode: 0xff0000 };

class Plain extends PciDevice {}

async function plug(
  options: Partial<PciDeviceOptions>,
  change: (config: PciConfigSpace) => void = () => {},
  how: PlugOptions = {},
): Promise<Opened & { device: VfioPciDevice; hw: PciDevice }> {
  const { vfio, clock } = await instance({ devices: [] });
  const hw = new Plain({ ...IDENTITY, bars: { 0: { size: 4096 } }, ...options });
  change(hw.config);
  const device = vfio.plug(hw, how);
  return { ...open(vfio, clock, device.group.name, device.name), device, hw };
}

describe('layout of configuration space', () => {
  it('unlinks hidden capabilities and leaves their bytes as gaps', () => {
    const config = new PciConfigSpace(IDENTITY);
    config.addCapability(0x0d, 8); // subsystem vendor of a bridge
    const power = config.addCapability(0x01, 8);
    config.addCapability(0x14, 8); // enhanced allocation
    config.addCapability(0x7f, 4); // unknown
    const vendor = config.addCapability(0x09, 16);
    config.bytes[vendor + 2] = 16;
    const { vconfig, owner, caps } = layOut(config.bytes);
    expect(vconfig[0x34]).toBe(power);
    expect(vconfig[power + 1]).toBe(vendor);
    expect(vconfig[vendor + 1]).toBe(0);
    expect(owner[0x40]).toBe(OWNER_GAP);
    expect([...caps.keys()]).toEqual([1, 9]);
  });

  it('clears the capability list bit when nothing is visible, and survives a chain that loops', () => {
    const config = new PciConfigSpace(IDENTITY);
    const at = config.addCapability(0x0a, 4);
    expect(layOut(config.bytes).vconfig[6]! & 0x10).toBe(0);
    expect(layOut(config.bytes).vconfig[0x34]).toBe(0);
    config.bytes[at + 1] = at;
    expect(layOut(config.bytes).vconfig[0x34]).toBe(0);
    config.bytes[at] = 0x01;
    const { vconfig } = layOut(config.bytes);
    expect([vconfig[0x34], vconfig[at + 1]]).toEqual([at, 0]);
  });

  it('keeps a placeholder where the first extended capability is hidden, and zero where none is visible', () => {
    const config = new PciConfigSpace({ ...IDENTITY, size: 4096 });
    config.addExtendedCapability(0x1b, 1, 8); // PASID: hidden
    const { view } = config;
    expect(new DataView(layOut(config.bytes).vconfig.buffer).getUint32(0x100, true)).toBe(0);
    const serial = config.addExtendedCapability(0x03, 1, 12);
    config.addExtendedCapability(0x1e, 1, 16); // L1 substates: hidden
    const errors = config.addExtendedCapability(0x01, 2, 0x48);
    const { vconfig, owner, write } = layOut(config.bytes);
    const seen = new DataView(vconfig.buffer);
    expect(seen.getUint32(0x100, true)).toBe(serial << 20);
    expect(seen.getUint32(serial, true)).toBe(((errors << 20) | (view.getUint32(serial, true) & 0xfffff)) >>> 0);
    expect(seen.getUint32(errors, true) >>> 20).toBe(0);
    expect([owner[0x100], owner[serial], owner[errors + 0x47]]).toEqual([EXTENDED, EXTENDED + 3, EXTENDED + 1]);
    expect(new DataView(write.buffer).getUint32(errors + 8, true)).toBe(0x01fff030);
    expect(new DataView(write.buffer).getUint32(errors + 0x1c, true)).toBe(0);
  });

  it('never lets one byte belong to two capabilities', () => {
    const config = new PciConfigSpace(IDENTITY);
    const vendor = config.addCapability(0x09, 32);
    config.bytes[vendor + 2] = 32;
    const inside = config.addCapability(0x01, 8, vendor + 8);
    expect(layOut(config.bytes).owner[inside]).toBe(9);
    expect(layOut(config.bytes).caps.has(1)).toBe(false);
  });
});

describe('configuration space of a user', () => {
  it('refuses what reaches beyond its end, with nothing transferred', async () => {
    const opened = await plug({});
    expect(readRegion(opened, CONFIG + 0xfen, 4)).toBe(-EFAULT);
    expect(readRegion(opened, CONFIG + 0x100n, 1)).toBe(-EFAULT);
    expect(writeRegion(opened, CONFIG + 0xffn, [1, 2])).toBe(-EFAULT);
    expect(readRegion(opened, CONFIG + 0xfcn, 4)).toHaveLength(4);
  });

  it('sizes BARs: 32-bit, 64-bit prefetchable, I/O, ROM; the last address survives', async () => {
    const opened = await plug({
      bars: { 0: { size: 4096 }, 2: { size: 1 << 20, kind: 'mem64', prefetchable: true }, 4: { size: 32, kind: 'io' } },
      rom: new Uint8Array(3000),
    });
    const real = opened.hw.config.bytes.slice(0x10, 0x34);
    for (let at = 0x10; at < 0x28; at += 4) set(opened, CONFIG + BigInt(at), 0xffffffff);
    set(opened, CONFIG + 0x30n, 0xffffffff);
    const bars = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map((at) => get(opened, CONFIG + BigInt(at)).toString(16));
    expect(bars).toEqual(['fffff000', '0', 'fff0000c', 'ffffffff', 'ffffffe1', '0', 'fffff001']);
    set(opened, CONFIG + 0x18n, 0x12345678);
    set(opened, CONFIG + 0x1cn, 0x9);
    expect(get(opened, CONFIG + 0x18n).toString(16)).toBe('1230000c');
    expect(get(opened, CONFIG + 0x1cn)).toBe(9);
    expect(opened.hw.config.bytes.slice(0x10, 0x34)).toEqual(real);
  });

  it('hides PME, takes a power state, and memory is gone in D3hot', async () => {
    const opened = await plug({ powerManagement: true });
    const pm = BigInt(opened.hw.config.find(1));
    expect(get(opened, CONFIG + pm + 2n, 2) & 0xf800).toBe(0);
    expect(opened.hw.config.read(Number(pm) + 2, 2) & 0xf800).not.toBe(0);
    set(opened, CONFIG + 4n, 2, 2);
    expect(typeof readRegion(opened, 0, 4)).not.toBe('number');
    set(opened, CONFIG + pm + 4n, 0x8103, 2);
    expect(get(opened, CONFIG + pm + 4n, 2)).toBe(0x000b);
    expect(readRegion(opened, 0, 4)).toBe(-5);
    set(opened, CONFIG + pm + 4n, 0, 2);
    expect(readRegion(opened, 0, 4)).toHaveLength(4);
  });

  it('runs a function-level reset from PCI Express and from advanced features; the bit reads 0', async () => {
    for (const via of ['express', 'af'] as const) {
      let resets = 0;
      const { vfio, clock } = await instance({ devices: [] });
      class Counting extends PciDevice {
        protected override onReset(): void {
          resets++;
        }
      }
      const hw = new Counting({ ...IDENTITY, ...(via === 'express' ? { express: { flr: true } } : {}) });
      if (via === 'af') {
        const af = hw.config.addCapability(0x13, 6);
        hw.config.set(af + 2, 2, 0x0306);
      }
      const device = vfio.plug(hw);
      const opened = open(vfio, clock, device.group.name, device.name);
      const before = resets;
      const at = CONFIG + BigInt(via === 'express' ? hw.config.find(0x10) + 8 : hw.config.find(0x13) + 4);
      const width = via === 'express' ? 2 : 1;
      const bit = via === 'express' ? 0x8000 : 1;
      set(opened, at, get(opened, at, width) | bit, width);
      expect(resets).toBe(before + 1);
      expect(get(opened, at, width) & bit).toBe(0);
    }
  });

  it('passes the read request size on, but not below the payload size of the host', async () => {
    const opened = await plug({ express: {} }, (config) => config.set(config.find(0x10) + 8, 2, 0x2840));
    const at = opened.hw.config.find(0x10) + 8;
    set(opened, CONFIG + BigInt(at), 0x0000, 2);
    expect((opened.hw.config.read(at, 2) & 0x7000) >> 12).toBe(2);
    set(opened, CONFIG + BigInt(at), 0x5000, 2);
    expect((opened.hw.config.read(at, 2) & 0x7000) >> 12).toBe(5);
    expect(opened.hw.config.read(at, 2) & 0x00e0).toBe(0x40);
  });

  it('reads and writes vital product data in fours; the flag turns over only when it is done', async () => {
    const vpd = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    const opened = await plug({ vpd });
    const at = CONFIG + BigInt(opened.hw.config.find(3));
    set(opened, at + 2n, 0x0004, 2);
    expect([get(opened, at + 2n, 2), get(opened, at + 4n)]).toEqual([0x8004, 0x08070605]);
    set(opened, at + 4n, 0xddccbbaa);
    set(opened, at + 2n, 0x8008, 2);
    expect(get(opened, at + 2n, 2)).toBe(0x0008);
    expect([...vpd.subarray(8, 12)]).toEqual([0xaa, 0xbb, 0xcc, 0xdd]);
    set(opened, at + 2n, 0x000e, 2);
    expect(get(opened, at + 2n, 2)).toBe(0x000e);
  });

  it('lets vendor capabilities through but not their header, and nothing into MSI-X control', async () => {
    const opened = await plug({ msix: { bar: 0, vectors: 4, pending: 0x800 } }, (config) => {
      const vendor = config.addCapability(0x09, 8);
      config.bytes[vendor + 2] = 8;
      config.writable.fill(0xff, vendor + 3, vendor + 8);
    });
    const vendor = CONFIG + BigInt(opened.hw.config.find(0x09));
    writeRegion(opened, vendor, [1, 2, 3, 4, 5, 6, 7, 8]);
    expect([...(readRegion(opened, vendor, 8) as Uint8Array)]).toEqual([9, 0, 8, 4, 5, 6, 7, 8]);
    const msix = CONFIG + BigInt(opened.hw.config.find(0x11));
    set(opened, msix + 2n, 0xc000, 2);
    expect(get(opened, msix + 2n, 2)).toBe(3);
  });

  it('a vendor capability ends where its length says, also when another one follows at once', async () => {
    const opened = await plug({}, (config) => {
      for (const _ of [0, 1]) {
        const vendor = config.addCapability(0x09, 8);
        config.bytes[vendor + 2] = 8;
        config.writable.fill(0xff, vendor + 3, vendor + 8);
      }
    });
    const first = CONFIG + BigInt(opened.hw.config.find(0x09));
    const before = readRegion(opened, first, 16) as Uint8Array;
    writeRegion(opened, first, new Array<number>(16).fill(0xff));
    const after = readRegion(opened, first, 16) as Uint8Array;
    expect([...after.subarray(0, 3), ...after.subarray(8, 11)]).toEqual([
      ...before.subarray(0, 3),
      ...before.subarray(8, 11),
    ]);
    expect([...after.subarray(3, 8), ...after.subarray(11)]).toEqual(new Array(10).fill(0xff));
  });

  it('restores the real BARs when a reset behind its back took them', async () => {
    const opened = await plug({});
    const real = opened.hw.config.read(0x10, 4);
    opened.hw.reset();
    expect(opened.hw.config.read(0x10, 4)).toBe(0);
    set(opened, CONFIG + 4n, 2, 2);
    expect(opened.hw.config.read(0x10, 4)).toBe(real);
  });

  it('shows a virtual function without a pin, with memory space always on', async () => {
    const opened = await plug({}, () => {}, { virtualFunctionOf: null });
    expect(get(opened, CONFIG + 0x3dn, 1)).toBe(0);
    opened.hw.config.set(4, 2, 0);
    expect(get(opened, CONFIG + 4n, 2) & 2).toBe(2);
    set(opened, CONFIG + 4n, 0, 2);
    expect([get(opened, CONFIG + 4n, 2) & 2, opened.device.memoryEnabled]).toEqual([0, true]);
    const mapped = opened.vfio.mmap(4096, { fd: opened.fd, offset: 0 });
    expect(opened.vfio.peek(mapped, 1)).toHaveLength(1);
    expect(readRegion(opened, 0, 4)).toHaveLength(4);
  });
});
