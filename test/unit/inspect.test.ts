// Looking into a container and a channel program without touching them.
import { describe, expect, it } from 'vitest';
import {
  Container,
  createVfio,
  inspectContainer,
  inspectPermissions,
  inspectProgram,
  ManualClock,
  VfioError,
  watchProgram,
} from '../../host/inline.ts';

const DASD = '11111111-1111-4111-8111-111111111111';

/** ORB: format 1, prefetch, 64-bit IDAWs, all paths; CPA 0x1000. */
const ORB = new Uint8Array([0, 0, 0, 0, 0x00, 0xc2, 0xff, 0x00, 0, 0, 0x10, 0x00]);
const START = new Uint8Array([0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
/** Sense ID into 0x2ff0, 32 bytes, over a page edge; command chained to a NOP. */
const CCWS = new Uint8Array([0xe4, 0x60, 0, 0x20, 0, 0, 0x2f, 0xf0, 0x03, 0x20, 0, 1, 0, 0, 0x20, 0]);

async function disk() {
  const clock = new ManualClock();
  const vfio = await createVfio({ clock });
  const container = new Container(vfio);
  const group = container.attach(5);
  const memory = container.map(0n, 0x10000);
  const device = group.device(DASD);
  memory.bytes.set(CCWS, 0x1000);
  return { vfio, clock, container, group, device, memory };
}

describe('a program in flight', () => {
  it('shows its chains, its address lists and its pins until it has ended', async () => {
    const { vfio, clock, container, device } = await disk();
    vfio.write(device.fd, new Uint8Array([...ORB, ...START]), 0n);
    const program = inspectProgram(vfio, DASD);
    expect(program?.chains).toHaveLength(1);
    const [first, second] = program?.chains[0]?.ccws ?? [];
    expect(first).toMatchObject({ guest: 0x1000, cmd: 0xe4, flags: 0x64, count: 0x20 });
    expect(first?.idaws).toHaveLength(2);
    expect(second).toMatchObject({ guest: 0x1008, cmd: 0x03 });
    const view = inspectContainer(vfio, container.fd);
    expect(view.maps).toEqual([{ iova: 0n, last: 0xffffn }]);
    expect(view.pins.map(({ iova, count }) => [iova, count])).toEqual([
      [0x2000n, 1],
      [0x3000n, 1],
    ]);
    expect(program?.pinned.map((pin) => pin.linear << 12)).toEqual(view.pins.map((pin) => pin.linear));
    clock.advance(100);
    expect(inspectProgram(vfio, DASD)).toBeNull();
    expect(inspectContainer(vfio, container.fd).pins).toEqual([]);
  });

  it('is watched from the moment somebody looks until he stops, also while it runs', async () => {
    const { vfio, clock, device } = await disk();
    vfio.write(device.fd, new Uint8Array([...ORB, ...START]), 0n);
    const held = inspectProgram(vfio, DASD)?.chains[0]?.ccws ?? [];
    const heard: (number | string)[] = [];
    const end = watchProgram(vfio, DASD, {
      fetched: (address) => heard.push(address),
      commandEnded: ({ command }) => {
        heard.push(`${command} ended`);
        end();
      },
    });
    clock.advance(100);
    expect(inspectProgram(vfio, DASD)).toBeNull();
    expect(heard).toEqual([held[0]?.host, '228 ended']);
  });

  it('tells what is permitted at many addresses, in the order they were asked for', async () => {
    const { vfio, container } = await disk();
    const asked = Array.from({ length: 1000 }, (_, i) => BigInt(i) * 0x100n);
    expect([...inspectPermissions(vfio, container.fd, asked)]).toEqual(asked.map((iova) => (iova < 0x10000n ? 3 : 0)));
    expect(() => inspectPermissions(vfio, container.fd, [0n, 1n << 64n])).toThrow('iovas[1]');
    expect([...inspectPermissions(vfio, vfio.open('/dev/vfio/vfio'), [0n])]).toEqual([0]);
  });

  it('refuses what it cannot look into', async () => {
    const { vfio, device } = await disk();
    expect(() => inspectContainer(vfio, device.fd)).toThrow(VfioError);
    expect(() => inspectContainer(vfio, 77)).toThrow('EBADF');
    expect(() => inspectProgram(vfio, '0000:00:01.0')).toThrow('ENODEV');
    expect(() => inspectProgram(vfio, 'nothing')).toThrow('ENOENT');
  });
});
