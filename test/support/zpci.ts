// zPCI functions of a machine, opened as any program opens them, and as functions of a virtual machine.

import type { Ism } from '../../host/devices/ism.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { createVfio, type VfioInstance } from '../../host/inline.ts';
import { VFIO_DEVICE_GET_REGION_INFO } from '../../host/uapi/ioctl.ts';
import { VfioRegionInfo } from '../../host/uapi/structs.ts';
import { attachFunction, type OpenedDevice, openDevice } from '../../host/vmm/attach.ts';
import { encodeInsn, type Insn, type Outcome, type Registers } from '../../host/vmm/cpu.ts';
import { VirtualMachine } from '../../host/vmm/machine.ts';
import type { ZpciFunction } from '../../host/vmm/zpci/function.ts';
import { VfioFunctionBackend } from '../../host/vmm/zpci/vfio_backend.ts';

export const ISM_REGION_INDEX = 9;

export const twoIsms = (): Promise<VfioInstance> =>
  createVfio({
    machine: {
      devices: [
        { bus: 'pci', model: 'ism', name: '0001:00:00.0', group: 3 },
        { bus: 'pci', model: 'ism', name: '0002:00:00.0', group: 4 },
        { bus: 'pci', model: 'zpci-net', name: '0003:00:00.0', group: 5 },
      ],
    },
  });

export const pciDevice = (vfio: VfioInstance, name: string): VfioPciDevice =>
  [...vfio.kernel.nodes.values()].find((device) => device.name === name) as VfioPciDevice;
export const ismOf = (vfio: VfioInstance, name: string): Ism => pciDevice(vfio, name).hw as unknown as Ism;

export function regionOf(vfio: VfioInstance, fd: number, index: number) {
  const info = new VfioRegionInfo({ argsz: 256, index });
  vfio.ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, info);
  return info;
}

/** A virtual machine with one function of the instance, enabled. */
export class Guest {
  readonly vm: VirtualMachine;
  readonly fn: ZpciFunction;
  readonly opened: OpenedDevice;
  readonly registers: Registers = new BigUint64Array(16);

  constructor(vfio: VfioInstance, group: string, name: string, storage = 0x200000) {
    this.vm = new VirtualMachine(vfio, { storage });
    this.opened = openDevice(vfio, group, name);
    const backend = new VfioFunctionBackend(vfio, this.vm.storage, this.opened);
    this.fn = attachFunction(this.vm, backend, this.opened.device, { fid: 0x21 });
    this.fn.enable();
  }

  run(name: string, fields: Partial<Insn>, registers: Readonly<Record<number, bigint>> = {}): Outcome {
    this.registers.fill(0n);
    for (const [index, value] of Object.entries(registers)) this.registers[Number(index)] = value;
    return this.vm.execute(encodeInsn(name, fields), this.registers);
  }
  request(pcias: number, length: number): bigint {
    return (BigInt(this.fn.fh) << 32n) | BigInt((pcias << 16) | length);
  }
  /** PCISTG of a little-endian register. */
  store(bar: number, offset: number, value: bigint, length = 4): Outcome {
    const swapped = swap(value, length);
    return this.run('PCISTG', { r1: 2, r2: 4 }, { 2: swapped, 4: this.request(bar, length), 5: BigInt(offset) });
  }
  /** PCILG of a little-endian register. @throws when it does not give condition code 0. */
  load(bar: number, offset: number, length = 4): bigint {
    const outcome = this.run('PCILG', { r1: 2, r2: 4 }, { 4: this.request(bar, length), 5: BigInt(offset) });
    if (!('cc' in outcome) || outcome.cc !== 0) throw new Error(`PCILG: ${JSON.stringify(outcome)}`);
    return swap(this.registers[2] as bigint, length);
  }
  /** PCISTB of storage. */
  storeBlock(bar: number, offset: number, gaddr: bigint, length: number): Outcome {
    return this.run('PCISTB', { r1: 2, r3: 3, b2: 6 }, { 2: this.request(bar, length), 3: BigInt(offset), 6: gaddr });
  }
  /** Bytes of a FIB at 0x8000 and MPCIFC with it. */
  modify(
    oc: number,
    fib: { pba?: bigint; pal?: bigint; iota?: bigint; word?: number; aibv?: bigint; aisb?: bigint },
  ): Outcome {
    const bytes = new Uint8Array(80);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(16, fib.pba ?? 0n);
    view.setBigUint64(24, fib.pal ?? 0n);
    view.setBigUint64(32, fib.iota ?? 0n);
    view.setUint32(40, fib.word ?? 0);
    view.setBigUint64(48, fib.aibv ?? 0n);
    view.setBigUint64(56, fib.aisb ?? 0n);
    this.vm.storage.store(0x8000n, bytes);
    return this.run('MPCIFC', { r1: 2, b2: 6 }, { 2: this.request(0, oc), 6: 0x8000n });
  }

  /** Translation tables at 0x10000 that map `pages` pages of 0x100000000 to storage at `target`, registered and refreshed. */
  mapPages(target: bigint, pages: number, write = true): Outcome {
    const put = (address: bigint, value: bigint) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value);
      this.vm.storage.store(address, bytes);
    };
    put(0x10010n, 0x14007n);
    put(0x14000n, 0x18000n);
    for (let i = 0; i < 256; i++)
      put(0x18000n + BigInt(8 * i), i < pages ? (target + BigInt(4096 * i)) | (write ? 0n : 0x200n) : 0x400n);
    const pba = 0x100000000n;
    const pal = pba + 0xfffffn;
    if (!this.fn.ioat) {
      const outcome = this.modify(4, { pba, pal, iota: 0x10804n });
      if (!('cc' in outcome) || outcome.cc !== 0) return outcome;
    }
    return this.run('RPCIT', { r1: 2, r2: 4 }, { 2: this.request(0, 0), 4: pba, 5: 0x100000n });
  }
}

export function swap(value: bigint, length: number): bigint {
  let out = 0n;
  for (let i = 0; i < length; i++) out = (out << 8n) | ((value >> BigInt(8 * i)) & 0xffn);
  return out;
}
