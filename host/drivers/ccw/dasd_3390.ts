// Model `dasd-3390`: a 3390 disk on a subchannel driven by vfio-ccw (docs/devices/dasd-3390.md). Options of an entry: `subchannel`, `device` (bus
// ids), `cylinders` (default 10) and `blockSize` (default 4096; 0: unformatted tracks with R0 only) of an empty volume, or `image`: an
// uncompressed CKD image, its bytes or, in Node, the path of its file.
import { EckdDevice } from '../../devices/dasd/eckd.ts';
import { ImageError, readImage } from '../../devices/dasd/image.ts';
import { Volume } from '../../devices/dasd/volume.ts';
import type { DeviceDescription, ModelFactory } from '../../devices/model.ts';
import { addChannelDevice, deviceNumber } from './model.ts';

const DEFAULT_CYLINDERS = 10;

/** Puts the disk into the machine. @throws TypeError an option that it cannot honour: sizes, an image that cannot be read or is wrong. */
export const dasd3390: ModelFactory = (context) => {
  const { description } = context;
  const unitAddress = deviceNumber(description) & 0xff;
  addChannelDevice(context, new EckdDevice({ volume: volumeOf(description), unitAddress }));
};

function volumeOf(description: DeviceDescription): Volume {
  const { name, image, cylinders = DEFAULT_CYLINDERS, blockSize = 4096 } = description;
  try {
    if (image !== undefined) return readImage(imageBytes(image));
    return Volume.empty(Number(cylinders), { blockSize: Number(blockSize) });
  } catch (error) {
    if (error instanceof ImageError) throw new TypeError(`${name}: image: ${error.message}`);
    if (error instanceof RangeError) throw new TypeError(`${name}: ${error.message}`);
    throw error;
  }
}

function imageBytes(image: unknown): Uint8Array {
  if (image instanceof Uint8Array) return image;
  if (typeof image !== 'string') throw new ImageError('neither bytes nor the path of a file');
  const fs = typeof process === 'undefined' ? undefined : process.getBuiltinModule?.('node:fs');
  if (fs === undefined) throw new ImageError('a path needs a file system; give the bytes instead');
  try {
    return fs.readFileSync(image);
  } catch (error) {
    throw new ImageError(`${image}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
