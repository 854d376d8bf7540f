// Public names for Node; the core is read from beside this file.
import { readFile } from 'node:fs/promises';
import { type CoreSource, createVfioFrom, type VfioInstance, type VfioOptions } from './public.ts';

export * from './public.ts';

const source: CoreSource = async () => WebAssembly.compile(await readFile(new URL('./core.wasm', import.meta.url)));

/** Makes an instance of the subsystem. Asynchronous because the core is compiled; the calls themselves are synchronous. */
export const createVfio = (options?: VfioOptions): Promise<VfioInstance> => createVfioFrom(source, options);
