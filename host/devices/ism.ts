// Internal shared memory: a function that stores blocks straight into buffers that another function of the same machine has offered. The register
// layout is this package's own (the real one is not public); the way of access is ISM's: function type 5, relaxed block stores of up to 4096
// bytes, no MSI-X. Documented in docs/uapi/zdev.md.
//
// BAR0, 256 MiB: the data window. A block stored at slot << 20 | offset goes to `offset` of the buffer that this function attached at `slot`
// (0..127); with bit 27 set the owner is notified behind it.
// BAR2, 4 KiB: control registers, little-endian.
//   offset size field
//   000    4   id, 'ISM1' (read only)
//   008    8   gid, the function's name in the machine (read only)
//   010    8   iova of a buffer to register
//   018    4   length of it, a multiple of 4096 up to 1 MiB
//   01c    4   command: 1 register, 2 unregister (token), 3 attach (token; result in slot), 4 detach (slot)
//   020    8   token
//   028    4   slot
//   02c    4   status of the last command: 0 done, 1 bad argument, 2 no room, 3 no such buffer, 4 the buffer's memory is not writable
//   030    8   notifications, one bit for each own buffer; reading gives and clears them, a part of the register its own
//   038    4   number of the own buffer that the last register command made
//   03c    4   blocks delivered (read only)
import type { StatefulHardware } from './device_state.ts';
import { ISM_STATE_SIZE, loadIsm, saveIsm } from './ism_state.ts';
import type { Width } from './pci_device.ts';
import { PFT_ISM, ZpciDevice } from './zpci_hardware.ts';

const ID = 0x314d5349;
export const ISM_REG_ID = 0x000;
export const ISM_REG_GID = 0x008;
export const ISM_REG_IOVA = 0x010;
export const ISM_REG_LENGTH = 0x018;
export const ISM_REG_COMMAND = 0x01c;
export const ISM_REG_TOKEN = 0x020;
export const ISM_REG_SLOT = 0x028;
export const ISM_REG_STATUS = 0x02c;
export const ISM_REG_NOTIFIED = 0x030;
export const ISM_REG_BUFFER = 0x038;
export const ISM_REG_BLOCKS = 0x03c;

export const ISM_COMMAND_REGISTER = 1;
export const ISM_COMMAND_UNREGISTER = 2;
export const ISM_COMMAND_ATTACH = 3;
export const ISM_COMMAND_DETACH = 4;

export const ISM_STATUS_DONE = 0;
export const ISM_STATUS_ARGUMENT = 1;
export const ISM_STATUS_ROOM = 2;
export const ISM_STATUS_BUFFER = 3;
export const ISM_STATUS_MEMORY = 4;

export const ISM_DATA_BAR = 0;
export const ISM_CONTROL_BAR = 2;
export const ISM_SLOT_SHIFT = 20;
export const ISM_NOTIFY = 1 << 27;
const DATA_SIZE = 1 << 28;
const CONTROL_SIZE = 4096;
const SLOT_SIZE = 1 << ISM_SLOT_SHIFT;
const SLOTS = 128;
const BUFFERS = 64;
const MAX_BLOCK = 4096;

/** A buffer that a function offered. */
interface Buffer {
  readonly owner: Ism;
  readonly number: number;
  readonly iova: bigint;
  readonly length: number;
}

/** What connects the ISM functions of one machine. */
export class IsmFabric {
  readonly #buffers = new Map<bigint, Buffer>();
  #nextGid = 1n;
  #nextToken = 1n;

