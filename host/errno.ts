// Errno names and the one error class of the public calls. Inside the package a failing call returns -errno; only the edge
// (vfio/process.ts) turns that into an exception.
import * as abi from '../assembly/abi.ts';

const NAMES = new Map<number, string>();
for (const [name, value] of Object.entries(abi)) if (/^E[0-9A-Z]+$/.test(name)) NAMES.set(value, name);

/** `EINVAL` for 22; `E<n>` for a number without a name here. Takes both signs. */
export function errnoName(errno: number): string {
  const positive = Math.abs(errno);
  return NAMES.get(positive) ?? `E${positive}`;
}

/** A call that the kernel would have answered with -errno. */
export class VfioError extends Error {
  override readonly name = 'VfioError';
  /** Symbolic name, such as `EINVAL`. */
  readonly code: string;
  /** Positive errno number of Linux. */
  readonly errno: number;
  /** The call, such as `ioctl(VFIO_IOMMU_MAP_DMA)`. */
  readonly call: string;
  /** What was wrong, in words. */
  readonly why: string;
  constructor(call: string, errno: number, why: string) {
    const code = errnoName(errno);
    super(`${call}: ${code}${why === '' ? '' : `: ${why}`}`);
    this.call = call;
    this.errno = Math.abs(errno);
    this.code = code;
    this.why = why;
  }
}
