// Turns the argument of an ioctl back into the form a script gives it: a typed structure where the bytes are exactly one, plain bytes otherwise.
// Values that are descriptors or addresses become references to the operations that made them.

import { VFIO_IRQ_SET_DATA_EVENTFD } from '../uapi/constants.ts';
import type { StructBase, StructType } from '../uapi/struct.ts';
import type { UserArg } from '../vfio/user.ts';
import { ScriptBuffer } from './buffer.ts';
import { decodeFields, decodeTail, encodeStruct, isGrown, structFor, tailOf } from './structs.ts';
import { type Decoded, type Json, type JsonObject, printed, ScriptError } from './values.ts';

/** Names the operation that made a value, as a script refers to it; undefined when none did. */
export interface Namer {
  descriptor(fd: bigint): string | undefined;
  address(address: bigint): string | undefined;
}
export const NO_NAMES: Namer = { descriptor: () => undefined, address: () => undefined };

// Fields that hold descriptors and addresses, behind the structure (or the field) that they lie in.
const DESCRIPTORS = /^(s32\.value|vfio_device_bind_iommufd\.iommufd|vfio_device_ioeventfd\.fd|data\.wakeup_eventfd)$/;
const ADDRESSES =
  /\.(vaddr|user_va|ranges|allowed_iovas|token_uuid_ptr)$|^data\.bitmap$|^bitmap\.data$|^vfio_bitmap\.data$/;

/** The bytes of an ioctl's argument, and what they are: a structure's name, `string`, or unknown. */
export function argumentBytes(arg: StructBase | Uint8Array | UserArg): { bytes: Uint8Array; type: string | undefined } {
  if (arg instanceof Uint8Array) return { bytes: arg, type: undefined };
  if (arg instanceof ScriptBuffer) return { bytes: arg.bytes, type: arg.type };
  if ('bytes' in arg) return { bytes: arg.bytes, type: (arg.constructor as unknown as StructType).structName };
  return { bytes: new Uint8Array(0), type: undefined };
}

/** The fields of a structure as a script writes them, or null when the bytes cannot be written as one. */
export function describeStruct(type: string, bytes: Uint8Array, namer: Namer): JsonObject | null {
  if (bytes.length < 4) return null;
  const argsz = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const struct = structFor(type, bytes.length, argsz);
  if (struct === undefined) return null;
  const fields = decodeFields(bytes, 0, struct);
  // In a script `pad` is room behind the structure and the value of a field of that name: other values cannot be written.
  delete fields['pad'];
  const flags = typeof fields['flags'] === 'bigint' ? Number(fields['flags']) : 0;
  const trailing = tailOf(type, flags);
  let end = struct.size;
  if (trailing?.tail != null && bytes.length > end) {
    const { tail } = trailing;
    const item = tail.kind === 'ints' ? tail.field.size : tail.type.size;
    const size = tail.kind === 'struct' ? item : Math.floor((bytes.length - end) / item) * item;
    if (end + size <= bytes.length) {
      fields[trailing.name] = decodeTail(bytes.subarray(end, end + size), tail);
      end += size;
    }
  }
  const room = bytes.length > end ? { pad: bytes.length - end } : {};
  const spec: JsonObject = { type, ...(printed(fields) as JsonObject), ...room };
  // Written down, argsz asks for the longer structure of newer headers.
  if (isGrown(type) && argsz === struct.size) delete spec['argsz'];
  return encodesTo(spec, bytes) ? symbolic(type, spec, fields, namer, flags) : null;
}

/**
 * The fields of a result that a replay can compare: all but those that the caller filled with a reference, and descriptors that the call made.
 */
export function comparable(given: JsonObject, left: JsonObject): JsonObject {
  const result: JsonObject = {};
  for (const [name, value] of Object.entries(left)) {
    const before = given[name];
    if (name === 'type' || name === 'pad' || name === 'data_fd' || isReference(before)) continue;
    if (Array.isArray(value)) {
      if (!(Array.isArray(before) && before.some(isReference))) result[name] = value;
    } else if (value !== null && typeof value === 'object') {
      result[name] = comparable((before ?? {}) as JsonObject, value);
    } else result[name] = value;
  }
  return result;
}

const isReference = (value: Json | undefined): boolean => typeof value === 'string' && value.startsWith('$');

function encodesTo(spec: JsonObject, bytes: Uint8Array): boolean {
  try {
    const again = encodeStruct(spec, new Map()).bytes;
    return again.length === bytes.length && again.every((byte, index) => byte === bytes[index]);
  } catch (error) {
    if (error instanceof ScriptError) return false;
    throw error;
  }
}

/** Replaces numbers by references where their fields hold descriptors or addresses. */
function symbolic(
  owner: string,
  spec: JsonObject,
  fields: Record<string, Decoded>,
  namer: Namer,
  flags: number,
): JsonObject {
  const result: JsonObject = { ...spec };
  for (const [name, value] of Object.entries(fields)) {
    const path = `${owner}.${name}`;
    if (typeof value === 'bigint') {
      const reference = DESCRIPTORS.test(path)
        ? namer.descriptor(value)
        : ADDRESSES.test(path)
          ? namer.address(value)
          : undefined;
      if (reference !== undefined) result[name] = reference;
    } else if (Array.isArray(value)) {
      const eventfds = owner === 'vfio_irq_set' && (flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0;
      if (eventfds || name === 'group_fds')
        result[name] = value.map((item) => namer.descriptor(item as bigint) ?? printed(item));
    } else if (typeof value === 'object') {
      const inner = owner === 'vfio_iommu_type1_dma_unmap' ? 'vfio_bitmap' : name;
      result[name] = symbolic(inner, result[name] as JsonObject, value, namer, flags);
    }
  }
  return result;
}
