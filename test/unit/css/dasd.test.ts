// The 3390, as programs see it: positioning, reading, updating, formatting, whole tracks, and what it refuses.
import { describe, expect, it } from 'vitest';
import { CCW_SLI, ENDED } from '../../../host/css/cio.ts';
import { concat, formattedTrack, type Track, trackBytes } from '../../../host/devices/dasd/track.ts';
import { Volume } from '../../../host/devices/dasd/volume.ts';
import {
  type DiskBench,
  diskBench,
  extentArgument,
  type LocateArgument,
  locateArgument,
  locateExtendedArgument,
  type Step,
  searchArgument,
  seekArgument,
  type TrackAddress,
} from '../../support/dasd.ts';

const NORMAL = { unitStatus: ENDED, channelStatus: 0, residual: 0 };
const UNIT_CHECK = 0x0e;
const block = (fill: number, size = 4096) => new Uint8Array(size).fill(fill);
const seek = (track: TrackAddress): Step => ({ command: 0x07, write: seekArgument(track) });
/** SEARCH ID EQUAL and the TIC back to it, as steps `at` and `at + 1`. */
const search = (at: number, track: TrackAddress, record: number): Step[] => [
  { command: 0x31, write: searchArgument(track, record) },
  { command: 0x08, tic: at },
];
const extent = (mask: number, first: TrackAddress, last: TrackAddress = first): Step => ({
  command: 0x63,
  write: extentArgument(mask, first, last),
});
const locate = (argument: LocateArgument): Step => ({ command: 0x47, write: locateArgument(argument) });
const sense = ({ ecw }: { ecw: Uint8Array }) => [...ecw.subarray(0, 2), ecw[7]];

/** A track with records of these data lengths, filled with their numbers; `keys` bytes of key each. */
function track([cylinder, head]: TrackAddress, lengths: readonly number[], keys = 0): Track {
  const made = formattedTrack(cylinder, head, 0, 0);
  lengths.forEach((length, i) => {
    made.records.push({ cylinder, head, record: i + 1, key: block(0xc0 + i, keys), data: block(i + 1, length) });
  });
  return made;
}

async function diskWith(...tracks: Array<[TrackAddress, Track]>): Promise<DiskBench> {
  const volume = Volume.empty(10, { blockSize: 0 });
  for (const [[cylinder, head], made] of tracks) volume.put(cylinder, head, made);
  return diskBench(volume);
}

describe('a formatted empty volume', () => {
  it('has twelve records of 4096 zeros on every track and keeps nothing', async () => {
    const volume = Volume.empty(3339);
    const disk = await diskBench(volume);
    const at: TrackAddress = [3338, 14];
    const ran = disk.run([seek(at), ...search(1, at, 12), { command: 0x06, read: 4096 }]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read[0]).toEqual(block(0));
    expect(volume.keptTracks).toBe(0);
    expect(disk.run([seek(at), ...search(1, at, 13), { command: 0x06, read: 4096 }]).unitStatus).toBe(UNIT_CHECK);
  });
});

