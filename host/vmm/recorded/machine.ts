// Builds the machine of a description: every function and every subchannel is a device behind its VFIO driver, and the layer reaches it as any
// program would, through a group, a container and a descriptor.
import type { ManualClock } from '../../clock.ts';
import { EngineSubchannel } from '../../css/engine.ts';
import { DescribedFunction } from '../../devices/described_function.ts';
import { Terminal3270 } from '../../devices/terminal_3270.ts';
import { VirtioCcw } from '../../devices/virtio_ccw.ts';
import { DEFAULT_START_DMA } from '../../devices/zpci_hardware.ts';
import { createCcwDevice } from '../../drivers/ccw/vfio_ccw.ts';
import { VfioPciDevice } from '../../drivers/pci/device.ts';
import { VFIO_PCI_OPS } from '../../drivers/pci/vfio_pci.ts';
import type { VfioInstance } from '../../source.ts';
import { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE } from '../../uapi/constants.ts';
import { VFIO_IOMMU_MAP_DMA } from '../../uapi/ioctl.ts';
import { VfioIommuType1DmaMap } from '../../uapi/structs.ts';
import { attachFunction, openDevice } from '../attach.ts';
import { decodeInsn } from '../cpu.ts';
import { VfioSubchannelBackend } from '../css/vfio_backend.ts';
import { VirtualMachine } from '../machine.ts';
import { FH_INDEX, type ZpciFunction } from '../zpci/function.ts';
import { VfioFunctionBackend } from '../zpci/vfio_backend.ts';
import { acceptance, describeBars, type MachineJson } from './description.ts';
import { parseBytes, type Step } from './lines.ts';
import { LoopGuard } from './loop_guard.ts';
import type { RecordedMachine } from './runner.ts';

const FIRST_GROUP = 1000;

const FUNCTION_UNIT = {
  pageSizes: 0x1000n,
  ranges: [{ start: DEFAULT_START_DMA, last: (1n << 42n) - 1n }],
  coherent: true,
  msiIsolated: true,
  limit: 1n << 42n,
};

/** Header fields that a guest can change: command, cache line, BARs, interrupt line. What firmware set is set again by a reset. */
const WRITABLE_HEADER: ReadonlyArray<readonly [at: number, size: number]> = [
  [0x04, 2],
  [0x0c, 1],
  ...[0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => [at, 4] as const),
  [0x3c, 1],
];

/** Virtio device ids by what a description calls them. */
const VIRTIO_IDS: ReadonlyArray<readonly [RegExp, number]> = [
  [/virtio net/, 1],
  [/virtio block/, 2],
  [/virtio rng/, 4],
];

