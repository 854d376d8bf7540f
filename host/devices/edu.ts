// The teaching device "edu": identification, liveness, a factorial, interrupts to raise and acknowledge, a DMA engine with a 4 KiB buffer.
// Register map and rules: spec edu. All registers little-endian, in BAR0.
import type { StatefulHardware } from './device_state.ts';
import { whenDone } from './dma.ts';
import { EDU_STATE_SIZE, type EduState, loadEdu, saveEdu } from './edu_state.ts';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MEMORY } from './pci_config.ts';
import { PciDevice, type Width } from './pci_device.ts';

const REG_ID = 0x00;
const REG_LIVENESS = 0x04;
const REG_FACTORIAL = 0x08;
const REG_STATUS = 0x20;
const REG_IRQ_STATUS = 0x24;
const REG_IRQ_RAISE = 0x60;
const REG_IRQ_ACK = 0x64;
const REG_DMA_SRC = 0x80;
const REG_DMA_DST = 0x88;
const REG_DMA_COUNT = 0x90;
const REG_DMA_CMD = 0x98;

const ID = 0x010000ed;
const STATUS_COMPUTING = 0x01;
const STATUS_IRQ_WHEN_DONE = 0x80;
const IRQ_FACTORIAL = 0x00000001;
const IRQ_DMA = 0x00000100;
const DMA_RUN = 1n;
const DMA_TO_MEMORY = 2n;
const DMA_IRQ_WHEN_DONE = 4n;
const DMA_DELAY_MS = 100;
/** Device-side address of the buffer. */
const BUFFER_START = 0x40000n;
const BUFFER_SIZE = 4096;
const DMA_MASK = (1n << 28n) - 1n;
const PLAIN_STORAGE = 0x4e;
const ONES = 0xffffffff;
const ONES_64 = 0xffffffffffffffffn;

export interface EduOptions {
  /** Address of BAR0 as firmware left it; default 0xfea00000. */
  readonly bar0?: number;
  /** Interrupt line as firmware left it; default 10. */
  readonly line?: number;
}

export class Edu extends PciDevice implements StatefulHardware {
  readonly stateModel = 'edu ';
  readonly stateVersion = 1;
  readonly stateSize = EDU_STATE_SIZE;
  readonly state: EduState = {
    liveness: 0,
    factorial: 0,
    status: 0,
    irqStatus: 0,
    source: 0n,
    destination: 0n,
    count: 0n,
    command: 0n,
    buffer: new Uint8Array(BUFFER_SIZE),
  };

