// Migration: two machines, the state track of their devices, a heat map of what the guest writes, the convergence of the rounds; break the link,
// corrupt a byte, see who runs afterwards.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { fill, h, keepFocus, size } from '../dom.ts';
import { intro } from '../intro.ts';
import { PAGES, type Settings, Simulation } from '../simulation.ts';
import { seed, set, setting } from '../url.ts';
import type { View } from '../view.ts';

const TRACK = ['RUNNING', 'PRE_COPY', 'RUNNING_P2P', 'PRE_COPY_P2P', 'STOP', 'STOP_COPY', 'RESUMING', 'ERROR'];

/** Simulated milliseconds in each frame of the screen: slow enough to pull the cable by hand. */
const PACE = 2;
const LEAD =
  'A guest of 4 MiB with a serial card moves to another machine while it goes on writing. Each round copies what was written since the last one, until the rest fits into the allowed pause; then the device stops, the last pages and its state cross, and exactly one side runs on. Time is simulated: the same seed and settings give the same run.';
const TRIES = [
  ['Migrate:', 'the rounds shrink, the destination takes over.'],
  [
    'guest writes 6000 pages/s, Migrate:',
    'more than the link carries; rounds stop shrinking, and the pause is longer than allowed.',
  ],
  ['Migrate, then Break the link or Corrupt a byte:', 'nothing is lost, the guest runs on at the source.'],
] as const;
const WORDS = [
  ['RUNNING', 'the device may do everything'],
  ['PRE_COPY', 'it runs while its state is read already'],
  ['RUNNING_P2P', 'it starts no DMA towards other devices, so that all can be stopped one after the other'],
  ['STOP, STOP_COPY', 'it stands still; its state is read'],
  ['RESUMING', 'it takes a state in'],
  ['ERROR', 'only a reset helps'],
  ['round', 'one pass over the pages that were written since the last one'],
  ['downtime', 'how long neither side runs'],
] as const;

/** A value of the chart's legend; nothing while nothing is pointed at. */
const shownValue = (_plot: uPlot, value: number | null): string => (value === null ? '' : value.toFixed(0));

