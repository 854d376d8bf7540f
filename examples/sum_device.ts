// A complete PCI device: one BAR of registers, MSI-X, DMA. It adds up the 32-bit words of a buffer in its user's memory.
import { PciDevice, type Width, whenDone } from '../host/inline.ts';

const REG_ADDRESS_LOW = 0x00;
const REG_ADDRESS_HIGH = 0x04;
const REG_LENGTH = 0x08; // bytes, at most 1 MiB; writing it starts the work
const REG_RESULT = 0x0c;
const REG_STATUS = 0x10;
const STATUS_BUSY = 1;
const STATUS_FAULT = 2;
const VECTOR_DONE = 0;
const VECTOR_FAULT = 1;
const MAX_LENGTH = 1 << 20;

export class SumDevice extends PciDevice {
  #registers = new Uint32Array(8);

  constructor() {
    super({
      vendor: 0x1af4,
      device: 0x10f0,
      classCode: 0x120000, // processing accelerator
      bars: { 0: { size: 4096 }, 1: { size: 8192, memory: true } },
      msix: { bar: 1, vectors: 2 },
      express: { flr: true },
    });
  }

  protected override read(_bar: number, offset: number, width: Width): number {
    return width === 4 ? (this.#registers[offset / 4] ?? 0) : 0;
  }

  protected override write(_bar: number, offset: number, width: Width, value: number): void {
    if (width !== 4 || this.#registers[REG_STATUS / 4] === STATUS_BUSY) return;
    if (offset <= REG_LENGTH && offset % 4 === 0) this.#registers[offset / 4] = value;
    if (offset === REG_LENGTH) this.#start(Math.min(value, MAX_LENGTH));
  }

  protected override onReset(): void {
    this.#registers.fill(0);
  }

  #start(length: number): void {
    const registers = this.#registers;
    const iova = (BigInt(registers[REG_ADDRESS_HIGH / 4]!) << 32n) | BigInt(registers[REG_ADDRESS_LOW / 4]!);
    const words = new Uint32Array(length >> 2);
    registers[REG_STATUS / 4] = STATUS_BUSY;
    whenDone(this.dma.read(iova, new Uint8Array(words.buffer)), (result) => {
      registers[REG_RESULT / 4] = words.reduce((sum, word) => (sum + word) | 0, 0);
      registers[REG_STATUS / 4] = result < 0 ? STATUS_FAULT : 0;
      this.interrupt(result < 0 ? VECTOR_FAULT : VECTOR_DONE);
    });
  }
}
