// CKD images: out and in again, and every way in which a file can be wrong.
import { describe, expect, it } from 'vitest';
import { ImageError, readImage, TRACK_SIZE_3390, writeImage } from '../../../host/devices/dasd/image.ts';
import { formattedTrack } from '../../../host/devices/dasd/track.ts';
import { Volume } from '../../../host/devices/dasd/volume.ts';

const HEADER = 512;

function volume(): Volume {
  const made = Volume.empty(2, { blockSize: 0 });
  const track = formattedTrack(1, 7, 3, 100);
  track.records[2]!.data.fill(0x5a);
  track.records.push({ cylinder: 1, head: 7, record: 9, key: new Uint8Array([1, 2, 3]), data: new Uint8Array(0) });
  made.put(1, 7, track);
  return made;
}

describe('an image', () => {
  it('has the header and tracks of the widespread form', () => {
    const image = writeImage(volume());
    expect(image.length).toBe(HEADER + 30 * TRACK_SIZE_3390);
    expect(String.fromCharCode(...image.subarray(0, 8))).toBe('CKD_P370');
    expect([...image.subarray(8, 16)]).toEqual([15, 0, 0, 0, 0x00, 0xde, 0, 0]);
    const track = image.subarray(HEADER + (15 + 7) * TRACK_SIZE_3390);
    expect([...track.subarray(0, 21)]).toEqual([0, 0, 1, 0, 7, 0, 1, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('read again is the same volume, and stays writable', () => {
    const [before, after] = [volume(), readImage(writeImage(volume()))];
    expect(after.cylinders).toBe(2);
    for (const [cylinder, head] of [
      [0, 0],
      [1, 7],
      [1, 14],
    ] as const)
      expect(after.track(cylinder, head)).toEqual(before.track(cylinder, head));
    after.writable(0, 0).records[0]!.data.fill(9);
    expect(after.track(0, 0).records[0]!.data[0]).toBe(9);
    const [twice, once] = [writeImage(readImage(writeImage(volume()))), writeImage(volume())];
    expect(twice.length === once.length && twice.every((byte, i) => byte === once[i])).toBe(true);
  });

  it.each([
    ['cut inside the header', (image) => image.subarray(0, 100), /truncated: 100 bytes/],
    ['cut inside a track', (image) => image.subarray(0, image.length - 1), /truncated/],
    ['without its last track', (image) => image.subarray(0, image.length - TRACK_SIZE_3390), /truncated/],
    ['with nothing but a header', (image) => image.subarray(0, HEADER), /truncated/],
    ['compressed', (image) => with_(image, 4, 0x43), /compressed/],
    ['of something else', (image) => with_(image, 0, 0x5a), /no CKD image/],
    ['with 14 heads', (image) => with_(image, 8, 14), /14 heads/],
    ['with a track size of nothing', (image) => with_(with_(image, 12, 0), 13, 0), /track size 0/],
    ['with another home address', (image) => with_(image, HEADER + 4, 3), /cylinder 0 head 0: its home address/],
    ['with a record beyond its track', (image) => with_(image, HEADER + 11, 0xff), /cylinder 0 head 0: record 0/],
    ['without an end mark', (image) => with_(image, HEADER + 21, 0), /cylinder 0 head 0/],
    ['without R0', (image) => with_(image, HEADER + 9, 1), /cylinder 0 head 0: it has no R0/],
  ] as Array<[string, (image: Uint8Array) => Uint8Array, RegExp]>)(
    '%s is refused with the reason',
    (_name, spoil, reason) => {
      const image = spoil(writeImage(volume()));
      expect(() => readImage(image)).toThrow(ImageError);
      expect(() => readImage(image)).toThrow(reason);
    },
  );
});

function with_(image: Uint8Array, at: number, value: number): Uint8Array {
  image[at] = value;
  return image;
}