  constructor(options: EduOptions = {}) {
    super({
      vendor: 0x1234,
      device: 0x11e8,
      classCode: 0x00ff00,
      revision: 0x10,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      interruptPin: 1,
      interruptLine: options.line ?? 10,
      bars: { 0: { size: 0x100000, address: options.bar0 ?? 0xfea00000 } },
      msi: { vectors: 1 },
    });
    this.config.write(PCI_COMMAND, 2, 0x100 | PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    this.config.writable.fill(0xff, PLAIN_STORAGE);
  }

  protected override read(_bar: number, offset: number, width: Width): number {
    if (width !== 4) return 0;
    const { state } = this;
    switch (offset) {
      case REG_ID:
        return ID;
      case REG_LIVENESS:
        return state.liveness;
      case REG_FACTORIAL:
        return state.factorial;
      case REG_STATUS:
        return state.status;
      case REG_IRQ_STATUS:
        return state.irqStatus;
      case REG_DMA_SRC:
      case REG_DMA_DST:
      case REG_DMA_COUNT:
      case REG_DMA_CMD:
        return Number(this.read64(0, offset) & 0xffffffffn);
      default:
        return ONES;
    }
  }

  protected override read64(_bar: number, offset: number): bigint {
    const { state } = this;
    switch (offset) {
      case REG_DMA_SRC:
        return state.source;
      case REG_DMA_DST:
        return state.destination;
      case REG_DMA_COUNT:
        return state.count;
      case REG_DMA_CMD:
        return state.command;
      default:
        return ONES_64;
    }
  }

  protected override write(_bar: number, offset: number, width: Width, value: number): void {
    if (width !== 4) return;
    const { state } = this;
    switch (offset) {
      case REG_LIVENESS:
        state.liveness = ~value >>> 0;
        break;
      case REG_FACTORIAL:
        this.#startFactorial(value);
        break;
      case REG_STATUS:
        state.status = (state.status & ~STATUS_IRQ_WHEN_DONE) | (value & STATUS_IRQ_WHEN_DONE);
        break;
      case REG_IRQ_RAISE:
        this.#raise(value);
        break;
      case REG_IRQ_ACK:
        state.irqStatus = (state.irqStatus & ~value) >>> 0;
        if (state.irqStatus === 0 && !this.messagesEnabled) this.lowerIntx();
        break;
      case REG_DMA_SRC:
      case REG_DMA_DST:
      case REG_DMA_COUNT:
      case REG_DMA_CMD:
        this.write64(0, offset, BigInt(value));
        break;
    }
  }

  protected override write64(_bar: number, offset: number, value: bigint): void {
    const { state } = this;
    if ((state.command & DMA_RUN) !== 0n) return;
    switch (offset) {
      case REG_DMA_SRC:
        state.source = value;
        break;
      case REG_DMA_DST:
        state.destination = value;
        break;
      case REG_DMA_COUNT:
        state.count = value;
        break;
      case REG_DMA_CMD:
        if ((value & DMA_RUN) === 0n) return;
        state.command = value;
        this.clock.after(DMA_DELAY_MS, () => this.#transfer());
        break;
    }
  }

  saveState(into: DataView): void {
    saveEdu(this.state, into);
  }

  loadState(from: DataView): boolean {
    return loadEdu(this.state, from);
  }

  resume(): void {
    const { status, command, irqStatus } = this.state;
    if ((status & STATUS_COMPUTING) !== 0) this.clock.after(0, () => this.#finishFactorial());
    if ((command & DMA_RUN) !== 0n) this.clock.after(DMA_DELAY_MS, () => this.#transfer());
    // A message that the bits stand for was sent before; the level of the line is what has to be there again.
    if (irqStatus !== 0) this.raiseIntx();
    else this.lowerIntx();
  }

  #startFactorial(n: number): void {
    const { state } = this;
    if ((state.status & STATUS_COMPUTING) !== 0) return;
    state.factorial = n;
    state.status |= STATUS_COMPUTING;
    this.clock.after(0, () => this.#finishFactorial());
  }

  #finishFactorial(): void {
    const { state } = this;
    // From 34 on the product is 0 modulo 2^32, so a hostile argument costs nothing.
    let result = state.factorial > 33 ? 0 : 1;
    for (let n = 2; n <= state.factorial && result !== 0; n++) result = Math.imul(result, n) >>> 0;
    state.factorial = result;
    state.status &= ~STATUS_COMPUTING;
    if ((state.status & STATUS_IRQ_WHEN_DONE) !== 0) this.#raise(IRQ_FACTORIAL);
  }

  #raise(bits: number): void {
    const { state } = this;
    state.irqStatus = (state.irqStatus | bits) >>> 0;
    if (state.irqStatus !== 0) this.interrupt();
  }

  #transfer(): void {
    const { state } = this;
    const toMemory = (state.command & DMA_TO_MEMORY) !== 0n;
    const inBuffer = (toMemory ? state.source : state.destination) - BUFFER_START;
    const memory = (toMemory ? state.destination : state.source) & DMA_MASK;
    const inside = inBuffer >= 0n && inBuffer + state.count <= BigInt(BUFFER_SIZE);
    if (!inside) {
      this.#finishTransfer();
      return;
    }
    const part = state.buffer.subarray(Number(inBuffer), Number(inBuffer + state.count));
    whenDone(toMemory ? this.dma.write(memory, part) : this.dma.read(memory, part), () => this.#finishTransfer());
  }

  #finishTransfer(): void {
    const { state } = this;
    state.command &= ~DMA_RUN;
    if ((state.command & DMA_IRQ_WHEN_DONE) !== 0n) this.#raise(IRQ_DMA);
  }
}
