// Message-signalled interrupts of a function: MSI and MSI-X as the PCI specification lays them out, on the hardware's side. A message is an
// address and a value that the host programmed; where it ends up is the host's business.
//
//   MSI     control u16@2, address u32@4 (u64 with bit 7 of control), data u16@8/12, mask u32@12/16, pending u32@16/20 (with bit 8)
//   MSI-X   control u16@2 (table size - 1, function mask 14, enable 15), table@4, pending@8 (BAR in the low 3 bits)
//   entry   address u64@0, data u32@8, vector control u32@12 (bit 0: masked)
import { PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, type PciConfigSpace } from './pci_config.ts';

export const PCI_MSI_FLAGS = 2;
export const PCI_MSI_FLAGS_ENABLE = 0x1;
export const PCI_MSI_FLAGS_QMASK = 0xe;
export const PCI_MSI_FLAGS_QSIZE = 0x70;
export const PCI_MSI_FLAGS_64BIT = 0x80;
export const PCI_MSI_FLAGS_MASKBIT = 0x100;
export const PCI_MSIX_FLAGS = 2;
export const PCI_MSIX_FLAGS_QSIZE = 0x7ff;
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_MSIX_TABLE = 4;
export const PCI_MSIX_PBA = 8;
export const PCI_MSIX_ENTRY_SIZE = 16;
const ENTRY_DATA = 8;
const ENTRY_CONTROL = 12;

/** Where a message goes. */
export type MessageSink = (address: bigint, data: number) => void;

/** The MSI capability of a function. */
export interface MsiOptions {
  /** 1, 2, 4, ... 32. Default 1. */
  readonly vectors?: number;
  /** 64-bit addresses. Default true. */
  readonly wide?: boolean;
  /** A mask bit per vector. Default false. */
  readonly maskable?: boolean;
}

/** MSI of a function; also where its capability is. */
export class Msi {
  readonly offset: number;
  readonly #config: PciConfigSpace;
  readonly #send: MessageSink;

