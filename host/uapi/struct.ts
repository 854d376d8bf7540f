// A uapi structure as a class: fields by name over raw bytes. A definition lists the fields in the header's order; offsets follow the C
// rules for natural alignment, all integers little-endian. test/abi checks every definition against the measured headers.

import { getS32, getU16, getU32, getU64, setU16, setU32, setU64 } from './words.ts';

/** An unsigned or signed integer field of 1, 2, 4 (number) or 8 bytes (bigint). */
export interface IntField<T extends number | bigint> {
  readonly kind: 'int';
  readonly size: 1 | 2 | 4 | 8;
  readonly signed: boolean;
  readonly example?: T;
}
/** A fixed array of bytes inside the structure; reads as a view of the structure's own storage. */
export interface BytesField {
  readonly kind: 'bytes';
  readonly size: number;
}
/** Another structure embedded in this one. */
export interface NestedField<C extends StructType> {
  readonly kind: 'struct';
  readonly type: C;
}
/** One byte. */
export interface U8 extends IntField<number> {
  readonly size: 1;
}
/** Two bytes. */
export interface U16 extends IntField<number> {
  readonly size: 2;
}
/** Four bytes. */
export interface U32 extends IntField<number> {
  readonly size: 4;
}
/** Four bytes, signed. */
export interface S32Field extends IntField<number> {
  readonly size: 4;
  readonly signed: true;
}
/** Eight bytes. */
export interface U64 extends IntField<bigint> {
  readonly size: 8;
}
/** A field of a structure. */
export type Field = IntField<number> | IntField<bigint> | BytesField | NestedField<StructType>;
/** The fields of a structure by name, in the order of the header. */
export type Fields = Readonly<Record<string, Field>>;

export const u8: U8 = { kind: 'int', size: 1, signed: false };
export const u16: U16 = { kind: 'int', size: 2, signed: false };
export const u32: U32 = { kind: 'int', size: 4, signed: false };
export const s32: S32Field = { kind: 'int', size: 4, signed: true };
export const u64: U64 = { kind: 'int', size: 8, signed: false };
export const bytes = (size: number): BytesField => ({ kind: 'bytes', size });
export const nested = <C extends StructType>(type: C): NestedField<C> => ({ kind: 'struct', type });

type Value<F> =
  F extends IntField<infer T>
    ? T extends bigint
      ? bigint
      : number
    : F extends BytesField
      ? Uint8Array
      : F extends NestedField<infer C>
        ? InstanceType<C>
        : never;
type Values<D extends Fields> = { -readonly [K in keyof D]: Value<D[K]> };
type Init<D extends Fields> = {
  [K in keyof D]?: D[K] extends NestedField<infer C> ? ConstructorParameters<C>[0] : Value<D[K]>;
};

