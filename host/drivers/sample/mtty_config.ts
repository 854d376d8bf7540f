// The configuration space of an mtty card: an image of 255 bytes, of which a user can change the interrupt line and size the BARs. Source:
// spec mdev section 7.2.

const IMAGE: ReadonlyArray<readonly [number, readonly number[]]> = [
  [0x00, [0x48, 0x43, 0x53, 0x32]], // vendor, device
  [0x04, [0x01, 0x00]], // command: I/O
  [0x06, [0x00, 0x02]], // status: no capabilities
  [0x08, [0x10, 0x02, 0x00, 0x07]], // revision, 16550, class serial
  [0x10, [0x01, 0x00, 0x00, 0x00]],
  [0x2c, [0x48, 0x43, 0x53, 0x32]],
  [0x3d, [0x01]], // INTA
  [0x40, [0x23, 0x00, 0x00, 0x80]],
  [0x44, [0x23]],
  [0x48, [0x23]],
  [0x4c, [0x23]],
  [0x60, [...'PCI Serial/UART'].map((char) => char.charCodeAt(0))],
];
const SIZE = 0xff;
const BAR0 = 0x10;
const BAR1 = 0x14;
const BAR4 = 0x20;
const INTERRUPT_LINE = 0x3c;
const BAR_SIZE_MASK = 0xfffffff8;

export class MttyConfig {
  readonly bytes = new Uint8Array(SIZE);
  readonly #ports: number;
  readonly #view: DataView;

  constructor(ports: number) {
    this.#ports = ports;
    this.#view = new DataView(this.bytes.buffer);
    for (const [at, image] of IMAGE) this.bytes.set(image, at);
    if (ports === 2) this.bytes[BAR1] = 0x01;
  }

  /** One piece of a write. Bytes that it does not have count as 0. */
  write(at: number, piece: Uint8Array): void {
    if (at === INTERRUPT_LINE) this.bytes[at] = piece[0]!;
    else if (at === BAR0 || (at === BAR1 && this.#ports === 2)) this.#writeBar(at, piece);
    else if (at >= BAR1 && at <= BAR4 && at % 4 === 0) this.#view.setUint32(at, 0, true);
  }

  #writeBar(at: number, piece: Uint8Array): void {
    let value = piece.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
    if (value === 0xffffffff) value = BAR_SIZE_MASK;
    this.#view.setUint32(at, (value | (this.bytes[at]! & 3)) >>> 0, true);
  }
}