  constructor(config: PciConfigSpace, options: MsiOptions, send: MessageSink) {
    const { vectors = 1, wide = true, maskable = false } = options;
    this.#config = config;
    this.#send = send;
    this.offset = config.addCapability(PCI_CAP_ID_MSI, 10 + (wide ? 4 : 0) + (maskable ? 10 : 0));
    const log2 = Math.log2(vectors);
    if (!Number.isInteger(log2) || log2 > 5) throw new RangeError(`${vectors} MSI vectors: 1, 2, 4, 8, 16 or 32`);
    const flags = (log2 << 1) | (wide ? PCI_MSI_FLAGS_64BIT : 0) | (maskable ? PCI_MSI_FLAGS_MASKBIT : 0);
    config.set(this.offset + PCI_MSI_FLAGS, 2, flags);
    config.allowWrites(this.offset + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
    config.allowWrites(this.offset + 4, 4, 0xfffffffc);
    if (wide) config.allowWrites(this.offset + 8, 4, 0xffffffff);
    config.allowWrites(this.#dataOffset, 2, 0xffff);
    if (maskable) config.allowWrites(this.#maskOffset, 4, 2 ** vectors - 1);
  }

  get enabled(): boolean {
    return (this.#flags & PCI_MSI_FLAGS_ENABLE) !== 0;
  }
  get #flags(): number {
    return this.#config.read(this.offset + PCI_MSI_FLAGS, 2);
  }
  get #dataOffset(): number {
    return this.offset + ((this.#flags & PCI_MSI_FLAGS_64BIT) !== 0 ? 12 : 8);
  }
  get #maskOffset(): number {
    return this.#dataOffset + 4;
  }

  /** Programs address and data as the host does. The low bits of data belong to the vector number. */
  program(address: bigint, data: number): void {
    const wide = (this.#flags & PCI_MSI_FLAGS_64BIT) !== 0;
    this.#config.write(this.offset + 4, 4, Number(address & 0xffffffffn));
    if (wide) this.#config.write(this.offset + 8, 4, Number(address >> 32n));
    this.#config.write(this.#dataOffset, 2, data);
  }

  /** Sends vector `n`, or notes it as pending while its mask bit is set. Vectors beyond those enabled share the last ones. */
  signal(n: number): void {
    const config = this.#config;
    const enabled = 1 << ((this.#flags & PCI_MSI_FLAGS_QSIZE) >> 4);
    const vector = n & (enabled - 1);
    if ((this.#flags & PCI_MSI_FLAGS_MASKBIT) !== 0 && (config.read(this.#maskOffset, 4) >>> vector) & 1) {
      config.set(this.#maskOffset + 4, 4, config.read(this.#maskOffset + 4, 4) | (1 << vector));
      return;
    }
    const low = BigInt(config.read(this.offset + 4, 4));
    const high = (this.#flags & PCI_MSI_FLAGS_64BIT) !== 0 ? BigInt(config.read(this.offset + 8, 4)) : 0n;
    this.#send((high << 32n) | low, (config.read(this.#dataOffset, 2) & ~(enabled - 1)) | vector);
  }

  /** Called after configuration writes: what was pending and is unmasked now goes out. */
  flush(): void {
    if (!this.enabled || (this.#flags & PCI_MSI_FLAGS_MASKBIT) === 0) return;
    const pendingAt = this.#maskOffset + 4;
    const ready = this.#config.read(pendingAt, 4) & ~this.#config.read(this.#maskOffset, 4);
    if (ready === 0) return;
    this.#config.set(pendingAt, 4, this.#config.read(pendingAt, 4) & ~ready);
    for (let n = 0; n < 32; n++) if ((ready >>> n) & 1) this.signal(n);
  }
}

/** The MSI-X capability of a function. */
export interface MsixOptions {
  /** BAR with the table and the pending bits. */
  readonly bar: number;
  /** 1 to 2048. */
  readonly vectors: number;
  /** Offset of the table in the BAR, a multiple of 8. Default 0. */
  readonly table?: number;
  /** Offset of the pending bits, a multiple of 8. Default the next page behind the table. */
  readonly pending?: number;
}

/** MSI-X of a function: its table, its pending bits, and where its capability is. */
export class Msix {
  readonly offset: number;
  readonly bar: number;
  readonly vectors: number;
  readonly tableOffset: number;
  readonly pendingOffset: number;
  /** 16 bytes an entry; every vector starts masked. */
  readonly table: Uint8Array;
  readonly pending: Uint8Array;
  readonly #tableView: DataView;
  readonly #config: PciConfigSpace;
  readonly #send: MessageSink;

  constructor(config: PciConfigSpace, options: MsixOptions, send: MessageSink) {
    const { bar, vectors, table = 0 } = options;
    if (vectors < 1 || vectors > 2048) throw new RangeError(`${vectors} MSI-X vectors: 1 to 2048`);
    this.bar = bar;
    this.vectors = vectors;
    this.tableOffset = table;
    this.pendingOffset = options.pending ?? (table + vectors * PCI_MSIX_ENTRY_SIZE + 0xfff) & ~0xfff;
    this.table = new Uint8Array(vectors * PCI_MSIX_ENTRY_SIZE);
    this.pending = new Uint8Array(Math.ceil(vectors / 64) * 8);
    this.#tableView = new DataView(this.table.buffer);
    this.#config = config;
    this.#send = send;
    this.offset = config.addCapability(PCI_CAP_ID_MSIX, 12);
    config.set(this.offset + PCI_MSIX_FLAGS, 2, vectors - 1);
    config.allowWrites(this.offset + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    config.set(this.offset + PCI_MSIX_TABLE, 4, this.tableOffset | bar);
    config.set(this.offset + PCI_MSIX_PBA, 4, this.pendingOffset | bar);
    this.reset();
  }

  get enabled(): boolean {
    return (this.#flags & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }
  get #flags(): number {
    return this.#config.read(this.offset + PCI_MSIX_FLAGS, 2);
  }

  /** Sends vector `n`, or notes it as pending while it or the function is masked. Vectors outside the table are ignored. */
  signal(n: number): void {
    if (n < 0 || n >= this.vectors) return;
    const at = n * PCI_MSIX_ENTRY_SIZE;
    if ((this.#flags & PCI_MSIX_FLAGS_MASKALL) !== 0 || (this.#tableView.getUint32(at + ENTRY_CONTROL, true) & 1) !== 0)
      this.pending[n >> 3] = this.pending[n >> 3]! | (1 << (n & 7));
    else this.#send(this.#tableView.getBigUint64(at, true), this.#tableView.getUint32(at + ENTRY_DATA, true));
  }

  /** Called after writes to the table or to control: what was pending and is unmasked now goes out. */
  flush(): void {
    if (!this.enabled) return;
    for (let i = 0; i < this.pending.length; i++) {
      const bits = this.pending[i]!;
      if (bits === 0) continue;
      this.pending[i] = 0;
      for (let bit = 0; bit < 8; bit++) if ((bits >> bit) & 1) this.signal(8 * i + bit);
    }
  }

  /** The storage that an access of the BAR reaches: the table, the pending bits, or neither. */
  storage(offset: number): { bytes: Uint8Array; at: number; writable: boolean } | null {
    const inTable = offset - this.tableOffset;
    if (inTable >= 0 && inTable < this.table.length) return { bytes: this.table, at: inTable, writable: true };
    const inPending = offset - this.pendingOffset;
    if (inPending >= 0 && inPending < this.pending.length)
      return { bytes: this.pending, at: inPending, writable: false };
    return null;
  }

  /** As at power-on: every vector masked, nothing pending. */
  reset(): void {
    this.table.fill(0);
    this.pending.fill(0);
    for (let n = 0; n < this.vectors; n++) this.#tableView.setUint32(n * PCI_MSIX_ENTRY_SIZE + ENTRY_CONTROL, 1, true);
  }
}
