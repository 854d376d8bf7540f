import { existsSync } from 'node:fs';
import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';

const chromium = process.env['CHROMIUM'] ?? '/usr/bin/chromium';

// Suites named *.node.test.ts need Node (a C compiler, the command line, processes); all others run in both.
export default defineConfig({
  test: {
    testTimeout: 120_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'node', include: ['test/**/*.test.ts'], exclude: ['test/browser/**'], environment: 'node' },
      },
      ...(existsSync(chromium)
        ? [
            {
              extends: true as const,
              test: {
                name: 'chromium',
                include: ['test/{abi,unit,conformance,property,fuzz,browser}/**/*.test.ts'],
                exclude: ['**/*.node.test.ts'],
                browser: {
                  enabled: true,
                  headless: true,
                  screenshotFailures: false,
                  provider: playwright({
                    launchOptions: {
                      executablePath: chromium,
                      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking'],
                    },
                  }),
                  instances: [{ browser: 'chromium' as const }],
                },
              },
            },
          ]
        : []),
    ],
  },
});
