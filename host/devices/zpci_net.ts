// A network function with strict block stores and MSI-X: frames that are written into its window, or fetched from memory, come back into the
// receive buffer (a cable from the card to itself). Registers are this package's own; docs/uapi/zdev.md.
//
// BAR0, 16 KiB, little-endian registers:
//   000  4  id 'ZNT1'          008  8  MAC address         010  8  transmit iova      018  4  transmit length
//   01c  4  send: 1 from memory, 2 from the window         020  8  receive iova       028  4  receive size
//   02c  4  length of the last frame received              030  4  status: 0 done, 1 bad length, 2 transmit memory, 3 receive memory
//   034  4  frames received    1000..1fff  transmit window, plain storage
// BAR2, 4 KiB: MSI-X table of 2 vectors (0 received, 1 sent), pending bits at 800.
import type { StatefulHardware } from './device_state.ts';
import type { Width } from './pci_device.ts';
import { ZpciDevice } from './zpci_hardware.ts';

const ID = 0x31544e5a;
const WINDOW = 0x1000;
const WINDOW_SIZE = 0x1000;
const BAR_SIZE = 0x4000;
const MIN_FRAME = 14;
const MAX_FRAME = 4096;
const REG_SEND = 0x1c;
const REG_RX_LENGTH = 0x2c;
const REG_STATUS = 0x30;
const REG_FRAMES = 0x34;
const WRITABLE: readonly number[] = [0x10, 0x14, 0x18, 0x20, 0x24, 0x28];

export class ZpciNet extends ZpciDevice implements StatefulHardware {
  readonly stateModel = 'znet';
  readonly stateVersion = 1;
  /** Registers, then the window; the MSI-X table belongs to the host. */
  readonly stateSize = 0x40 + WINDOW_SIZE;
  readonly #registers = new DataView(new ArrayBuffer(0x40));
  readonly #window = new Uint8Array(WINDOW_SIZE);

  constructor(index: number) {
    super(
      {
        vendor: 0x1014,
        device: 0x10e5,
        classCode: 0x020000,
        bars: { 0: { size: BAR_SIZE, kind: 'mem64' }, 2: { size: 0x1000, memory: true } },
        msix: { bar: 2, vectors: 2, table: 0, pending: 0x800 },
        express: { flr: true },
      },
      { pft: 0, gid: 0x10, index, pchid: 0x0100 + index, maxStoreBlock: 128, interrupts: 2 },
    );
    this.onReset();
  }

  protected override onReset(): void {
    const registers = this.#registers;
    for (let at = 0; at < registers.byteLength; at += 4) registers.setUint32(at, 0, true);
    registers.setUint32(0, ID, true);
    registers.setBigUint64(8, 0x0000_0200_5a4e_0001n, true);
    this.#window.fill(0);
  }

  saveState(into: DataView): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, this.stateSize);
    bytes.set(new Uint8Array(this.#registers.buffer));
    bytes.set(this.#window, 0x40);
  }

  loadState(from: DataView): boolean {
    if (from.getUint32(0, true) !== ID) return false;
    const bytes = new Uint8Array(from.buffer, from.byteOffset, this.stateSize);
    new Uint8Array(this.#registers.buffer).set(bytes.subarray(0, 0x40));
    this.#window.set(bytes.subarray(0x40));
    return true;
  }

  /** A frame is sent within the write that asks for it. */
  resume(): void {}

  protected override read(bar: number, offset: number, width: Width): number {
    if (bar !== 0) return 0;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.#byte(offset + i);
    return value;
  }

  protected override write(bar: number, offset: number, width: Width, value: number): void {
    if (bar !== 0) return;
    if (offset >= WINDOW && offset + width <= WINDOW + WINDOW_SIZE) {
      for (let i = 0; i < width; i++) this.#window[offset - WINDOW + i] = value / 2 ** (8 * i);
    } else if (width === 4 && WRITABLE.includes(offset)) this.#registers.setUint32(offset, value, true);
    else if (width === 4 && offset === REG_SEND) this.#send(value);
  }

  #byte(offset: number): number {
    if (offset >= WINDOW && offset < WINDOW + WINDOW_SIZE) return this.#window[offset - WINDOW] as number;
    return offset < this.#registers.byteLength ? this.#registers.getUint8(offset) : 0;
  }

  #send(how: number): void {
    const registers = this.#registers;
    const length = registers.getUint32(0x18, true);
    const status = (code: number): void => registers.setUint32(REG_STATUS, code, true);
    if (length < MIN_FRAME || length > MAX_FRAME || (how !== 1 && how !== 2)) {
      status(1);
      return;
    }
    const frame = this.#window.slice(0, length);
    if (how === 1 && this.dma.read(registers.getBigUint64(0x10, true), frame) !== 0) {
      status(2);
      return;
    }
    this.interrupt(1);
    if (length > registers.getUint32(0x28, true) || this.dma.write(registers.getBigUint64(0x20, true), frame) !== 0) {
      status(3);
      return;
    }
    registers.setUint32(REG_RX_LENGTH, length, true);
    registers.setUint32(REG_FRAMES, registers.getUint32(REG_FRAMES, true) + 1, true);
    status(0);
    this.interrupt(0);
  }
}
