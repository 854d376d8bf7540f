// A region of a device, over the public calls: its description, reads and writes by width, and mappings.
import { type InfoCap, walkCaps } from '../uapi/caps.ts';
import { VFIO_DEVICE_GET_REGION_INFO } from '../uapi/ioctl.ts';
import { VfioRegionInfo } from '../uapi/structs.ts';
import type { Device } from './device.ts';

/** Bytes of an access. */
export type Width = 1 | 2 | 4 | 8;

/** One region of a device: reads, writes and mappings at offsets inside it. */
export class Region {
  /** The device it belongs to. */
  readonly device: Device;
  /** VFIO_*_REGION_INDEX. */
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  /** Bytes; 0: the region is not implemented. */
  readonly size: bigint;
  /** Where it lies on the device's descriptor. */
  readonly offset: bigint;
  /** Its capabilities: type, sparse areas. */
  readonly caps: readonly InfoCap[];

  constructor(device: Device, index: number) {
    const fixed = new VfioRegionInfo({ index });
    device.vfio.ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, fixed);
    const info = new VfioRegionInfo({ argsz: fixed.argsz, index });
    device.vfio.ioctl(device.fd, VFIO_DEVICE_GET_REGION_INFO, info);
    this.device = device;
    this.index = index;
    this.flags = info.flags;
    this.size = info.size;
    this.offset = info.offset;
    this.caps = walkCaps(info.bytes, info.cap_offset);
  }

  /** pread. @param at bytes into the region. @returns the bytes read, fewer than asked at the end of the region. */
  read(at: number | bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const n = this.device.vfio.read(this.device.fd, bytes, this.offset + BigInt(at));
    return bytes.subarray(0, n);
  }

  /** pwrite. @returns bytes written. */
  write(at: number | bigint, data: Uint8Array): number {
    return this.device.vfio.write(this.device.fd, data, this.offset + BigInt(at));
  }

  /** One little-endian value of `width` bytes. @throws RangeError the region ends before. */
  get(at: number | bigint, width: Width = 4): number {
    const bytes = this.read(at, width);
    if (bytes.length < width) throw new RangeError(`region ${this.index} ends before ${at} + ${width}`);
    return Number(bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n));
  }

  /** Writes one little-endian value of `width` bytes. */
  set(at: number | bigint, value: number | bigint, width: Width = 4): void {
    const raw = BigInt(value);
    this.write(
      at,
      Uint8Array.from({ length: width }, (_, i) => Number((raw >> BigInt(8 * i)) & 0xffn)),
    );
  }

  /** mmap. @param at, length page aligned bytes of the region; default all of it. @returns the address, for peek and poke. */
  mmap(at = 0n, length: bigint = this.size, prot = 'rw'): bigint {
    return this.device.vfio.mmap(length, { fd: this.device.fd, offset: this.offset + at, prot });
  }
}
