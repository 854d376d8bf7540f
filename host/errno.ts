// Errno names and the one error class of the public calls. Inside the package a failing call returns -errno; only the edge
// (vfio/process.ts) turns that into an exception.
import {
  E2BIG,
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  EBADF,
  EBADFD,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  EMSGSIZE,
  ENODEV,
  ENOENT,
  ENOMEM,
  ENOMSG,
  ENOSPC,
  ENOTDIR,
  ENOTTY,
  ENXIO,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ERANGE,
  ESPIPE,
  ESRCH,
  EUSERS,
} from '../assembly/abi.ts';

// By name and not as `import *`, which would keep every number of abi.ts in each bundle. test/abi holds the list against abi.ts.
const ERRNOS = {
  EPERM,
  ENOENT,
  ESRCH,
  EIO,
  ENXIO,
  E2BIG,
  EBADF,
  EAGAIN,
  ENOMEM,
  EACCES,
  EFAULT,
  EBUSY,
  EEXIST,
  ENODEV,
  ENOTDIR,
  EISDIR,
  EINVAL,
  EMFILE,
  ENOTTY,
  ENOSPC,
  ESPIPE,
  ERANGE,
  ENOMSG,
  EOVERFLOW,
  EBADFD,
  EUSERS,
  EMSGSIZE,
  EOPNOTSUPP,
  EADDRINUSE,
  EADDRNOTAVAIL,
};
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(ERRNOS).map(([name, value]) => [value, name]));

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