/** What every structure instance has besides its fields. */
export interface StructBase {
  /** The storage: the structure, then whatever room was asked for behind it. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
}
/** An instance of a structure: its fields by name over its bytes. */
export type Struct<D extends Fields = Fields> = StructBase & Values<D>;

/** A structure: its name, size and layout, and how to make one. */
// biome-ignore lint/suspicious/noExplicitAny: the constructor's argument differs for every structure
export interface StructType<D extends Fields = any> {
  /**
   * @param init values of some fields; the others are 0, but `argsz` (or the iommufd calls' `size`), when not given, is the
   * structure's own size. @param room bytes behind the structure (capabilities, data). When `argsz` is given and larger than the
   * structure, that much room is there too.
   */
  new (init?: Init<D> | Uint8Array, room?: number): Struct<D>;
  /** Name in the headers. */
  readonly structName: string;
  /** sizeof in C, bytes. */
  readonly size: number;
  /** Alignment in C, bytes. */
  readonly alignment: number;
  readonly fields: D;
  readonly offsets: Readonly<Record<keyof D & string, number>>;
}

const alignmentOf = (field: Field): number =>
  field.kind === 'int' ? field.size : field.kind === 'bytes' ? 1 : field.type.alignment;
const sizeOf = (field: Field): number => (field.kind === 'struct' ? field.type.size : field.size);

/**
 * Defines a structure.
 * @param structName the name in the headers. @param fields in the order of the header.
 * @param options.size overrides sizeof (structures without tail padding). @param options.sizeField the field that holds the caller's
 * buffer size; default `argsz` where there is one.
 */
export function struct<const D extends Fields>(
  structName: string,
  fields: D,
  options: { size?: number; sizeField?: string } = {},
): StructType<D> {
  const offsets: Record<string, number> = {};
  let end = 0;
  let alignment = 1;
  for (const [name, field] of Object.entries(fields)) {
    const align = alignmentOf(field);
    end = Math.ceil(end / align) * align;
    offsets[name] = end;
    end += sizeOf(field);
    alignment = Math.max(alignment, align);
  }
  const size = options.size ?? Math.ceil(end / alignment) * alignment;
  const sizeField = options.sizeField ?? ('argsz' in fields ? 'argsz' : undefined);

  class Generated {
    static readonly structName = structName;
    static readonly size = size;
    static readonly alignment = alignment;
    static readonly fields = fields;
    static readonly offsets = offsets;
    readonly bytes: Uint8Array;
    #view: DataView | null = null;
    constructor(init: Record<string, unknown> | Uint8Array = {}, room = 0) {
      if (init instanceof Uint8Array) {
        if (init.length < size) throw new RangeError(`${structName} needs ${size} bytes, got ${init.length}`);
        this.bytes = init;
        return;
      }
      const asked = sizeField === undefined ? 0 : ((init[sizeField] as number | undefined) ?? size);
      this.bytes = new Uint8Array(Math.max(size + room, asked <= 0x10000000 ? asked : 0));
      if (sizeField !== undefined) writers.get(sizeField)!(this.bytes, size);
      for (const name in init) {
        const write = writers.get(name);
        if (write === undefined) throw new TypeError(`${structName} has no field ${name}`);
        if (init[name] !== undefined) write(this.bytes, init[name]);
      }
    }
    get view(): DataView {
      const { bytes } = this;
      this.#view ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      return this.#view;
    }
  }
  const writers = new Map<string, Access['write']>();
  for (const [name, field] of Object.entries(fields)) {
    const { read, write } = accessOf(field, offsets[name] as number);
    writers.set(name, write);
    Object.defineProperty(Generated.prototype, name, {
      enumerable: true,
      get(this: StructBase) {
        return read(this.bytes);
      },
      set(this: StructBase, value: unknown) {
        write(this.bytes, value);
      },
    });
  }
  return Generated as unknown as StructType<D>;
}

/** How a field is read from and written to the bytes of its structure. */
interface Access {
  read(bytes: Uint8Array): unknown;
  write(bytes: Uint8Array, value: unknown): void;
}
const access = <T>(read: (bytes: Uint8Array) => T, write: (bytes: Uint8Array, value: T) => void): Access => ({
  read,
  write: write as Access['write'],
});

function accessOf(field: Field, at: number): Access {
  if (field.kind === 'struct') {
    const { type } = field;
    return access<Record<string, unknown> | StructBase>(
      (bytes) => new type(bytes.subarray(at, at + type.size)),
      (bytes, value) => {
        const source =
          'bytes' in value && value.bytes instanceof Uint8Array ? value.bytes : new type(value as never).bytes;
        bytes.set(source.subarray(0, type.size), at);
      },
    );
  }
  if (field.kind === 'bytes') {
    return access<Uint8Array>(
      (bytes) => bytes.subarray(at, at + field.size),
      (bytes, value) => {
        if (value.length > field.size) throw new RangeError(`${value.length} bytes do not fit into ${field.size}`);
        bytes.set(value, at);
      },
    );
  }
  switch (field.size) {
    case 1:
      return access<number>(
        (bytes) => bytes[at]!,
        (bytes, value) => {
          bytes[at] = value;
        },
      );
    case 2:
      return access<number>(
        (bytes) => getU16(bytes, at),
        (bytes, value) => setU16(bytes, at, value),
      );
    case 4:
      return access<number>(
        field.signed ? (bytes) => getS32(bytes, at) : (bytes) => getU32(bytes, at),
        (bytes, value) => setU32(bytes, at, value),
      );
    case 8:
      return access<bigint | number>(
        (bytes) => getU64(bytes, at),
        (bytes, value) => setU64(bytes, at, typeof value === 'bigint' ? value : BigInt(value)),
      );
  }
}
