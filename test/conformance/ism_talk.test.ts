import { describe, expect, it } from 'vitest';
import {
  ISM_COMMAND_ATTACH,
  ISM_COMMAND_REGISTER,
  ISM_COMMAND_UNREGISTER,
  ISM_CONTROL_BAR,
  ISM_DATA_BAR,
  ISM_NOTIFY,
  ISM_REG_COMMAND,
  ISM_REG_IOVA,
  ISM_REG_LENGTH,
  ISM_REG_NOTIFIED,
  ISM_REG_SLOT,
  ISM_REG_STATUS,
  ISM_REG_TOKEN,
  ISM_SLOT_SHIFT,
  ISM_STATUS_BUFFER,
} from '../../host/devices/ism.ts';
import { Guest, ismOf, twoIsms } from '../support/zpci.ts';

const BUS_MASTER = 4n;
const text = (message: string): Uint8Array => new TextEncoder().encode(message);

/** Two guests; the second has offered a buffer of 8 pages at storage 0x100000, the first has attached it. */
async function connected() {
  const vfio = await twoIsms();
  const sender = new Guest(vfio, '3', '0001:00:00.0');
  const receiver = new Guest(vfio, '4', '0002:00:00.0');
  for (const guest of [sender, receiver]) {
    guest.run('PCISTG', { r1: 2, r2: 4 }, { 2: BUS_MASTER << 8n, 4: guest.request(15, 2), 5: 4n });
    expect(guest.mapPages(0x100000n, 8)).toEqual({ cc: 0 });
  }
  receiver.store(ISM_CONTROL_BAR, ISM_REG_IOVA, 0x100000000n, 8);
  receiver.store(ISM_CONTROL_BAR, ISM_REG_LENGTH, 0x8000n);
  receiver.store(ISM_CONTROL_BAR, ISM_REG_COMMAND, BigInt(ISM_COMMAND_REGISTER));
  expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_STATUS)).toBe(0n);
  const token = receiver.load(ISM_CONTROL_BAR, ISM_REG_TOKEN, 8);
  sender.store(ISM_CONTROL_BAR, ISM_REG_TOKEN, token, 8);
  sender.store(ISM_CONTROL_BAR, ISM_REG_COMMAND, BigInt(ISM_COMMAND_ATTACH));
  expect(sender.load(ISM_CONTROL_BAR, ISM_REG_STATUS)).toBe(0n);
  const slot = Number(sender.load(ISM_CONTROL_BAR, ISM_REG_SLOT));
  return { vfio, sender, receiver, window: slot << ISM_SLOT_SHIFT, token };
}

