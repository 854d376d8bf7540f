// ISM and the zPCI network function migrate; ISM functions that travel together still find each other's buffers.
import { describe, expect, it } from 'vitest';
import {
  ISM_COMMAND_ATTACH,
  ISM_COMMAND_REGISTER,
  ISM_REG_COMMAND,
  ISM_REG_GID,
  ISM_REG_IOVA,
  ISM_REG_LENGTH,
  ISM_REG_STATUS,
  ISM_REG_TOKEN,
} from '../../host/devices/ism.ts';
import { loadIsm, saveIsm } from '../../host/devices/ism_state.ts';
import { linkPair } from '../../host/migration/link.ts';
import { Migration } from '../../host/migration/migration.ts';
import { Random, runs } from '../support/counts.ts';
import { type OpenMachine, openMachine } from '../support/machines.ts';

const DRIVER = 'vfio-pci-migratable';
const A = { bus: 'pci', model: 'ism', name: '0001:00:00.0', group: 3, driver: DRIVER };
const B = { bus: 'pci', model: 'ism', name: '0003:00:00.0', group: 9, driver: DRIVER };
const NET = { bus: 'pci', model: 'zpci-net', name: '0002:00:00.0', group: 4, driver: DRIVER };
const IOVA = 0x100000000n;
const CONTROL = 2n << 40n;
const COMMAND = (7n << 40n) + 4n;

const write = (m: OpenMachine, device: number, offset: bigint, value: bigint, width: number) =>
  m.vfio.write(
    m.fds[device]!,
    Uint8Array.from({ length: width }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
    offset,
  );
const read = (m: OpenMachine, device: number, offset: bigint, width: number) => {
  const bytes = new Uint8Array(width);
  m.vfio.read(m.fds[device]!, bytes, offset);
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
};
const register = (m: OpenMachine, device: number, at: number, value: bigint, width = 4) =>
  write(m, device, CONTROL + BigInt(at), value, width);

async function move(source: OpenMachine, target: OpenMachine) {
  const [left, right] = linkPair();
  const setup = () => {
    for (const device of target.fds.keys()) write(target, device, COMMAND, 6n, 2);
  };
  return Promise.all([
    new Migration(source.guest).send(left),
    new Migration({ ...target.guest, setup }).receive(right),
  ]);
}

describe('zPCI functions migrate', () => {
  it('two ISM functions keep the buffers they offered and attached', async () => {
    const source = await openMachine([A, B], 65536, IOVA);
    const target = await openMachine([A, B], 65536, IOVA);
    for (const device of [0, 1]) write(source, device, COMMAND, 6n, 2);
    // B offers 8 KiB, A attaches them.
    register(source, 1, ISM_REG_IOVA, IOVA + 0x4000n, 8);
    register(source, 1, ISM_REG_LENGTH, 0x2000n);
    register(source, 1, ISM_REG_COMMAND, BigInt(ISM_COMMAND_REGISTER));
    const token = read(source, 1, CONTROL + BigInt(ISM_REG_TOKEN), 8);
    register(source, 0, ISM_REG_TOKEN, token, 8);
    register(source, 0, ISM_REG_COMMAND, BigInt(ISM_COMMAND_ATTACH));
    expect(read(source, 0, CONTROL + BigInt(ISM_REG_STATUS), 4)).toBe(0n);
    const gid = read(source, 1, CONTROL + BigInt(ISM_REG_GID), 8);
    await move(source, target);
    expect(read(target, 1, CONTROL + BigInt(ISM_REG_GID), 8)).toBe(gid);
    write(target, 0, 0x100n, 0x1122334455667788n, 8);
    expect(read(target, 0, CONTROL + BigInt(ISM_REG_STATUS), 4)).toBe(0n);
    const at = target.ram.address + 0x4100n;
    expect([...target.vfio.view(at, 8)]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    // The stopped functions of the source take nothing any more.
    expect([...source.vfio.view(source.ram.address + 0x4100n, 8)]).toEqual(Array(8).fill(0));
  });

  it('the network function keeps its registers and window', async () => {
    const source = await openMachine([NET], 65536, IOVA);
    const target = await openMachine([NET], 65536, IOVA);
    write(source, 0, COMMAND, 6n, 2);
    write(source, 0, 0x10n, IOVA + 0x123n, 8);
    write(source, 0, 0x1008n, 0xabcdn, 4);
    await move(source, target);
    expect(read(target, 0, 0x10n, 8)).toBe(IOVA + 0x123n);
    expect(read(target, 0, 0x1008n, 4)).toBe(0xabcdn);
  });

  it('no bytes make an ISM state that cannot be', () => {
    const random = new Random();
    const view = new DataView(new ArrayBuffer(64 + 64 * 24 + 128 * 16));
    for (let i = 0; i < runs(2000); i++) {
      for (let k = 0; k < 40; k++) view.setUint8(random.int(view.byteLength), random.int(256));
      view.setUint32(52, random.int(70), true);
      view.setUint32(56, random.int(140), true);
      const state = loadIsm(view, 64, 128, 1 << 20);
      if (state === null) continue;
      for (const { number, length } of state.own) expect(number < 64 && length <= 1 << 20).toBe(true);
      const again = new DataView(new ArrayBuffer(view.byteLength));
      saveIsm(state, again);
      expect(loadIsm(again, 64, 128, 1 << 20)).toEqual(state);
    }
  });
});
