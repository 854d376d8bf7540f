// A guest moves between two machines: 1 MiB of RAM and an edu device in the middle of a copy.
import { Container, createVfio, linkPair, Migration, type MigrationGuest } from '../host/inline.ts';

const EDU = { bus: 'pci', model: 'edu', name: '0000:00:01.0', group: 1, driver: 'vfio-pci-migratable' };
const CONFIG = 7n << 40n;
const SIZE = 1 << 20;

/** A machine with one device, its RAM mapped for it at iova 0. */
async function machine() {
  const vfio = await createVfio({ machine: { devices: [EDU] } });
  const container = new Container(vfio);
  const device = container.attach(1).device(EDU.name);
  const ram = container.map(0n, SIZE);
  const guest: MigrationGuest = {
    process: vfio,
    ram: [{ name: 'ram', address: ram.address, size: SIZE, iova: 0n }],
    devices: [{ name: 'edu', fd: device.fd, container: container.fd }],
    // Configuration space and interrupts: the user's part, between RESUMING and RUNNING.
    setup: () => void vfio.write(device.fd, Uint8Array.of(6, 0), CONFIG + 4n),
  };
  const register = (at: bigint, value: number) =>
    vfio.write(device.fd, Uint8Array.of(value, value >> 8, value >> 16, 0), at);
  return { vfio, device, ram, guest, register };
}

/** @returns what the copy that began on the first machine left in the RAM of the second. */
export async function migrate(): Promise<{ downtime: number; bytes: Uint8Array }> {
  const here = await machine();
  const there = await machine();
  await here.guest.setup?.();
  // 16 bytes from the start of RAM into the device, then from the device to 0x2000; the second copy is still under way.
  here.ram.bytes.set(new TextEncoder().encode('hello other side'));
  for (const [at, value] of [
    [0x80n, 0],
    [0x88n, 0x40000],
    [0x90n, 16],
    [0x98n, 1],
  ] as const)
    here.register(at, value);
  await new Promise((resolve) => setTimeout(resolve, 150));
  for (const [at, value] of [
    [0x80n, 0x40000],
    [0x88n, 0x2000],
    [0x98n, 3],
  ] as const)
    here.register(at, value);

  const [left, right] = linkPair();
  const [sent] = await Promise.all([new Migration(here.guest).send(left), new Migration(there.guest).receive(right)]);
  await new Promise((resolve) => setTimeout(resolve, 150));
  const bytes = there.ram.bytes.slice(0x2000, 0x2010);
  here.vfio.exit();
  there.vfio.exit();
  return { downtime: sent.downtime, bytes };
}
