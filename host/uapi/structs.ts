// Every structure of the uAPI that this package speaks, one class each. Fields have the headers' names. Trailing arrays are not fields: ask
// for room behind the structure. Source: spec vfio-core sections 6 to 12, zdev section 1, the iommufd part of section 10.
import { bytes, nested, s32, struct, u8, u16, u32, u64 } from './struct.ts';

// capability chains
export const VfioInfoCapHeader = struct('vfio_info_cap_header', { id: u16, version: u16, next: u32 });
export const VfioDeviceInfoCapPciAtomicComp = struct('vfio_device_info_cap_pci_atomic_comp', {
  header: nested(VfioInfoCapHeader),
  flags: u32,
  reserved: u32,
});
export const VfioRegionSparseMmapArea = struct('vfio_region_sparse_mmap_area', { offset: u64, size: u64 });
export const VfioRegionInfoCapSparseMmap = struct('vfio_region_info_cap_sparse_mmap', {
  header: nested(VfioInfoCapHeader),
  nr_areas: u32,
  reserved: u32,
});
export const VfioRegionInfoCapType = struct('vfio_region_info_cap_type', {
  header: nested(VfioInfoCapHeader),
  type: u32,
  subtype: u32,
});
export const VfioIovaRange = struct('vfio_iova_range', { start: u64, end: u64 });
export const VfioIommuType1InfoCapIovaRange = struct('vfio_iommu_type1_info_cap_iova_range', {
  header: nested(VfioInfoCapHeader),
  nr_iovas: u32,
  reserved: u32,
});
export const VfioIommuType1InfoCapMigration = struct('vfio_iommu_type1_info_cap_migration', {
  header: nested(VfioInfoCapHeader),
  flags: u32,
  pgsize_bitmap: u64,
  max_dirty_bitmap_size: u64,
});
export const VfioIommuType1InfoDmaAvail = struct('vfio_iommu_type1_info_dma_avail', {
  header: nested(VfioInfoCapHeader),
  avail: u32,
});
export const VfioDeviceInfoCapZpciBase = struct('vfio_device_info_cap_zpci_base', {
  header: nested(VfioInfoCapHeader),
  start_dma: u64,
  end_dma: u64,
  pchid: u16,
  vfn: u16,
  fmb_length: u16,
  pft: u8,
  gid: u8,
  fh: u32,
});
export const VfioDeviceInfoCapZpciGroup = struct('vfio_device_info_cap_zpci_group', {
  header: nested(VfioInfoCapHeader),
  dasm: u64,
  msi_addr: u64,
  flags: u64,
  mui: u16,
  noi: u16,
  maxstbl: u16,
  version: u8,
  reserved: u8,
  imaxstbl: u16,
});
export const VfioDeviceInfoCapZpciUtil = struct('vfio_device_info_cap_zpci_util', {
  header: nested(VfioInfoCapHeader),
  size: u32,
});
export const VfioDeviceInfoCapZpciPfip = struct('vfio_device_info_cap_zpci_pfip', {
  header: nested(VfioInfoCapHeader),
  size: u32,
});

// container and group
export const VfioGroupStatus = struct('vfio_group_status', { argsz: u32, flags: u32 });
export const VfioIommuType1Info = struct('vfio_iommu_type1_info', {
  argsz: u32,
  flags: u32,
  iova_pgsizes: u64,
  cap_offset: u32,
  pad: u32,
});
export const VfioIommuType1DmaMap = struct('vfio_iommu_type1_dma_map', {
  argsz: u32,
  flags: u32,
  vaddr: u64,
  iova: u64,
  size: u64,
});
export const VfioIommuType1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', {
  argsz: u32,
  flags: u32,
  iova: u64,
  size: u64,
});
export const VfioBitmap = struct('vfio_bitmap', { pgsize: u64, size: u64, data: u64 });
export const VfioIommuType1DirtyBitmap = struct('vfio_iommu_type1_dirty_bitmap', { argsz: u32, flags: u32 });
export const VfioIommuType1DirtyBitmapGet = struct('vfio_iommu_type1_dirty_bitmap_get', {
  iova: u64,
  size: u64,
  bitmap: nested(VfioBitmap),
});

// device
export const VfioDeviceInfo = struct('vfio_device_info', {
  argsz: u32,
  flags: u32,
  num_regions: u32,
  num_irqs: u32,
  cap_offset: u32,
  pad: u32,
});
export const VfioRegionInfo = struct('vfio_region_info', {
  argsz: u32,
  flags: u32,
  index: u32,
  cap_offset: u32,
  size: u64,
  offset: u64,
});
export const VfioIrqInfo = struct('vfio_irq_info', { argsz: u32, flags: u32, index: u32, count: u32 });
export const VfioIrqSet = struct('vfio_irq_set', { argsz: u32, flags: u32, index: u32, start: u32, count: u32 });
export const VfioPciDependentDevice = struct('vfio_pci_dependent_device', {
  /** The header's union: group_id, or devid when the device was opened through the cdev path. */
  group_id: u32,
  segment: u16,
  bus: u8,
  devfn: u8,
});
export const VfioPciHotResetInfo = struct('vfio_pci_hot_reset_info', { argsz: u32, flags: u32, count: u32 });
export const VfioPciHotReset = struct('vfio_pci_hot_reset', { argsz: u32, flags: u32, count: u32 });
export const VfioDeviceIoeventfd = struct('vfio_device_ioeventfd', {
  argsz: u32,
  flags: u32,
  offset: u64,
  data: u64,
  fd: s32,
  reserved: u32,
});
export const VfioDeviceFeature = struct('vfio_device_feature', { argsz: u32, flags: u32 });
export const VfioDeviceMigrationInfo = struct('vfio_device_migration_info', {
  device_state: u32,
  reserved: u32,
  pending_bytes: u64,
  data_offset: u64,
  data_size: u64,
});

