// The vectors that ship with the tests: gzipped files under test/data, the same in Node and in the browser.

// Written out, new URL('../data/', import.meta.url) would be taken for an asset and rewritten by the browser runner's bundler.
const here = import.meta.url;
const base = new URL('../data/', here);

async function compressed(path: string): Promise<Uint8Array> {
  if (typeof window === 'undefined') {
    const { readFile } = await import(/* @vite-ignore */ 'node:fs/promises');
    return readFile(new URL(`${path}.gz`, base));
  }
  const response = await fetch(new URL(`${path}.gz`, base));
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** The text of a data file, such as `ccw/hand.jsonl`. A server may have unpacked it on the way. */
export async function loadText(path: string): Promise<string> {
  const data = await compressed(path);
  if (data[0] !== 0x1f || data[1] !== 0x8b) return new TextDecoder().decode(data);
  const stream = new Blob([data as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).text();
}

/** One parsed value per line. */
export async function loadLines<T>(path: string): Promise<T[]> {
  const text = await loadText(path);
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as T);
}
