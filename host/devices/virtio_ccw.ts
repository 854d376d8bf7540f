// A virtio-ccw proxy as a control unit: the channel commands of virtio devices over a configuration space, feature bits and queue addresses, with
// no virtqueue behind them. Commands and lengths: spec channel-devices "virtio-ccw", vectors/insn machine.json. CU type 3832, model = virtio
// device id.
import type { ChannelDevice, CommandEnd, Transfer } from '../css/device.ts';

const CHANNEL_END = 0x08;
const DEVICE_END = 0x04;
const UNIT_CHECK = 0x02;
const NORMAL: CommandEnd = { unitStatus: CHANNEL_END | DEVICE_END };
const SENSE_SIZE = 32;
const SENSE_ID_SIZE = 256;
const COMMAND_REJECT = 0x80;
const MAX_REVISION = 2;

export interface VirtioCcwOptions {
  /** Virtio device id: 1 network, 2 block, 4 entropy. */
  readonly id: number;
  readonly config?: Uint8Array;
  /** The first word of features, as its four bytes. */
  readonly features?: Uint8Array;
  /** Size of the first queue. Default 8. */
  readonly queue?: number;
}

/** Anything that only answers SENSE ID, sense and no-operation rejects the rest. */
export class VirtioCcw implements ChannelDevice {
  readonly #senseId = new Uint8Array(SENSE_ID_SIZE);
  readonly #sense = new Uint8Array(SENSE_SIZE);
  readonly #options: VirtioCcwOptions;
  #config: Uint8Array;
  #status = 0;
  #revision = -1;

  constructor(options: VirtioCcwOptions) {
    this.#options = options;
    this.#config = (options.config ?? new Uint8Array(0)).slice();
    this.#senseId.set([0xff, 0x38, 0x32, options.id]);
  }

  /** Back to power-on. */
  reset(): void {
    this.#sense.fill(0);
    this.#config = (this.#options.config ?? new Uint8Array(0)).slice();
    this.#status = 0;
    this.#revision = -1;
  }

  execute(command: number, transfer: Transfer): CommandEnd | null {
    switch (command) {
      case 0x03:
        return NORMAL;
      case 0x04:
        transfer.store(this.#sense);
        this.#sense.fill(0);
        return NORMAL;
      case 0xe4:
        transfer.store(this.#senseId);
        return NORMAL;
      case 0x12:
        return this.#readFeatures(transfer);
      case 0x11:
        return transfer.fetch(5).length === 5 ? NORMAL : this.#reject();
      case 0x22:
        transfer.store(this.#config);
        return NORMAL;
      case 0x21: {
        const bytes = transfer.fetch(this.#config.length);
        this.#config.set(bytes);
        return NORMAL;
      }
      case 0x31:
        return this.#writeStatus(transfer);
      case 0x72:
        transfer.store(Uint8Array.of(this.#status));
        return NORMAL;
      case 0x33:
        this.#status = 0;
        this.#revision = -1;
        return NORMAL;
      case 0x32:
        // The index comes in the same area, which a read command does not fetch: the first queue answers.
        transfer.store(Uint8Array.of(0, 0, (this.#options.queue ?? 8) >> 8, (this.#options.queue ?? 8) & 0xff));
        return NORMAL;
      case 0x43:
      case 0x53:
        return transfer.fetch(8).length === 8 ? NORMAL : this.#reject();
      case 0x13:
        return transfer.fetch(0x20).length >= 0x10 ? NORMAL : this.#reject();
      case 0x83:
        return this.#setRevision(transfer);
      default:
        return this.#reject();
    }
  }

  #readFeatures(transfer: Transfer): CommandEnd {
    transfer.store((this.#options.features ?? new Uint8Array(4)).subarray(0, 4));
    return NORMAL;
  }

  #writeStatus(transfer: Transfer): CommandEnd {
    const [status] = transfer.fetch(1);
    if (status === undefined) return this.#reject();
    this.#status = status;
    if (status === 0) this.#revision = -1;
    return NORMAL;
  }

  #setRevision(transfer: Transfer): CommandEnd {
    const bytes = transfer.fetch(4);
    if (bytes.length < 4) return this.#reject();
    const view = new DataView(bytes.buffer, bytes.byteOffset, 4);
    const [revision, length] = [view.getUint16(0), view.getUint16(2)];
    if (this.#revision >= 0 || revision > MAX_REVISION || length !== 0) return this.#reject();
    this.#revision = revision;
    return NORMAL;
  }

  /** Unit check at once; the sense says command reject until it is read. */
  #reject(): CommandEnd {
    this.#sense.fill(0);
    this.#sense[0] = COMMAND_REJECT;
    return { unitStatus: UNIT_CHECK };
  }
}
