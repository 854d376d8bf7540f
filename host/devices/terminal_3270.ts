// A 3270 terminal with nobody at it: it answers SENSE ID, sense and no-operation, has intervention required for what needs a screen, and rejects the
// rest. Commands: spec channel-devices "3270 display".
import type { ChannelDevice, CommandEnd, Transfer } from '../css/device.ts';

const NORMAL: CommandEnd = { unitStatus: 0x0c };
const UNIT_CHECK: CommandEnd = { unitStatus: 0x02 };
const INTERVENTION_REQUIRED = 0x40;
const COMMAND_REJECT = 0x80;
const SENSE_SIZE = 32;
const SENSE_ID_SIZE = 256;
/** Write, read buffer, erase/write, read modified, erase/write alternate, read modified all, erase unprotected, write structured field. */
const SCREEN_COMMANDS: readonly number[] = [0x01, 0x02, 0x05, 0x06, 0x0d, 0x0e, 0x0f, 0x11];

export class Terminal3270 implements ChannelDevice {
  readonly #sense = new Uint8Array(SENSE_SIZE);

  reset(): void {
    this.#sense.fill(0);
  }

  execute(command: number, transfer: Transfer): CommandEnd {
    switch (command) {
      case 0x03:
        return NORMAL;
      case 0x04:
        transfer.store(this.#sense);
        this.#sense.fill(0);
        return NORMAL;
      case 0xe4: {
        const id = new Uint8Array(SENSE_ID_SIZE);
        // As for every control unit: a shorter one does not claim to be a sense id in its first byte.
        id.set([transfer.peek(4).length < 4 ? 0 : 0xff, 0x32, 0x70]);
        transfer.store(id);
        return NORMAL;
      }
      default:
        this.#sense[0] = SCREEN_COMMANDS.includes(command) ? INTERVENTION_REQUIRED : COMMAND_REJECT;
        return UNIT_CHECK;
    }
  }
}
