// A fresh core for each test; compiled once. The packed core runs the same in Node and in the browser.
import { type Core, type CoreOptions, createCore } from '../../host/core.ts';
import { compilePacked } from '../../host/unpack.ts';

let compiled: Promise<WebAssembly.Module> | undefined;

export const coreSource = (): Promise<WebAssembly.Module> => {
  compiled ??= compilePacked();
  return compiled;
};

export const freshCore = (options: CoreOptions = {}): Promise<Core> => createCore(coreSource, options);
