// A PCI function, from the hardware's side: configuration space, BARs, ROM, interrupts, DMA, reset. A model extends PciDevice and says what
// its registers do; everything that the PCI specification fixes is here. Drivers see the second half of the class, models the first.
import { type Clock, systemClock } from '../clock.ts';
import { type DeviceMemory, DmaPort } from './dma.ts';
import { checkBars, checkMsix, type PciBarOptions } from './pci_bar.ts';
import {
  PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_VPD,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_SIZE,
  PCI_INTERRUPT_LINE,
  PCI_ROM_ADDRESS,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
  PciConfigSpace,
  type PciIdentity,
} from './pci_config.ts';
import { addExpress, addPowerManagement, EXP_DEVCTL, EXP_DEVCTL_FLR } from './pci_express.ts';
import { Msi, type MsiOptions, Msix, type MsixOptions } from './pci_msi.ts';

/** Width of one register access in bytes. */
export type Width = 1 | 2 | 4;

/** What a function is made of: who it is, its BARs, its capabilities. Everything but the identity has a default of "none". */
export interface PciDeviceOptions extends PciIdentity {
  readonly bars?: Readonly<Record<number, PciBarOptions>>;
  readonly rom?: Uint8Array;
  /** Vital product data behind the capability of that name. */
  readonly vpd?: Uint8Array;
  readonly msi?: MsiOptions;
  readonly msix?: MsixOptions;
  readonly powerManagement?: boolean;
  /** A PCI Express endpoint; `flr`: it can reset itself. */
  readonly express?: { readonly flr?: boolean };
  /** The function decodes the VGA ranges; the model sees them as BAR 8, by absolute address. */
  readonly vga?: boolean;
  /** What firmware left in the interrupt line register. */
  readonly interruptLine?: number;
  /** Memory BARs answer whatever the command register says: zPCI functions, where enabling is not done by configuration writes. */
  readonly alwaysDecodes?: boolean;
}

/** A BAR as it was built. */
export interface PciBar {
  readonly index: number;
  readonly size: number;
  readonly kind: 'mem32' | 'mem64' | 'io';
  readonly prefetchable: boolean;
  /** Storage of a memory BAR. */
  readonly memory: Uint8Array | null;
}

/** What a function is plugged into: where its interrupts and its DMA go. */
export interface PciHost {
  /** The INTx line changed its level. */
  intx(level: boolean): void;
  /** A message-signalled interrupt. */
  message(address: bigint, data: number): void;
  /** An interrupt while messages are off: it goes to the line, and may be meant for a vector that is not set up yet. */
  unrouted?(vector: number): void;
  /** Memory that the function's DMA reaches; null: none. */
  readonly memory: DeviceMemory | null;
}

/** Number under which a model sees the VGA ranges. */
const VGA = 8;
const VGA_RANGE: PciBar = { index: VGA, size: 0xc0000, kind: 'mem32', prefetchable: false, memory: null };
/** The address of vital product data has 15 bits. */
const MAX_VPD = 0x8000;
const FIRST_FREE_ADDRESS = 0xe0000000;

/**
 * A PCI function. A model extends it and overrides `read`, `write` and `onReset`; it raises interrupts with `interrupt` and moves data with `dma`
 * (docs/how-to/write-a-device.md).
 */
export abstract class PciDevice {
  readonly config: PciConfigSpace;
  /** By BAR index; the upper half of a 64-bit BAR is null. */
  readonly bars: ReadonlyArray<PciBar | null>;
  readonly alwaysDecodes: boolean;
  readonly rom: Uint8Array | null;
  /** Vital product data, a multiple of 4 bytes; null without. */
  readonly vpd: Uint8Array | null;
  /** It decodes the VGA ranges. */
  readonly vga: boolean;
  readonly msi: Msi | null;
  readonly msix: Msix | null;
  /** Transfers from and to memory, by I/O virtual address. Needs the bus master bit; without it reads give zeros and writes are dropped. */
  readonly dma: DmaPort;
  /** Time; the machine's own once plugged in. */
  clock: Clock = systemClock;
  host: PciHost | null = null;
  /** A virtual function decodes memory whatever its command register says. */
  virtual = false;
  #intxWanted = false;
  #line = false;