export function migrationView(): View {
  let simulation: Simulation | null = null;
  let plot: uPlot | null = null;
  let frame = 0;
  let visible = false;

  const slider = (
    id: string,
    label: string,
    min: number,
    max: number,
    stepping: number,
    fallback: number,
    unit: (value: number) => string,
  ) => {
    const input = h('input', {
      type: 'range',
      id,
      min,
      max,
      step: stepping,
      value: Number(setting(id, String(fallback))),
    });
    const text = h('b', null, unit(Number(input.value)));
    input.addEventListener('input', () => {
      fill(text, unit(Number(input.value)));
      set({ [id]: input.value });
    });
    return { input, element: h('label', { class: 'field', for: id }, label, input, text) };
  };
  const dirty = slider('dirty', 'guest writes', 0, 6000, 100, 900, (value) => `${value} pages/s`);
  const band = slider('band', 'link', 1, 64, 1, 12, (value) => `${value} MiB/s`);
  const limit = slider('downtime', 'may stand still', 5, 300, 5, 40, (value) => `${value} ms`);
  const startButton = h(
    'button',
    { id: 'migrate', type: 'button', class: 'act primary', onclick: () => start() },
    'Migrate',
  );
  const cutButton = h(
    'button',
    { id: 'cut', type: 'button', class: 'act danger', disabled: true, onclick: () => simulation?.breakLink() },
    'Break the link',
  );
  const flipButton = h(
    'button',
    { id: 'flip', type: 'button', class: 'act danger', disabled: true, onclick: () => simulation?.corruptByte() },
    'Corrupt a byte',
  );
  const tracks = h('div', { class: 'columns' });
  const heat = h('canvas', { role: 'img', 'aria-label': 'Pages of the guest: recently written ones glow' });
  const chart = h(
    'div',
    { id: 'convergence' },
    h(
      'p',
      { class: 'note' },
      'How many pages are left to send, and how many were written again meanwhile: drawn while it runs.',
    ),
  );
  const verdict = h(
    'p',
    { role: 'status', id: 'verdict', class: 'soft' },
    'The guest runs at the source. Press Migrate.',
  );
  const events = h(
    'pre',
    {
      class: 'scroll mono',
      tabIndex: 0,
      'aria-label': 'Events, newest first',
      style: 'margin: 0; max-height: 16rem; white-space: pre-wrap',
    },
    'Nothing yet.',
  );

  const settings = (): Settings => ({
    seed: seed(),
    dirtyRate: Number(dirty.input.value),
    bandwidth: Number(band.input.value) * 1024 * 1024,
    downtime: Number(limit.input.value),
  });

  async function start(): Promise<void> {
    simulation?.close();
    cancelAnimationFrame(frame);
    const mine = new Simulation(settings());
    await mine.begin();
    simulation = mine;
    cutButton.disabled = false;
    flipButton.disabled = false;
    const tick = async (): Promise<void> => {
      if (simulation !== mine) return;
      if (visible) await mine.advance(PACE);
      draw();
      if (!mine.done) frame = requestAnimationFrame(() => void tick());
    };
    void tick();
  }

  function draw(): void {
    const states = simulation?.states() ?? { source: 'RUNNING', destination: 'RUNNING' };
    const runs = simulation?.running ?? 'source';
    const track = (name: string, state: string, runs: boolean) =>
      h(
        'section',
        { class: 'panel' },
        h('h2', { class: runs ? 'good' : '' }, `${name}${runs ? ': the guest runs here' : ''}`),
        h(
          'p',
          { class: 'track', 'data-side': name.toLowerCase() },
          TRACK.map((entry) => h('span', { class: entry === state ? 'on' : '' }, entry)),
        ),
      );
    fill(
      tracks,
      track('Source', states.source, runs === 'source'),
      track('Destination', states.destination, runs === 'destination'),
    );
    drawHeat();
    drawChart();
    if (simulation === null) return;
    fill(events, simulation.events.slice(-40).reverse().join('\n'));
    const { outcome, progress } = simulation;
    if (outcome === null) {
      verdict.className = 'soft';
      fill(
        verdict,
        progress === null
          ? 'starting'
          : `${progress.phase}, round ${progress.round}: ${progress.pagesLeft} of ${progress.pagesTotal} pages left, ${size(progress.bytes)} sent, ${simulation.clock.now().toFixed(0)} ms`,
      );
      return;
    }
    const switchOff = (): void => {
      cutButton.disabled = true;
      flipButton.disabled = true;
    };
    keepFocus(switchOff, startButton);
    const { source, destination } = outcome;
    if (source instanceof Error) {
      verdict.className = 'bad';
      fill(
        verdict,
        `Not migrated: ${source.message}. The guest runs on at the source; the destination is as it was${destination instanceof Error ? ` (it says: ${destination.message})` : ''}.`,
      );
    } else {
      verdict.className = 'good';
      fill(
        verdict,
        `Migrated in ${source.rounds.length} rounds: ${size(source.bytes)}, ${source.pages} pages with data, ${source.zeroPages} empty ones, ${source.deviceBytes} bytes of device state. Downtime ${source.downtime.toFixed(0)} ms of ${source.milliseconds.toFixed(0)} ms. Memory ${simulation.equal ? 'is equal' : 'DIFFERS'} on both sides.`,
      );
    }
  }

  function drawHeat(): void {
    const columns = 64;
    const rows = PAGES / columns;
    const width = Math.max(heat.clientWidth, 256);
    const cell = width / columns;
    const scale = devicePixelRatio || 1;
    heat.width = width * scale;
    heat.height = cell * rows * scale;
    heat.style.height = `${cell * rows}px`;
    const context = heat.getContext('2d');
    if (context === null) return;
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const now = simulation?.clock.now() ?? 0;
    for (let page = 0; page < PAGES; page++) {
      const age = now - (simulation?.written[page] ?? -1e9);
      context.fillStyle = age < 400 ? style.getPropertyValue('--dirty') : style.getPropertyValue('--line');
      context.globalAlpha = age < 400 ? 1 - age / 500 : 0.6;
      context.fillRect((page % columns) * cell, Math.floor(page / columns) * cell, cell - 1, cell - 1);
    }
  }

  function drawChart(): void {
    if (simulation === null) return;
    const { samples } = simulation;
    const data: uPlot.AlignedData = [
      samples.map((s) => s.ms),
      samples.map((s) => s.pagesLeft),
      samples.map((s) => s.dirty),
    ];
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    if (plot === null) {
      fill(chart);
      const axis = {
        stroke: colour('--soft'),
        grid: { stroke: colour('--line'), width: 1 },
        ticks: { stroke: colour('--line') },
      };
      plot = new uPlot(
        {
          width: Math.max(chart.clientWidth, 260),
          height: 220,
          scales: { x: { time: false } },
          axes: [
            { ...axis, label: 'simulated ms', size: 44 },
            { ...axis, label: 'pages', size: 52 },
          ],
          series: [
            { label: 'ms', value: shownValue },
            { label: 'pages left to send', value: shownValue, stroke: colour('--guest'), width: 2 },
            { label: 'written again meanwhile', value: shownValue, stroke: colour('--dirty'), width: 2 },
          ],
        },
        data,
        chart,
      );
      new ResizeObserver(() => plot?.setSize({ width: Math.max(chart.clientWidth, 260), height: 220 })).observe(chart);
    } else plot.setData(data);
  }

  return {
    id: 'migration',
    title: 'Migration',
    calls: false,
    mount() {
      return h(
        'section',
        { class: 'view' },
        intro(LEAD, TRIES, WORDS),
        h(
          'div',
          { class: 'panel view' },
          h('div', { class: 'bar' }, startButton, cutButton, flipButton),
          h('div', { class: 'bar' }, dirty.element, band.element, limit.element),
          verdict,
        ),
        tracks,
        h(
          'div',
          { class: 'columns' },
          h(
            'div',
            { class: 'panel' },
            h('h2', { class: 'dirty' }, 'Pages written lately'),
            heat,
            h(
              'p',
              { class: 'note' },
              'A square is a page of the guest, 4 KiB; the stronger its colour, the later it was written.',
            ),
          ),
          h('div', { class: 'panel' }, h('h2', null, 'Convergence'), chart),
        ),
        h('div', { class: 'panel' }, h('h2', null, 'What happened'), events),
      );
    },
    refresh() {
      visible = true;
      draw();
    },
    hide() {
      visible = false;
    },
  };
}
