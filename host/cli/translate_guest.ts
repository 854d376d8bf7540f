// The guest of a translator vector: each listed page gets a real page with the vector's bytes and errors, and real frames are turned back
// into the vector's numbers page by page.

import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { GuestPages } from '../ccw/guest_pages.ts';
import type { Core } from '../core.ts';
import { fromHex } from '../hex.ts';
import { type GuestInput, hex } from './translate_format.ts';

/** A result that only a bug of ours can give, such as a page that stays pinned. */
export class TranslatorBug extends Error {
  override readonly name = 'TranslatorBug';
}

const PAGE = BigInt(PAGE_SIZE_4K);

export class VectorGuest {
  readonly #pages: GuestPages;
  /** The vector's frame numbers by linear page. */
  readonly #frames = new Map<bigint, bigint>();

  constructor(core: Core) {
    this.#pages = new GuestPages(core);
  }

  /** @throws VfioError ENOMEM: the vector has more pages than the core. */
  load(vector: GuestInput): void {
    const pages = this.#pages;
    pages.add(vector.frames.map(({ iova }) => BigInt(iova)));
    for (const { iova, pfn, read_errno = 0, pin_errno = 0, pin_short } of vector.frames) {
      this.#frames.set(BigInt(pages.linear(BigInt(iova)) as number) / PAGE, BigInt(pfn));
      if (read_errno !== 0 || pin_errno !== 0 || pin_short === true)
        pages.inject(BigInt(iova), { read: -read_errno, pin: -pin_errno, pinShort: pin_short });
    }
    for (const { iova, hex } of vector.memory) pages.write(BigInt(iova), fromHex(hex));
  }

  unload(): void {
    this.#pages.clear();
    this.#frames.clear();
  }

  destroy(): void {
    this.#pages.destroy();
  }

  get iommu(): number {
    return this.#pages.iommu;
  }

  get pinnedPages(): number {
    return this.#pages.pinnedPages;
  }

  /** A big-endian number in guest storage. */
  number(iova: number, size: number): bigint {
    let value = 0n;
    for (let i = 0; i < size; i++) {
      const at = BigInt(iova + i);
      value = (value << 8n) | BigInt(this.#pages.page(at - (at % PAGE))?.[Number(at % PAGE)] ?? 0);
    }
    return value;
  }

  /** A host address in the vector's frames. */
  toFrame(address: bigint): bigint {
    const frame = this.#frames.get(address / PAGE);
    if (frame === undefined) throw new TranslatorBug(`${hex(address)} lies in no page of the guest`);
    return frame * PAGE + (address % PAGE);
  }
}