  constructor(options: PciDeviceOptions) {
    const size = options.size ?? (options.express === undefined ? 256 : PCI_CFG_SPACE_EXP_SIZE);
    const wired = options.msi === undefined && options.msix === undefined ? 1 : 0;
    this.config = new PciConfigSpace({ ...options, size, interruptPin: options.interruptPin ?? wired });
    const send = (address: bigint, data: number) => {
      if (this.busMaster) this.host?.message(address, data);
    };
    if (options.powerManagement === true) addPowerManagement(this.config);
    this.msi = options.msi === undefined ? null : new Msi(this.config, options.msi, send);
    this.msix = options.msix === undefined ? null : new Msix(this.config, options.msix, send);
    if (options.express !== undefined) addExpress(this.config, options.express.flr ?? false);
    this.alwaysDecodes = options.alwaysDecodes ?? false;
    this.rom = options.rom ?? null;
    this.vpd = options.vpd ?? null;
    this.vga = options.vga ?? false;
    if (this.vpd !== null && (this.vpd.length % 4 !== 0 || this.vpd.length > MAX_VPD))
      throw new RangeError(`vital product data of ${this.vpd.length} bytes: a multiple of 4, at most ${MAX_VPD}`);
    if (this.vpd !== null) this.config.addCapability(PCI_CAP_ID_VPD, 8);
    this.bars = this.#makeBars(options.bars ?? {});
    this.dma = new DmaPort(() => (this.busMaster ? (this.host?.memory ?? null) : null));
    this.config.markPowerOn();
    this.#assignAddresses(options);
  }

  // ---- what a model says ----

  /** Reads a register: `offset` bytes into the BAR, a multiple of nothing in particular. Unsigned result. Default: all ones. */
  protected read(_bar: number, _offset: number, width: Width): number {
    return width === 4 ? 0xffffffff : width === 2 ? 0xffff : 0xff;
  }
  /** Writes a register; `value` is unsigned. Default: dropped. */
  protected write(_bar: number, _offset: number, _width: Width, _value: number): void {}
  /** An 8-byte read. Default: two of 4 bytes, the low one first. */
  protected read64(bar: number, offset: number): bigint {
    const low = BigInt(this.read(bar, offset, 4) >>> 0);
    return (BigInt(this.read(bar, offset + 4, 4) >>> 0) << 32n) | low;
  }
  /** An 8-byte write. Default: two of 4 bytes, the low one first. */
  protected write64(bar: number, offset: number, value: bigint): void {
    this.write(bar, offset, 4, Number(value & 0xffffffffn));
    this.write(bar, offset + 4, 4, Number(value >> 32n));
  }
  /** Bus, slot or function reset: registers to their power-on values. Default: nothing. */
  protected onReset(): void {}

  /** True while MSI or MSI-X is enabled: then interrupts are messages. */
  get messagesEnabled(): boolean {
    return this.msix?.enabled === true || this.msi?.enabled === true;
  }

  /**
   * Raises an interrupt: the vector's message with MSI-X or MSI enabled (lost while the bus master bit is off, pending while masked),
   * otherwise the INTx line, which stays high until `lowerIntx`.
   */
  interrupt(vector = 0): void {
    if (this.msix?.enabled === true) this.msix.signal(vector);
    else if (this.msi?.enabled === true) this.msi.signal(vector);
    else {
      this.host?.unrouted?.(vector);
      this.raiseIntx();
    }
  }
  /** The level-triggered line. It is not driven while messages are enabled. */
  raiseIntx(): void {
    if (this.config.bytes[0x3d] === 0 || this.messagesEnabled) return;
    this.#intxWanted = true;
    this.#updateLine();
  }
  /** Takes the line back. */
  lowerIntx(): void {
    this.#intxWanted = false;
    this.#updateLine();
  }

