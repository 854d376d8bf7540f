// The core that travels inside a script: raw deflate in base64 (inline_core.ts), unpacked by the platform.
import { corePacked } from './inline_core.ts';

/** Compiles the packed core. */
export async function compilePacked(): Promise<WebAssembly.Module> {
  const packed = Uint8Array.from(atob(corePacked), (char) => char.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return WebAssembly.compile(await new Response(unpacked).arrayBuffer());
}
