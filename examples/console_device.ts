// A complete channel device: a console. A program writes lines to it; a line that the operator types raises attention, and the program reads it.
import type { ChannelDevice, CommandEnd, DevicePort, Transfer } from '../host/inline.ts';

const WRITE = 0x01;
const READ_INQUIRY = 0x0a;
const NO_OPERATION = 0x03;
const SENSE = 0x04;
const SENSE_ID = 0xe4;
const MAX_LINE = 150;

const ATTENTION = 0x80;
const ENDED = 0x0c; // channel end, device end
const UNIT_CHECK = 0x02;
const UNIT_EXCEPTION = 0x01;
const COMMAND_REJECT = 0x80; // sense byte 0

export class ConsoleDevice implements ChannelDevice {
  /** Lines that programs have written, in the program's code page. */
  readonly written: Uint8Array[] = [];
  #typed: Uint8Array[] = [];
  #sense = 0;
  #port: DevicePort | null = null;

  connect(port: DevicePort): void {
    this.#port = port;
  }

  /** The operator ends a line. */
  type(line: Uint8Array): void {
    this.#typed.push(line);
    this.#port?.present(ATTENTION);
  }

  reset(): void {
    this.#typed = [];
  }

  execute(command: number, transfer: Transfer): CommandEnd {
    if (command === SENSE) transfer.store(Uint8Array.of(this.#sense));
    else if (command !== NO_OPERATION) this.#sense = 0;
    switch (command) {
      case WRITE:
        this.written.push(transfer.fetchRest(MAX_LINE));
        return { unitStatus: ENDED };
      case READ_INQUIRY: {
        const line = this.#typed.shift();
        if (line === undefined) return { unitStatus: ENDED | UNIT_EXCEPTION };
        transfer.store(line);
        return { unitStatus: ENDED };
      }
      case SENSE_ID:
        transfer.store(Uint8Array.of(0xff, 0x32, 0x15, 0x00, 0x32, 0x15, 0x00));
        return { unitStatus: ENDED };
      case NO_OPERATION:
      case SENSE:
        return { unitStatus: ENDED };
    }
    this.#sense = COMMAND_REJECT;
    return { unitStatus: ENDED | UNIT_CHECK, sense: Uint8Array.of(COMMAND_REJECT) };
  }
}
