// IOVA map: the container's mappings, pins and dirty pages on a zoomable strip. Make, overlap, split and unmap ranges and see the errno.
import { fill, h, hex, size } from '../dom.ts';
import { intro } from '../intro.ts';
import { random } from '../random.ts';
import { seed, set, setting } from '../url.ts';
import type { View } from '../view.ts';
import type { DemoMap, World } from '../world.ts';

const PAGE = 4096n;
const LEAD =
  'A device uses addresses of its own (iova). A container says what they mean: which of the caller’s memory, for reading or writing. Such a mapping is a promise: behind this kind of device, a page is held in place (pinned) only while a program needs it, and marked dirty so that a migration sends it again.';
const TRIES = [
  ['Overlap:', 'a second mapping over the first is refused: EEXIST.'],
  ['Unmap half:', 'a mapping goes as a whole or not at all: EINVAL.'],
  [
    'Pin 4 pages, Unpin:',
    'a program holds its pages until the device answers; they are dirty until Report dirty pages.',
  ],
  ['memlock 8192, Set limit; iova 0x4000000, Map; Pin 4 pages:', 'more than may be locked: ENOMEM.'],
] as const;
const WORDS = [
  ['iova', 'the address that a device uses; vaddr: the address that the caller uses for the same byte'],
  ['container', 'one table of mappings, shared by the devices in it'],
  ['pinned', 'a page that may not move or vanish, as a device may use it now'],
  ['dirty', 'a page that a device may have written since somebody last asked'],
  ['memlock', 'how many bytes the caller may have locked by pins'],
  ['EEXIST, EINVAL, ENOMEM', 'the errno with which Linux refuses the same call'],
] as const;

/** The rows of the map: their top and height. */
const MAPPED = [8, 34] as const;
const PINNED = [52, 24] as const;
const DIRTY = [86, 24] as const;

interface Window {
  start: bigint;
  last: bigint;
}

