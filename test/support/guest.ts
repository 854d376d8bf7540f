// A tiny guest for migration tests: a few pages of RAM and some bank devices in a process of its own, and a picture of everything that must arrive.
import type { Core } from '../../host/core.ts';
import type { CpuDirtyLog, MigrationGuest, MigrationRam } from '../../host/migration/types.ts';
import { VfioProcess } from '../../host/process.ts';
import { GroupDeviceFile } from '../../host/vfio/device_file.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { BankDevice } from './migratable.ts';

export const PAGE = 4096;

export class TinyGuest {
  readonly process: VfioProcess;
  readonly banks: BankDevice[];
  readonly ram: MigrationRam[];
  readonly guest: MigrationGuest;
  running = false;
  setups = 0;
  /** Made to throw by a test: the destination cannot set up interrupts. */
  failSetup: Error | null = null;
  /** Pages written by the processors since the last harvest. */
  readonly written = new Set<number>();
  #logging = false;

  /** @param blocks pages of each block. @param features of each device. */
  constructor(core: Core, blocks: readonly number[], features: readonly number[]) {
    const vfio = new Vfio(core, { iommuDrivers: () => [] });
    this.process = new VfioProcess(vfio);
    const { task } = this.process;
    this.banks = features.map((flags, i) => new BankDevice(vfio, `bank${i}`, flags));
    const fds = this.banks.map((bank, i) => {
      vfio.registerDevice(bank, String(90 + i), 'emulated');
      bank.open();
      return task.install(new GroupDeviceFile(bank, () => bank.close()));
    });
    let iova = 0n;
    this.ram = blocks.map((pages, i) => {
      const size = pages * PAGE;
      const block = { name: `ram${i}`, address: this.process.mmap(size), size, iova };
      iova += BigInt(size) + 0x100000n;
      return block;
    });
    const cpu: CpuDirtyLog = {
      start: () => {
        this.#logging = true;
        this.written.clear();
      },
      harvest: (mark) => {
        for (const page of this.written) mark(this.ram[page >>> 20]!.address + BigInt((page & 0xfffff) * PAGE), PAGE);
        this.written.clear();
      },
      stop: () => {
        this.#logging = false;
      },
    };
    this.guest = {
      process: this.process,
      ram: this.ram,
      devices: this.banks.map((bank, i) => ({ name: bank.name, fd: fds[i]! })),
      cpu,
      pause: () => {
        this.running = false;
      },
      resume: () => {
        this.running = true;
      },
      setup: () => {
        this.setups++;
        if (this.failSetup !== null) throw this.failSetup;
      },
    };
  }

  /** A processor writes. */
  poke(block: number, offset: number, ...bytes: number[]): void {
    const { address } = this.ram[block]!;
    this.process.view(address + BigInt(offset), bytes.length).set(bytes);
    if (this.#logging)
      for (let page = Math.floor(offset / PAGE); page <= Math.floor((offset + bytes.length - 1) / PAGE); page++)
        this.written.add(block * 0x100000 + page);
  }

  /** A device writes by DMA, seen by its log only. */
  dma(device: number, block: number, offset: number, ...bytes: number[]): void {
    const { address, iova } = this.ram[block]!;
    this.process.view(address + BigInt(offset), bytes.length).set(bytes);
    this.banks[device]!.log.note(iova! + BigInt(offset), bytes.length);
  }

  /** RAM and device state, all of it. */
  picture(): Uint8Array {
    const parts = [
      ...this.ram.map(({ address, size }) => this.process.view(address, size)),
      ...this.banks.map((bank) => bank.regs),
    ];
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  states(): number[] {
    return this.banks.map((bank) => bank.migration!.state);
  }
}
