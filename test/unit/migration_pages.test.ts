// PAGES payloads: what one side fills the other takes, and anything else is refused whole. Layout: host/migration/frames.ts.
import { describe, expect, it } from 'vitest';
import { Migration } from '../../host/migration/migration.ts';
import { applyPages, fillPages, PageJournal, PageSet, pagesLanding, type RamBlock } from '../../host/migration/ram.ts';
import { FrameRoom } from '../../host/migration/stream.ts';
import { VfioProcess } from '../../host/process.ts';
import { Vfio } from '../../host/vfio/vfio.ts';
import { freshCore } from '../support/core.ts';
import { TinyGuest } from '../support/guest.ts';

const PAGE = 4096;
const PAGES = 8;

async function setup() {
  const core = await freshCore({ length: 1 << 20 });
  const process = new VfioProcess(new Vfio(core, { iommuDrivers: () => [] }));
  const address = process.mmap(PAGES * PAGE);
  const linear = process.view(address, PAGES * PAGE).byteOffset;
  const block: RamBlock = { name: 'ram', address, size: PAGES * PAGE, pages: PAGES, iova: null, linear };
  const room = new FrameRoom(core, 4 * PAGE);
  const memory = () => core.u8.subarray(linear, linear + PAGES * PAGE);
  const journal = new PageJournal(core, [block]);
  /** Puts a payload of these runs into the room: [first, pages, kind], data pages filled with `fill`. @returns its length. */
  const put = (runs: number[][], fill = 7) => {
    const { view } = room;
    const base = room.payload - room.address;
    const data = runs.reduce((sum, [, pages, kind]) => sum + (kind === 0 ? pages! * PAGE : 0), 0);
    const head = 8 + 16 * runs.length;
    view.setUint32(base, 0, true);
    view.setUint32(base + 4, runs.length, true);
    runs.forEach(([first, pages, kind], i) => {
      [first!, pages!, kind!, 0].forEach((word, j) => {
        view.setUint32(base + 8 + 16 * i + 4 * j, word, true);
      });
    });
    room.bytes(base + head, data).fill(fill);
    return head + data;
  };
  const apply = (runs: number[][]) => applyPages(room, put(runs), [block], journal);
  const place = (runs: number[][], more = 0) => pagesLanding([block], journal).place(room, put(runs) + more);
  return { room, block, journal, memory, apply, place };
}

describe('pages in a frame', () => {
  it('are taken run by run, and put back by the journal', async () => {
    const { memory, apply, journal } = await setup();
    memory().fill(1);
    const taken = apply([
      [1, 1, 0],
      [2, 2, 1],
      [7, 1, 0],
    ]);
    expect(taken).toMatchObject({ pages: 2, zeroPages: 2 });
    expect([0, 1, 2, 3, 4, 7].map((page) => memory()[page * PAGE])).toEqual([1, 7, 0, 0, 1, 7]);
    journal.undo();
    expect(memory().every((byte) => byte === 1)).toBe(true);
  });

  it.each([
    [
      'runs out of order',
      [
        [3, 1, 1],
        [1, 1, 1],
      ],
      /run 1 begins at page 1/,
    ],
    [
      'runs that overlap',
      [
        [0, 4, 1],
        [3, 1, 0],
      ],
      /run 1 begins at page 3/,
    ],
    [
      'the same run twice',
      [
        [0, 8, 1],
        [0, 8, 1],
      ],
      /run 1 begins/,
    ],
    ['pages behind the block', [[7, 2, 1]], /of 8/],
    ['no pages', [[0, 0, 1]], /run 0/],
    ['an unknown kind', [[0, 1, 2]], /unknown kind/],
  ])('%s are refused and change nothing', async (_name, runs, why) => {
    const { memory, apply } = await setup();
    memory().fill(1);
    expect(apply(runs)).toMatch(why);
    expect(memory().every((byte) => byte === 1)).toBe(true);
  });

  it('are filled in ascending runs, whatever of them is zeros', async () => {
    const { room, block, journal, memory } = await setup();
    for (const page of [0, 2, 3, 6]) memory().fill(page + 1, page * PAGE, (page + 1) * PAGE);
    const before = memory().slice();
    const set = new PageSet(PAGES);
    set.fill();
    for (;;) {
      const filled = fillPages(room, 0, block, set);
      if (filled === null) break;
      expect(applyPages(room, filled.length, [block], journal)).toEqual(filled);
    }
    expect(memory()).toEqual(before);
  });

  it('go straight to their place when they are one run of data, and nothing else does', async () => {
    const { block, journal, memory, place } = await setup();
    memory().fill(1);
    expect(place([[2, 3, 0]])).toBe(block.linear + 2 * PAGE);
    memory().fill(9, 2 * PAGE, 5 * PAGE);
    expect(place([[2, 3, 1]])).toBe(0);
    const two = [
      [0, 1, 0],
      [3, 1, 0],
    ];
    expect(place(two)).toBe(0);
    expect(place([[7, 2, 0]])).toBe(0);
    expect(place([[0, 1, 2]])).toBe(0);
    expect(place([[0, 1, 0]], 1)).toBe(0);
    journal.undo();
    expect(memory().every((byte) => byte === 1)).toBe(true);
  });

  it('that arrived in place but spoilt, or in part, are taken back', async () => {
    const options = { frameSize: 64 * 1024 };
    const source = new TinyGuest(await freshCore({ length: 1 << 20 }), [40], []);
    const target = new TinyGuest(await freshCore({ length: 1 << 20 }), [40], []);
    for (let page = 0; page < 40; page++) source.poke(0, page * PAGE + page, page + 1);
    target.poke(0, 3 * PAGE, 5);
    const chunks: Uint8Array[] = [];
    for await (const chunk of new Migration(source.guest, options).save()) chunks.push(chunk.slice());
    const large = chunks.filter(({ length }) => length > 32 * 1024);
    expect(large.length).toBeGreaterThan(1);
    const before = target.picture();
    const same = (picture: Uint8Array) => target.picture().every((byte, i) => byte === picture[i]);
    const restore = (parts: Uint8Array[]) =>
      new Migration(target.guest, options).restore(
        (async function* () {
          yield* parts;
        })(),
      );
    for (const frame of large) {
      const at = chunks.indexOf(frame);
      const spoilt = frame.slice();
      spoilt[frame.length - 1]! ^= 1;
      await expect(restore(chunks.with(at, spoilt))).rejects.toMatchObject({ reason: 'stream' });
      expect(same(before)).toBe(true);
      await expect(restore([...chunks.slice(0, at), frame.subarray(0, 20_000)])).rejects.toMatchObject({
        reason: 'stream',
      });
      expect(same(before)).toBe(true);
    }
    expect(await restore(chunks)).toMatchObject({ outcome: 'committed', pages: 40 });
    expect(same(source.picture())).toBe(true);
  });
});
