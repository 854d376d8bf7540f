// A fresh core for each test; compiled once. The inline core runs the same in Node and in the browser.
import { type Core, type CoreOptions, createCore } from '../../host/core.ts';
import { coreBase64 } from '../../host/inline_core.ts';

let compiled: Promise<WebAssembly.Module> | undefined;

export const coreSource = (): Promise<WebAssembly.Module> => {
  compiled ??= WebAssembly.compile(Uint8Array.from(atob(coreBase64), (char) => char.charCodeAt(0)));
  return compiled;
};

export const freshCore = (options: CoreOptions = {}): Promise<Core> => createCore(coreSource, options);
