// One port of the mtty card: a 16550-like UART whose transmitter feeds its own receiver. State is one plain record, so that it can be saved
// and loaded. Registers and quirks: spec mdev section 7.3.

/** Everything a port remembers. */
export interface UartState {
  /** IER at 1, LCR at 3, MCR at 4, SCR at 7. */
  readonly registers: Uint8Array;
  readonly fifo: Uint8Array;
  head: number;
  tail: number;
  count: number;
  dlab: boolean;
  overrun: boolean;
  divisor: number;
  fcr: number;
  maxFifoSize: number;
  triggerLevel: number;
}

const FIFO_SIZE = 16;
const DATA = 0;
const IER = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 1;
const IER_THRI = 2;
const IER_RLSI = 4;
const IER_MSI = 8;
const FCR_ENABLE = 1;
const FCR_CLEAR = 2 | 4;
const LCR_DLAB = 0x80;
const MCR_DTR_RTS = 1 | 2;
const MCR_OUT2 = 8;
const MCR_AFE = 0x20;
const IIR_NO_INTERRUPT = 1;
const LSR_DATA_READY = 1;
const LSR_OVERRUN = 2;
const LSR_EMPTY = 0x60;
const MSR_ALWAYS = 0xa2;
const MSR_CLEAR_TO_SEND = 0x11;

export const newUart = (): UartState => ({
  registers: new Uint8Array(8),
  fifo: new Uint8Array(FIFO_SIZE),
  head: 0,
  tail: 0,
  count: 0,
  dlab: false,
  overrun: false,
  divisor: 0,
  fcr: 0,
  maxFifoSize: FIFO_SIZE,
  triggerLevel: 0,
});

/** 16 queued bytes make head and tail meet: the fifo then looks empty. */
const looksEmpty = (uart: UartState): boolean => uart.head === uart.tail;
const enabled = (uart: UartState, bits: number): boolean => (uart.registers[IER]! & bits) !== 0;

/** Writes a register. @param irq raises the port's interrupt; called once for each cause. */
export function writeUart(uart: UartState, offset: number, value: number, irq: () => void): void {
  const { registers } = uart;
  switch (offset) {
    case DATA:
      if (uart.dlab) uart.divisor |= value;
      else transmit(uart, value, irq);
      break;
    case IER:
      if (uart.dlab) {
        uart.divisor |= value << 8;
        break;
      }
      registers[IER] = value;
      if (enabled(uart, IER_THRI) && looksEmpty(uart)) irq();
      break;
    case IIR_FCR:
      uart.fcr = value;
      if ((value & FCR_CLEAR) !== 0) {
        uart.count = 0;
        uart.head = 0;
        uart.tail = 0;
      }
      uart.triggerLevel = 1;
      uart.maxFifoSize = (value & FCR_ENABLE) !== 0 ? FIFO_SIZE : 1;
      break;
    case LCR:
      uart.dlab = (value & LCR_DLAB) !== 0;
      if (uart.dlab) uart.divisor = 0;
      registers[LCR] = value;
      break;
    case MCR:
      registers[MCR] = value;
      if (enabled(uart, IER_MSI) && (value & MCR_OUT2) !== 0) irq();
      if (enabled(uart, IER_MSI) && (value & MCR_DTR_RTS) !== 0) irq();
      break;
    case SCR:
      registers[SCR] = value;
      break;
  }
}

function transmit(uart: UartState, value: number, irq: () => void): void {
  if (uart.count < uart.maxFifoSize) {
    uart.fifo[uart.head] = value;
    uart.head = (uart.head + 1) % FIFO_SIZE;
    uart.count++;
    uart.overrun = false;
    if (enabled(uart, IER_RDI) && uart.count === uart.triggerLevel) irq();
  } else {
    uart.overrun = true;
    if (enabled(uart, IER_RLSI)) irq();
  }
}

/** Reads a register; 0 from an empty receiver. */
export function readUart(uart: UartState, offset: number, irq: () => void): number {
  const { registers } = uart;
  switch (offset) {
    case DATA:
      return uart.dlab ? uart.divisor & 0xff : receive(uart, irq);
    case IER:
      return uart.dlab ? uart.divisor >> 8 : registers[IER]! & 0x0f;
    case IIR_FCR:
      return identify(uart) | 0xc0;
    case LCR:
    case MCR:
    case SCR:
      return registers[offset]!;
    case LSR:
      return (looksEmpty(uart) ? LSR_EMPTY : LSR_DATA_READY) | (uart.overrun ? LSR_OVERRUN : 0);
    case MSR: {
      const held = (registers[MCR]! & MCR_AFE) !== 0 && uart.count >= uart.maxFifoSize;
      return MSR_ALWAYS | (held ? 0 : MSR_CLEAR_TO_SEND);
    }
    default:
      return 0;
  }
}

function receive(uart: UartState, irq: () => void): number {
  let value = 0;
  if (!looksEmpty(uart)) {
    value = uart.fifo[uart.tail]!;
    uart.tail = (uart.tail + 1) % FIFO_SIZE;
    uart.count--;
  }
  if (looksEmpty(uart) && enabled(uart, IER_THRI)) irq();
  return value;
}

function identify(uart: UartState): number {
  let causes = 0;
  if (enabled(uart, IER_RLSI) && uart.overrun) causes |= 6;
  if (enabled(uart, IER_RDI) && uart.count >= uart.triggerLevel) causes |= 4;
  if (enabled(uart, IER_THRI) && looksEmpty(uart)) causes |= 2;
  return causes === 0 ? IIR_NO_INTERRUPT : causes;
}