  // ---- what the bus and a driver do ----

  get busMaster(): boolean {
    return (this.config.bytes[PCI_COMMAND]! & PCI_COMMAND_MASTER) !== 0;
  }
  /** The function asks for its line, whether or not INTx disable holds it back (status bit 3). */
  get intxPending(): boolean {
    return this.#intxWanted;
  }

  /** A configuration read of the hardware: unsigned, little-endian. */
  configRead(offset: number, width: Width): number {
    return this.config.read(offset, width);
  }

  /** A configuration write of the hardware: changes writable bits, and does what they do (line, pending messages, function-level reset). */
  configWrite(offset: number, width: Width, value: number): void {
    const { config } = this;
    if (offset < PCI_HEADER_SIZE) {
      config.write(offset, width, value);
      if (offset < PCI_COMMAND + 2) this.#updateLine();
      return;
    }
    const before = this.messagesEnabled;
    config.write(offset, width, value);
    this.msi?.flush();
    this.msix?.flush();
    if (!before && this.messagesEnabled) this.#intxWanted = false;
    this.#updateLine();
    const express = config.find(0x10);
    if (express !== 0 && offset <= express + EXP_DEVCTL + 1 && express + EXP_DEVCTL < offset + width) {
      const control = config.read(express + EXP_DEVCTL, 2);
      if ((control & EXP_DEVCTL_FLR) !== 0) this.reset();
    }
  }

