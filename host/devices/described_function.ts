// A PCI function that is known by a description: its configuration space as bytes, its BARs as regions of storage or of registers. It does
// nothing of its own; recorded instruction sequences run against it (vectors/insn, machine.json).

import type { PciBarOptions } from './pci_bar.ts';
import { PCI_CAP_ID_MSIX, PCI_CAP_ID_VNDR, PCI_CAPABILITY_LIST } from './pci_config.ts';
import { PciDevice, type Width } from './pci_device.ts';

/** A region of a BAR. */
export interface DescribedRegion {
  readonly at: number;
  readonly length: number;
  /** Access sizes it takes. */
  readonly sizes: readonly number[];
  /** Content at power-on from its first byte; `fill` behind it. */
  readonly content: Uint8Array;
  readonly fill: number;
  /** Bytes from its first one that a store changes; the others ignore it. */
  readonly writable: number;
  /** Reads give what `recorded` says, where it says something. */
  readonly recorded?: boolean;
}

export interface DescribedBar {
  readonly size: number;
  readonly regions: readonly DescribedRegion[];
}

export interface DescribedFunctionOptions {
  readonly vendor: number;
  readonly device: number;
  /** 256 bytes; without it a bare header. */
  readonly config?: Uint8Array;
  readonly bars: Readonly<Record<number, DescribedBar>>;
}

const HEADER_BAR = 0x10;
const VIRTIO = 0x1af4;
const VIRTIO_CAP_WINDOW = 5;

function barOptions({ config, bars }: DescribedFunctionOptions): Record<number, PciBarOptions> {
  return Object.fromEntries(
    Object.entries(bars).map(([index, { size }]): [string, PciBarOptions] => {
      const type = config?.[HEADER_BAR + 4 * Number(index)] ?? 0;
      const kind = (type & 1) !== 0 ? 'io' : (type & 6) === 4 ? 'mem64' : 'mem32';
      return [index, { size, kind, prefetchable: (type & 9) === 8, address: 0 }];
    }),
  );
}

export class DescribedFunction extends PciDevice {
  /** What the next read of a recorded region gives, in storage order. */
  recorded: Uint8Array | null = null;
  readonly #bars: Readonly<Record<number, DescribedBar>>;
  readonly #memory = new Map<number, Uint8Array>();

  constructor(options: DescribedFunctionOptions) {
    super({
      vendor: options.vendor,
      device: options.device,
      classCode: 0,
      bars: barOptions(options),
      alwaysDecodes: true,
    });
    this.#bars = options.bars;
    const { config } = this;
    if (options.config !== undefined) config.bytes.set(options.config);
    else config.bytes.fill(0, 4, 8);
    this.#findCapabilities();
    config.markPowerOn();
    this.onReset();
  }

  protected override onReset(): void {
    for (const [index, { size, regions }] of Object.entries(this.#bars)) {
      const memory = new Uint8Array(size);
      for (const { at, length, content, fill } of regions) {
        memory.fill(fill, at, at + length);
        memory.set(content.subarray(0, length), at);
      }
      this.#memory.set(Number(index), memory);
    }
  }

  protected override read(bar: number, offset: number, width: Width): number {
    return Number(this.#load(bar, offset, width));
  }
  protected override read64(bar: number, offset: number): bigint {
    return this.#load(bar, offset, 8);
  }
  protected override write(bar: number, offset: number, width: Width, value: number): void {
    this.#store(bar, offset, width, BigInt(value));
  }
  protected override write64(bar: number, offset: number, value: bigint): void {
    this.#store(bar, offset, 8, value);
  }

  #region(bar: number, offset: number, width: number): DescribedRegion | undefined {
    return this.#bars[bar]?.regions.find(
      ({ at, length, sizes }) => offset >= at && offset + width <= at + length && sizes.includes(width),
    );
  }

  /** Little-endian, as a register access is; an access that no region takes reads ones. */
  #load(bar: number, offset: number, width: number): bigint {
    const region = this.#region(bar, offset, width);
    const { recorded } = this;
    const known = region?.recorded === true && recorded?.length === width ? recorded : null;
    const memory = this.#memory.get(bar);
    let value = 0n;
    for (let i = width - 1; i >= 0; i--) {
      const byte = region === undefined ? 0xff : (known?.[i] ?? memory?.[offset + i] ?? 0xff);
      value = (value << 8n) | BigInt(byte);
    }
    return value;
  }

  #store(bar: number, offset: number, width: number, value: bigint): void {
    const region = this.#region(bar, offset, width);
    const memory = this.#memory.get(bar);
    if (region === undefined || memory === undefined) return;
    for (let i = 0; i < width; i++)
      if (offset + i - region.at < region.writable) memory[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  /** The capabilities that the described bytes chain, so that a reset brings them back. */
  #findCapabilities(): void {
    const { config } = this;
    for (let at = (config.bytes[PCI_CAPABILITY_LIST] ?? 0) & ~3, hops = 0; at >= 0x40 && hops < 48; hops++) {
      const id = config.bytes[at] as number;
      const length = id === PCI_CAP_ID_VNDR ? (config.bytes[at + 2] as number) : id === PCI_CAP_ID_MSIX ? 12 : 4;
      config.capabilities.push({ id, extended: false, offset: at, length });
      // Virtio's window into the BARs: which one, where, how much, and the data.
      if (id === PCI_CAP_ID_VNDR && config.read(0, 2) === VIRTIO && config.bytes[at + 3] === VIRTIO_CAP_WINDOW) {
        config.allowWrites(at + 4, 1, 0xff);
        for (const field of [8, 12, 16]) config.allowWrites(at + field, 4, 0xffffffff);
      }
      at = (config.bytes[at + 1] as number) & ~3;
    }
  }
}
