// Every public name except createVfio, which each entry binds to its way of loading the core.
export { type Clock, ManualClock, systemClock } from './clock.ts';
export { Core, CoreFault, type CoreOptions } from './core.ts';
export { errnoName, VfioError } from './errno.ts';
export { type IoctlArg, type MmapOptions, VfioProcess } from './process.ts';
export { VfioInstance, type VfioOptions } from './source.ts';
export * from './uapi/constants.ts';
export * from './uapi/ioctl.ts';
export type { Struct, StructBase, StructType } from './uapi/struct.ts';
export * from './uapi/structs.ts';
export { EventFd } from './vfio/eventfd.ts';
