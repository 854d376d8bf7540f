// The plain executor's side of a subchannel: START through the I/O region of vfio-ccw, HALT and CLEAR through its command region, status through
// its I/O interrupt (spec ccw sections 2 and 3). Reads and writes of the device's descriptor are all it does.

import { EACCES, EAGAIN, EBUSY, EIO, ENODEV } from '../../../assembly/abi.ts';
import { IRB_SIZE, SCHIB_SIZE, SCSW_FCTL_START } from '../../css/schib.ts';
import type { VfioProcess } from '../../process.ts';
import {
  VFIO_CCW_IO_IRQ_INDEX,
  VFIO_DEVICE_FLAGS_CCW,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
} from '../../uapi/constants.ts';
import { VFIO_DEVICE_SET_IRQS } from '../../uapi/ioctl.ts';
import { VfioIrqSet } from '../../uapi/structs.ts';
import { deviceInfoOf } from '../kind.ts';
import type { StartResult, SubchannelBackend } from './subchannel.ts';

const IO_REGION = 0n;
const IO_REGION_IRB = 24n;
const COMMAND_REGION = 0x400n;
const SCHIB_REGION = 0x800n;
const COMMAND_HALT = 1;
const COMMAND_CLEAR = 2;

/** Another request is on its way, or the device is held. */
const isBusy = (result: number): boolean => result === -EBUSY || result === -EAGAIN;
/** No path, no subchannel, or not open. */
const GONE: readonly number[] = [-EACCES, -ENODEV, -EIO];

/** What a write of the I/O region says about the start of a program (spec ccw section 9). @param result bytes written or -errno. */
export function startResult(result: number): StartResult {
  if (result >= 0) return 'started';
  if (isBusy(result)) return 'busy';
  // What is left: the program could not be copied or its pages not be pinned, which a channel reports as a program check.
  return GONE.includes(result) ? 'not-operational' : { programCheck: true };
}

export class VfioSubchannelBackend implements SubchannelBackend {
  onInterrupt: (irb: Uint8Array) => void = () => {};
  readonly #process: VfioProcess;
  readonly #device: number;
  readonly #eventfd: number;

  /** @throws VfioError when the descriptor is no vfio-ccw device. */
  constructor(process: VfioProcess, device: number) {
    deviceInfoOf(process, device, VFIO_DEVICE_FLAGS_CCW);
    this.#process = process;
    this.#device = device;
    this.#eventfd = process.eventfd();
    const set = new VfioIrqSet(
      {
        argsz: 24,
        flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        index: VFIO_CCW_IO_IRQ_INDEX,
        start: 0,
        count: 1,
      },
      4,
    );
    set.view.setInt32(20, this.#eventfd, true);
    process.ioctl(device, VFIO_DEVICE_SET_IRQS, set);
    process.eventfdOf(this.#eventfd).onSignal(() => {
      const irb = new Uint8Array(IRB_SIZE);
      if (this.readIrb(irb)) this.onInterrupt(irb);
    });
  }

  schib(): Uint8Array {
    const schib = new Uint8Array(SCHIB_SIZE);
    this.#process.readRaw(this.#device, schib, SCHIB_REGION);
    return schib;
  }

  start(orb: Uint8Array): StartResult {
    const request = new Uint8Array(24);
    request.set(orb.subarray(0, 12));
    new DataView(request.buffer).setUint32(12, SCSW_FCTL_START);
    const result = this.#process.writeRaw(this.#device, request, IO_REGION);
    return startResult(result);
  }

  halt(): 'done' | 'busy' | 'not-operational' {
    const result = this.command(COMMAND_HALT);
    return isBusy(result) ? 'busy' : result < 0 ? 'not-operational' : 'done';
  }

  clear(): 'done' | 'not-operational' {
    return this.command(COMMAND_CLEAR) < 0 ? 'not-operational' : 'done';
  }

  close(): void {
    this.onInterrupt = () => {};
    this.#process.closeRaw(this.#device);
    this.#process.closeRaw(this.#eventfd);
  }

  /** The last IRB of the I/O region, 64 bytes. */
  protected readIrb(irb: Uint8Array): boolean {
    return this.#process.readRaw(this.#device, irb, IO_REGION_IRB) === IRB_SIZE;
  }

  /** Halts or clears. @returns bytes written or -errno. */
  protected command(command: number): number {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, command, true);
    return this.#process.writeRaw(this.#device, bytes, COMMAND_REGION);
  }
}
