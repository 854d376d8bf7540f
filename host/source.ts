// Helpers shared by the entries: how the compiled core's bytes become a module, and how an instance is put together.

import type { Clock } from './clock.ts';
import { type Core, type CoreOptions, type CoreSource, createCore } from './core.ts';
import { VfioProcess } from './process.ts';
import type { TaskOptions } from './vfio/task.ts';
import { Vfio } from './vfio/vfio.ts';

export interface VfioOptions extends CoreOptions, TaskOptions {
  /** Where time comes from; default the platform's. */
  clock?: Clock;
}

/** An instance of the subsystem and its first process, whose calls it offers directly. */
export class VfioInstance extends VfioProcess {
  readonly core: Core;
  /** The kernel's registries: groups, devices, drivers. */
  readonly kernel: Vfio;

  constructor(core: Core, kernel: Vfio, options: TaskOptions) {
    super(kernel, options);
    this.core = core;
    this.kernel = kernel;
  }

  /** Another process against the same instance, with its own memory, descriptors and limits. */
  process(options: TaskOptions = {}): VfioProcess {
    return new VfioProcess(this.kernel, options);
  }
}

/** Makes an instance with the core from this source. */
export async function createVfioFrom(source: CoreSource, options: VfioOptions = {}): Promise<VfioInstance> {
  const core = await createCore(source, options);
  const kernel = new Vfio(core, {
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    iommuDrivers: () => [],
  });
  return new VfioInstance(core, kernel, options);
}
