// The guest of a recording: only the pages that its program names, mapped where they lay - anywhere in 32 bits and above - and filled with what
// the recording shows of them.
import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import type { GuestImage, Recording } from '../devices/recording.ts';
import type { VfioProcess } from '../process.ts';
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE } from '../uapi/constants.ts';
import { VFIO_IOMMU_MAP_DMA } from '../uapi/ioctl.ts';
import { VfioIommuType1DmaMap } from '../uapi/structs.ts';
import { CHAIN_WINDOW } from './chains.ts';

/** More than any memory of ours has: making room for them fails, and counting on is of no use. */
const TOO_MANY_PAGES = 1 << 20;

/** Page numbers that the program names, ascending: storage shown, data areas, and what is read of each chain. */
export function guestPages(recording: Recording, image: GuestImage, chainStarts: readonly number[]): number[] {
  const pages = new Set<number>();
  const add = (iova: number, length: number) => {
    if (pages.size > TOO_MANY_PAGES) return;
    const last = Math.floor((iova + Math.max(length, 1) - 1) / PAGE_SIZE_4K);
    for (let page = Math.floor(iova / PAGE_SIZE_4K); page <= last; page++) pages.add(page);
  };
  for (const { iova, bytes } of image.ranges) add(iova, bytes.length);
  for (const area of recording.data) if (area.outside_memory !== true) add(Number(area.iova), area.len);
  for (const start of chainStarts) add(start, CHAIN_WINDOW);
  return [...pages].sort((a, b) => a - b);
}

export class ReplayGuest {
  readonly #process: VfioProcess;
  readonly #address: bigint;
  readonly #size: number;
  /** Index in our memory by page number. */
  readonly #index = new Map<number, number>();

  /** Allocates the pages and maps every run of them into the container. @throws VfioError as mmap and MAP_DMA do. */
  constructor(process: VfioProcess, container: number, image: GuestImage, pages: readonly number[]) {
    this.#process = process;
    this.#size = pages.length * PAGE_SIZE_4K;
    this.#address = process.mmap(this.#size);
    pages.forEach((page, index) => {
      this.#index.set(page, index);
    });
    try {
      this.#map(container, pages);
    } catch (error) {
      this.destroy();
      throw error;
    }
    for (const { iova, bytes } of image.ranges)
      this.#copy(iova, bytes.length, (memory, at, done) => memory.set(bytes.subarray(done, done + at.size), at.offset));
  }

  #map(container: number, pages: readonly number[]): void {
    for (let first = 0; first < pages.length; ) {
      let end = first + 1;
      while (end < pages.length && pages[end] === pages[end - 1]! + 1) end++;
      const map = new VfioIommuType1DmaMap();
      map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
      map.vaddr = this.#address + BigInt(first * PAGE_SIZE_4K);
      map.iova = BigInt(pages[first]!) * BigInt(PAGE_SIZE_4K);
      map.size = BigInt((end - first) * PAGE_SIZE_4K);
      this.#process.ioctl(container, VFIO_IOMMU_MAP_DMA, map);
      first = end;
    }
  }

  /** Reads guest storage; zeros where nothing is mapped. */
  read(iova: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#copy(iova, length, (memory, { offset, size }, done) =>
      bytes.set(memory.subarray(offset, offset + size), done),
    );
    return bytes;
  }

  /** Address in the process of a byte of guest storage, or null where nothing is mapped. */
  vaddr(iova: number): bigint | null {
    const index = this.#index.get(Math.floor(iova / PAGE_SIZE_4K));
    return index === undefined ? null : this.#address + BigInt(index * PAGE_SIZE_4K + (iova % PAGE_SIZE_4K));
  }

  /** Gives the memory back; the container must have forgotten it. */
  destroy(): void {
    this.#process.munmap(this.#address, this.#size);
  }

  #copy(
    iova: number,
    length: number,
    piece: (memory: Uint8Array, at: { offset: number; size: number }, done: number) => void,
  ): void {
    const memory = this.#process.view(this.#address, this.#size);
    for (let done = 0; done < length; ) {
      const inPage = (iova + done) % PAGE_SIZE_4K;
      const size = Math.min(length - done, PAGE_SIZE_4K - inPage);
      const index = this.#index.get(Math.floor((iova + done) / PAGE_SIZE_4K));
      if (index !== undefined) piece(memory, { offset: index * PAGE_SIZE_4K + inPage, size }, done);
      done += size;
    }
  }
}