/** @param vfio an instance whose memory holds the described storage, with a clock that stands still between instructions. */
export function buildRecordedMachine(vfio: VfioInstance, clock: ManualClock, json: MachineJson): RecordedMachine {
  const vm = new VirtualMachine(vfio, { storage: Number(json.storage) });
  let group = FIRST_GROUP;
  const functions: Described[] = [];
  const controlUnits: Array<VirtioCcw | Terminal3270> = [];
  json.functions.forEach((fn, place) => {
    const index = Number(fn.handle) & FH_INDEX;
    const [vendor = '0', device = '0'] = (fn.vendor_device ?? '').split(':');
    const bars = describeBars(fn.bars ?? standardBars(fn.what));
    const config = configSpace(json, fn);
    const hw = new DescribedFunction({
      vendor: Number.parseInt(vendor, 16),
      device: Number.parseInt(device, 16),
      ...(config === null ? {} : { config }),
      bars,
    });
    const name = `${(0x8000 + place).toString(16)}:00:00.0`;
    const groupName = String(group++);
    vfio.kernel.registerDevice(
      new VfioPciDevice(vfio.kernel, name, VFIO_PCI_OPS, hw),
      groupName,
      'iommu',
      FUNCTION_UNIT,
    );
    const opened = openDevice(vfio, groupName, name);
    const backend = new VfioFunctionBackend(vfio, vm.storage, {
      device: opened.device,
      container: opened.container,
      regions: acceptance(bars),
    });
    const attached = attachFunction(vm, backend, opened.device, {
      fid: Number(fn.fid),
      uid: Number(fn.uid ?? 0),
      index,
    });
    const header = Uint8Array.from({ length: 64 }, (_, at) => backend.readConfig(at, 1)[0] as number);
    functions.push({ hw, fn: attached, header, only: onlyOf(fn.group), alone: fn.group === BUS_MASTER_GROUP });
  });
  /** Which functions are on board for this line. */
  const board = (id: string): void => {
    const present = functions.filter(({ only }) => only?.test(id) ?? true);
    const alone = present.find(({ alone }) => alone);
    vm.functions.clear();
    for (const { fn } of alone === undefined ? present : [alone]) vm.functions.set(fn.index, fn);
  };
  const onBoard = (index: number): Described | undefined => functions.find(({ fn }) => vm.functions.get(index) === fn);
  const container = { fd: -1 };
  const shown: Array<readonly [sid: number, only: RegExp]> = [];
  json.subchannels.forEach((subchannel) => {
    const device = controlUnit(subchannel.what);
    const sid = Number(subchannel.sid);
    const busId = `0.${(sid >> 17) & 3}.${(sid & 0xffff).toString(16).padStart(4, '0')}`;
    controlUnits.push(device);
    const only = /\(([\w-]+) only\)/.exec(subchannel.what);
    if (only !== null) shown.push([sid, new RegExp(`^${only[1]}/`)]);
    const hardware = new EngineSubchannel({
      busId,
      core: vfio.core,
      clock,
      device: new LoopGuard(device),
      deviceNumber: Number(subchannel.devno),
    });
    const name = `00000000-0000-4000-8000-${sid.toString(16).padStart(12, '0')}`;
    const groupName = String(group++);
    vfio.kernel.registerDevice(createCcwDevice(vfio.kernel, name, hardware), groupName, 'emulated');
    const opened = openDevice(vfio, groupName, name, container.fd < 0 ? undefined : container.fd);
    if (container.fd < 0) {
      container.fd = opened.container;
      vfio.ioctl(
        container.fd,
        VFIO_IOMMU_MAP_DMA,
        new VfioIommuType1DmaMap({
          flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
          vaddr: vm.storage.vaddr,
          iova: 0n,
          size: vm.storage.size,
        }),
      );
    }
    vm.css.attach(sid, new VfioSubchannelBackend(vfio, opened.device));
  });
  return {
    vm,
    reset(line) {
      for (const { fn, hw, header } of functions) {
        fn.disable();
        hw.reset();
        hw.recorded = null;
        for (const [at, size] of WRITABLE_HEADER) fn.backend.writeConfig(at, header.slice(at, at + size));
      }
      board(line.id);
      vm.errorEvents.length = 0;
      vm.css.reset();
      vm.interrupts.reset();
      clock.advance(0);
      for (const device of controlUnits) device.reset();
      for (const [sid, only] of shown) vm.css.show(sid, only.test(line.id));
      vm.css.suppressSuspended = true;
    },
    settle: () => clock.advance(0),
    prepare(step) {
      for (const { hw } of functions) hw.recorded = null;
      prepare((index) => onBoard(index)?.hw, step);
    },
    dma(step) {
      const master = onBoard(0);
      return master !== undefined && moveData(vm, master, step);
    },
  };
}

/** A function of the description, built. */
interface Described {
  readonly hw: DescribedFunction;
  readonly fn: ZpciFunction;
  /** Its header at power-on. */
  readonly header: Uint8Array;
  /** The lines that it is on board for; null: all. */
  readonly only: RegExp | null;
  /** No other function is on board then. */
  readonly alone: boolean;
}

const BUS_MASTER_GROUP = 'dma only';
const onlyOf = (group: string | undefined): RegExp | null =>
  group === undefined ? null : new RegExp(`^${group.replace(/ only$/, '')}/`);

/** NVMe capabilities (2048 entries, 7.5 s, 4 KiB pages, all command sets), version 1.4, interrupt mask. */
const NVME_CONSTANT = 'ff07010f200840000004010000000000';

