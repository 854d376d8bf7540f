// The ISM I/O region from the user's side (spec zdev section 5): one write of 32 bytes carries one PCILG or PCISTB to the device, whole and in
// its own form. The data lie in one page of the caller's at an address that is a multiple of 8; what does not is copied into a page of
// the layer's own first.

import type { VfioProcess } from '../../process.ts';
import { walkCaps } from '../../uapi/caps.ts';
import { VFIO_REGION_INFO_CAP_TYPE } from '../../uapi/constants.ts';
import { VFIO_DEVICE_GET_REGION_INFO } from '../../uapi/ioctl.ts';
import { VfioRegionInfo } from '../../uapi/structs.ts';
import { VFIO_REGION_SUBTYPE_IBM_ISM_IO, VFIO_REGION_TYPE_IBM } from '../../uapi/zdev.ts';
import type { GuestStorage } from '../storage.ts';

const FIRST_DEVICE_REGION = 9;
const REQUEST = 16n;
const REQUEST_SIZE = 32;
const FLAG_READ = 1n;
const FLAG_BLOCK_WRITE = 2n;

export class IsmRegion {
  readonly #process: VfioProcess;
  readonly #device: number;
  readonly #offset: bigint;
  /** A page of the layer's own. */
  readonly #bounce: bigint;

  private constructor(process: VfioProcess, device: number, offset: bigint) {
    this.#process = process;
    this.#device = device;
    this.#offset = offset;
    this.#bounce = process.mmap(4096);
  }

  /** The region among the device's own ones, or null. */
  static find(process: VfioProcess, device: number, regions: number): IsmRegion | null {
    for (let index = FIRST_DEVICE_REGION; index < regions; index++) {
      const info = new VfioRegionInfo({ argsz: 256, index });
      if (process.ioctlRaw(device, VFIO_DEVICE_GET_REGION_INFO, info) < 0) continue;
      const type = walkCaps(info.bytes, info.cap_offset).find(({ id }) => id === VFIO_REGION_INFO_CAP_TYPE);
      if (type === undefined) continue;
      const view = new DataView(type.data.slice().buffer);
      if (
        view.getUint32(0, true) === VFIO_REGION_TYPE_IBM &&
        view.getUint32(4, true) === VFIO_REGION_SUBTYPE_IBM_ISM_IO
      )
        return new IsmRegion(process, device, info.offset);
    }
    return null;
  }

  /** PCILG: the bytes in storage order, or null. */
  load(pcias: number, offset: bigint, size: number): Uint8Array | null {
    if (!this.#request(FLAG_READ, this.#bounce, offset, size, pcias)) return null;
    // The register's value, in the host's order; the layer wants the bytes as they lie in PCI memory.
    return this.#process.view(this.#bounce, size).slice().reverse();
  }

  /** PCISTB of the block at `gaddr` of storage, as one operation. */
  store(pcias: number, offset: bigint, storage: GuestStorage, gaddr: bigint, bytes: Uint8Array): boolean {
    const direct = (gaddr & 7n) === 0n && Number(gaddr & 4095n) + bytes.length <= 4096;
    if (!direct) this.#process.view(this.#bounce, bytes.length).set(bytes);
    const from = direct ? storage.vaddr + gaddr : this.#bounce;
    return this.#request(FLAG_BLOCK_WRITE, from, offset, bytes.length, pcias);
  }

  close(): void {
    this.#process.munmapRaw(this.#bounce, 4096);
  }

  #request(flags: bigint, address: bigint, offset: bigint, length: number, pcias: number): boolean {
    const request = new Uint8Array(REQUEST_SIZE);
    const view = new DataView(request.buffer);
    view.setBigUint64(0, flags, true);
    view.setBigUint64(8, address, true);
    view.setBigUint64(16, offset, true);
    view.setUint16(28, length, true);
    view.setUint8(30, pcias);
    return this.#process.writeRaw(this.#device, request, this.#offset + REQUEST) === REQUEST_SIZE;
  }
}
