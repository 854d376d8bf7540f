// The guest's absolute storage: one run of anonymous memory of the process that plays the VMM. What lies outside is an addressing exception.
import type { VfioProcess } from '../process.ts';
import { PGM_ADDRESSING, ProgramCheck } from './cpu.ts';

/** Absolute storage of a virtual machine. It is memory of the process that plays the VMM. */
export class GuestStorage {
  readonly #process: VfioProcess;
  /** Virtual address of absolute address 0 in the process; a map of storage uses `vaddr + absolute`. */
  readonly vaddr: bigint;
  /** Bytes. */
  readonly size: bigint;

  /** @param size bytes, a multiple of 4096. @throws VfioError ENOMEM when the process has no room. @internal */
  constructor(process: VfioProcess, size: number) {
    this.#process = process;
    this.size = BigInt(size);
    this.vaddr = process.mmap(size);
  }

  /** Gives the memory back. @internal */
  destroy(): void {
    this.#process.munmap(this.vaddr, this.size);
  }

  /** Do all bytes of [address, address + length) exist? The sum must not wrap. */
  has(address: bigint, length: number): boolean {
    return address <= this.size && BigInt(length) <= this.size - address;
  }

  /** A live view, or null outside storage. */
  view(address: bigint, length: number): Uint8Array | null {
    return this.has(address, length) ? this.#process.view(this.vaddr + address, length) : null;
  }

  /** A private copy. @throws ProgramCheck addressing. */
  fetch(address: bigint, length: number): Uint8Array {
    return this.#need(address, length).slice();
  }

  /** Stores all bytes or none. @throws ProgramCheck addressing. */
  store(address: bigint, bytes: Uint8Array): void {
    this.#need(address, bytes.length).set(bytes);
  }

  /** Checks that an operand can be stored. @throws ProgramCheck addressing. */
  check(address: bigint, length: number): void {
    this.#need(address, length);
  }

  #need(address: bigint, length: number): Uint8Array {
    const view = this.view(address, length);
    if (view === null) throw new ProgramCheck(PGM_ADDRESSING, `0x${address.toString(16)} is outside storage`);
    return view;
  }
}
