// The caller's memory as a call sees it: a pointer argument or a buffer, read and written only through these two functions, so
// that every structure is copied once, checked as a copy and used as a copy.

/**
 * A pointer argument. `value` is the argument as the kernel's unsigned long; the copies go to where it points. An argument may also be a
 * buffer that the caller handed over directly: then it points to exactly that buffer, and going beyond its end is a fault.
 */
export interface UserArg {
  readonly value: bigint;
  /** A private copy of `size` bytes at `offset`, or null (EFAULT). */
  copyIn(offset: number, size: number): Uint8Array | null;
  /** copyIn into bytes that the caller keeps, for calls that are made often: fills `target`, or false (EFAULT). */
  copyInto?(offset: number, target: Uint8Array): boolean;
  /** Copies all of `source` to `offset`; false (EFAULT) when any byte is not writable, then nothing is written. */
  copyOut(offset: number, source: Uint8Array): boolean;
}

/** An argument by value as a small number: all 64 bits count, and what is not a plain non-negative int is -1, which nothing is. */
export const numberArg = (arg: UserArg): number => (arg.value <= 0x7fffffffn ? Number(arg.value) : -1);

/** A buffer of a read or write call: a pointer argument with a length. */
export interface UserBuffer extends UserArg {
  readonly length: number;
}

/** A buffer handed over directly by JavaScript. */
export class DirectBuffer implements UserBuffer {
  readonly value = 0n;
  readonly length: number;
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.length = bytes.length;
  }
  copyIn(offset: number, size: number): Uint8Array | null {
    if (offset + size > this.length) return null;
    return this.#bytes.slice(offset, offset + size);
  }
  copyInto(offset: number, target: Uint8Array): boolean {
    if (offset + target.length > this.length) return false;
    const bytes = this.#bytes;
    if (offset === 0 && bytes.length === target.length) target.set(bytes);
    else for (let i = 0; i < target.length; i++) target[i] = bytes[offset + i]!;
    return true;
  }
  copyOut(offset: number, source: Uint8Array): boolean {
    if (offset + source.length > this.length) return false;
    this.#bytes.set(source, offset);
    return true;
  }
}

/** An argument by value on a call that wants a pointer: an address where nothing is mapped. */
export class ValueArg implements UserArg {
  readonly value: bigint;
  constructor(value: bigint) {
    this.value = value;
  }
  copyIn(): null {
    return null;
  }
  copyOut(): boolean {
    return false;
  }
}

/** A DataView over the bytes of a copy. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
