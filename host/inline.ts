// Public names with the core inside, in base64: for bundlers that do not copy assets and pages without fetch.
import type { CoreSource } from './core.ts';
import { coreBase64 } from './inline_core.ts';
import { createVfioFrom, type VfioInstance, type VfioOptions } from './source.ts';

export * from './public.ts';

const source: CoreSource = async () =>
  WebAssembly.compile(Uint8Array.from(atob(coreBase64), (char) => char.charCodeAt(0)));

/** Makes an instance of the subsystem. Asynchronous because the core is compiled; the calls themselves are synchronous. */
export const createVfio = (options?: VfioOptions): Promise<VfioInstance> => createVfioFrom(source, options);
