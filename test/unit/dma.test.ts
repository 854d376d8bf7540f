import { describe, expect, it } from 'vitest';
import { EFAULT } from '../../assembly/abi.ts';
import { type DeviceMemory, DmaPort, type DmaResult, whenDone } from '../../host/devices/dma.ts';

/** Memory of pages 0, 1 and 3; page 2 is a hole. Refuses what is not all there, as a container does. */
class Pages implements DeviceMemory {
  readonly bytes = new Uint8Array(4 * 4096).map((_, i) => i % 251);
  calls = 0;
  read(iova: bigint, into: Uint8Array): DmaResult {
    return this.#move(iova, into, (at) => into.set(this.bytes.subarray(at, at + into.length)));
  }
  write(iova: bigint, from: Uint8Array): DmaResult {
    return this.#move(iova, from, (at) => this.bytes.set(from, at));
  }
  #move(iova: bigint, bytes: Uint8Array, copy: (at: number) => void): number {
    this.calls++;
    const at = Number(iova);
    const last = at + bytes.length - 1;
    if (last >= this.bytes.length || (at < 0x3000 && last >= 0x2000)) return -EFAULT;
    copy(at);
    return 0;
  }
}

/** The same in another process: answers when told to. */
class RemotePages implements DeviceMemory {
  readonly pages = new Pages();
  readonly waiting: Array<() => void> = [];
  read = (iova: bigint, into: Uint8Array) => this.#later(() => this.pages.read(iova, into));
  write = (iova: bigint, from: Uint8Array) => this.#later(() => this.pages.write(iova, from));
  #later(call: () => DmaResult): Promise<number> {
    return new Promise((resolve) => this.waiting.push(() => resolve(call())));
  }
  async answer(): Promise<void> {
    for (let i = 0; i < 40; i++) {
      for (const resolve of this.waiting.splice(0)) resolve();
      await Promise.resolve();
    }
  }
}

describe('DMA of a device', () => {
  it('moves in one piece what is mapped', () => {
    const memory = new Pages();
    const port = new DmaPort(() => memory);
    const into = new Uint8Array(5000);
    expect(port.read(0x10n, into)).toBe(0);
    expect(into).toEqual(memory.bytes.slice(0x10, 0x10 + 5000));
    expect(memory.calls).toBe(1);
    expect(port.write(0x3000n, new Uint8Array(4096).fill(9))).toBe(0);
    expect(memory.bytes[0x3fff]).toBe(9);
    expect(port.read(0n, new Uint8Array(0))).toBe(0);
  });

  it('takes each page for itself where there is a hole: reads give zeros, writes are left out', () => {
    const memory = new Pages();
    const port = new DmaPort(() => memory);
    const into = new Uint8Array(0x2100).fill(0xee);
    expect(port.read(0x1f00n, into)).toBe(-EFAULT);
    expect(into.subarray(0, 0x100)).toEqual(memory.bytes.slice(0x1f00, 0x2000));
    expect(into.subarray(0x100, 0x1100)).toEqual(new Uint8Array(0x1000));
    expect(into.subarray(0x1100)).toEqual(memory.bytes.slice(0x3000));
    expect(port.write(0x1ff0n, new Uint8Array(0x1020).fill(7))).toBe(-EFAULT);
    expect(memory.bytes[0x1fff]).toBe(7);
    expect(memory.bytes[0x2000]).toBe(0x2000 % 251);
    expect(memory.bytes[0x300f]).toBe(7);
  });

  it('gives zeros and drops writes when nobody is behind it', () => {
    const port = new DmaPort(() => null);
    const into = new Uint8Array(4).fill(1);
    expect(port.read(0n, into)).toBe(-EFAULT);
    expect([...into]).toEqual([0, 0, 0, 0]);
    expect(port.write(0n, into)).toBe(-EFAULT);
    expect(port.view(0n, 4, false)).toBe(null);
  });

  it('waits for memory in another process, and counts what is open', async () => {
    const memory = new RemotePages();
    const port = new DmaPort(() => memory);
    const into = new Uint8Array(0x2100);
    let result: number | null = null;
    whenDone(port.read(0x1f00n, into), (value) => {
      result = value;
    });
    expect([result, port.open]).toEqual([null, 1]);
    await memory.answer();
    expect([result, port.open]).toEqual([-EFAULT, 0]);
    expect(into.subarray(0x1100)).toEqual(memory.pages.bytes.slice(0x3000));
    whenDone(port.write(0x3000n, new Uint8Array(4)), (value) => {
      result = value;
    });
    await memory.answer();
    expect(result).toBe(0);
  });

  it('takes a rejected transfer for a fault', async () => {
    const broken = { read: () => Promise.reject(new Error('gone')), write: () => Promise.reject(new Error('gone')) };
    const port = new DmaPort(() => broken);
    const into = new Uint8Array(8).fill(1);
    expect(await port.read(0n, into)).toBe(-EFAULT);
    expect(into).toEqual(new Uint8Array(8));
    expect(await port.write(0xffcn, into)).toBe(-EFAULT);
    expect(port.open).toBe(0);
  });
});
