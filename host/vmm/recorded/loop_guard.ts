// The recording's machine ends a program whose 256th command in a row moves no data (FORMAT.md, trait 6); without that, a loop of NOPs would go on
// for good. A device in front of the described one keeps the count.
import type { ChannelDevice, CommandEnd, Transfer } from '../../css/device.ts';

const LIMIT = 255;
const PROGRAM_CHECK = 0x20;
/** NOP, and the reset of a virtio device. */
const DATALESS: readonly number[] = [0x03, 0x33];

export class LoopGuard implements ChannelDevice {
  readonly #device: ChannelDevice;
  #inRow = 0;

  constructor(device: ChannelDevice) {
    this.#device = device;
  }

  reset(): void {
    this.#inRow = 0;
    this.#device.reset?.();
  }

  execute(command: number, transfer: Transfer): CommandEnd | null {
    if (transfer.first || !DATALESS.includes(command)) this.#inRow = 0;
    if (DATALESS.includes(command) && ++this.#inRow > LIMIT) return { unitStatus: 0, channelStatus: PROGRAM_CHECK };
    return this.#device.execute(command, transfer);
  }
}
