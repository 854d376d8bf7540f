// Numbers of the s390 PCI extensions that are in no kernel header: the ISM I/O region as it was proposed (spec zdev section 5) and the logical AP
// operations of this package (docs/uapi/ap.md).

/** VFIO_REGION_TYPE_PCI_VENDOR_TYPE | PCI vendor id of IBM. */
export const VFIO_REGION_TYPE_IBM = 0x80001014;
export const VFIO_REGION_SUBTYPE_IBM_ISM_IO = 2;