export const VfioRegionGfxEdid = struct('vfio_region_gfx_edid', {
  edid_offset: u32,
  edid_max_size: u32,
  edid_size: u32,
  max_xres: u32,
  max_yres: u32,
  link_state: u32,
});
export const VfioDeviceGfxPlaneInfo = struct('vfio_device_gfx_plane_info', {
  argsz: u32,
  flags: u32,
  drm_plane_type: u32,
  drm_format: u32,
  drm_format_mod: u64,
  width: u32,
  height: u32,
  stride: u32,
  size: u32,
  x_pos: u32,
  y_pos: u32,
  x_hot: u32,
  y_hot: u32,
  /** The header's union: region_index, or dmabuf_id. */
  region_index: u32,
  reserved: u32,
});

// data of VFIO_DEVICE_FEATURE, by feature
export const VfioDeviceFeatureMigration = struct('vfio_device_feature_migration', { flags: u64 });
export const VfioDeviceFeatureMigState = struct('vfio_device_feature_mig_state', { device_state: u32, data_fd: s32 });
export const VfioDeviceLowPowerEntryWithWakeup = struct('vfio_device_low_power_entry_with_wakeup', {
  wakeup_eventfd: s32,
  reserved: u32,
});
export const VfioDeviceFeatureDmaLoggingControl = struct('vfio_device_feature_dma_logging_control', {
  page_size: u64,
  num_ranges: u32,
  __reserved: u32,
  ranges: u64,
});
export const VfioDeviceFeatureDmaLoggingRange = struct('vfio_device_feature_dma_logging_range', {
  iova: u64,
  length: u64,
});
export const VfioDeviceFeatureDmaLoggingReport = struct('vfio_device_feature_dma_logging_report', {
  iova: u64,
  length: u64,
  page_size: u64,
  bitmap: u64,
});
export const VfioDeviceFeatureMigDataSize = struct('vfio_device_feature_mig_data_size', { stop_copy_length: u64 });
export const VfioDeviceFeatureBusMaster = struct('vfio_device_feature_bus_master', { op: u32 });
export const VfioPrecopyInfo = struct('vfio_precopy_info', {
  argsz: u32,
  flags: u32,
  initial_bytes: u64,
  dirty_bytes: u64,
});

// device nodes and iommufd. The three cdev structures have the sizes of 6.12 (spec vfio-core section 10).
export const VfioDeviceBindIommufd = struct('vfio_device_bind_iommufd', {
  argsz: u32,
  flags: u32,
  iommufd: s32,
  out_devid: u32,
});
export const VfioDeviceAttachIommufdPt = struct('vfio_device_attach_iommufd_pt', {
  argsz: u32,
  flags: u32,
  pt_id: u32,
});
export const VfioDeviceDetachIommufdPt = struct('vfio_device_detach_iommufd_pt', { argsz: u32, flags: u32 });
const iommufd = { sizeField: 'size' } as const;
export const IommuDestroy = struct('iommu_destroy', { size: u32, id: u32 }, iommufd);
export const IommuIoasAlloc = struct('iommu_ioas_alloc', { size: u32, flags: u32, out_ioas_id: u32 }, iommufd);
export const IommuIoasIovaRanges = struct(
  'iommu_ioas_iova_ranges',
  { size: u32, ioas_id: u32, num_iovas: u32, __reserved: u32, allowed_iovas: u64, out_iova_alignment: u64 },
  iommufd,
);
export const IommuIovaRange = struct('iommu_iova_range', { start: u64, last: u64 });
export const IommuIoasAllowIovas = struct(
  'iommu_ioas_allow_iovas',
  { size: u32, ioas_id: u32, num_iovas: u32, __reserved: u32, allowed_iovas: u64 },
  iommufd,
);
export const IommuIoasMap = struct(
  'iommu_ioas_map',
  { size: u32, flags: u32, ioas_id: u32, __reserved: u32, user_va: u64, length: u64, iova: u64 },
  iommufd,
);
export const IommuIoasCopy = struct(
  'iommu_ioas_copy',
  { size: u32, flags: u32, dst_ioas_id: u32, src_ioas_id: u32, length: u64, dst_iova: u64, src_iova: u64 },
  iommufd,
);
export const IommuIoasUnmap = struct('iommu_ioas_unmap', { size: u32, ioas_id: u32, iova: u64, length: u64 }, iommufd);
export const IommuOption = struct(
  'iommu_option',
  { size: u32, option_id: u32, op: u16, __reserved: u16, object_id: u32, val64: u64 },
  iommufd,
);
export const IommuVfioIoas = struct('iommu_vfio_ioas', { size: u32, ioas_id: u32, op: u16, __reserved: u16 }, iommufd);

// regions of vfio-ccw (spec ccw section 2)
export const CcwIoRegion = struct('ccw_io_region', {
  orb_area: bytes(12),
  scsw_area: bytes(12),
  irb_area: bytes(96),
  ret_code: u32,
});
export const CcwCmdRegion = struct('ccw_cmd_region', { command: u32, ret_code: u32 });
export const CcwSchibRegion = struct('ccw_schib_region', { schib_area: bytes(52) });
export const CcwCrwRegion = struct('ccw_crw_region', { crw: u32, pad: u32 });

/** A plain int, as SET_CONTAINER takes it by pointer. */
export const S32 = struct('s32', { value: s32 });
