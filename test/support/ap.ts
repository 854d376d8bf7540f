// An instance with an AP bus and the vfio-ap driver, its sysfs by short names, and a VM that only records what it is given.
import type { ApBus } from '../../host/devices/ap/bus.ts';
import { type ApBusOptions, ApBus as Bus } from '../../host/devices/ap/bus.ts';
import { loadVfioAp, MATRIX_PATH, type VfioApOptions } from '../../host/drivers/ap/vfio_ap.ts';
import { createVfio, type VfioInstance } from '../../host/inline.ts';
import type { VfioDevice } from '../../host/vfio/device.ts';
import type { ApControl, VmLink } from '../../host/vfio/vm.ts';

export const HOST: ApBusOptions = { adapters: [4, 5, 6], domains: [4, 0x47, 0xab], na: 255, nd: 0xab };
export const UUIDS = {
  a: 'aaaaaaaa-0000-4000-8000-000000000001',
  b: 'bbbbbbbb-0000-4000-8000-000000000002',
} as const;

export class RecordingVm implements VmLink, ApControl {
  readonly name = 'vm';
  readonly ap: ApControl | null = this;
  owner: VfioDevice | null = null;
  readonly pushes: string[] = [];
  readonly interrupts: number[] = [];
  iscResult = 0;
  iscs = 0;
  setMasks(apm: Uint8Array, aqm: Uint8Array, adm: Uint8Array): void {
    const members = (mask: Uint8Array) =>
      [...Array(256).keys()].filter((n) => ((mask[n >> 3] as number) & (0x80 >> (n & 7))) !== 0).join(' ');
    this.pushes.push(`${members(apm)}/${members(aqm)}/${members(adm)}`);
  }
  clearMasks(): void {
    this.pushes.push('cleared');
  }
  registerIsc(): number {
    if (this.iscResult === 0) this.iscs++;
    return this.iscResult;
  }
  unregisterIsc(): void {
    this.iscs--;
  }
  interrupt(isc: number): void {
    this.interrupts.push(isc);
  }
}

export class ApHost {
  readonly vfio: VfioInstance;
  readonly bus: ApBus;
  constructor(vfio: VfioInstance, bus: ApBus) {
    this.vfio = vfio;
    this.bus = bus;
  }
  /** Writes an attribute of a matrix device (`a`, `b`) or, with a slash, of any path. @returns bytes or -errno. */
  write(device: keyof typeof UUIDS | string, attribute: string, text: string): number {
    return this.vfio.kernel.sysfs.write(this.vfio.task, this.#path(device, attribute), text);
  }
  read(device: keyof typeof UUIDS | string, attribute: string): string | number {
    return this.vfio.kernel.sysfs.read(this.vfio.task, this.#path(device, attribute));
  }
  device(name: keyof typeof UUIDS): VfioDevice {
    return this.vfio.kernel.mdev.devices.get(UUIDS[name])?.device as VfioDevice;
  }
  #path(device: string, attribute: string): string {
    const uuid = device in UUIDS ? UUIDS[device as keyof typeof UUIDS] : null;
    return uuid === null ? `${device}/${attribute}` : `${MATRIX_PATH}/${uuid}/${attribute}`;
  }
}

export async function apHost(bus: ApBusOptions = HOST, options: VfioApOptions = {}): Promise<ApHost> {
  const vfio = await createVfio({ machine: { devices: [] } });
  const host = new ApHost(vfio, new Bus(bus, vfio.kernel.sysfs));
  loadVfioAp(vfio.kernel, host.bus, options);
  const create = `${MATRIX_PATH}/mdev_supported_types/vfio_ap-passthrough`;
  for (const uuid of Object.values(UUIDS)) host.write(create, 'create', `${uuid}\n`);
  return host;
}
