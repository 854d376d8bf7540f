// Disk images in the widespread uncompressed CKD form:
//   header, 512 bytes: `CKD_P370` in ASCII, heads u32 at 8, track size u32 at 12 (both little-endian), device type u8 at 16, file sequence u8
//   at 17, highest cylinder u16 at 18; the rest zeros
//   then every track, padded to the track size: home address (flag, cylinder 2, head 2), records (count, key, data), eight times ff
import { concat, HEADS, parseTrack, type Track, trackBytes } from './track.ts';
import { Volume } from './volume.ts';

const HEADER_SIZE = 512;
const MAGIC = 'CKD_P370';
const HOME_ADDRESS_SIZE = 5;
const DEVICE_TYPE_3390 = 0x90;
/** Track size of a 3390: home address, R0, the largest record, end mark, rounded up to 512. */
export const TRACK_SIZE_3390 = 56832;

/** An image that cannot be used; the message says where and why. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
}

/**
 * Reads an image. Every track is checked now; tracks are taken from `bytes` when they are needed, so `bytes` must stay as they are.
 * @throws ImageError wrong magic, sizes, home address or record, or a truncated file.
 */
export function readImage(bytes: Uint8Array): Volume {
  if (bytes.length < HEADER_SIZE)
    throw new ImageError(`truncated: ${bytes.length} bytes are less than the header of 512`);
  const magic = String.fromCharCode(...bytes.subarray(0, 8));
  if (magic !== MAGIC) {
    const kind = /^CKD_[CS]/.test(magic) ? 'a compressed or shadow image, which is not supported' : 'no CKD image';
    throw new ImageError(`it begins with "${magic.replace(/[^ -~]/g, '.')}" instead of "${MAGIC}": ${kind}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const heads = view.getUint32(8, true);
  const size = view.getUint32(12, true);
  if (heads !== HEADS) throw new ImageError(`${heads} heads: a 3390 has ${HEADS}`);
  if (size < 64 || size > 65536) throw new ImageError(`track size ${size} is not one of a 3390`);
  const tracks = (bytes.length - HEADER_SIZE) / size;
  if (!Number.isInteger(tracks) || tracks === 0 || tracks % heads !== 0)
    throw new ImageError(
      `truncated: ${bytes.length - HEADER_SIZE} bytes are no whole cylinders of ${heads} tracks of ${size} bytes`,
    );
  const at = (cylinder: number, head: number) => HEADER_SIZE + (cylinder * heads + head) * size;
  const track = (cylinder: number, head: number): Track | string => {
    const start = at(cylinder, head);
    if (view.getUint16(start + 1) !== cylinder || view.getUint16(start + 3) !== head)
      return 'its home address is another one';
    const parsed = parseTrack(bytes, start + HOME_ADDRESS_SIZE, start + size);
    if (typeof parsed === 'string') return parsed;
    if (parsed.records[0]?.record !== 0) return 'it has no R0';
    return { records: parsed.records };
  };
  for (let index = 0; index < tracks; index++) {
    const wrong = track(Math.floor(index / heads), index % heads);
    if (typeof wrong === 'string')
      throw new ImageError(`cylinder ${Math.floor(index / heads)} head ${index % heads}: ${wrong}`);
  }
  return new Volume(tracks / heads, { track: (cylinder, head) => track(cylinder, head) as Track });
}

/** Writes a volume as an image. */
export function writeImage(volume: Volume): Uint8Array {
  const image = new Uint8Array(HEADER_SIZE + volume.cylinders * volume.heads * TRACK_SIZE_3390);
  const view = new DataView(image.buffer);
  for (let i = 0; i < MAGIC.length; i++) image[i] = MAGIC.charCodeAt(i);
  view.setUint32(8, volume.heads, true);
  view.setUint32(12, TRACK_SIZE_3390, true);
  image[16] = DEVICE_TYPE_3390;
  let at = HEADER_SIZE;
  for (let cylinder = 0; cylinder < volume.cylinders; cylinder++)
    for (let head = 0; head < volume.heads; head++) {
      image.set(concat([homeAddress(cylinder, head), trackBytes(volume.track(cylinder, head).records)]), at);
      at += TRACK_SIZE_3390;
    }
  return image;
}

/** Flag byte (0: a good track), cylinder, head. */
export function homeAddress(cylinder: number, head: number): Uint8Array {
  const address = new Uint8Array(HOME_ADDRESS_SIZE);
  const view = new DataView(address.buffer);
  view.setUint16(1, cylinder);
  view.setUint16(3, head);
  return address;
}
