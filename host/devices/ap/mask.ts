// A set of numbers 0..255 as the AP architecture writes it: 32 bytes, bit 0 the leftmost. Spec ap section 1.

const BYTES = 32;

export class ApMask {
  readonly bytes = new Uint8Array(BYTES);

  static of(...numbers: number[]): ApMask {
    const mask = new ApMask();
    for (const number of numbers) mask.set(number);
    return mask;
  }

  has(number: number): boolean {
    return ((this.bytes[number >> 3] ?? 0) & (0x80 >> (number & 7))) !== 0;
  }
  set(number: number): void {
    this.bytes[number >> 3] = (this.bytes[number >> 3] as number) | (0x80 >> (number & 7));
  }
  clear(number: number): void {
    this.bytes[number >> 3] = (this.bytes[number >> 3] as number) & ~(0x80 >> (number & 7));
  }
  clearAll(): void {
    this.bytes.fill(0);
  }
  copyFrom(other: ApMask): void {
    this.bytes.set(other.bytes);
  }
  clone(): ApMask {
    const mask = new ApMask();
    mask.copyFrom(this);
    return mask;
  }
  equals(other: ApMask): boolean {
    return this.bytes.every((byte, i) => byte === other.bytes[i]);
  }
  and(other: ApMask): ApMask {
    const mask = new ApMask();
    mask.bytes.forEach((_, i) => {
      mask.bytes[i] = (this.bytes[i] as number) & (other.bytes[i] as number);
    });
    return mask;
  }
  get isEmpty(): boolean {
    return this.bytes.every((byte) => byte === 0);
  }
  /** The largest number in the set, -1 when it is empty. */
  get highest(): number {
    return this.numbers().at(-1) ?? -1;
  }
  /** Members, ascending. */
  numbers(): number[] {
    const members: number[] = [];
    for (let number = 0; number < BYTES * 8; number++) if (this.has(number)) members.push(number);
    return members;
  }
  /** `0x` and 64 hexadecimal digits. */
  toString(): string {
    return `0x${Array.from(this.bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  }
  /** `0x` and up to 64 digits, the first one leftmost. Null when the text is nothing like it. */
  static parse(text: string): ApMask | null {
    const match = /^0x([0-9a-f]{1,64})$/i.exec(text);
    if (match === null) return null;
    const digits = (match[1] as string).padEnd(64, '0');
    const mask = new ApMask();
    mask.bytes.set(Uint8Array.from({ length: BYTES }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16)));
    return mask;
  }
}
