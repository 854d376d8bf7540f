// Public names; the core is fetched from beside this file (browsers, bundlers that copy assets).
import { type CoreSource, createVfioFrom, type VfioInstance, type VfioOptions } from './public.ts';

export * from './public.ts';

const source: CoreSource = async () => WebAssembly.compileStreaming(fetch(new URL('./core.wasm', import.meta.url)));

/** Makes an instance of the subsystem. Asynchronous because the core is compiled; the calls themselves are synchronous. */
export const createVfio = (options?: VfioOptions): Promise<VfioInstance> => createVfioFrom(source, options);
