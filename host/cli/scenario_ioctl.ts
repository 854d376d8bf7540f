// The decoded argument structures of scenario ioctls: fields <-> bytes. SET_IRQS carries a datum behind its header: one byte when the buffer has
// 21 bytes, else an s32: a descriptor in our byte order, anything else as the big-endian bytes that the recording machine had there. Values that a
// scenario leaves out are 0.
import { CAP_HEADER_SIZE } from '../uapi/caps.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD } from '../uapi/constants.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_SET_IRQS,
} from '../uapi/ioctl.ts';
import { viewOf } from '../vfio/user.ts';
import { isRecord } from './shape.ts';

type Layout = Readonly<Record<string, readonly [offset: number, size: 2 | 4 | 8]>>;

const LAYOUTS: Readonly<Record<number, Layout>> = {
  [VFIO_DEVICE_GET_INFO]: { argsz: [0, 4], flags: [4, 4], num_regions: [8, 4], num_irqs: [12, 4] },
  [VFIO_DEVICE_GET_REGION_INFO]: {
    argsz: [0, 4],
    flags: [4, 4],
    index: [8, 4],
    cap_offset: [12, 4],
    size: [16, 8],
    offset: [24, 8],
  },
  [VFIO_DEVICE_GET_IRQ_INFO]: { argsz: [0, 4], flags: [4, 4], index: [8, 4], count: [12, 4] },
  [VFIO_DEVICE_SET_IRQS]: { argsz: [0, 4], flags: [4, 4], index: [8, 4], start: [12, 4], count: [16, 4] },
};
const CAP_AT = 32;
const TYPE_CAP: Layout = {
  id: [0, 2],
  version: [2, 2],
  next: [4, 4],
  type: [CAP_HEADER_SIZE, 4],
  subtype: [CAP_HEADER_SIZE + 4, 4],
};
const DATUM_AT = 20;

/** The buffer of `size` bytes that the fields describe, as far as they fit into it. */
export function encodeArgument(request: number, fields: Record<string, unknown>, size: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(size, 64));
  const view = viewOf(bytes);
  encode(view, 0, LAYOUTS[request] ?? {}, fields);
  if (isRecord(fields['cap'])) encode(view, CAP_AT, TYPE_CAP, fields['cap']);
  if (request === VFIO_DEVICE_SET_IRQS && fields['data'] !== undefined) {
    const descriptor = (Number(fields['flags'] ?? 0) & VFIO_IRQ_SET_DATA_EVENTFD) !== 0;
    if (size === DATUM_AT + 1) view.setUint8(DATUM_AT, Number(fields['data']));
    else view.setInt32(DATUM_AT, Number(fields['data']), descriptor);
  }
  return bytes.slice(0, size);
}

/** The same fields afterwards; null when the call gives nothing back. */
export function decodeArgument(
  request: number,
  fields: Record<string, unknown>,
  bytes: Uint8Array,
): Record<string, unknown> | null {
  const layout = LAYOUTS[request];
  if (layout === undefined || request === VFIO_DEVICE_SET_IRQS) return null;
  const view = viewOf(bytes);
  const out: Record<string, unknown> = decode(view, 0, layout);
  if (isRecord(fields['cap'])) out['cap'] = decode(view, CAP_AT, TYPE_CAP);
  return out;
}

function encode(view: DataView, base: number, layout: Layout, fields: Record<string, unknown>): void {
  for (const [name, [offset, size]] of Object.entries(layout)) {
    const value = BigInt((fields[name] as number | string | undefined) ?? 0);
    if (size === 2) view.setUint16(base + offset, Number(value), true);
    else if (size === 4) view.setUint32(base + offset, Number(value), true);
    else view.setBigUint64(base + offset, value, true);
  }
}

function decode(view: DataView, base: number, layout: Layout): Record<string, number> {
  return Object.fromEntries(
    Object.entries(layout)
      .filter(([, [offset, size]]) => base + offset + size <= view.byteLength)
      .map(([name, [offset, size]]) => {
        const at = base + offset;
        if (size === 2) return [name, view.getUint16(at, true)];
        if (size === 4) return [name, view.getUint32(at, true)];
        return [name, Number(view.getBigUint64(at, true))];
      }),
  );
}