/** A controller whose registers its standard fixes needs no description: capabilities and version, then registers that keep what is stored. */
function standardBars(what = ''): MachineJson['functions'][number]['bars'] {
  if (!/^NVMe/.test(what)) return {};
  const constant = { at: 0, len: 16, what: 'first 0 writable', bytes: NVME_CONSTANT };
  return { 0: { size: 0x4000, regions: [constant, { at: 16, len: 0x1000 - 16, bytes: '00*4080' }] } };
}

/** Where the driver of the bus master keeps the ring that the function works through. */
const RING = DEFAULT_START_DMA + 0x400n;
const ENABLE_BUS_MASTER = Uint8Array.of(6, 0);

/** The function looks at its ring, which it also writes, and moves the data. @returns whether it got through. */
function moveData(vm: VirtualMachine, { hw, fn }: Described, step: Step): boolean {
  const iova = BigInt(step.v ?? 0);
  const data = Uint8Array.from({ length: Number(step.len) }, (_, i) => 7 * i + 3 + (i >> 8));
  const write = step.dma === 'write';
  fn.backend.writeConfig(4, ENABLE_BUS_MASTER);
  const ring = new Uint8Array(4);
  const master = hw.dma;
  if (master.read(RING, ring) !== 0 || master.write(RING, ring) !== 0) return !vm.dmaFault(fn, RING);
  if ((write ? master.write(iova, data) : master.read(iova, data)) === 0) return true;
  let at = iova;
  for (let known = fn.shadow.find(at); known !== undefined && (known.write || !write); known = fn.shadow.find(at))
    at = (at & ~0xfffn) + 0x1000n;
  return !vm.dmaFault(fn, at);
}

const VIRTIO_BLOCK = 2;
/** A block device of 1 MiB: 2048 sectors, 254 segments, 2/16/63 geometry, blocks of 512; legacy byte order is the guest's. */
const BLOCK_1_MIB = {
  config: parseBytes(
    '000000000000080000000000000000fe0002103f00000200000000000000000001000001003fffff0000000100000001003fffff0000000101',
  ),
  features: [0x39006e54, 0x00000101],
  queue: 256,
} as const;

/** The device that a description names. */
function controlUnit(what: string): VirtioCcw | Terminal3270 {
  if (/3270/.test(what)) return new Terminal3270();
  const id = VIRTIO_IDS.find(([name]) => name.test(what))?.[1];
  if (id === undefined) throw new TypeError(`a subchannel with "${what}" cannot be built`);
  return id === VIRTIO_BLOCK ? new VirtioCcw({ id, ...BLOCK_1_MIB }) : new VirtioCcw({ id });
}

/** The described bytes; without any, those of a described function of the same vendor under the function's own id. */
function configSpace(json: MachineJson, fn: MachineJson['functions'][number]): Uint8Array | null {
  if (fn.config !== undefined) return parseBytes(fn.config);
  const [vendor = '', device = '0'] = (fn.vendor_device ?? '').split(':');
  const sibling = json.functions.find((other) => other.config !== undefined && other.vendor_device?.startsWith(vendor));
  if (sibling?.config === undefined) return null;
  const bytes = parseBytes(sibling.config);
  new DataView(bytes.buffer).setUint16(2, Number.parseInt(device, 16), true);
  return bytes;
}

/** Arms the function that this load goes to with the bytes that were recorded for it. A register that is not listed kept what it held. */
function prepare(functions: (index: number) => DescribedFunction | undefined, step: Step): void {
  const insn = decodeInsn(parseBytes(step.op ?? ''));
  if (insn?.name !== 'PCILG' || step.cc !== 0) return;
  const request = BigInt(step.in?.[`r${insn.r2}`] ?? 0);
  const hw = functions(Number((request >> 32n) & BigInt(FH_INDEX)));
  if (hw === undefined) return;
  const data = `r${insn.r1}`;
  const value = BigInt(step.out?.[data] ?? step.in?.[data] ?? 0);
  const length = Number(request & 15n);
  // Lengths that are no transfer move the lowest power of two in them.
  const moved = length & -length;
  hw.recorded = Uint8Array.from({ length: moved }, (_, i) => Number((value >> BigInt(8 * (moved - 1 - i))) & 0xffn));
}
