// One machine twice: its guest run by the plain executor, or by the accelerated one. Everything that a device is asked for is logged.
import { ManualClock } from '../../host/clock.ts';
import { EngineSubchannel } from '../../host/css/engine.ts';
import type { CryptoQueue } from '../../host/devices/ap/queue.ts';
import type { PciDevice } from '../../host/devices/pci_device.ts';
import { VirtioCcw } from '../../host/devices/virtio_ccw.ts';
import { ZpciDevice } from '../../host/devices/zpci_hardware.ts';
import type { ApDevice } from '../../host/drivers/ap/device.ts';
import type { CcwDevice } from '../../host/drivers/ccw/device.ts';
import { createCcwDevice } from '../../host/drivers/ccw/vfio_ccw.ts';
import type { VfioPciDevice } from '../../host/drivers/pci/device.ts';
import { createVfio, type VfioInstance } from '../../host/inline.ts';
import { VFIO_IOMMU_MAP_DMA } from '../../host/uapi/ioctl.ts';
import { VfioIommuType1DmaMap } from '../../host/uapi/structs.ts';
import { AcceleratedApBackend } from '../../host/vmm/accelerated/ap.ts';
import { AcceleratedFunctionBackend } from '../../host/vmm/accelerated/function.ts';
import { AcceleratedSubchannelBackend } from '../../host/vmm/accelerated/subchannel.ts';
import { AcceleratedVm } from '../../host/vmm/accelerated/vm.ts';
import { VfioApBackend } from '../../host/vmm/ap/vfio_backend.ts';
import { attachFunction, openDevice } from '../../host/vmm/attach.ts';
import type { Outcome, Registers } from '../../host/vmm/cpu.ts';
import { VfioSubchannelBackend } from '../../host/vmm/css/vfio_backend.ts';
import { VirtualMachine } from '../../host/vmm/machine.ts';
import { VfioFunctionBackend } from '../../host/vmm/zpci/vfio_backend.ts';

export const STORAGE = 0x100000;
export const FUNCTIONS = 3;
export const SUBCHANNELS: readonly bigint[] = [0x10313n, 0x10001n];
const AP_UUID = '33333333-3333-4333-8333-333333333333';
const DASD_UUID = '11111111-1111-4111-8111-111111111111';
const VIRTIO_UUID = '44444444-4444-4444-8444-444444444444';

const DEVICES = (logical: boolean) => [
  { bus: 'pci', model: 'ism', name: '0001:00:00.0', group: 3 },
  { bus: 'pci', model: 'ism', name: '0002:00:00.0', group: 4 },
  { bus: 'pci', model: 'zpci-net', name: '0003:00:00.0', group: 5 },
  { bus: 'ccw', model: 'dasd-3390', name: DASD_UUID, group: 6, subchannel: '0.0.0313', device: '0.0.0120' },
  { bus: 'ap', model: 'ap', name: AP_UUID, group: 7, logical },
];

export class Executor {
  readonly vfio: VfioInstance;
  readonly vm: VirtualMachine;
  readonly clock: ManualClock;
  readonly log: string[] = [];
  readonly containers: number[] = [];

  constructor(vfio: VfioInstance, clock: ManualClock, accelerated: boolean) {
    this.vfio = vfio;
    this.clock = clock;
    this.vm = new VirtualMachine(vfio, { storage: STORAGE });
    const link = accelerated ? new AcceleratedVm(vfio.kernel, this.vm) : null;
    for (const group of ['3', '4', '5', '6', '7']) link?.link(group);
    this.#functions(accelerated);
    this.#subchannels(accelerated);
    this.#ap(accelerated);
  }

  execute(code: Uint8Array, registers: Registers, problem: boolean): Outcome {
    const outcome = this.vm.execute(code, registers, { problem });
    this.clock.advance(0);
    return outcome;
  }

  /** What is held: mappings left, pages pinned, records alive. */
  ledger(): unknown {
    const { kernel } = this.vfio;
    const available = [...this.vm.functions.values()].map((fn) => [fn.backend.available(), fn.shadow.size]);
    const pins = [...kernel.nodes.values()].map((device) => [device.name, [...device.pins].map(String)]);
    return { available, pins, live: kernel.core.liveBytes };
  }

  close(): void {
    this.vm.destroy();
    this.vfio.exit();
  }