  /** One read access of 1, 2, 4 or 8 bytes into `into` at `at`, bytes in device order. All ones while the BAR's decoding is off. */
  load(bar: number, offset: number, width: Width | 8, into: Uint8Array, at: number): void {
    const resource = bar === VGA ? this.#vgaRange : (this.bars[bar] ?? null);
    if (resource === null || !this.#decodes(resource)) {
      into.fill(0xff, at, at + width);
      return;
    }
    const table = this.msix?.bar === bar ? this.msix.storage(offset) : null;
    const bytes = table?.bytes ?? resource.memory;
    const start = table?.at ?? offset;
    if (bytes !== null) for (let i = 0; i < width; i++) into[at + i] = bytes[start + i] ?? 0;
    else if (width === 8) {
      const value = this.read64(bar, offset);
      for (let i = 0; i < 8; i++) into[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    } else {
      const value = this.read(bar, offset, width);
      for (let i = 0; i < width; i++) into[at + i] = value >>> (8 * i);
    }
  }

  /** Storage without side effects from `offset` on, at most `count` bytes, to be read and written as one piece; null: registers. */
  storage(bar: number, offset: number, count: number): Uint8Array | null {
    const resource = this.bars[bar] ?? null;
    if (resource === null || resource.memory === null || !this.#decodes(resource)) return null;
    let end = Math.min(offset + count, resource.size);
    if (this.msix?.bar === bar)
      for (const start of [this.msix.tableOffset, this.msix.pendingOffset])
        if (start > offset) end = Math.min(end, start);
    return this.msix?.bar === bar && this.msix.storage(offset) !== null ? null : resource.memory.subarray(offset, end);
  }

  /** One write access of 1, 2, 4 or 8 bytes from `from` at `at`. Dropped while the BAR's decoding is off. */
  store(bar: number, offset: number, width: Width | 8, from: Uint8Array, at: number): void {
    const resource = bar === VGA ? this.#vgaRange : (this.bars[bar] ?? null);
    if (resource === null || !this.#decodes(resource)) return;
    const table = this.msix?.bar === bar ? this.msix.storage(offset) : null;
    if (table !== null) {
      if (!table.writable) return;
      for (let i = 0; i < width && table.at + i < table.bytes.length; i++) table.bytes[table.at + i] = from[at + i]!;
      this.msix?.flush();
    } else if (resource.memory !== null) for (let i = 0; i < width; i++) resource.memory[offset + i] = from[at + i]!;
    else if (width === 8) {
      let value = 0n;
      for (let i = 7; i >= 0; i--) value = (value << 8n) | BigInt(from[at + i]!);
      this.write64(bar, offset, value);
    } else {
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + from[at + i]!;
      this.write(bar, offset, width, value);
    }
  }

  /** Reset of the function: header and capabilities as at power-on, the line low, then the model's own. */
  reset(): void {
    this.config.reset();
    this.msix?.reset();
    this.lowerIntx();
    this.onReset();
  }

  get #vgaRange(): PciBar | null {
    return this.vga ? VGA_RANGE : null;
  }

  #decodes(bar: PciBar): boolean {
    if (this.alwaysDecodes && bar.kind !== 'io') return true;
    if (bar.index === VGA || (this.virtual && bar.kind !== 'io')) return true;
    const bit = bar.kind === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    return (this.config.bytes[PCI_COMMAND]! & bit) !== 0;
  }

  #updateLine(): void {
    const { bytes } = this.config;
    const status = bytes[PCI_STATUS]!;
    bytes[PCI_STATUS] = this.#intxWanted ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT;
    const line = this.#intxWanted && (this.config.read(PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) === 0;
    if (line === this.#line) return;
    this.#line = line;
    this.host?.intx(line);
  }

  #makeBars(options: Readonly<Record<number, PciBarOptions>>): Array<PciBar | null> {
    checkBars(options);
    if (this.msix !== null) checkMsix(this.msix, options);
    const bars: Array<PciBar | null> = [null, null, null, null, null, null];
    for (const [key, bar] of Object.entries(options)) {
      const index = Number(key);
      const kind = bar.kind ?? 'mem32';
      bars[index] = {
        index,
        size: bar.size,
        kind,
        prefetchable: bar.prefetchable ?? false,
        memory: bar.memory === true ? new Uint8Array(bar.size) : null,
      };
      const type = kind === 'io' ? 1 : (kind === 'mem64' ? 4 : 0) | (bar.prefetchable === true ? 8 : 0);
      const at = PCI_BASE_ADDRESS_0 + 4 * index;
      this.config.set(at, 4, type);
      this.config.allowWrites(at, 4, Number(BigInt.asUintN(32, BigInt(-bar.size))));
      if (kind === 'mem64') this.config.allowWrites(at + 4, 4, Number(BigInt(-bar.size) >> 32n) >>> 0);
    }
    if (this.rom !== null) this.config.allowWrites(PCI_ROM_ADDRESS, 4, (-romSize(this.rom) | 1) >>> 0);
    return bars;
  }

  /** What firmware does: places for the BARs, memory and I/O decoding on. */
  #assignAddresses(options: PciDeviceOptions): void {
    let free = FIRST_FREE_ADDRESS;
    const place = (size: number) => {
      const address = Math.ceil(free / size) * size;
      free = address + size;
      return address;
    };
    let decode = 0x100;
    for (const bar of this.bars) {
      if (bar === null) continue;
      const address = options.bars?.[bar.index]?.address ?? place(bar.size);
      const at = PCI_BASE_ADDRESS_0 + 4 * bar.index;
      this.config.write(at, 4, Number(BigInt.asUintN(32, BigInt(address))));
      if (bar.kind === 'mem64') this.config.write(at + 4, 4, Number(BigInt(address) >> 32n));
      decode |= bar.kind === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    }
    if (this.rom !== null) this.config.write(PCI_ROM_ADDRESS, 4, place(romSize(this.rom)));
    this.config.write(PCI_COMMAND, 2, decode);
    this.config.write(PCI_INTERRUPT_LINE, 1, options.interruptLine ?? 0);
  }
}

/** Size of the ROM BAR: the image rounded up to a power of two, at least 2 KiB. */
export const romSize = (rom: Uint8Array): number => Math.max(2048, 2 ** Math.ceil(Math.log2(rom.length)));
