// Numbers both sides compile: errno, page sizes, limits, record sizes and offsets. Plain constants, no imports, no types.
// The core compiles them as immediates, the host reads the same file, so the two cannot disagree.

/** Version of the binary interface between host and core; checked when a core is created. */
export const CORE_ABI = 2;

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
export const EMSGSIZE = 90;
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
export const ARENA_MM_BYTES = 24;

// Address space of a task (assembly/iommu/mm.ts): record fields the host reads and writes, and the meta word of a range (with PROT_*).
export const MM_LOCKED = 16;
export const MM_LIMIT = 20;
export const VMA_RAM = 4;
export const VMA_UNBACKED = 8;
export const VMA_IO = 16;

// Pages of the user windows (assembly/iommu/pages.ts draws the record): how many are not free, and where the words of the pages begin.
export const PAGES_USED = 8;
export const PAGES_WORDS = 32;

// iommu object (assembly/iommu/record.ts draws it): what the host reads and writes between calls.
export const IOMMU_FLAVOUR = 12;
export const IOMMU_PIN_ERRNO = 16;
export const IOMMU_RW_ERRNO = 20;
export const IOMMU_DOMAINS = 24;
export const IOMMU_DIRTY_ON = 28;
export const IOMMU_AVAIL = 40;
export const IOMMU_PIN_NTH = 60;
export const IOMMU_READ_NTH = 64;
export const IOMMU_PINNED_PAGES = 68;
export const IOMMU_PINS = 88;
/** How many maps there are: the count in the table of maps. */
export const IOMMU_MAPS = 104;
export const IOMMU_UNMAPPED = 224;
export const IOMMU_NOTIFY_IOVA = 232;
export const IOMMU_NOTIFY_LAST = 240;
export const IOMMU_INVALID = 248;
export const IOMMU_FORCED = 252;
export const IOMMU_SCRATCH = 256;
export const IOMMU_SCRATCH_SIZE = 1792;

/** Flavours: who answers for a page without a map. */
export const FLAVOUR_TYPE1 = 0;
export const FLAVOUR_IOAS = 1;

// Page entry (assembly/iommu/pfn.ts): 16 bytes for each page of 4096 bytes.
export const PTE_IDAW = 0;
export const PTE_FRAME = 8;
export const PTE_PINS = 12;
export const PTE_VALID = 4;
export const PTE_ORPHAN = 8;

// Meta word of a map: the mm's record (16-byte aligned) and these bits beside PROT_READ and PROT_WRITE.
export const MAP_VADDR_INVALID = 4;
export const MAP_LOCK_CAP = 8;

/** As pin_errno of iommu_inject: a pin request that reaches the page reports only the pages before it; EINVAL when it is the first. */
export const PIN_SHORT = 0x10000;
/** Value of IOMMU_DIRTY_ON beside 0 and 1: a mark found no memory, every page counts as dirty. */
export const DIRTY_ALL = 2;

// Modes of iommu_unmap.
export const UNMAP_V1 = 1;
export const UNMAP_ALL = 2;
export const UNMAP_AGAIN = 4;
/** Answer of iommu_unmap: drivers must let go of [IOMMU_NOTIFY_IOVA, IOMMU_NOTIFY_LAST], then ask again. */
export const UNMAP_NOTIFY = 1;

// zPCI stores (assembly/zpci/store.ts draws both): a device's rules, and a piece of a plan.
export const ZPCI_RULE_MAX = 0x1fff;
export const ZPCI_RULE_RELAXED = 0x2000;
export const ZPCI_RULE_AWARE = 0x4000;
export const ZPCI_RULE_SPLIT = 0x8000;
export const ZPCI_PIECE_SIZE = 8;
export const ZPCI_FORM_SINGLE = 1;
export const ZPCI_FORM_BLOCK = 2;

// CCW (format-1, spec ccw section 5.1) and ORB word 1 (section 2.0).
export const CCW_SIZE = 8;
export const CCW_FLAG_CD = 0x80;
export const CCW_FLAG_CC = 0x40;
export const CCW_FLAG_SKIP = 0x10;
export const CCW_FLAG_IDA = 0x04;
export const CCW_CMD_NOOP = 0x03;
export const CCW_CMD_TIC = 0x08;
export const ORB_FMT = 0x00800000;
export const ORB_PFCH = 0x00400000;
export const ORB_C64 = 0x00020000;
export const ORB_I2K = 0x00010000;
export const ORB_LPM = 0x0000ff00;
export const ORB_SIZE = 32;

// Limits of a channel program (spec ccw section 8).
export const CCWCHAIN_LEN_MAX = 256;
export const CCWCHAIN_COUNT_MAX = 16;

// Channel program, `cp` (assembly/ccw/cp.ts draws it).
export const CP_ARENA = 0;
export const CP_STATE = 4;
export const CP_IOMMU = 8;
export const CP_CHAIN_COUNT = 12;
export const CP_ORB = 16;
export const CP_GUEST_CPA = 48;
export const CP_BLOCKS = 52;
export const CP_IDAW_SIZE = 56;
export const CP_BLOCK_SHIFT = 60;
export const CP_WORD = 64;
export const CP_WORD1 = 72;
export const CP_CHAIN_BRK = 76;
export const CP_CHAIN_END = 80;
export const CP_CHAIN_BLOCKS = 84;
export const CP_MODE = 88;
export const CP_MADE = 92;
export const CP_NEWLY = 96;
export const CP_FORCED = 100;
export const CP_BLOCK_SIZE = 104;
export const CP_HIT_BLOCK = 108;
export const CP_HIT = 112;
export const CP_CHAINS = 128;
export const CCWCHAIN_IOVA = 0;
export const CCWCHAIN_LEN = 4;
export const CCWCHAIN_HOST = 8;
export const CCWCHAIN_TRANSLATED = 12;
export const CCWCHAIN_SIZE = 16;
export const CP_STATE_NONE = 0;
export const CP_STATE_COPIED = 1;
export const CP_STATE_TRANSLATED = 2;
export const CP_STATE_FAILED = 3;

// Block of IDALs and pins of a channel program (assembly/ccw/page_array.ts draws it).
export const BLOCK_NEXT = 0;
export const BLOCK_BRK = 4;
export const BLOCK_PINS = 8;
export const BLOCK_END = 12;
export const PIN_PAGE = 0;
export const PIN_ENTRY = 8;
export const PIN_COUNT = 12;
export const PIN_SIZE = 16;