  #device<T>(name: string): T {
    return [...this.vfio.kernel.nodes.values()].find((device) => device.name === name) as T;
  }

  #functions(accelerated: boolean): void {
    for (const [group, name] of [
      ['3', '0001:00:00.0'],
      ['4', '0002:00:00.0'],
      ['5', '0003:00:00.0'],
    ] as const) {
      const device = this.#device<VfioPciDevice>(name);
      const opened = openDevice(this.vfio, group, name);
      this.containers.push(opened.container);
      const backend = accelerated
        ? new AcceleratedFunctionBackend(this.vfio, this.vm.storage, opened, device)
        : new VfioFunctionBackend(this.vfio, this.vm.storage, opened);
      attachFunction(this.vm, backend, opened.device, { fid: Number(group) });
      this.#watch(name, device.hw);
    }
  }

  #subchannels(accelerated: boolean): void {
    const { vfio, vm, clock } = this;
    const hardware = new EngineSubchannel({
      busId: '0.0.0001',
      core: vfio.kernel.core,
      clock,
      device: new VirtioCcw({ id: 4 }),
    });
    vfio.kernel.registerDevice(createCcwDevice(vfio.kernel, VIRTIO_UUID, hardware), '8', 'emulated');
    let container: number | undefined;
    for (const [group, uuid, id] of [
      ['6', DASD_UUID, 0x10313],
      ['8', VIRTIO_UUID, 0x10001],
    ] as const) {
      const opened = openDevice(vfio, group, uuid, container);
      if (container === undefined) this.#identity(opened.container);
      container = opened.container;
      const device = this.#device<CcwDevice>(uuid);
      const { write } = device.ops;
      const ops = { ...device.ops };
      ops.write = (target, task, buffer, offset) => {
        this.log.push(`${group} write ${offset} ${buffer.length}`);
        return write?.(target, task, buffer, offset) ?? -1;
      };
      Object.defineProperty(device, 'ops', { value: ops });
      vm.css.attach(
        id,
        accelerated
          ? new AcceleratedSubchannelBackend(vfio, opened.device, device)
          : new VfioSubchannelBackend(vfio, opened.device),
      );
    }
  }

  #ap(accelerated: boolean): void {
    const { vfio, vm } = this;
    const path = `/sys/devices/vfio_ap/matrix/${AP_UUID}`;
    for (const [name, value] of [
      ['adapter', '5'],
      ['domain', '4'],
      ['domain', '0x47'],
    ] as const)
      vfio.kernel.sysfs.write(vfio.task, `${path}/assign_${name}`, value);
    const opened = openDevice(vfio, '7', AP_UUID);
    this.#identity(opened.container);
    const device = this.#device<ApDevice>(AP_UUID);
    for (const queue of device.queues.values()) this.#watchQueue(queue.hardware);
    vm.ap.backend = accelerated
      ? new AcceleratedApBackend(vfio, opened.device, device)
      : new VfioApBackend(vfio, opened.device, (isc) => vm.css.adapterInterrupt(isc));
  }

  #identity(container: number): void {
    const { vaddr } = this.vm.storage;
    const map = new VfioIommuType1DmaMap({ flags: 3, vaddr, iova: 0n, size: BigInt(STORAGE) });
    this.vfio.ioctl(container, VFIO_IOMMU_MAP_DMA, map);
  }

  #watch(name: string, hw: PciDevice): void {
    const { log } = this;
    const load = hw.load.bind(hw);
    hw.load = (bar, offset, width, into, at) => {
      load(bar, offset, width, into, at);
      log.push(`${name} load ${bar} ${offset} ${width}`);
    };
    const store = hw.store.bind(hw);
    hw.store = (bar, offset, width, from, at) => {
      log.push(`${name} store ${bar} ${offset} ${width} ${from.subarray(at, at + width).join(' ')}`);
      store(bar, offset, width, from, at);
    };
    if (!(hw instanceof ZpciDevice)) return;
    const block = hw.storeBlock.bind(hw);
    hw.storeBlock = (bar, offset, bytes) => {
      log.push(`${name} block ${bar} ${offset} ${bytes.length}`);
      return block(bar, offset, bytes);
    };
  }

  #watchQueue(queue: CryptoQueue): void {
    for (const name of ['tapq', 'rapq', 'zapq', 'aqic', 'nqap', 'dqap'] as const) {
      const call = (queue[name] as (...args: unknown[]) => unknown).bind(queue);
      Object.defineProperty(queue, name, {
        value: (...args: unknown[]) => {
          this.log.push(`queue ${queue.apqn} ${name} ${args.join(' ')}`);
          return call(...args);
        },
      });
    }
  }
}

export async function executor(accelerated: boolean): Promise<Executor> {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock, machine: { devices: DEVICES(!accelerated) } });
  return new Executor(vfio, clock, accelerated);
}