describe('two ISM functions', () => {
  it("a message stored by one guest lies in the other one's memory, as one operation, with an interruption", async () => {
    const { vfio, sender, receiver, window } = await connected();
    const message = text('hello from the other side of the channel');
    sender.vm.storage.store(0x100n, message);
    const adapter: number[] = [];
    receiver.vm.css.onAdapterInterrupt = (isc) => adapter.push(isc);
    expect(receiver.modify(2, { word: (3 << 28) | (1 << 16) | 0x80, aibv: 0x9000n, aisb: 0x9100n })).toEqual({ cc: 0 });
    const blocks: number[] = [];
    ismOf(vfio, '0001:00:00.0').onBlock = (_slot, _offset, length) => blocks.push(length);

    expect(sender.storeBlock(ISM_DATA_BAR, (ISM_NOTIFY | window) + 3, 0x100n, message.length)).toEqual({ cc: 0 });
    expect(blocks).toEqual([message.length]);
    expect(receiver.vm.storage.fetch(0x100003n, message.length)).toEqual(message);
    expect(adapter).toEqual([3]);
    expect(receiver.vm.storage.fetch(0x9000n, 1)[0]).toBe(0x80);
    expect(receiver.vm.storage.fetch(0x9100n, 1)[0]).toBe(0x80);
    // A part of the register gives, and clears, what is in it.
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED + 4, 4)).toBe(0n);
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED + 1, 1)).toBe(0n);
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED, 8)).toBe(1n);
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED, 8)).toBe(0n);
    expect(receiver.run('TPI', { b2: 6 }, { 6: 0n })).toEqual({ cc: 1 });
    expect(receiver.vm.storage.fetch(0xc0n, 4)).toEqual(Uint8Array.of(0x98, 0, 0, 0));
  });

  it('notifications of the upper half survive a read of the lower one', async () => {
    const { vfio, sender, receiver, window } = await connected();
    // The first buffer is number 0; thirty-two more, and the last of them is attached too.
    const register = () => receiver.store(ISM_CONTROL_BAR, ISM_REG_COMMAND, BigInt(ISM_COMMAND_REGISTER));
    for (let i = 0; i < 32; i++) register();
    sender.store(ISM_CONTROL_BAR, ISM_REG_TOKEN, receiver.load(ISM_CONTROL_BAR, ISM_REG_TOKEN, 8), 8);
    sender.store(ISM_CONTROL_BAR, ISM_REG_COMMAND, BigInt(ISM_COMMAND_ATTACH));
    const last = Number(sender.load(ISM_CONTROL_BAR, ISM_REG_SLOT)) << ISM_SLOT_SHIFT;
    for (const at of [window, last])
      expect(sender.storeBlock(ISM_DATA_BAR, ISM_NOTIFY | at, 0x100n, 4)).toEqual({ cc: 0 });
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED, 4)).toBe(1n);
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED + 4, 4)).toBe(1n);
    expect(receiver.load(ISM_CONTROL_BAR, ISM_REG_NOTIFIED, 8)).toBe(0n);
    vfio.exit();
  });

  it("a source that is unaligned or crosses a page goes through the layer's own page", async () => {
    const { sender, receiver, window } = await connected();
    const message = text('x'.repeat(300));
    for (const gaddr of [0x101n, 0x1f80n]) {
      sender.vm.storage.store(gaddr, message);
      receiver.vm.storage.store(0x100000n, new Uint8Array(512));
      expect(sender.storeBlock(ISM_DATA_BAR, window, gaddr, message.length)).toEqual({ cc: 0 });
      expect(receiver.vm.storage.fetch(0x100000n, message.length)).toEqual(message);
    }
  });

  it('a store leaves nothing when the peer withdrew its buffer or protected its memory', async () => {
    const { sender, receiver, window, token } = await connected();
    sender.vm.storage.store(0x100n, text('late'));
    expect(receiver.mapPages(0x100000n, 8, false)).toEqual({ cc: 0 });
    expect(sender.storeBlock(ISM_DATA_BAR, window, 0x100n, 4)).toEqual({ pgm: 0x15 });
    receiver.mapPages(0x100000n, 8);
    receiver.store(ISM_CONTROL_BAR, ISM_REG_TOKEN, token, 8);
    receiver.store(ISM_CONTROL_BAR, ISM_REG_COMMAND, BigInt(ISM_COMMAND_UNREGISTER));
    expect(sender.storeBlock(ISM_DATA_BAR, window, 0x100n, 4)).toEqual({ pgm: 0x15 });
    expect(sender.load(ISM_CONTROL_BAR, ISM_REG_STATUS)).toBe(BigInt(ISM_STATUS_BUFFER));
    expect(receiver.vm.storage.fetch(0x100000n, 4)).toEqual(new Uint8Array(4));
  });

  it('nothing is left when both are closed', async () => {
    const { vfio, sender, receiver } = await connected();
    const live = () => vfio.kernel.core.liveBytes;
    expect(live()).toBeGreaterThan(0);
    sender.vm.destroy();
    receiver.vm.destroy();
    vfio.exit();
    expect(live()).toBe(0);
    expect(vfio.kernel.pages.usedBytes).toBe(0);
  });
});
