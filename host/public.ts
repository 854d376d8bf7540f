// Every public name except createVfio, which each entry binds to its way of loading the core.

export type { PinnedPage } from './ccw/channel_program.ts';
export { FlatCaller, type GuestRam, storageOf } from './ccw/flat_caller.ts';
export { CCW_LISTS_SIZE, type FlatArea, type FlatProgram, flattenProgram, type GuestStorage } from './ccw/flatten.ts';
export { Container, type DmaMemory, type IommuInfo, type MapOptions } from './classes/container.ts';
export { Device, type DeviceDetails } from './classes/device.ts';
export { Group } from './classes/group.ts';
export { Iommufd } from './classes/iommufd.ts';
export { Irq } from './classes/irq.ts';
export { Region, type Width as RegionWidth } from './classes/region.ts';
export { type Clock, ManualClock, systemClock } from './clock.ts';
export { Core, CoreFault, type CoreOptions, type CoreSource } from './core.ts';
export type { ChannelDevice, CommandEnd, DevicePort, Transfer } from './css/device.ts';
export { EngineSubchannel, type Instruction } from './css/engine.ts';
export type { CommandRecord, ProgramObserver } from './css/program.ts';
export type { ConditionCode } from './css/subchannel.ts';
export type { MovedCcw } from './css/transfer.ts';
export { EckdDevice, type EckdOptions } from './devices/dasd/eckd.ts';
export { ImageError, readImage, writeImage } from './devices/dasd/image.ts';
export type { Unit as EckdUnit } from './devices/dasd/reads.ts';
export type { CkdRecord, Track } from './devices/dasd/track.ts';
export { type EmptyOptions, type TrackSource, Volume } from './devices/dasd/volume.ts';
export type { StatefulHardware } from './devices/device_state.ts';
export { type DeviceMemory, DmaPort, type DmaResult, whenDone } from './devices/dma.ts';
export type { ActionFields, ActionResult, DeviceDescription, MachineDescription } from './devices/model.ts';
export type { PciBarOptions } from './devices/pci_bar.ts';
export { PciConfigSpace, type PciIdentity } from './devices/pci_config.ts';
export {
  type PciBar,
  PciDevice,
  type PciDeviceOptions,
  type PciHost,
  type Width,
} from './devices/pci_device.ts';
export { type MessageSink, Msi, type MsiOptions, Msix, type MsixOptions } from './devices/pci_msi.ts';
export type { ChannelPlugOptions, PluggedChannelDevice } from './drivers/ccw/plug.ts';
export type { PciArchHook, PciDeviceRegion, VfioPciDevice, VfioPciOptions } from './drivers/pci/device.ts';
export type { PlugOptions } from './drivers/pci/plug.ts';
export { errnoName, VfioError } from './errno.ts';
export {
  type ContainerView,
  inspectContainer,
  inspectPermissions,
  type MapView,
  type PinView,
} from './inspect/container.ts';
export { type CcwView, inspectProgram, type ProgramView, watchProgram } from './inspect/program.ts';
export { DEFAULT_DEVICES, Machine } from './machine.ts';
export {
  type PortLike,
  portLink,
  readableBytes,
  type WebSocketLike,
  webSocketLink,
  webStreamLink,
} from './migration/adapters.ts';
export { StreamError, type StreamFault } from './migration/frames.ts';
export { type Link, LinkError, linkOf, linkPair, Pipe } from './migration/link.ts';
export { Migration } from './migration/migration.ts';
export { type NodeReadable, type NodeWritable, nodeLink, socketLink, writeAll } from './migration/node.ts';
export {
  type ConvergencePolicy,
  type CpuDirtyLog,
  type MigrationDevice,
  MigrationError,
  type MigrationGuest,
  type MigrationOptions,
  type MigrationOutcome,
  type MigrationPhase,
  type MigrationProgress,
  type MigrationRam,
  type MigrationReport,
  type PeerMapping,
  type RoundReport,
} from './migration/types.ts';
export { type IoctlArg, type MmapOptions, VfioProcess } from './process.ts';
export { deviceAction } from './script/action.ts';
export type { ScriptLine } from './script/parse.ts';
export { type Mismatch, type ResultLine, runScript, type ScriptOptions, type ScriptOutcome } from './script/run.ts';
export { type TraceSink, trace } from './script/trace.ts';
export { type Json, type JsonObject, ScriptError } from './script/values.ts';
export { createVfioFrom, VfioInstance, type VfioOptions } from './source.ts';
export { type InfoCap, walkCaps } from './uapi/caps.ts';
export {
  CCW_BUFFER_MAX,
  CCW_BUFFER_SIZE,
  CCW_BUFFER_SLOTS,
  VFIO_DEVICE_CCW_CMD_REQUEST,
  VfioCcwCmdRequest,
} from './uapi/ccw_request.ts';
export * from './uapi/constants.ts';
export * from './uapi/ioctl.ts';
export type {
  BytesField,
  Field,
  Fields,
  IntField,
  NestedField,
  S32Field,
  Struct,
  StructBase,
  StructType,
  U8,
  U16,
  U32,
  U64,
} from './uapi/struct.ts';
export * from './uapi/structs.ts';
export * from './uapi/zdev.ts';
export type { VfioDevice } from './vfio/device.ts';
export { EventFd } from './vfio/eventfd.ts';
export type { VfioFile } from './vfio/file.ts';
export type { Group as VfioGroup, GroupType } from './vfio/group.ts';
export type { IoMapping } from './vfio/mm.ts';
export type { AccessKind } from './vfio/ops.ts';
export { shareEventfd, waitForSignal } from './vfio/shared_signal.ts';
export type { Task, TaskOptions } from './vfio/task.ts';
export type { UserArg, UserBuffer } from './vfio/user.ts';
export type { ApControl, VmLink, ZdevVmProvider } from './vfio/vm.ts';
export { attachMatrix, attachSubchannel, attachZpci, type FunctionIdentity } from './vmm/attach.ts';
export { encodeInsn, INSN_NAMES, type Insn, type Outcome, type Registers } from './vmm/cpu.ts';
export type { ChannelSubsystem, PendingInterruption } from './vmm/css/css.ts';
export type { ErrorEvent as FunctionErrorEvent } from './vmm/events.ts';
export { VirtualMachine, type VirtualMachineOptions } from './vmm/machine.ts';
export type { GuestStorage as MachineStorage } from './vmm/storage.ts';
export type { FunctionGroup, FunctionInfo, FunctionState, ZpciFunction } from './vmm/zpci/function.ts';
export { blockStoreAllowed, LOAD_RULES, planStore, type StorePiece, type StoreRules } from './zpci.ts';
