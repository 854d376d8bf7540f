// What a zPCI function needs from its device. Two executors fill it: the plain one through VFIO calls on the device's descriptor
// (vfio_backend.ts), the accelerated one directly (accelerated.ts); an instruction cannot tell which one serves it.

/** A piece of a BAR that takes accesses: naturally aligned, of these sizes, inside it. */
export interface BarRegion {
  /** First byte. */
  readonly at: number;
  /** Bytes. */
  readonly length: number;
  /** Access sizes, of 1, 2, 4 and 8. */
  readonly sizes: readonly number[];
}

export interface FunctionBackend {
  /** Bytes of the BAR; 0n when there is none. */
  barSize(bar: number): bigint;
  /** Would the BAR take a naturally aligned access of this size? Asked for every piece before the first one moves. */
  accepts(bar: number, offset: bigint, size: number): boolean;
  /** One access of 1, 2, 4 or 8 bytes; bytes in storage order, or null when the device refuses. */
  readBar(bar: number, offset: bigint, size: number): Uint8Array | null;
  writeBar(bar: number, offset: bigint, bytes: Uint8Array): boolean;
  /** A whole block as one PCISTB. `gaddr` is its absolute address in storage. False when the device refuses. */
  storeBlock(bar: number, offset: bigint, gaddr: bigint, bytes: Uint8Array): boolean;
  /** 1, 2 or 4 bytes inside a word of config space; ones beyond its end. */
  readConfig(offset: number, size: number): Uint8Array;
  writeConfig(offset: number, bytes: Uint8Array): void;
  /** Maps one 4 KiB page of storage for DMA. @returns 0 or -errno. */
  map(iova: bigint, absolute: bigint, write: boolean): number;
  /** Unmaps whole pages: [iova, iova + size), a power of two, naturally aligned. */
  unmap(iova: bigint, size: bigint): void;
  /** Mappings that the device's address space still takes (DMA_AVAIL), now. */
  available(): number;
  /** Connects `count` interrupts; the callback gets the number of the message. @returns false when the device has none to give. */
  enableInterrupts(count: number, raised: (vector: number) => void): boolean;
  disableInterrupts(): void;
  /** Function reset, when the device has one. */
  reset(): void;
  /** Lets the descriptors and mappings go. */
  close(): void;
}
