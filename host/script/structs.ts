// Typed buffers of a script (spec script, `struct`): encodes the fields of a uapi structure, its trailing data and its padding, and decodes
// the bytes that a call left. Field names are those of the headers.
import { toHex } from '../hex.ts';
import {
  VFIO_DEVICE_FEATURE_BUS_MASTER,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_IRQ_SET_DATA_EVENTFD,
} from '../uapi/constants.ts';
import { type Field, type Fields, type StructType, s32, struct, u8, u32, u64 } from '../uapi/struct.ts';
import * as structs from '../uapi/structs.ts';
import { bytesOf, type Decoded, integer, type Json, type JsonObject, type Saved, ScriptError } from './values.ts';

// The fields behind these three exist only when argsz is given; without it the call passes the shorter structure.
const GROWN: Readonly<Record<string, StructType>> = {
  vfio_device_bind_iommufd: struct('vfio_device_bind_iommufd', {
    argsz: u32,
    flags: u32,
    iommufd: s32,
    out_devid: u32,
    token_uuid_ptr: u64,
  }),
  vfio_device_attach_iommufd_pt: struct('vfio_device_attach_iommufd_pt', {
    argsz: u32,
    flags: u32,
    pt_id: u32,
    pasid: u32,
  }),
  vfio_device_detach_iommufd_pt: struct('vfio_device_detach_iommufd_pt', { argsz: u32, flags: u32, pasid: u32 }),
};

const TYPES: ReadonlyMap<string, StructType> = new Map(
  Object.values(structs as unknown as Record<string, StructType>).map((type) => [type.structName, type]),
);

const FEATURE_DATA: ReadonlyMap<number, StructType> = new Map<number, StructType>([
  [VFIO_DEVICE_FEATURE_MIGRATION, structs.VfioDeviceFeatureMigration],
  [VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, structs.VfioDeviceFeatureMigState],
  [VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, structs.VfioDeviceLowPowerEntryWithWakeup],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_START, structs.VfioDeviceFeatureDmaLoggingControl],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, structs.VfioDeviceFeatureDmaLoggingReport],
  [VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, structs.VfioDeviceFeatureMigDataSize],
  [VFIO_DEVICE_FEATURE_BUS_MASTER, structs.VfioDeviceFeatureBusMaster],
]);

/** What may lie behind the fixed part of a structure: one more structure, a list of integers, or a list of structures. */
export type Tail =
  | { readonly kind: 'struct'; readonly type: StructType }
  | { readonly kind: 'ints'; readonly field: Field & { kind: 'int' } }
  | { readonly kind: 'structs'; readonly type: StructType };

