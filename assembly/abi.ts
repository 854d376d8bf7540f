// Numbers both sides compile: errno, page sizes, limits, record sizes and offsets. Plain constants, no imports, no types.
// The core compiles them as immediates, the host reads the same file, so the two cannot disagree.

/** Version of the binary interface between host and core; checked when a core is created. */
export const CORE_ABI = 1;

// errno (Linux, spec vfio-core section 1). The core returns them negated.
export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const EMFILE = 24;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const ESPIPE = 29;
export const ERANGE = 34;
export const ENOMSG = 42;
export const EOVERFLOW = 75;
export const EBADFD = 77;
export const EUSERS = 87;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;

// The architectures' pages are not one constant: the host page and the two block sizes of an IDAW.
export const PAGE_SHIFT_4K = 12;
export const PAGE_SIZE_4K = 4096;
export const BLOCK_SIZE_2K = 2048;

// Permissions of a mapping, from the device's view (VFIO_DMA_MAP_FLAG_READ / WRITE).
export const PROT_READ = 1;
export const PROT_WRITE = 2;

// Arena header (assembly/arena.ts draws it). It lies at the start of the core's heap.
export const ARENA_LIVE_BYTES = 16;
export const ARENA_FAIL_NTH = 20;

// zPCI stores (assembly/zpci/store.ts draws both): a device's rules, and a piece of a plan.
export const ZPCI_RULE_MAX = 0x1fff;
export const ZPCI_RULE_RELAXED = 0x2000;
export const ZPCI_RULE_AWARE = 0x4000;
export const ZPCI_RULE_SPLIT = 0x8000;
export const ZPCI_PIECE_SIZE = 8;
export const ZPCI_FORM_SINGLE = 1;
export const ZPCI_FORM_BLOCK = 2;