  join(): bigint {
    return 0x4953_4d00_0000_0000n | this.#nextGid++;
  }
  offer(buffer: Buffer): bigint {
    const token = (this.#nextToken++ << 8n) | BigInt(buffer.number);
    this.#buffers.set(token, buffer);
    return token;
  }
  find(token: bigint): Buffer | undefined {
    return this.#buffers.get(token);
  }
  /** @returns whether the token was this function's. */
  withdraw(owner: Ism, token: bigint): boolean {
    return this.#buffers.get(token)?.owner === owner && this.#buffers.delete(token);
  }
  withdrawAll(owner: Ism): void {
    for (const [token, buffer] of this.#buffers) if (buffer.owner === owner) this.#buffers.delete(token);
  }
  /** Offers a buffer under the token that it had in another machine. @returns false: the token is somebody else's. */
  restore(token: bigint, buffer: Buffer): boolean {
    const other = this.#buffers.get(token);
    if (other !== undefined && other.owner !== buffer.owner) return false;
    this.#buffers.set(token, buffer);
    if (token >> 8n >= this.#nextToken) this.#nextToken = (token >> 8n) + 1n;
    return true;
  }
}

export class Ism extends ZpciDevice implements StatefulHardware {
  readonly stateModel = 'ism ';
  readonly stateVersion = 1;
  readonly stateSize = ISM_STATE_SIZE;
  gid: bigint;
  readonly #fabric: IsmFabric;
  /** Attached tokens by slot, own tokens by number. A token whose buffer is gone finds nothing; tokens are never used again. */
  readonly #slots = new Map<number, bigint>();
  readonly #own = new Map<number, bigint>();
  #iova = 0n;
  #length = 0;
  #token = 0n;
  #slot = 0;
  #status = 0;
  #buffer = 0;
  #blocks = 0;
  #notified = 0n;
  /** Hears of every block that reached a buffer: for tests and logs. */
  onBlock: ((slot: number, offset: number, length: number) => void) | null = null;

  constructor(fabric: IsmFabric, index: number) {
    super(
      {
        vendor: 0x1014,
        device: 0x04ed,
        classCode: 0x088000,
        bars: {
          [ISM_DATA_BAR]: { size: DATA_SIZE, kind: 'mem64' },
          [ISM_CONTROL_BAR]: { size: CONTROL_SIZE },
        },
        msi: { vectors: 1 },
        express: { flr: true },
      },
      {
        pft: PFT_ISM,
        gid: 0x05,
        index,
        pchid: 0x07c0 + index,
        vfn: index,
        maxStoreBlock: MAX_BLOCK,
        relaxed: true,
        interrupts: 1,
        pfip: Uint8Array.of(0, 0, 0, 0),
      },
    );
    this.#fabric = fabric;
    this.gid = fabric.join();
  }

  protected override onReset(): void {
    this.#fabric.withdrawAll(this);
    this.#slots.clear();
    this.#own.clear();
    this.#iova = 0n;
    this.#length = 0;
    this.#token = 0n;
    this.#slot = 0;
    this.#status = 0;
    this.#buffer = 0;
    this.#blocks = 0;
    this.#notified = 0n;
  }

  saveState(into: DataView): void {
    const own = [...this.#own].map(([number, token]) => ({ ...this.#fabric.find(token)!, number, token }));
    saveIsm(
      {
        gid: this.gid,
        iova: this.#iova,
        token: this.#token,
        notified: this.#notified,
        words: [this.#length, this.#slot, this.#status, this.#buffer, this.#blocks],
        own: own.map(({ number, length, iova, token }) => ({ number, length, iova, token })),
        slots: [...this.#slots].map(([slot, token]) => ({ slot, token })),
      },
      into,
    );
  }

  /** Own buffers are offered under the tokens they had, so that peers that came along find them. */
  loadState(from: DataView): boolean {
    const state = loadIsm(from, BUFFERS, SLOTS, SLOT_SIZE);
    if (state === null) return false;
    if (state.own.some(({ token }) => (this.#fabric.find(token)?.owner ?? this) !== this)) return false;
    this.onReset();
    this.gid = state.gid;
    this.#iova = state.iova;
    this.#token = state.token;
    this.#notified = state.notified;
    [this.#length, this.#slot, this.#status, this.#buffer, this.#blocks] = state.words;
    for (const { number, length, iova, token } of state.own) {
      this.#fabric.restore(token, { owner: this, number, iova, length });
      this.#own.set(number, token);
    }
    for (const { slot, token } of state.slots) this.#slots.set(slot, token);
    return true;
  }

  /** Nothing of it happens by itself. */
  resume(): void {}

  override storeBlock(bar: number, offset: number, block: Uint8Array): boolean {
    if (bar === ISM_DATA_BAR) return this.#deliver(offset, block);
    return super.storeBlock(bar, offset, block);
  }

  protected override read(bar: number, offset: number, width: Width): number {
    if (bar !== ISM_CONTROL_BAR) return 0;
    const register = offset & ~7;
    const shift = BigInt(8 * (offset - register));
    const mask = (1n << BigInt(8 * width)) - 1n;
    const value = (this.#register(register) >> shift) & mask;
    // What was given is taken; the others wait for the rest of the register to be read.
    if (register === ISM_REG_NOTIFIED) this.#notified &= ~(mask << shift);
    return Number(value);
  }
  protected override read64(bar: number, offset: number): bigint {
    if (bar !== ISM_CONTROL_BAR) return 0n;
    const value = this.#register(offset);
    if (offset === ISM_REG_NOTIFIED) this.#notified = 0n;
    return value;
  }

  protected override write(bar: number, offset: number, width: Width, value: number): void {
    if (bar === ISM_DATA_BAR) {
      // The default path: a store of at most 8 bytes is a block of that length.
      const block = Uint8Array.from({ length: width }, (_, i) => (value / 2 ** (8 * i)) & 0xff);
      this.#deliver(offset, block);
      return;
    }
    if (width === 4) this.#write32(offset, value >>> 0);
  }
  protected override write64(bar: number, offset: number, value: bigint): void {
    if (bar === ISM_DATA_BAR) {
      this.#deliver(
        offset,
        Uint8Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
      );
    } else {
      this.#write32(offset, Number(value & 0xffffffffn));
      this.#write32(offset + 4, Number(value >> 32n));
    }
  }

  /** The 8 bytes at a register's doubleword. */
  #register(offset: number): bigint {
    const pair = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    switch (offset) {
      case ISM_REG_ID:
        return BigInt(ID);
      case ISM_REG_GID:
        return this.gid;
      case ISM_REG_IOVA:
        return this.#iova;
      case ISM_REG_LENGTH:
        return pair(this.#length, 0);
      case ISM_REG_TOKEN:
        return this.#token;
      case ISM_REG_SLOT:
        return pair(this.#slot, this.#status);
      case ISM_REG_NOTIFIED:
        return this.#notified;
      case ISM_REG_BUFFER:
        return pair(this.#buffer, this.#blocks);
      default:
        return 0n;
    }
  }

  #write32(offset: number, value: number): void {
    const half = (old: bigint, high: boolean): bigint =>
      high ? (old & 0xffffffffn) | (BigInt(value) << 32n) : (old & ~0xffffffffn) | BigInt(value);
    switch (offset) {
      case ISM_REG_IOVA:
      case ISM_REG_IOVA + 4:
        this.#iova = half(this.#iova, offset !== ISM_REG_IOVA);
        break;
      case ISM_REG_LENGTH:
        this.#length = value;
        break;
      case ISM_REG_COMMAND:
        this.#status = this.#command(value);
        break;
      case ISM_REG_TOKEN:
      case ISM_REG_TOKEN + 4:
        this.#token = half(this.#token, offset !== ISM_REG_TOKEN);
        break;
      case ISM_REG_SLOT:
        this.#slot = value;
        break;
      default:
        break;
    }
  }

  #command(command: number): number {
    switch (command) {
      case ISM_COMMAND_REGISTER: {
        const length = this.#length;
        if (length === 0 || length % 4096 !== 0 || length > SLOT_SIZE || this.#iova % 4096n !== 0n)
          return ISM_STATUS_ARGUMENT;
        let number = 0;
        while (this.#own.has(number)) number++;
        if (number >= BUFFERS) return ISM_STATUS_ROOM;
        this.#token = this.#fabric.offer({ owner: this, number, iova: this.#iova, length });
        this.#own.set(number, this.#token);
        this.#buffer = number;
        return ISM_STATUS_DONE;
      }
      case ISM_COMMAND_UNREGISTER:
        if (!this.#fabric.withdraw(this, this.#token)) return ISM_STATUS_BUFFER;
        for (const [number, token] of this.#own) if (token === this.#token) this.#own.delete(number);
        return ISM_STATUS_DONE;
      case ISM_COMMAND_ATTACH: {
        if (this.#fabric.find(this.#token) === undefined) return ISM_STATUS_BUFFER;
        let slot = 0;
        while (this.#slots.has(slot)) slot++;
        if (slot >= SLOTS) return ISM_STATUS_ROOM;
        this.#slots.set(slot, this.#token);
        this.#slot = slot;
        return ISM_STATUS_DONE;
      }
      case ISM_COMMAND_DETACH:
        return this.#slots.delete(this.#slot) ? ISM_STATUS_DONE : ISM_STATUS_BUFFER;
      default:
        return ISM_STATUS_ARGUMENT;
    }
  }

  /** A block for a peer's buffer: stored by the peer's own DMA, so its container's mappings decide. */
  #deliver(offset: number, block: Uint8Array): boolean {
    const slot = (offset & (ISM_NOTIFY - 1)) >>> ISM_SLOT_SHIFT;
    const at = offset & (SLOT_SIZE - 1);
    const token = this.#slots.get(slot);
    const target = token === undefined ? undefined : this.#fabric.find(token);
    if (target === undefined || at + block.length > target.length) {
      this.#status = ISM_STATUS_BUFFER;
      return false;
    }
    const { owner, iova, number } = target;
    const moved = owner.dma.write(iova + BigInt(at), block);
    if (typeof moved !== 'number' || moved < 0) {
      this.#status = ISM_STATUS_MEMORY;
      return false;
    }
    this.#status = ISM_STATUS_DONE;
    this.#blocks = (this.#blocks + 1) >>> 0;
    this.onBlock?.(slot, at, block.length);
    if ((offset & ISM_NOTIFY) !== 0) owner.#notify(number);
    return true;
  }

  #notify(number: number): void {
    this.#notified |= 1n << BigInt(number);
    this.interrupt(0);
  }
}
