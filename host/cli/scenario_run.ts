// Runs device scenarios: a vfio-ccw device over a scripted subchannel and a guest whose pages can fail, driven through the driver's own operations
// (some scenarios use a device that is not open, which no descriptor could), observed after every step.

import { EINVAL } from '../../assembly/abi.ts';
import { ManualClock } from '../clock.ts';
import type { Core } from '../core.ts';
import { SCSW_CPA } from '../css/schib.ts';
import type { ConditionCode } from '../css/subchannel.ts';
import { ScriptedSubchannel } from '../devices/scripted.ts';
import type { CcwDevice } from '../drivers/ccw/device.ts';
import { channelPath, examine, type PathEvent, shutdown } from '../drivers/ccw/paths.ts';
import { REGION_SHIFT } from '../drivers/ccw/regions.ts';
import { createCcwDevice, vfioCcwOps } from '../drivers/ccw/vfio_ccw.ts';
import { fromHex, toHex } from '../hex.ts';
import { VFIO_DEVICE_RESET } from '../uapi/ioctl.ts';
import { EventFd } from '../vfio/eventfd.ts';
import type { VfioFile } from '../vfio/file.ts';
import type { DmaProvider } from '../vfio/ops.ts';
import { Task } from '../vfio/task.ts';
import { DirectBuffer, type UserBuffer, ValueArg, viewOf } from '../vfio/user.ts';
import { Vfio } from '../vfio/vfio.ts';
import type { Observed, ScenarioInput, ScenarioResult, Step } from './scenario_format.ts';
import { decodeArgument, encodeArgument } from './scenario_ioctl.ts';
import { VectorGuest } from './translate_guest.ts';

/** Descriptors 0 to 63 are eventfds, all others are closed. */
const EVENTFDS = 64;

class ScenarioTask extends Task {
  /** Signals since this was last emptied. */
  signals = new Map<number, number>();
  readonly #eventfds = Array.from({ length: EVENTFDS }, (_, fd) => {
    const eventfd = new EventFd().get();
    eventfd.onSignal(() => this.signals.set(fd, (this.signals.get(fd) ?? 0) + 1));
    return eventfd;
  });
  override file(fd: number): VfioFile | undefined {
    return this.#eventfds[fd];
  }
}

/** The address space of the guest; only channel programs reach it. */
const dmaOf = (iommu: number): DmaProvider => ({
  iommu,
  registerDevice() {},
  unregisterDevice() {},
  pinPages: () => -EINVAL,
  unpinPages() {},
  dmaRw: () => -EINVAL,
  deviceDma: () => -EINVAL,
});

const mask = (value: number): string => `0x${value.toString(16).padStart(2, '0')}`;

export class ScenarioRunner {
  readonly #core: Core;
  readonly #guest: VectorGuest;

  constructor(core: Core) {
    this.#core = core;
    this.#guest = new VectorGuest(core);
  }

  /** Gives everything back. */
  destroy(): void {
    this.#guest.destroy();
  }

  /** @throws VfioError ENOMEM the guest has more pages than the core; Error pages stay pinned when the device is gone, a bug of ours. */
  run(scenario: ScenarioInput): ScenarioResult {
    try {
      this.#guest.load(scenario);
      return this.#observe(scenario);
    } finally {
      this.#guest.unload();
    }
  }

  #observe(scenario: ScenarioInput): ScenarioResult {
    const run = new Run(this.#core, this.#guest.iommu);
    let result: ScenarioResult;
    try {
      result = { initial: run.observe(), steps: scenario.steps.map((step) => run.step(step)) };
    } finally {
      run.release();
    }
    const pinned = this.#guest.pinnedPages;
    if (pinned !== 0) throw new Error(`${scenario.name}: ${pinned} pages stay pinned`);
    return result;
  }
}

/** One scenario. */
class Run {
  readonly #clock = new ManualClock();
  readonly #hardware = new ScriptedSubchannel();
  readonly #task: ScenarioTask;
  readonly #device: CcwDevice;
  /** Every copy to or from the user fails. */
  #fault = false;
  #unregisterSeen = false;

