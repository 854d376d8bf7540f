// A subchannel of the accelerated executor: requests go to the driver's own operations instead of through a descriptor. The translation in the core is the
// same, so is the order of everything.
import { ENODEV } from '../../../assembly/abi.ts';
import { IRB_SIZE, SCHIB_SIZE, SCSW_FCTL_START } from '../../css/schib.ts';
import type { CcwDevice } from '../../drivers/ccw/device.ts';
import type { VfioProcess } from '../../process.ts';
import { VFIO_DEVICE_STATE_RUNNING } from '../../uapi/constants.ts';
import { DirectBuffer } from '../../vfio/user.ts';
import type { StartResult } from '../css/subchannel.ts';
import { startResult, VfioSubchannelBackend } from '../css/vfio_backend.ts';

const IO_REGION = 0n;
const COMMAND_REGION = 0x400n;
const SCHIB_REGION = 0x800n;

export class AcceleratedSubchannelBackend extends VfioSubchannelBackend {
  readonly #process: VfioProcess;
  readonly #device: CcwDevice;

  constructor(process: VfioProcess, fd: number, device: CcwDevice) {
    super(process, fd);
    this.#process = process;
    this.#device = device;
  }

  override schib(): Uint8Array {
    if (!this.#live) return super.schib();
    const schib = new Uint8Array(SCHIB_SIZE);
    this.#device.ops.read?.(this.#device, this.#process.task, new DirectBuffer(schib), SCHIB_REGION);
    return schib;
  }

  override start(orb: Uint8Array): StartResult {
    if (!this.#live) return super.start(orb);
    const request = new Uint8Array(24);
    request.set(orb.subarray(0, 12));
    new DataView(request.buffer).setUint32(12, SCSW_FCTL_START);
    return startResult(this.#write(request, IO_REGION));
  }

  protected override command(command: number): number {
    if (!this.#live) return super.command(command);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, command, true);
    return this.#write(bytes, COMMAND_REGION);
  }

  protected override readIrb(irb: Uint8Array): boolean {
    irb.set(this.#device.ioRegion.subarray(24, 24 + IRB_SIZE));
    return true;
  }

  /** Not being migrated: then the plain path's gate decides. */
  get #live(): boolean {
    return this.#device.migration === null || this.#device.migration.state === VFIO_DEVICE_STATE_RUNNING;
  }

  #write(bytes: Uint8Array, offset: bigint): number {
    return this.#device.ops.write?.(this.#device, this.#process.task, new DirectBuffer(bytes), offset) ?? -ENODEV;
  }
}
