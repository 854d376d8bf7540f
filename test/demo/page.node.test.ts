// The page as its readers meet it: built, served as plain files under a strict content policy, driven in Chromium.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { haveChromium, launch, type Served, serve } from '../support/browser.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe.runIf(haveChromium)('the page', () => {
  let browser: Browser;
  let server: Served;
  let page: Page;
  let errors: string[];

  beforeAll(async () => {
    execFileSync('npm', ['run', 'demo:build', '--silent'], { cwd: root, stdio: 'pipe' });
    server = await serve(join(root, 'build/demo'));
    browser = await launch();
  }, 180_000);
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  beforeEach(async () => {
    page = await browser.newPage();
    errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  });
  afterEach(async () => {
    await page.close();
    expect(errors).toEqual([]);
  });

  async function open(hash = ''): Promise<void> {
    await page.goto(`${server.url}/index.html#${hash}`);
    await page.waitForSelector('html[data-ready="true"]');
  }
  const text = async (selector: string): Promise<string> => (await page.textContent(selector)) ?? '';

  it('says how fast the core started and shows a recorded program', async () => {
    await open('seed=3');
    expect(await text('.facts')).toMatch(/core ready in \d+\.\d ms · \d+\.\d KiB of WebAssembly · seed 3/);
    expect(await text('main')).toContain('define extent');
  });

  it('steps a program from the guest to the interrupt and back', async () => {
    await open();
    await page.click('#start');
    expect(await text('main')).toContain('Translated and pinned');
    expect(await text('main')).toContain('7 pinned pages');
    await page.click('#step');
    expect(await text('main')).toContain('The channel takes a CCW');
    const last = Number(await page.getAttribute('#scrub', 'max'));
    await page.fill('#scrub', String(last));
    expect(await text('main')).toContain('Released');
    await page.fill('#scrub', String(last - 1));
    expect(await text('main')).toContain('channel end, device end');
    await page.click('#back');
    expect(await text('main')).toContain('status 0c');
  });

  it('lights up the pages of a picked CCW', async () => {
    await open();
    await page.click('#start');
    await page.click('section:has(> h2.host) tbody tr:nth-child(3)');
    expect(await page.locator('.track span.on').count()).toBe(1);
    await page.keyboard.press('Enter');
    expect(await page.locator('.track span.on').count()).toBe(0);
  });

  it('runs what it copied, whatever the guest writes afterwards', async () => {
    await open();
    await page.click('#start');
    await page.click('#tamper');
    expect(await page.locator('section:has(> h2.guest) tr.bad').count()).toBeGreaterThan(5);
    await page.click('#step');
    await page.fill('#scrub', String(Number(await page.getAttribute('#scrub', 'max')) - 1));
    expect(await text('main')).toContain('channel end, device end; subchannel status: none');
  });

  it('shows in all three columns where the channel is, and says what a status means', async () => {
    await open();
    await page.click('#start');
    await page.click('#step');
    expect(await page.locator('tr.now').count()).toBe(3);
    expect(await text('main')).toContain('status 0c (channel end, device end)');
  });

  it('keeps the focus on a control when one is switched off', async () => {
    await open();
    await page.focus('#start');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('step');
  });

  it('lets the reader edit a program and refuses a bad one with the errno', async () => {
    await open('program=own');
    await page.fill('input[aria-label="cda of CCW 3"]', '0x7000000');
    await page.press('input[aria-label="cda of CCW 3"]', 'Tab');
    await page.click('#start');
    expect(await text('main')).toContain('EINVAL');
    await page.click('#again');
    await page.fill('input[aria-label="cda of CCW 3"]', '0x8000');
    await page.press('input[aria-label="cda of CCW 3"]', 'Tab');
    await page.click('#start');
    expect(await text('main')).toContain('pinned pages');
  });

  it('carries the edited program in the address', async () => {
    await open('program=own');
    await page.click('#add-ccw');
    await page.fill('input[aria-label="count of CCW 5"]', '7');
    await page.press('input[aria-label="count of CCW 5"]', 'Tab');
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('cda of CCW 5');
    const shared = new URL(page.url()).hash.slice(1);
    await page.goto('about:blank');
    await open(shared);
    expect(await page.inputValue('input[aria-label="count of CCW 5"]')).toBe('7');
    await page.click('#drop-ccw');
    expect(page.url()).not.toContain('ccws=');
    await open('program=own&ccws=nonsense');
    expect(await page.inputValue('input[aria-label="cmd of CCW 1"]')).toBe('0x63');
  });

  it('shows mappings and the errno of what cannot be mapped', async () => {
    await open('view=iova');
    await page.click('button:has-text("Overlap")');
    expect(await text('#iova-outcome')).toContain('EEXIST');
    await page.click('button:has-text("Unmap half")');
    expect(await text('#iova-outcome')).toContain('EINVAL');
    await page.click('button:has-text("Split in two")');
    expect(await text('#iova-outcome')).toContain('two ranges of 256 KiB and 256 KiB');
    await page.click('button:has-text("Pin 4 pages")');
    expect(await text('main')).toContain('4 pages locked');
    await page.click('button:text-is("Unpin")');
    expect(await text('main')).toContain('0 pages locked');
    await page.click('button:has-text("Report dirty pages")');
    expect(await text('#iova-outcome')).toBe('4 pages reported dirty and clean from now on');
    await page.focus('canvas');
    for (const key of ['+', 'ArrowRight', '-', '0']) await page.keyboard.press(key);
    expect(await text('main')).toMatch(/Shown: 0x/);
    await page.click('button:has-text("Show all ranges")');
    await page.focus('tr[data-pick]:nth-child(1)');
    await page.keyboard.press('Enter');
    expect(await page.inputValue('#iova-iova')).toBe('0x0');
  });

  it('holds pages against the limit that a mapping was made with', async () => {
    await open('view=iova&limit=8192&iova=0x4000000&length=0x10000');
    await page.click('button:has-text("Set limit")');
    await page.click('button:text-is("Map")');
    await page.click('button:has-text("Pin 4 pages")');
    expect(await text('#iova-outcome')).toContain('ENOMEM');
    await page.click('button:text-is("Unpin")');
    expect(await text('#iova-outcome')).toContain('nothing is held');
    expect(await page.getAttribute('#iova-outcome', 'class')).toContain('bad');
  });

  it('migrates; broken or corrupted, the guest runs on at the source', async () => {
    await open('view=migration&seed=5');
    await page.click('#migrate');
    await page.waitForSelector('#verdict.good', { timeout: 30_000 });
    const verdict = await text('#verdict');
    expect(verdict).toContain('Memory is equal on both sides');
    expect(await text('[data-side="destination"] .on')).toBe('RUNNING');
    for (const fault of ['#cut', '#flip']) {
      await page.click('#migrate');
      await page.waitForFunction(() => document.querySelector('#verdict')?.textContent?.includes('pre-copy'));
      await page.click(fault);
      await page.waitForSelector('#verdict.bad', { timeout: 30_000 });
      expect(await text('[data-side="source"] .on')).toBe('RUNNING');
      expect(await text('#verdict')).toContain('runs on at the source');
    }
  });

  it('shows the same run again for the same address', async () => {
    const verdicts: string[] = [];
    for (let i = 0; i < 2; i++) {
      await open('view=migration&seed=11&dirty=2000&band=20&downtime=60');
      if (i > 0) await page.reload();
      await page.waitForSelector('html[data-ready="true"]');
      await page.click('#migrate');
      await page.waitForSelector('#verdict.good', { timeout: 30_000 });
      verdicts.push(await text('#verdict'));
    }
    expect(verdicts[1]).toBe(verdicts[0]);
  });

  it('saves its calls as a script that replays', async () => {
    await open();
    await page.click('#start');
    await page.click('#step');
    await page.click('#tab-calls');
    expect(await text('#calls')).toMatch(
      /VFIO_IOMMU_MAP_DMA \{ flags READ\|WRITE, vaddr \$m\d+, iova 0, size 0x100000 \}/,
    );
    expect(await text('#calls')).toContain('DATA_EVENTFD|ACTION_TRIGGER');
    expect(await text('#calls')).toContain('I/O interrupt');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
    const folder = mkdtempSync(join(tmpdir(), 'calls-'));
    const script = join(folder, 'calls.jsonl');
    writeFileSync(script, readFileSync(await download.path()));
    execFileSync(process.execPath, [join(root, 'dist/host/cli/main.js'), 'run', script], { stdio: 'pipe' });
    rmSync(folder, { recursive: true });
  });

  it('opens each view with what to try and the words it uses; every control has a name', async () => {
    for (const view of ['program', 'iova', 'migration', 'calls']) {
      await open(`view=${view}&program=own`);
      expect(await page.locator('.tries li').count(), view).toBeGreaterThan(1);
      await page.click('.words summary');
      expect(await page.locator('.words dt').first().isVisible(), view).toBe(true);
      const nameless = await page.$$eval('button, input, select, canvas', (controls) =>
        controls
          .filter(
            (control) =>
              !control.getAttribute('aria-label') &&
              !('labels' in control && (control.labels as NodeList | null)?.length) &&
              !control.textContent?.trim(),
          )
          .map((control) => control.outerHTML),
      );
      expect(nameless, view).toEqual([]);
    }
  });

  it('skips to the view without losing what the address says', async () => {
    await open('view=iova&seed=9');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
    expect(page.url()).toContain('seed=9');
  });

  it.each(['light', 'dark'] as const)('is usable by keyboard and at phone width, %s', async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 360, height: 740 });
    await open();
    await page.focus('#tab-program');
    for (const view of ['iova', 'migration', 'calls', 'program']) {
      await page.keyboard.press('ArrowRight');
      expect(await page.getAttribute('[aria-selected="true"]', 'data-view')).toBe(view);
      const wide = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(wide, `${view} is wider than the screen`).toBeLessThanOrEqual(0);
      const cut = await page.$$eval(
        '.scroll',
        (all) => all.filter((each) => each.scrollWidth > each.clientWidth).length,
      );
      expect(cut, `${view} has a table that is cut off`).toBe(0);
    }
    await page.keyboard.press('End');
    expect(await page.getAttribute('[aria-selected="true"]', 'data-view')).toBe('calls');
  });
});
