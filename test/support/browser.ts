// Pages in a real browser: a static server with the content policy that the documents promise to work under, and a Chromium.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { type Browser, chromium as launcher } from 'playwright-core';

/** Where Chromium is; the suites that need one run where it exists. */
export const chromium: string = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
export const haveChromium: boolean = existsSync(chromium);

const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
};

export interface Served {
  readonly url: string;
  close(): void;
}

/** Serves a folder on a free port of this machine. */
export async function serve(directory: string): Promise<Served> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://host');
    const path = join(directory, pathname === '/' ? 'index.html' : pathname);
    if (!path.startsWith(directory) || !existsSync(path) || !statSync(path).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      'content-security-policy': "script-src 'self' 'wasm-unsafe-eval'",
    });
    response.end(readFileSync(path));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { url: `http://127.0.0.1:${port}`, close: () => server.close() };
}

export const launch = (): Promise<Browser> =>
  launcher.launch({
    executablePath: chromium,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking'],
  });