export function iovaView(): View {
  let world: World;
  const canvas = h('canvas', {
    tabIndex: 0,
    role: 'img',
    'aria-label': 'Map of device addresses: plus and minus zoom, arrows move, 0 shows all',
  });
  const legend = h('p', { class: 'note', 'aria-live': 'polite' });
  const table = h('div', { class: 'scroll' });
  const gauge = h('i', null);
  const gaugeText = h('span', { class: 'note' });
  const outcome = h('p', { class: 'mono', role: 'status', id: 'iova-outcome' });
  const field = (name: string, fallback: string) =>
    h('input', { id: `iova-${name}`, value: setting(name, fallback), size: 12, class: 'mono', spellcheck: false });
  const inputs = {
    iova: field('iova', '0x1000000'),
    length: field('length', '0x80000'),
    limit: field('limit', 'unlimited'),
  };
  let shown: Window = { start: 0n, last: 0x1ffffffn };

  const number = (input: HTMLInputElement): bigint | undefined => {
    try {
      const value = BigInt(input.value.trim());
      return value >= 0n && value < 1n << 64n ? value : undefined;
    } catch {
      return undefined;
    }
  };

  function request(): { iova: bigint; length: bigint } | undefined {
    const iova = number(inputs.iova);
    const length = number(inputs.length);
    set({ iova: inputs.iova.value, length: inputs.length.value });
    if (iova === undefined || length === undefined) {
      say(`not a number: ${iova === undefined ? inputs.iova.value : inputs.length.value}`, true);
      return undefined;
    }
    return { iova, length };
  }

  function say(text: string, failed: boolean): void {
    outcome.className = `mono ${failed ? 'bad' : 'good'}`;
    fill(outcome, text);
  }

  /** Runs a call and shows its result or its errno with the reason. */
  function attempt(call: () => string): void {
    const { failed, text } = world.attempt(call);
    say(text, failed);
    refresh();
  }

  const act = (label: string, run: (iova: bigint, length: bigint) => string, primary = false) =>
    h(
      'button',
      {
        class: `act${primary ? ' primary' : ''}`,
        type: 'button',
        onclick: () => {
          const asked = request();
          if (asked !== undefined) attempt(() => run(asked.iova, asked.length));
        },
      },
      label,
    );

  const look = (label: string, run: () => void) =>
    h('button', { class: 'act small', type: 'button', onclick: run }, label);

  function split(iova: bigint, length: bigint): string {
    const half = (length / 2n / PAGE) * PAGE;
    world.unmap(iova, length);
    world.map(iova, half);
    world.map(iova + half, length - half);
    return `unmapped and mapped again as two ranges of ${size(half)} and ${size(length - half)}`;
  }

  function scatter(): string {
    const next = random(seed() ^ 0x10fa);
    let made = 0;
    for (let i = 0; i < 24; i++) {
      const iova = 0x1000000n + BigInt(Math.floor(next() * 0xe00)) * PAGE;
      const length = BigInt(1 + Math.floor(next() * 96)) * PAGE;
      if (!world.attempt(() => world.map(iova, length)).failed) made++;
    }
    return `24 ranges asked for, ${made} made, ${24 - made} refused because they overlap`;
  }

  function zoom(factor: number, at = 0.5): void {
    const span = shown.last - shown.start + 1n;
    const next = BigInt(Math.max(Number(PAGE) * 16, Math.min(2 ** 64, Math.round(Number(span) * factor))));
    const anchor = shown.start + BigInt(Math.floor(Number(span) * at));
    let start = anchor - BigInt(Math.floor(Number(next) * at));
    if (start < 0n) start = 0n;
    start = (start / PAGE) * PAGE;
    const top = (1n << 64n) - 1n;
    shown = { start, last: start + next - 1n > top ? top : start + next - 1n };
    draw();
  }

  function pan(part: number): void {
    const span = shown.last - shown.start + 1n;
    let start = shown.start + BigInt(Math.floor(Number(span) * part));
    if (start < 0n) start = 0n;
    if (start + span > 1n << 64n) start = (1n << 64n) - span;
    shown = { start, last: start + span - 1n };
    draw();
  }

  function fit(): void {
    const { maps } = world.inspect();
    const first = maps[0];
    const final = maps[maps.length - 1];
    if (first === undefined || final === undefined) return;
    const span = final.last - first.iova + 1n;
    const margin = span / 20n + PAGE;
    const start = first.iova > margin ? ((first.iova - margin) / PAGE) * PAGE : 0n;
    shown = { start, last: final.last + margin };
    draw();
  }

  function draw(): void {
    const width = Math.max(canvas.clientWidth, 280);
    const height = 150;
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext('2d');
    if (context === null) return;
    context.scale(scale, scale);
    const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const span = Number(shown.last - shown.start + 1n);
    const x = (address: bigint) => (Number(address - shown.start) / span) * width;
    const { maps, pins, dirty } = world.inspect();
    context.font = '11px ui-monospace, monospace';
    context.fillStyle = colour('--soft');
    const ticks = width < 520 ? 2 : 4;
    for (let i = 0; i <= ticks; i++) {
      const address = shown.start + BigInt(Math.floor((span * i) / ticks));
      const text = hex(address);
      const at = Math.min(width - context.measureText(text).width - 2, Math.max(2, (width * i) / ticks));
      context.fillText(text, at, height - 6);
      context.fillRect((width * i) / ticks - (i === ticks ? 1 : 0), height - 22, 1, 5);
    }
    const visible = (iova: bigint, last: bigint) => last >= shown.start && iova <= shown.last;
    context.fillStyle = colour('--line');
    for (const [top, tall] of [MAPPED, PINNED, DIRTY]) context.fillRect(0, top + tall, width, 1);
    for (const map of maps) {
      if (!visible(map.iova, map.last)) continue;
      const left = x(map.iova);
      context.fillStyle = colour('--guest');
      context.globalAlpha = 0.75;
      context.fillRect(left, MAPPED[0], Math.max(1.5, x(map.last + 1n) - left - 1), MAPPED[1]);
    }
    context.globalAlpha = 1;
    context.fillStyle = colour('--pin');
    for (const pin of pins)
      if (visible(pin.iova, pin.iova + PAGE - 1n))
        context.fillRect(x(pin.iova), PINNED[0], Math.max(2, (4096 / span) * width), PINNED[1]);
    context.strokeStyle = colour('--ink');
    context.lineWidth = 2;
    for (const page of world.lit)
      if (visible(page, page + PAGE - 1n))
        context.strokeRect(x(page) - 1, PINNED[0] - 1, Math.max(2, (4096 / span) * width) + 2, PINNED[1] + 2);
    context.fillStyle = colour('--dirty');
    for (const page of dirty)
      if (visible(page, page + PAGE - 1n))
        context.fillRect(x(page), DIRTY[0], Math.max(2, (4096 / span) * width), DIRTY[1]);
    fill(legend, `Shown: ${hex(shown.start)} to ${hex(shown.last)}, ${size(shown.last - shown.start + 1n)}. `);
    legend.append(
      'Rows: ',
      h('span', { class: 'guest' }, '■ mapped '),
      h('span', { class: 'pin' }, '■ pinned '),
      h('span', { class: 'dirty' }, '■ dirty'),
      world.lit.size > 0 ? ' · outlined: the pages of the CCW that is picked in the channel program' : '',
    );
  }

  /** A range becomes what the buttons act on. */
  function choose({ iova, last }: DemoMap): void {
    inputs.iova.value = hex(iova);
    inputs.length.value = hex(last - iova + 1n);
    request();
  }

  function refresh(): void {
    const { maps, pins, dmaAvail, lockedPages, limitPages } = world.inspect();
    fill(
      table,
      h(
        'table',
        null,
        h(
          'thead',
          null,
          h(
            'tr',
            null,
            ['iova', 'size', 'vaddr', 'pins'].map((name) => h('th', null, name)),
          ),
        ),
        h(
          'tbody',
          null,
          maps.map((map) =>
            h(
              'tr',
              {
                'data-pick': '1',
                tabIndex: 0,
                onclick: () => choose(map),
                onkeydown: (event: KeyboardEvent) => {
                  if (event.key !== 'Enter' && event.key !== ' ') return;
                  event.preventDefault();
                  choose(map);
                },
              },
              h('td', { class: 'mono' }, hex(map.iova)),
              h('td', null, size(map.last - map.iova + 1n)),
              h('td', { class: 'mono' }, hex(map.vaddr)),
              h(
                'td',
                null,
                pins
                  .filter((pin) => pin.iova >= map.iova && pin.iova <= map.last)
                  .reduce((sum, pin) => sum + pin.count, 0),
              ),
            ),
          ),
        ),
      ),
    );
    const share = limitPages === Number.POSITIVE_INFINITY ? 0 : Math.min(1, lockedPages / Math.max(1, limitPages));
    gauge.style.setProperty('width', `${share * 100}%`);
    fill(
      gaugeText,
      `Memlock: ${lockedPages} pages locked, ${limitPages === Number.POSITIVE_INFINITY ? 'no limit' : `of ${limitPages} allowed`} · ${maps.length} ranges, ${dmaAvail} more allowed`,
    );
    draw();
  }

  return {
    id: 'iova',
    title: 'IOVA map',
    calls: true,
    mount(given) {
      world = given;
      canvas.addEventListener('wheel', (event) => {
        event.preventDefault();
        zoom(event.deltaY > 0 ? 1.25 : 0.8, event.offsetX / Math.max(1, canvas.clientWidth));
      });
      canvas.addEventListener('keydown', (event) => {
        const keys: Record<string, () => void> = {
          '+': () => zoom(0.5),
          '=': () => zoom(0.5),
          '-': () => zoom(2),
          '0': fit,
          ArrowLeft: () => pan(-0.2),
          ArrowRight: () => pan(0.2),
        };
        const run = keys[event.key];
        if (run === undefined) return;
        event.preventDefault();
        run();
      });
      new ResizeObserver(() => draw()).observe(canvas);
      return h(
        'section',
        { class: 'view' },
        intro(LEAD, TRIES, WORDS),
        h(
          'div',
          { class: 'panel view' },
          h(
            'div',
            { class: 'bar' },
            h('label', null, 'iova', inputs.iova),
            h('label', null, 'length', inputs.length),
            act('Map', (iova, length) => world.map(iova, length), true),
            act('Unmap', (iova, length) => world.unmap(iova, length)),
            act('Unmap half', (iova, length) => world.unmap(iova, (length / 2n / PAGE) * PAGE)),
            act('Split in two', split),
            act('Overlap', (iova, length) => world.map(iova + (length / 2n / PAGE) * PAGE, length)),
          ),
          h(
            'div',
            { class: 'bar' },
            h('button', { class: 'act', type: 'button', onclick: () => attempt(scatter) }, 'Scatter 24 ranges'),
            h(
              'button',
              { class: 'act', type: 'button', onclick: () => attempt(() => world.pinSome(number(inputs.iova))) },
              'Pin 4 pages',
            ),
            h('button', { class: 'act', type: 'button', onclick: () => attempt(() => world.unpinSome()) }, 'Unpin'),
            h(
              'button',
              { class: 'act', type: 'button', onclick: () => attempt(() => world.deviceWrites(number(inputs.iova))) },
              'Device writes 3 pages',
            ),
            h(
              'button',
              { class: 'act', type: 'button', onclick: () => attempt(() => world.harvest()) },
              'Report dirty pages',
            ),
            h('label', null, 'memlock, bytes', inputs.limit),
            h(
              'button',
              {
                class: 'act',
                type: 'button',
                onclick: () =>
                  attempt(() => {
                    set({ limit: inputs.limit.value });
                    return world.setMemlock(inputs.limit.value);
                  }),
              },
              'Set limit',
            ),
          ),
          outcome,
          canvas,
          h(
            'div',
            { class: 'bar', role: 'group', 'aria-label': 'Part of the map that is shown' },
            look('Zoom in', () => zoom(0.5)),
            look('Zoom out', () => zoom(2)),
            look('← Move', () => pan(-0.2)),
            look('Move →', () => pan(0.2)),
            look('Show all ranges', fit),
            h('span', { class: 'note' }, 'or the wheel; on the map + − ← → 0'),
          ),
          legend,
          h('div', { class: 'gauge', title: 'locked pages against the limit' }, gauge),
          gaugeText,
        ),
        h(
          'div',
          { class: 'panel' },
          h('h2', null, 'Ranges'),
          h('p', { class: 'note' }, 'Pick one to put it into the fields above.'),
          table,
        ),
      );
    },
    refresh,
  };
}