/** The trailing field of this structure type, given its flags; undefined: nothing may follow under a name. */
export function tailOf(typeName: string, flags: number): { name: string; tail: Tail | null } | undefined {
  switch (typeName) {
    case 'vfio_irq_set':
      return { name: 'data', tail: { kind: 'ints', field: (flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0 ? s32 : u8 } };
    case 'vfio_pci_hot_reset':
      return { name: 'group_fds', tail: { kind: 'ints', field: s32 } };
    case 'vfio_iommu_type1_dma_unmap':
      return { name: 'data', tail: { kind: 'struct', type: structs.VfioBitmap } };
    case 'vfio_iommu_type1_dirty_bitmap':
      return { name: 'data', tail: { kind: 'struct', type: structs.VfioIommuType1DirtyBitmapGet } };
    case 'vfio_device_feature': {
      const type = FEATURE_DATA.get(flags & VFIO_DEVICE_FEATURE_MASK);
      return { name: 'data', tail: type === undefined ? null : { kind: 'struct', type } };
    }
    case 'vfio_region_info_cap_sparse_mmap':
      return { name: 'areas', tail: { kind: 'structs', type: structs.VfioRegionSparseMmapArea } };
    case 'vfio_iommu_type1_info_cap_iova_range':
      return { name: 'ranges', tail: { kind: 'structs', type: structs.VfioIovaRange } };
    case 'vfio_pci_hot_reset_info':
      return { name: 'devices', tail: { kind: 'structs', type: structs.VfioPciDependentDevice } };
    default:
      return undefined;
  }
}

/** A structure of a script as bytes, and how to read them back. */
export interface TypedBuffer {
  /** Name of the structure. */
  readonly type: string;
  readonly bytes: Uint8Array;
  /** The fields as the bytes now have them; trailing data too, when the script gave some. */
  decode(): { [name: string]: Decoded };
}

/** The structure that a buffer of at least `length` bytes with this first word holds; undefined: unknown name, or too short. */
export function structFor(name: string, length: number, argsz: number): StructType | undefined {
  const known = TYPES.get(name);
  const grown = GROWN[name];
  const type = grown !== undefined && known !== undefined && argsz !== known.size ? grown : known;
  return type !== undefined && type.size <= length ? type : undefined;
}

/** Is the structure longer when argsz is given? */
export const isGrown = (name: string): boolean => Object.hasOwn(GROWN, name);

/** Type names that `struct` may have. */
export const isStructType = (name: string): boolean => TYPES.has(name);

/**
 * Encodes a `struct` object. @throws ScriptError unknown type or field, a value of the wrong kind or too large for its field.
 */
export function encodeStruct(spec: JsonObject, saved: ReadonlyMap<string, Saved>): TypedBuffer {
  const name = spec['type'];
  const known = typeof name === 'string' ? TYPES.get(name) : undefined;
  if (known === undefined || typeof name !== 'string')
    throw new ScriptError(`unknown structure type ${JSON.stringify(name)}`);
  const type = 'argsz' in spec ? (GROWN[name] ?? known) : known;
  // `pad` asks for room, and is the value of a field of that name where there is one: so the scripts of a real kernel were recorded.
  const { type: _type, pad: padding, ...fields } = spec;
  if (padding !== undefined && 'pad' in type.offsets) fields['pad'] = padding;
  const flags =
    fields['flags'] === undefined ? 0 : Number(BigInt.asUintN(32, integer(fields['flags'], saved, `${name}.flags`)));
  const trailing = tailOf(name, flags);
  const tailValue = trailing === undefined ? undefined : fields[trailing.name];
  if (trailing !== undefined && tailValue !== undefined) delete fields[trailing.name];
  const tail =
    tailValue === undefined
      ? new Uint8Array(0)
      : encodeTail(tailValue, trailing?.tail ?? null, saved, `${name}.${trailing?.name}`);
  const room = padding === undefined ? 0 : Number(integer(padding, saved, `${name}.pad`));
  if (room < 0 || room > 1 << 24) throw new ScriptError(`${name}.pad: ${room} bytes`);

  const bytes = new Uint8Array(type.size + tail.length + room);
  const sizeField =
    'argsz' in type.offsets ? 'argsz' : name.startsWith('iommu_') && 'size' in type.offsets ? 'size' : null;
  if (sizeField !== null) new DataView(bytes.buffer).setUint32(type.offsets[sizeField] as number, type.size, true);
  encodeFields(bytes, 0, type, fields, saved, name);
  bytes.set(tail, type.size);
  return {
    type: name,
    bytes,
    decode() {
      const decoded = decodeFields(bytes, 0, type);
      if (trailing !== undefined && tailValue !== undefined)
        decoded[trailing.name] = decodeTail(bytes.subarray(type.size, type.size + tail.length), trailing.tail);
      return decoded;
    },
  };
}

function encodeTail(value: Json, tail: Tail | null, saved: ReadonlyMap<string, Saved>, what: string): Uint8Array {
  if (typeof value === 'string') return bytesOf(value, what);
  if (tail === null) throw new ScriptError(`${what}: this one has no fields, only bytes in hex`);
  if (tail.kind === 'struct') {
    const bytes = new Uint8Array(tail.type.size);
    encodeFields(bytes, 0, tail.type, object(value, what), saved, what);
    return bytes;
  }
  if (!Array.isArray(value)) throw new ScriptError(`${what}: a list is needed, not ${JSON.stringify(value)}`);
  const size = tail.kind === 'ints' ? tail.field.size : tail.type.size;
  const bytes = new Uint8Array(size * value.length);
  value.forEach((item, index) => {
    const at = `${what}[${index}]`;
    if (tail.kind === 'structs') encodeFields(bytes, index * size, tail.type, object(item, at), saved, at);
    else putInteger(new DataView(bytes.buffer), index * size, tail.field, integer(item, saved, at), at);
  });
  return bytes;
}

export function decodeTail(bytes: Uint8Array, tail: Tail | null): Decoded {
  if (tail === null || bytes.length === 0) return toHex(bytes);
  const size = tail.kind === 'ints' ? tail.field.size : tail.type.size;
  if (tail.kind === 'struct') return bytes.length < size ? toHex(bytes) : decodeFields(bytes, 0, tail.type);
  return Array.from({ length: Math.floor(bytes.length / size) }, (_, index) =>
    tail.kind === 'ints' ? getInteger(bytes, index * size, tail.field) : decodeFields(bytes, index * size, tail.type),
  );
}

function encodeFields(
  bytes: Uint8Array,
  base: number,
  type: StructType,
  values: JsonObject,
  saved: ReadonlyMap<string, Saved>,
  what: string,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields = type.fields as Fields;
  for (const [name, value] of Object.entries(values)) {
    const field = fields[name];
    const at = `${what}.${name}`;
    if (field === undefined) throw new ScriptError(`${type.structName} has no field "${name}"`);
    const offset = base + (type.offsets[name] as number);
    if (field.kind === 'int') putInteger(view, offset, field, integer(value, saved, at), at);
    else if (field.kind === 'struct') encodeFields(bytes, offset, field.type, object(value, at), saved, at);
    else {
      const data = bytesOf(value, at);
      if (data.length > field.size) throw new ScriptError(`${at}: ${data.length} bytes do not fit into ${field.size}`);
      bytes.set(data, offset);
    }
  }
}

export function decodeFields(bytes: Uint8Array, base: number, type: StructType): { [name: string]: Decoded } {
  const decoded: { [name: string]: Decoded } = {};
  for (const [name, field] of Object.entries(type.fields as Fields)) {
    const offset = base + (type.offsets[name] as number);
    if (field.kind === 'int') decoded[name] = getInteger(bytes, offset, field);
    else if (field.kind === 'struct') decoded[name] = decodeFields(bytes, offset, field.type);
    else decoded[name] = toHex(bytes.subarray(offset, offset + field.size));
  }
  return decoded;
}

function putInteger(view: DataView, offset: number, field: Field & { kind: 'int' }, value: bigint, what: string): void {
  const bits = field.size * 8;
  if (value < -(1n << BigInt(bits - 1)) || value >= 1n << BigInt(bits))
    throw new ScriptError(`${what}: ${value} does not fit into ${bits} bits`);
  const raw = BigInt.asUintN(bits, value);
  for (let i = 0; i < field.size; i++) view.setUint8(offset + i, Number((raw >> BigInt(8 * i)) & 0xffn));
}

function getInteger(bytes: Uint8Array, offset: number, field: Field & { kind: 'int' }): bigint {
  let value = 0n;
  for (let i = field.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[offset + i] as number);
  return field.signed ? BigInt.asIntN(8 * field.size, value) : value;
}

function object(value: Json, what: string): JsonObject {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new ScriptError(`${what}: an object with fields is needed, not ${JSON.stringify(value)}`);
  return value;
}
