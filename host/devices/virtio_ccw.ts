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
/** Notification, layout and ring features in the first word; the second is version 1 and what goes with it. */
const TRANSPORT_FEATURES: readonly [number, number] = [0x39000000, 0x00000101];
/** Features that only the legacy interface (no revision, or 0) offers. */
const LEGACY_FEATURES = 0x09000000;
const FEATURES_SIZE = 5;
const INDICATORS_SIZE = 0x19;
/** A queue index beyond what the transport has is a mistake of the program. */
const MAX_QUEUES = 1024;
const PROGRAM_CHECK = 0x20;
/** A shorter sense id does not claim to be one in its first byte. */
const SENSE_ID_LEAST = 4;

export interface VirtioCcwOptions {
  /** Virtio device id: 1 network, 2 block, 4 entropy. */
  readonly id: number;
  readonly config?: Uint8Array;
  /** The words of feature bits. Default: those of the transport alone. */
  readonly features?: readonly [number, number];
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
        return this.#readId(transfer);
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
        return this.#readQueue(transfer);
      case 0x43:
      case 0x53:
        return transfer.fetch(8).length === 8 ? NORMAL : this.#reject();
      case 0x13:
        return transfer.fetch(0x20).length >= 0x10 ? NORMAL : this.#reject();
      case 0x73:
        return transfer.fetch(INDICATORS_SIZE).length === INDICATORS_SIZE ? NORMAL : this.#reject();
      case 0x83:
        return this.#setRevision(transfer);
      default:
        return this.#reject();
    }
  }

  #readId(transfer: Transfer): CommandEnd {
    const id = this.#senseId.slice();
    if (transfer.peek(SENSE_ID_LEAST).length < SENSE_ID_LEAST) id[0] = 0;
    transfer.store(id);
    return NORMAL;
  }

  /** Four bytes of features, little-endian, and the index of their word, which stays as the program left it. */
  #readFeatures(transfer: Transfer): CommandEnd {
    const index = transfer.peek(FEATURES_SIZE)[FEATURES_SIZE - 1] ?? 0;
    const [low, high] = this.#options.features ?? TRANSPORT_FEATURES;
    const legacy = this.#revision < 1;
    const word = index === 0 ? (legacy ? low : low & ~LEGACY_FEATURES) : index === 1 && !legacy ? high : 0;
    const bytes = new Uint8Array(FEATURES_SIZE);
    new DataView(bytes.buffer).setUint32(0, word, true);
    bytes[FEATURES_SIZE - 1] = index;
    transfer.store(bytes);
    return NORMAL;
  }

  /** The index of a queue, as the program left it, and its size; 0 where there is no such queue. */
  #readQueue(transfer: Transfer): CommandEnd {
    const [high = 0, low = 0] = transfer.peek(2);
    const index = (high << 8) | low;
    if (index >= MAX_QUEUES) return { unitStatus: 0, channelStatus: PROGRAM_CHECK };
    const size = index === 0 ? (this.#options.queue ?? 8) : 0;
    transfer.store(Uint8Array.of(high, low, size >> 8, size & 0xff));
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
