// A zPCI function of the accelerated executor: loads and stores go to the hardware, a block by the plan of the core; everything that is not on the
// fast path - configuration, mappings, interrupts, reset - stays with the plain executor.

import type { Width } from '../../devices/pci_device.ts';
import { PFT_ISM, ZpciDevice } from '../../devices/zpci_hardware.ts';
import type { VfioPciDevice } from '../../drivers/pci/device.ts';
import type { VfioProcess } from '../../process.ts';
import { planStore, type StoreRules } from '../../zpci.ts';
import type { GuestStorage } from '../storage.ts';
import { VfioFunctionBackend, type VfioFunctionOptions } from '../zpci/vfio_backend.ts';

export class AcceleratedFunctionBackend extends VfioFunctionBackend {
  readonly #device: VfioPciDevice;
  readonly #rules: StoreRules;
  /** Blocks are one operation for the function. */
  readonly #whole: boolean;

  /** @param device the linked device that the descriptor of `options` stands for. */
  constructor(process: VfioProcess, storage: GuestStorage, options: VfioFunctionOptions, device: VfioPciDevice) {
    super(process, storage, options);
    this.#device = device;
    const identity = device.hw instanceof ZpciDevice ? device.hw.identity : null;
    this.#whole = identity?.pft === PFT_ISM;
    this.#rules = { maxBlock: identity?.maxStoreBlock ?? 128, relaxed: identity?.relaxed ?? false };
  }

  /** A device that is being migrated answers through its gate, which the plain path passes. */
  get #direct(): boolean {
    return this.#device.gate === null && this.#device.memoryEnabled;
  }

  protected override loadBar(bar: number, offset: bigint, size: number): Uint8Array | null {
    if (!this.#direct) return super.loadBar(bar, offset, size);
    const bytes = new Uint8Array(size);
    this.#device.hw.load(bar, Number(offset), size as Width | 8, bytes, 0);
    return bytes;
  }

  protected override storeBar(bar: number, offset: bigint, bytes: Uint8Array): boolean {
    if (!this.#direct) return super.storeBar(bar, offset, bytes);
    this.#device.hw.store(bar, Number(offset), bytes.length as Width | 8, bytes, 0);
    return true;
  }

  protected override storeWhole(bar: number, offset: bigint, gaddr: bigint, bytes: Uint8Array): boolean {
    const { hw, vfio } = this.#device;
    if (!this.#direct) return super.storeWhole(bar, offset, gaddr, bytes);
    if (this.#whole) return (hw as ZpciDevice).storeBlock(bar, Number(offset), bytes);
    const pieces = planStore(vfio.core, Number(offset), Number(gaddr & 7n), bytes.length, this.#rules);
    for (const { at, length } of pieces)
      for (let done = 0; done < length; done += 8) {
        const width = Math.min(8, length - done) as Width | 8;
        hw.store(bar, Number(offset) + at + done, width, bytes, at + done);
      }
    return true;
  }
}
