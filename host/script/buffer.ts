// The argument buffer of a script's ioctl: its own bytes, and behind them the zeros that a program's memory would have there. A call that reads
// on (argsz larger than what was given) finds zeros and what it writes there is lost; it is not a fault.
import type { UserBuffer } from '../vfio/user.ts';

const SLACK = 4096;

export class ScriptBuffer implements UserBuffer {
  readonly value = 0n;
  readonly length: number;
  /** The bytes of the script; a call changes them in place. */
  readonly bytes: Uint8Array;
  /** What the bytes are: the name of a structure, `string`, or plain bytes. */
  readonly type: string | undefined;

  constructor(bytes: Uint8Array, type?: string) {
    this.bytes = bytes;
    this.type = type;
    this.length = bytes.length;
  }

  copyIn(offset: number, size: number): Uint8Array | null {
    if (offset + size > this.length + SLACK) return null;
    const copy = new Uint8Array(size);
    if (offset < this.length) copy.set(this.bytes.subarray(offset, offset + size));
    return copy;
  }

  copyOut(offset: number, source: Uint8Array): boolean {
    if (offset + source.length > this.length + SLACK) return false;
    if (offset < this.length) this.bytes.set(source.subarray(0, this.length - offset), offset);
    return true;
  }
}