describe('search and read', () => {
  const at: TrackAddress = [1, 2];
  it('a search loop finds its record; reading goes on with the records behind it', async () => {
    const disk = await diskWith([at, track(at, [24, 144, 80])]);
    const ran = disk.run([seek(at), ...search(1, at, 2), { command: 0x06, read: 144 }, { command: 0x06, read: 80 }]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read).toEqual([block(2, 144), block(3, 80)]);
  });

  it('a record that is not there: no record found, after the index went by twice', async () => {
    const disk = await diskWith([at, track(at, [24])]);
    const ran = disk.run([seek(at), ...search(1, at, 9), { command: 0x06, read: 24 }]);
    expect(ran.unitStatus).toBe(UNIT_CHECK);
    expect(sense(ran)).toEqual([0, 0x08, 0]);
    expect([...ran.ecw.subarray(29, 32)]).toEqual([0, 1, 2]);
  });

  it('multitrack reading goes on with the next track and ends at the cylinder', async () => {
    const disk = await diskWith([[1, 13], track([1, 13], [10])], [[1, 14], track([1, 14], [20])]);
    const reads = [10, 20, 30].map((size) => ({ command: 0x86, read: size }));
    const ran = disk.run([seek([1, 13]), ...search(1, [1, 13], 1), ...reads]);
    expect(ran.read.slice(0, 2)).toEqual([block(1, 10), block(1, 20)]);
    expect(ran.unitStatus).toBe(UNIT_CHECK);
    expect(sense(ran)).toEqual([0, 0x20, 0]);
  });

  it('count, key and data come separately or together', async () => {
    const disk = await diskWith([at, track(at, [8, 8], 4)]);
    const ran = disk.run([
      seek(at),
      ...search(1, at, 1),
      { command: 0x0e, read: 12 },
      { command: 0x12, read: 8 },
      { command: 0x06, read: 8 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read[0]).toEqual(concat([block(0xc0, 4), block(1, 8)]));
    expect([...ran.read[1]!]).toEqual([0, 1, 0, 2, 2, 4, 0, 8]);
    expect(ran.read[2]).toEqual(block(2, 8));
    const all = disk.run([seek(at), { command: 0x1e, read: 20 }]);
    expect(all.read[0]).toEqual(concat([Uint8Array.of(0, 1, 0, 2, 1, 4, 0, 8), block(0xc0, 4), block(1, 8)]));
  });

  it('search key equal skips the TIC behind it', async () => {
    const disk = await diskWith([at, track(at, [8, 8, 8], 4)]);
    const ran = disk.run([
      seek(at),
      { command: 0x29, write: block(0xc2, 4) },
      { command: 0x08, tic: 1 },
      { command: 0x06, read: 8 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read[0]).toEqual(block(3, 8));
  });

  it('home address and R0', async () => {
    const disk = await diskWith([at, track(at, [8])]);
    const ran = disk.run([
      seek(at),
      { command: 0x1a, read: 5 },
      { command: 0x16, read: 16 },
      { command: 0x39, write: [0, 1, 0, 2] },
      { command: 0x08, tic: 3 },
      { command: 0x03 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    expect([...ran.read[0]!]).toEqual([0, 0, 1, 0, 2]);
    expect([...ran.read[1]!]).toEqual([0, 1, 0, 2, 0, 0, 0, 8, ...new Array(8).fill(0)]);
  });

  it('a record of data length 0 is the end of a file: unit exception', async () => {
    const disk = await diskWith([at, track(at, [0])]);
    expect(disk.run([seek(at), { command: 0x06, read: 8, flags: CCW_SLI }]).unitStatus).toBe(0x0d);
  });

  it('read IPL gives record 1 of the first track, wherever the arm is', async () => {
    const disk = await diskWith([[0, 0], track([0, 0], [24, 144])]);
    expect(disk.run([seek([5, 5]), { command: 0x02, read: 24 }]).read[0]).toEqual(block(1, 24));
  });
});

describe('define extent and locate record', () => {
  const at: TrackAddress = [0, 3];
  it('reads as many records as the locate count says, across tracks, and no more', async () => {
    const disk = await diskWith([at, track(at, [512, 512])], [[0, 4], track([0, 4], [512])]);
    const domain = [extent(0x40, at, [0, 4]), locate({ operation: 0x06, count: 2, track: at, record: 2 })];
    const read = { command: 0x86, read: 512 };
    const ran = disk.run([...domain, read, read]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read).toEqual([block(2, 512), block(1, 512)]);
    const tooMany = disk.run([...domain, read, read, read]);
    expect(tooMany.unitStatus).toBe(UNIT_CHECK);
    expect(sense(tooMany)).toEqual([0x80, 0, 2]);
  });

  it('a track outside the extent is file protected, by seek, by locate and by multitrack', async () => {
    const disk = await diskWith([at, track(at, [512])], [[0, 4], track([0, 4], [512])]);
    const protect = [0, 0x04, 0];
    expect(sense(disk.run([extent(0x40, at), seek([0, 4])]))).toEqual(protect);
    expect(sense(disk.run([extent(0x40, at), locate({ operation: 6, count: 1, track: [0, 4], record: 1 })]))).toEqual(
      protect,
    );
    const read = { command: 0x86, read: 512 };
    expect(
      sense(disk.run([extent(0x40, at), locate({ operation: 6, count: 2, track: at, record: 1 }), read, read])),
    ).toEqual(protect);
  });

  it.each([
    ['locate record without an extent', [locate({ operation: 6, count: 1, track: [0, 3], record: 1 })], [0x80, 0, 2]],
    ['a second extent', [extent(0x40, [0, 3]), extent(0x40, [0, 3])], [0x80, 0, 2]],
    ['an extent beyond the volume', [extent(0x40, [0, 3], [10, 0])], [0x80, 0, 4]],
    ['an extent that ends before it begins', [extent(0x40, [0, 3], [0, 2])], [0x80, 0, 4]],
    [
      'a count of zero',
      [extent(0x40, [0, 3]), locate({ operation: 6, count: 0, track: [0, 3], record: 1 })],
      [0x80, 0, 4],
    ],
    ['a seek beyond the volume', [seek([10, 0])], [0x80, 0, 4]],
    ['too few parameters', [{ command: 0x63, write: [0x40, 0xc0], flags: CCW_SLI }], [0x80, 0, 3]],
    ['a command of another device', [{ command: 0x41, write: [0] }], [0x80, 0, 1]],
    ['a write without orientation', [seek([0, 3]), { command: 0x05, write: [1] }], [0x80, 0, 2]],
  ] as Array<[string, Step[], number[]]>)('%s is rejected', async (_name, steps, expected) => {
    const disk = await diskWith([at, track(at, [512])]);
    const ran = disk.run(steps);
    expect(ran.unitStatus).toBe(UNIT_CHECK);
    expect(sense(ran)).toEqual(expected);
  });

  it.each([
    [0x00, [true, true, true, true]],
    [0x08, [false, true, true, false]],
    [0x10, [false, false, true, false]],
    [0x18, [false, false, false, false]],
  ])('seek mask %i: seek, seek cylinder, seek head, recalibrate', async (mask, allowed) => {
    const disk = await diskBench();
    const results = [0x07, 0x0b, 0x1b, 0x13].map((command) => {
      const ran = disk.run([
        { command: 0x1f, write: [mask] },
        command === 0x13 ? { command } : { ...seek([0, 5]), command },
      ]);
      if (ran.unitStatus !== ENDED) expect(sense(ran)).toEqual([0, 0x04, 0]);
      return ran.unitStatus === ENDED;
    });
    expect(results).toEqual(allowed);
  });

  it('seek head stays at the cylinder', async () => {
    const disk = await diskBench();
    const ran = disk.run([seek([4, 1]), { ...seek([7, 2]), command: 0x1b }, { command: 0x1a, read: 5 }]);
    expect([...ran.read[0]!]).toEqual([0, 0, 4, 0, 2]);
  });

  it('sense data stay until the next command, and a basic sense gives them', async () => {
    const disk = await diskBench();
    disk.run([{ command: 0x41, write: [0] }]);
    expect([...disk.run([{ command: 0x04, read: 32 }]).read[0]!.subarray(0, 8)]).toEqual([0x80, 0, 0, 0, 0, 0, 0, 1]);
    disk.run([{ command: 0xe4, read: 24 }]);
    expect(disk.run([{ command: 0x04, read: 32 }]).read[0]![0]).toBe(0);
  });
});

describe('writing', () => {
  const at: TrackAddress = [2, 0];
  const readBack = (disk: DiskBench, record: number, size: number) =>
    disk.run([seek(at), ...search(1, at, record), { command: 0x06, read: size }]).read[0];

  it('updates data, and key with data, of the records located', async () => {
    const disk = await diskWith([at, track(at, [512, 512], 4)]);
    const update = disk.run([
      extent(0x80, at),
      locate({ operation: 1, count: 2, track: at, record: 1 }),
      { command: 0x85, write: block(0xaa, 512) },
      { command: 0x8d, write: block(0xbb, 516) },
    ]);
    expect(update).toMatchObject(NORMAL);
    expect(readBack(disk, 1, 512)).toEqual(block(0xaa, 512));
    expect(disk.disk.volume.track(2, 0).records[2]!.key).toEqual(block(0xbb, 4));
    expect(readBack(disk, 2, 512)).toEqual(block(0xbb, 512));
  });

  it('a short write fills the record with zeros', async () => {
    const disk = await diskWith([at, track(at, [16])]);
    disk.run([seek(at), ...search(1, at, 1), { command: 0x05, write: block(9, 4) }]);
    expect(readBack(disk, 1, 16)).toEqual(concat([block(9, 4), block(0, 12)]));
  });

  it.each([
    [0x40, 'inhibits all writes', 0x85, 0x01],
    [0x40, 'inhibits format writes too', 0x1d, 0x03],
    [0x80, 'inhibits format writes', 0x1d, 0x03],
  ])('mask %i %s', async (mask, _name, command, operation) => {
    const disk = await diskWith([at, track(at, [16])]);
    const ran = disk.run([
      extent(mask, at),
      locate({ operation, count: 1, track: at, record: 1 }),
      { command, write: block(1, 16) },
    ]);
    expect(sense(ran)[0]).toBe(0x80);
    expect(readBack(disk, 1, 16)).toEqual(block(1, 16));
  });

  it('formats tracks with count fields alone, next track by next track; what was there is gone', async () => {
    const disk = await diskWith([at, track(at, [100, 200, 300])]);
    const count = (head: number, record: number, size: number): Step => ({
      command: record === 1 && head > 0 ? 0x9d : 0x1d,
      flags: CCW_SLI,
      write: [0, 2, 0, head, record, 0, size >> 8, size & 255],
    });
    const ran = disk.run([
      extent(0x00, [2, 0], [2, 1]),
      locate({ operation: 3, count: 4, track: at, record: 0 }),
      count(0, 1, 4096),
      count(0, 2, 4096),
      count(1, 1, 512),
      count(1, 2, 512),
    ]);
    expect(ran).toMatchObject(NORMAL);
    const shape = (head: number) => disk.disk.volume.track(2, head).records.map((r) => [r.record, r.data.length]);
    expect(shape(0)).toEqual([
      [0, 8],
      [1, 4096],
      [2, 4096],
    ]);
    expect(shape(1)).toEqual([
      [0, 8],
      [1, 512],
      [2, 512],
    ]);
    expect(readBack(disk, 2, 4096)).toEqual(block(0));
  });

  it('a format write may bring key and data; a record that does not fit is an invalid track format', async () => {
    const disk = await diskWith([at, track(at, [])]);
    const record = concat([Uint8Array.of(0, 2, 0, 0, 1, 4, 0, 8), block(0x11, 4), block(0x22, 8)]);
    const domain = [extent(0xc0, at), locate({ operation: 3, count: 2, track: at, record: 0 })];
    expect(disk.run([...domain, { command: 0x1d, write: record }])).toMatchObject(NORMAL);
    expect(disk.disk.volume.track(2, 0).records[1]).toMatchObject({ key: block(0x11, 4), data: block(0x22, 8) });
    const big = { command: 0x1d, flags: CCW_SLI, write: [0, 2, 0, 0, 1, 0, 0xdd, 0x58] };
    const ran = disk.run([...domain, big, big]);
    expect(sense(ran)).toEqual([0, 0x40, 0]);
    expect(disk.disk.volume.track(2, 0).records.map((r) => r.data.length)).toEqual([8, 0xdd58]);
  });

  it('R0 and home address need the widest mask', async () => {
    const disk = await diskWith([at, track(at, [16])]);
    const write: Step = { command: 0x15, write: concat([Uint8Array.of(0, 2, 0, 0, 0, 0, 0, 8), block(7, 8)]) };
    expect(sense(disk.run([extent(0x00, at), seek(at), write]))[0]).toBe(0x80);
    expect(disk.run([extent(0xc0, at), seek(at), write])).toMatchObject(NORMAL);
    expect(disk.disk.volume.track(2, 0).records.map((r) => r.data)).toEqual([block(7, 8)]);
    expect(disk.run([extent(0xc0, at), seek(at), { command: 0x19, write: [0, 0, 2, 0, 0] }])).toMatchObject(NORMAL);
  });
});

describe('whole tracks', () => {
  const [one, two]: [TrackAddress, TrackAddress] = [
    [3, 0],
    [3, 1],
  ];
  it('read track gives R0, all records and the end mark; write full track takes the same', async () => {
    const disk = await diskWith([one, track(one, [24, 144], 4)]);
    const expected = trackBytes(disk.disk.volume.track(3, 0).records);
    const readTrack = (at: TrackAddress) =>
      disk.run([
        extent(0x40, at),
        { command: 0x4b, write: locateExtendedArgument({ operation: 0x4c, count: 1, track: at, record: 0 }, 0) },
        { command: 0xde, read: 4000, flags: CCW_SLI },
      ]);
    const ran = readTrack(one);
    expect(ran).toMatchObject({ unitStatus: ENDED, channelStatus: 0, residual: 4000 - expected.length });
    expect(ran.read[0]!.subarray(0, expected.length)).toEqual(expected);
    const write = disk.run([
      extent(0xc0, two),
      { command: 0x4b, write: locateExtendedArgument({ operation: 0x3f, count: 1, track: two, record: 0 }, 0x11) },
      { command: 0x95, write: expected },
    ]);
    expect(write).toMatchObject(NORMAL);
    expect(readTrack(two).read[0]).toEqual(ran.read[0]);
  });

  it('read track data: data areas from the record on, the last track as long as the transfer length says', async () => {
    const disk = await diskWith([one, track(one, [512, 512, 512])], [two, track(two, [512, 512, 512])]);
    const argument = locateExtendedArgument({ operation: 0x0c, count: 2, track: one, record: 2, length: 1024 }, 0);
    const ran = disk.run([
      extent(0x40, one, two),
      { command: 0x4b, write: argument },
      { command: 0xa6, read: 1024 },
      { command: 0xa6, read: 1024 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read).toEqual([concat([block(2, 512), block(3, 512)]), concat([block(1, 512), block(2, 512)])]);
  });

  it('write track data: as far as the program gives data', async () => {
    const disk = await diskWith([one, track(one, [512, 512, 512])], [two, track(two, [512, 512])]);
    const argument = locateExtendedArgument({ operation: 0x3f, count: 2, track: one, record: 2, length: 512 }, 0x23);
    const ran = disk.run([
      extent(0x80, one, two),
      { command: 0x4b, write: argument },
      { command: 0xa5, write: block(0x77, 1024) },
      { command: 0xa5, write: block(0x88, 512) },
    ]);
    expect(ran).toMatchObject(NORMAL);
    const fills = (head: number) =>
      disk.disk.volume
        .track(3, head)
        .records.slice(1)
        .map((r) => r.data[0]);
    expect(fills(0)).toEqual([1, 0x77, 0x77]);
    expect(fills(1)).toEqual([0x88, 2]);
  });

  it('prefix: extent and locate record extended in one command', async () => {
    const disk = await diskWith([one, track(one, [512])]);
    const prefix = new Uint8Array(64);
    prefix.set([1, 0x80]);
    prefix.set(extentArgument(0x40, one, one), 12);
    prefix.set(locateExtendedArgument({ operation: 0x06, count: 1, track: one, record: 1 }, 0), 44);
    const ran = disk.run([
      { command: 0xe7, write: prefix },
      { command: 0x86, read: 512 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    expect(ran.read[0]).toEqual(block(1, 512));
  });
});

describe('about the device', () => {
  it('tells type, size and features, and groups paths', async () => {
    const disk = await diskBench(Volume.empty(3339));
    const ran = disk.run([
      { command: 0xe4, read: 7, flags: CCW_SLI },
      { command: 0x64, read: 64 },
      { command: 0xfa, read: 256 },
      { command: 0x27, write: [0x18, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0] },
      { command: 0x3e, read: 256 },
      { command: 0xaf, write: [0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] },
      { command: 0x34, read: 12 },
    ]);
    expect(ran).toMatchObject(NORMAL);
    const [id, characteristics, , features, group] = ran.read;
    expect([...id!]).toEqual([0xff, 0x21, 0x07, 0xe8, 0x33, 0x90, 0x0a]);
    expect([...characteristics!.subarray(12, 16)]).toEqual([0x0d, 0x0b, 0, 15]);
    expect([features![8], features![9], features![12]]).toEqual([0x01, 0x20, 0x40]);
    expect([...group!]).toEqual([0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('a clear takes pending sense away and leaves the path group', async () => {
    const disk = await diskBench();
    disk.run([{ command: 0xaf, write: [0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] }]);
    disk.run([{ command: 0x41, write: [0] }]);
    disk.bench.subchannel.csch();
    disk.bench.clock.advance(0);
    const ran = disk.run([
      { command: 0x04, read: 32 },
      { command: 0x34, read: 12 },
    ]);
    expect([ran.read[0]![0], ran.read[1]![0], ran.read[1]![11]]).toEqual([0, 0xc0, 11]);
  });

  it('reserve and release answer sense data; an unknown suborder is rejected', async () => {
    const disk = await diskBench();
    for (const command of [0xb4, 0x94, 0x14]) expect(disk.run([{ command, read: 32 }])).toMatchObject(NORMAL);
    const ran = disk.run([{ command: 0x27, write: [0x18, 0, 0, 0, 0, 0, 0x52, 0, 0, 0, 0, 0] }]);
    expect(sense(ran)).toEqual([0x80, 0, 4]);
  });
});