  constructor(core: Core, iommu: number) {
    const vfio = new Vfio(core, { clock: this.#clock, iommuDrivers: () => [] });
    this.#task = new ScenarioTask(core, vfio.pages);
    this.#device = createCcwDevice(vfio, 'scenario', this.#hardware, { bigEndian: true });
    this.#device.dma = dmaOf(iommu);
  }

  release(): void {
    vfioCcwOps.release?.(this.#device);
  }

  step(step: Step): Observed {
    const result = this.#perform(step);
    const { ret, hex, opm, out } = typeof result === 'number' ? { ret: result } : result;
    return {
      ...(ret === undefined ? {} : { ret }),
      ...(hex === undefined ? {} : { hex }),
      ...(opm === undefined ? {} : { opm }),
      ...this.observe(),
      ...(out === undefined ? {} : { out }),
    };
  }

  observe(): Observed {
    const device = this.#device;
    const scheduled = device.unregisterWork.pending;
    const unregister = scheduled && !this.#unregisterSeen;
    this.#unregisterSeen = scheduled;
    const signals = Object.fromEntries(this.#task.signals);
    this.#task.signals.clear();
    return {
      state: device.state,
      program: device.program?.held ?? false,
      pins: device.program?.pinCount ?? 0,
      lpm: mask(device.subchannel.lpm),
      ret_code: device.ioRetCode,
      cmd_ret_code: device.cmdRetCode,
      device_ops: this.#hardware.ops.splice(0),
      signals,
      unregister,
    };
  }

  #perform(step: Step): number | Partial<Pick<Observed, 'ret' | 'hex' | 'opm' | 'out'>> {
    const device = this.#device;
    const hardware = this.#hardware;
    const task = this.#task;
    switch (step.op) {
      case 'open':
        return vfioCcwOps.openDevice?.(device) ?? 0;
      case 'close':
        vfioCcwOps.closeDevice?.(device);
        return {};
      case 'reset':
        return vfioCcwOps.ioctl?.(device, task, VFIO_DEVICE_RESET, new ValueArg(0n)) ?? 0;
      case 'write':
        return this.#write(step.region, step.pos, fromHex(step.hex));
      case 'cmd': {
        const bytes = new Uint8Array(4);
        viewOf(bytes).setUint32(0, step.command);
        return this.#write(1, 0, bytes);
      }
      case 'read': {
        const bytes = new Uint8Array(step.count);
        const ret = vfioCcwOps.read?.(device, task, this.#buffer(bytes), fileOffset(step.region, step.pos)) ?? 0;
        return ret < 0 ? ret : { ret, hex: toHex(bytes.subarray(0, ret)) };
      }
      case 'irq':
        hardware.interrupt(this.#irb(step.irb, step.host_cpa));
        return {};
      case 'work':
        this.#clock.advance(0);
        return {};
      case 'unmap':
        vfioCcwOps.dmaUnmap?.(device, BigInt(step.iova), BigInt(step.length));
        return {};
      case 'ioctl': {
        const request = Number(step.cmd);
        const bytes = encodeArgument(request, step.arg, step.size);
        const ret = vfioCcwOps.ioctl?.(device, task, request, this.#buffer(bytes)) ?? 0;
        const out = ret < 0 ? null : decodeArgument(request, step.arg, bytes);
        return out === null ? ret : { ret, out };
      }
      case 'cc':
        for (const name of ['ssch', 'hsch', 'csch'] as const) hardware.answer(name, step[name] as ConditionCode);
        return {};
      case 'stsch':
        hardware.stored = step.value as ConditionCode;
        return {};
      case 'dnv':
        hardware.valid = step.value !== 0;
        return {};
      case 'enable':
        hardware.enableResult = step.value;
        return {};
      case 'disable':
        hardware.disableResults = [...step.results];
        return {};
      case 'waitirq':
        hardware.interruptWhileWaiting = step.value !== 0;
        return {};
      case 'notoper':
        examine(device);
        return {};
      case 'shutdown':
        shutdown(device);
        return {};
      case 'chp': {
        const event = step.event.replace('_', '-') as PathEvent;
        const ret = channelPath(device, event, step.chpid, Number(step.mask));
        return { ret, opm: mask(device.subchannel.opm) };
      }
      case 'request':
        vfioCcwOps.request?.(device, step.value);
        return {};
      case 'busylock':
        device.ioMutexHeld = step.value !== 0;
        return {};
      case 'fault':
        this.#fault = step.value !== 0;
        return {};
    }
  }

  #write(region: number, pos: number, bytes: Uint8Array): number {
    return vfioCcwOps.write?.(this.#device, this.#task, this.#buffer(bytes), fileOffset(region, pos)) ?? 0;
  }

  #buffer(bytes: Uint8Array): UserBuffer {
    const buffer = new DirectBuffer(bytes);
    if (!this.#fault) return buffer;
    return { value: 0n, length: bytes.length, copyIn: () => null, copyOut: () => false };
  }

  /** The IRB, its CPA replaced by the host address that a chain and an offset stand for, if a program is held. */
  #irb(hex: string, hostCpa?: { chain: number; offset: number }): Uint8Array {
    const irb = fromHex(hex);
    const chain = hostCpa === undefined ? undefined : this.#device.program?.chains()[hostCpa.chain];
    if (hostCpa !== undefined && chain !== undefined) viewOf(irb).setUint32(SCSW_CPA, chain.host + hostCpa.offset);
    return irb;
  }
}

const fileOffset = (region: number, pos: number): bigint => (BigInt(region) << BigInt(REGION_SHIFT)) + BigInt(pos);
