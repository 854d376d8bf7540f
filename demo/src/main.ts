// The page: four linked views over one live instance. The address carries view, scenario and seed.
import './style.css';
import { fill, h } from './dom.ts';
import { onNavigate, seed, set, setting } from './url.ts';
import type { View } from './view.ts';
import { callsView } from './views/calls.ts';
import { iovaView } from './views/iova.ts';
import { migrationView } from './views/migration.ts';
import { programView } from './views/program.ts';
import { makeWorld, type World } from './world.ts';

const VIEWS: readonly View[] = [programView(), iovaView(), migrationView(), callsView()];

const tabs = document.querySelector('nav') as HTMLElement;
const main = document.querySelector('main') as HTMLElement;
const dock = document.querySelector('.dock') as HTMLElement;
const facts = document.querySelector('.facts') as HTMLElement;

const panels = new Map<string, HTMLElement>();
let shown: View | undefined;

function show(world: World, id: string, focus = false): void {
  const view = VIEWS.find((candidate) => candidate.id === id) ?? (VIEWS[0] as View);
  if (shown !== view) shown?.hide?.();
  shown = view;
  set({ view: view.id, seed: seed() });
  for (const button of tabs.querySelectorAll('button')) {
    const selected = button.dataset['view'] === view.id;
    button.setAttribute('aria-selected', String(selected));
    button.tabIndex = selected ? 0 : -1;
    if (selected) button.setAttribute('aria-controls', `view-${view.id}`);
    else button.removeAttribute('aria-controls');
    if (selected && focus) button.focus();
  }
  let panel = panels.get(view.id);
  if (panel === undefined) {
    panel = view.mount(world);
    panel.id = `view-${view.id}`;
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', `tab-${view.id}`);
    panels.set(view.id, panel);
  }
  main.replaceChildren(panel);
  dock.hidden = !view.calls;
  view.refresh?.();
}

function makeTabs(world: World): void {
  fill(
    tabs,
    VIEWS.map((view) => {
      const button = h(
        'button',
        { type: 'button', role: 'tab', id: `tab-${view.id}`, onclick: () => show(world, view.id) },
        view.title,
      );
      button.dataset['view'] = view.id;
      return button;
    }),
  );
  tabs.addEventListener('keydown', (event) => {
    const at = VIEWS.indexOf(shown as View);
    const targets: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 };
    const to = targets[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(world, (VIEWS.at(to % VIEWS.length) as View).id, true);
  });
}

function makeDock(world: World): void {
  const list = h('ol', null);
  fill(dock, h('h2', null, 'Latest calls, newest first'), list);
  const draw = (): void =>
    fill(
      list,
      world.log.latest(5).map((entry) => h('li', { class: entry.failed ? 'bad' : '' }, entry.text)),
    );
  draw();
  world.log.onEntry(() => {
    draw();
    shown?.refresh?.();
  });
}

/** The address keeps its settings: following the link as such would replace them. */
function makeSkipLink(): void {
  document.querySelector('.skip')?.addEventListener('click', (event) => {
    event.preventDefault();
    main.focus();
  });
}

async function start(): Promise<void> {
  const world = await makeWorld(seed());
  fill(
    facts,
    'core ready in ',
    h('b', null, `${world.startMs.toFixed(1)} ms`),
    ` · ${(world.coreBytes / 1024).toFixed(1)} KiB of WebAssembly · seed `,
    h('b', null, String(seed())),
  );
  makeTabs(world);
  makeDock(world);
  makeSkipLink();
  show(world, setting('view', 'program'));
  onNavigate(() => location.reload());
  document.documentElement.dataset['ready'] = 'true';
}

start().catch((error: unknown) => {
  fill(
    main,
    h(
      'p',
      { class: 'bad panel', role: 'alert' },
      `The page cannot start: ${error instanceof Error ? error.message : String(error)}`,
    ),
  );
  throw error;
});
