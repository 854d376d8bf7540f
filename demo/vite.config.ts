import { defineConfig } from 'vite';

// A static page: works from any folder of a plain server and under script-src 'self' 'wasm-unsafe-eval'.
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  build: { outDir: '../build/demo', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0 },
  server: { host: '127.0.0.1' },
  preview: { host: '127.0.0.1' },
});
