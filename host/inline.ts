// Public names with the core inside: for bundlers that do not copy assets and pages without fetch.
import { createVfioFrom, type VfioInstance, type VfioOptions } from './public.ts';
import { compilePacked } from './unpack.ts';

export * from './public.ts';

/** Makes an instance of the subsystem. Asynchronous because the core is compiled; the calls themselves are synchronous. */
export const createVfio = (options?: VfioOptions): Promise<VfioInstance> => createVfioFrom(compilePacked, options);
