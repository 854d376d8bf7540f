// The iommu object: one per type1 container or iommufd address space. It holds what the user mapped (maps), what the pages really are
// (entries), what a hardware IOMMU was given (runs) and what became dirty. Kernel counterpart: struct vfio_iommu / struct io_pagetable.
//
// Record (2048 bytes); the fields named IOMMU_* are the host's to see (abi.ts):
//   offset size field
//        0    4 arena
//        4    4 pages         the pages of the user windows (pages.ts)
//        8    4 next          next iommu over these pages
//       12    4 flavour       FLAVOUR_*
//       16    4 pin_errno     every pin is refused with this errno (v1, no device, a vaddr is invalid); 0: pins work
//       20    4 rw_errno      the same for dma_rw
//       24    4 domains       translation domains; pins cost no locked page while there is one
//       28    4 dirty_on      1: dirty tracking runs
//       32    4 mm            the mm of every map; 0: none yet
//       36    4 mixed         1: the maps are of several mms
//       40    4 avail         maps that may still be made
//       44    4 inject        first page with injected errors (inject.ts)
//       60    4 pin_nth       0: off; n: the n-th page that is newly pinned from now on fails with ENOMEM, then off again
//       64    4 read_nth      0: off; n: the n-th piece of dma_rw from now on fails with EFAULT, then off again
//       68    4 pinned_pages  entries with a pin
//       72    8 entries       sparse table (radix.ts) of 64 page entries a leaf, by iova >> 18
//       80    8 dirty         sparse table of 8192 bits a leaf, by iova >> 25
//       88    8 pins          sum of the pins of all entries
//       96   64 maps          table of ranges: value = vaddr, meta = mm | MAP_* | PROT_*
//      160   64 runs          table of ranges: value = linear address, or token of a device region; meta = VMA_* | PROT_*
//      224    8 unmapped      bytes removed by the last unmap
//      232    8 notify_iova   a map that holds pins: the range that drivers must let go of before unmap is asked again
//      240    8 notify_last
//      248    4 invalid       maps whose vaddr is invalid
//      252    4 forced        how often pins were taken by force: addresses of entries kept from before are void
//      256 1792 scratch       bytes that the host hands in or takes out
export const ARENA = 0;
export const PAGES = 4;
export const NEXT_IOMMU = 8;
export const MM = 32;
export const MIXED = 36;
export const INJECT = 44;
export const ENTRIES = 72;
export const DIRTY = 80;
export const MAPS = 96;
export const RUNS = 160;
export const IOMMU_SIZE = 2048;

/** Entries a leaf holds, as a shift. */
export const LEAF_SHIFT = 6;
/** No page, no leaf of entries has this number. */
export const NO_INDEX: u64 = 0xffffffffffffffff;
/** Page number of the last iova. */
export const LAST_PAGE: u64 = 0xfffffffffffff;
