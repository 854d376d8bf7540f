// Random life of mtty cards through sysfs against plain bookkeeping: ports, uuids, groups and nodes, with users that hold devices open.
import { describe, expect, it } from 'vitest';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../../assembly/abi.ts';
import type { VfioInstance } from '../../host/source.ts';
import { Random, runs, seed } from '../support/counts.ts';
import { instance, open } from '../support/opened.ts';

const ROOT = '/sys/devices/virtual/mtty/mtty';
const DEFAULT = '22222222-2222-4222-8222-222222222222';
const STEPS = 120;
const POOL = 24;

interface Card {
  ports: number;
  /** Descriptors of its user: container, group, device. */
  held: number[];
  /** remove was written. */
  going: boolean;
}

const uuid = (n: number): string => `00000000-0000-4000-8000-0000000000${n.toString(16).padStart(2, '0')}`;

class Bookkeeping {
  readonly cards = new Map<string, Card>([[DEFAULT, { ports: 2, held: [], going: false }]]);
  get free(): number {
    return [...this.cards.values()].reduce((left, card) => left - card.ports, POOL);
  }
  close(name: string, vfio: VfioInstance): void {
    const card = this.cards.get(name)!;
    for (const fd of card.held.splice(0)) vfio.close(fd);
    if (card.going) this.cards.delete(name);
  }
}

function step(vfio: VfioInstance, books: Bookkeeping, random: Random, open: (name: string) => number[]): void {
  const name = random.int(8) === 0 ? DEFAULT : uuid(random.int(16));
  const card = books.cards.get(name);
  switch (random.int(5)) {
    case 0:
    case 1: {
      const ports = 1 + random.int(2);
      const text = random.int(6) === 0 ? name.slice(1) : random.pick([name, `${name}\n`, name.toUpperCase()]);
      const result = vfio.sysfsWriteRaw(`${ROOT}/mdev_supported_types/mtty-${ports}/create`, text);
      if (text.length < 36) expect(result).toBe(-EINVAL);
      else if (card !== undefined) expect(result).toBe(-EEXIST);
      else if (books.free < ports) expect(result).toBe(-ENOSPC);
      else {
        expect(result).toBe(text.length);
        books.cards.set(name, { ports, held: [], going: false });
      }
      break;
    }
    case 2: {
      const result = vfio.sysfsWriteRaw(`${ROOT}/${name}/remove`, '1');
      if (card === undefined || card.going) expect(result).toBe(-ENOENT);
      else {
        expect(result).toBe(1);
        card.going = true;
        if (card.held.length === 0) books.cards.delete(name);
      }
      break;
    }
    case 3:
      if (card !== undefined && !card.going && card.held.length === 0) card.held = open(name);
      break;
    case 4:
      if (card !== undefined && card.held.length > 0) books.close(name, vfio);
      break;
  }
}

describe(`mediated cards, seed ${seed}`, () => {
  it('follow the bookkeeping of ports, uuids, groups and users', async () => {
    for (let run = 0; run < runs(10); run++) {
      const random = new Random(seed + 31 * run);
      const { vfio, clock } = await instance({
        devices: [{ bus: 'mdev', model: 'mtty', name: DEFAULT, group: 6, type: 'mtty-2' }],
      });
      const books = new Bookkeeping();
      const openCard = (name: string) => {
        const { group } = vfio.kernel.mdev.devices.get(name)!.device!;
        const { container, group: groupFd, fd } = open(vfio, clock, group.name, name);
        return [container, groupFd, fd];
      };
      for (let n = 0; n < STEPS; n++) {
        step(vfio, books, random, openCard);
        for (const ports of [1, 2]) {
          const text = vfio.sysfsRead(`${ROOT}/mdev_supported_types/mtty-${ports}/available_instances`);
          expect([run, n, text]).toEqual([run, n, `${Math.floor(books.free / ports)}\n`]);
        }
        expect([...vfio.kernel.mdev.devices.keys()].sort()).toEqual([...books.cards.keys()].sort());
        expect(new Set([...vfio.kernel.nodes.keys()]).size).toBe(
          [...books.cards.values()].filter((c) => !c.going).length,
        );
        clock.advance(random.int(3) * 10_000);
      }
      for (const name of [...books.cards.keys()]) books.close(name, vfio);
      vfio.exit();
      expect([vfio.core.liveBytes, vfio.task.openFiles]).toEqual([0, 0]);
      expect(vfio.kernel.groups.size).toBe(books.cards.size);
    }
  });
});
