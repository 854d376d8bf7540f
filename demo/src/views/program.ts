// Channel program: the guest's chain, the copy and the translated one side by side; step, run, scrub back; click a CCW to see its addresses and
// pinned pages; change guest memory under the translator's hands to see why it copies first.
import { commandName, encode, flagNames, type GuestCcw, TIC } from '../ccw.ts';
import { fill, h, hex, keepFocus } from '../dom.ts';
import { intro } from '../intro.ts';
import { MOST_CCWS, type OwnCcw, ownFromText, ownProgram, ownToText } from '../own.ts';
import { PROGRAMS } from '../programs.ts';
import { type GuestProgram, guestChain, load, type Moment, poke, Run, type RunResult, recorded } from '../run.ts';
import { set, setting } from '../url.ts';
import type { View } from '../view.ts';
import type { World } from '../world.ts';
import { ccwRow, chainTable, editRow } from './chain_table.ts';
import { LEAD, TRIES, WORDS } from './program_words.ts';

export function programView(): View {
  let world: World;
  let program: GuestProgram;
  let run: Run | null = null;
  let result: RunResult | null = null;
  let copied: readonly GuestCcw[] = [];
  let guest: readonly GuestCcw[] = [];
  let edited = ownFromText(setting('ccws', ''));
  let at = 0;
  let picked: number | null = null;
  let tampered = false;
  let timer: ReturnType<typeof setInterval> | undefined;

  const chooser = h('select', { id: 'program', 'aria-label': 'Channel program' });
  const tables = h('div', { class: 'columns chains' });
  const moment = h('div', { 'aria-live': 'polite' });
  const slider = h('input', {
    type: 'range',
    min: 0,
    max: 0,
    value: 0,
    id: 'scrub',
    'aria-label': 'Moment of the run',
    oninput: () => go(Number(slider.value)),
  });
  const pages = h('div', { class: 'panel' });
  const button = (id: string, label: string, run: () => void, kind = '') =>
    h('button', { id, type: 'button', class: `act ${kind}`, onclick: run }, label);
  const startButton = button('start', 'Start', () => start(), 'primary');
  const stepButton = button('step', 'Step', () => step(1));
  const backButton = button('back', 'Back', () => step(-1));
  const runButton = button('run', 'Run', () => play());
  const tamperButton = button('tamper', 'Guest overwrites its program', () => tamper(), 'danger');
  const resetButton = button('again', 'Start over', () => choose());

  /** Takes the chosen program; `typed`: the reader's own, into whose fields he is typing. */
  function choose(typed = false): void {
    stop();
    if (run !== null && result === null) run.finish();
    run = null;
    result = null;
    picked = null;
    tampered = false;
    at = 0;
    const value = chooser.value;
    set({ program: value });
    const chosen = PROGRAMS.find(({ recording }) => recording.name === value);
    program = chosen === undefined ? ownProgram(edited) : recorded(chosen.recording);
    const failed = world.attempt(() => {
      load(world, program);
      return '';
    });
    guest = guestChain(world, program, null);
    copied = [];
    draw(failed.failed ? failed.text : undefined, typed);
  }

  /** The reader's program is now this one; the address carries it. */
  function edit(ccws: readonly OwnCcw[], typed: boolean): void {
    const focused = document.activeElement?.id;
    edited = ccws;
    set({ ccws: ownToText(ccws) });
    choose(typed);
    if (!typed && focused) document.getElementById(focused)?.focus();
  }

  function start(): void {
    if (run !== null) return;
    copied = guestChain(world, program, null);
    run = new Run(world, program);
    if (run.error !== null) result = run.finish();
    at = run.error === null ? 2 : 1;
    draw();
  }

  function finish(): void {
    if (run === null) start();
    if (run !== null && result === null) result = run.finish();
  }

  function step(by: number): void {
    stop();
    if (by > 0 && run === null) {
      start();
      return;
    }
    if (by > 0 && result === null) finish();
    go(at + by);
  }

  function go(to: number): void {
    const last = (result?.moments.length ?? (run === null ? 1 : 3)) - 1;
    at = Math.max(0, Math.min(last, to));
    draw();
  }

  function play(): void {
    if (timer !== undefined) {
      stop();
      draw();
      return;
    }
    finish();
    if (result !== null && at >= result.moments.length - 1) at = 0;
    timer = setInterval(() => {
      if (result === null || at >= result.moments.length - 1) stop();
      else at += 1;
      draw();
    }, 450);
    draw();
  }

  function stop(): void {
    clearInterval(timer);
    timer = undefined;
  }

  /** The guest turns every CCW that it still has into something harmful. */
  function tamper(): void {
    tampered = true;
    for (const ccw of guestChain(world, program, run?.view ?? null))
      poke(
        world,
        ccw.address,
        program.format === 1
          ? encode({ cmd: 0x02, flags: 0, count: 0xffff, cda: 0x7ffff000 })
          : Uint8Array.from([0x02, 0xff, 0xf0, 0, 0, 0, 0xff, 0xff]),
      );
    draw();
  }

  const phaseRank: Record<Moment['phase'], number> = {
    guest: 0,
    refused: 0,
    copied: 1,
    translated: 2,
    running: 2,
    interrupt: 2,
    released: 3,
  };

  function current(): Moment {
    const known = result?.moments[at];
    if (known !== undefined) return known;
    if (at >= 2 && run !== null)
      return {
        phase: 'translated',
        title: 'Translated and pinned',
        note: tampered
          ? 'The guest has overwritten its whole program (red). It is too late: the channel has the copy. Run, and see.'
          : 'The program is started and waits for the channel; the pages it needs are pinned. The guest may now do to its own program what it likes.',
      };
    if (at === 1)
      return { phase: 'copied', title: 'Copied', note: 'Each chain is copied once, 2048 bytes from its start.' };
    return {
      phase: 'guest',
      title: 'The guest’s program',
      note: 'CCWs and data lie in guest memory, at guest addresses. Nothing has been copied or pinned.',
    };
  }

  function pick(index: number): void {
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset['row'] : undefined;
    picked = picked === index ? null : index;
    draw();
    if (focused !== undefined) tables.querySelector<HTMLElement>(`[data-row="${focused}"]`)?.focus();
  }

  function draw(problem?: string, typed = false): void {
    const now = current();
    const rank = phaseRank[now.phase];
    const moments = result?.moments.length ?? (run === null ? 1 : 3);
    slider.max = String(moments - 1);
    slider.value = String(at);
    runButton.textContent = timer === undefined ? 'Run' : 'Pause';
    const switchButtons = (): void => {
      startButton.disabled = run !== null;
      backButton.disabled = at === 0;
      stepButton.disabled = result !== null && at >= moments - 1;
      tamperButton.disabled = run === null || result !== null;
    };
    keepFocus(switchButtons, stepButton, backButton, startButton);

    if (!typed) drawTables(now, rank);
    fill(
      moment,
      h('h2', { class: now.phase === 'refused' ? 'bad' : '' }, `${at + 1}/${moments}  ${now.title}`),
      h(
        'p',
        null,
        problem === undefined ? now.note : h('span', { class: 'bad' }, problem),
        now.status === undefined ? null : h('b', null, ` · ${now.status}`),
      ),
      run === null
        ? null
        : h(
            'p',
            { class: 'note' },
            `The write that copied, translated, pinned and started took ${run.translateUs.toFixed(0)} µs here: one call, seldom run before, with the recorder behind the log.`,
          ),
    );
    drawPages(rank === 2);
  }

  function drawTables(now: Moment, rank: number): void {
    guest = guestChain(world, program, run?.view ?? null);
    const changed = (index: number): boolean => {
      const mine = guest[index];
      const was = copied.find((ccw) => ccw.address === mine?.address);
      return (
        was !== undefined &&
        mine !== undefined &&
        (was.cmd !== mine.cmd || was.count !== mine.count || was.cda !== mine.cda || was.flags !== mine.flags)
      );
    };
    const editable = program.recording === undefined && run === null;
    const host = run?.view?.chains.flatMap((chain) => chain.ccws) ?? [];
    const running = host.find((ccw) => ccw.host === now.at);
    const row = (column: string, index: number, cells: (string | Node)[], classes: string): HTMLElement =>
      ccwRow({ id: `${column}-${index}`, cells, picked: picked === index, classes, pick: () => pick(index) });
    const guestRows = editable
      ? edited.map((ccw, index) => editRow(ccw, index, (changed) => edit(edited.with(index, changed), true)))
      : guest.map((ccw, index) =>
          row(
            'guest',
            index,
            [
              hex(ccw.address),
              `${ccw.cmd.toString(16).padStart(2, '0')} ${commandName(ccw.cmd, program.devtype)}`,
              flagNames(ccw.flags),
              String(ccw.count),
              hex(ccw.cda),
            ],
            `${changed(index) ? 'bad' : ''}${running?.guest === ccw.address ? ' now' : ''}`,
          ),
        );
    const copyRows = (rank >= 1 ? copied : []).map((ccw, index) =>
      row(
        'copy',
        index,
        [ccw.cmd.toString(16).padStart(2, '0'), flagNames(ccw.flags), String(ccw.count), hex(ccw.cda)],
        running?.guest === ccw.address ? 'now' : '',
      ),
    );
    const visited = new Set((result?.moments ?? []).slice(0, at + 1).flatMap((entry) => entry.at ?? []));
    const hostRows = (rank >= 2 && rank < 3 ? host : []).map((ccw, index) =>
      row(
        'host',
        index,
        [
          hex(ccw.host),
          ccw.cmd.toString(16).padStart(2, '0'),
          flagNames(ccw.flags),
          String(ccw.count),
          ccw.cmd === TIC ? `→ ${hex(ccw.cda)}` : `${ccw.idaws.length} IDAW${ccw.idaws.length > 1 ? 's' : ''}`,
        ],
        ccw === running ? 'now' : visited.has(ccw.host) ? 'done' : '',
      ),
    );
    fill(
      tables,
      chainTable(
        'Guest: what it wrote',
        'guest',
        ['address', editable ? 'cmd' : 'command', 'flags', 'count', 'data'],
        guestRows,
        'not mapped',
      ),
      chainTable(
        'Copy: what was checked',
        'copy',
        ['cmd', 'flags', 'count', 'data'],
        copyRows,
        now.phase === 'refused' ? 'Refused: nothing is kept.' : 'Not copied yet. Press Start.',
      ),
      chainTable(
        'Translated: what the channel runs',
        'host',
        ['address', 'cmd', 'flags', 'count', 'data'],
        hostRows,
        now.phase === 'refused' ? 'Refused: nothing runs.' : rank >= 3 ? 'Released.' : 'Not translated yet.',
      ),
    );
    if (editable)
      tables.firstElementChild?.append(
        h(
          'p',
          { class: 'bar' },
          h(
            'button',
            {
              type: 'button',
              id: 'add-ccw',
              class: 'act small',
              disabled: edited.length >= MOST_CCWS,
              onclick: () => edit([...edited, { cmd: 0x03, flags: 0x20, count: 1, cda: 0 }], false),
            },
            'Add a CCW',
          ),
          h(
            'button',
            {
              type: 'button',
              id: 'drop-ccw',
              class: 'act small',
              disabled: edited.length <= 1,
              onclick: () => edit(edited.slice(0, -1), false),
            },
            'Remove the last',
          ),
        ),
        h(
          'p',
          { class: 'note' },
          'Decimal, or hexadecimal with 0x. Flags add up: 0x80 CD, 0x40 CC, 0x20 SLI, 0x10 SKIP, 0x08 PCI, 0x04 IDA. Without CC or CD the program ends there.',
        ),
      );
  }

  function drawPages(pinned: boolean): void {
    const view = run?.view;
    if (view === null || view === undefined) {
      fill(pages, h('h2', null, 'Pages'), h('p', { class: 'note' }, 'None is pinned. Press Start.'));
      return;
    }
    const ccw = picked === null ? undefined : view.chains.flatMap((chain) => chain.ccws)[picked];
    const lit = new Set(ccw?.idaws.map((idaw) => Number(idaw >> 12n)) ?? []);
    world.lit = new Set(view.pinned.filter((pin) => lit.has(pin.linear)).map((pin) => pin.page << 12n));
    fill(
      pages,
      h('h2', { class: 'pin' }, pinned ? `${view.pinned.length} pinned pages` : 'No page is pinned any more'),
      h(
        'p',
        { class: 'track' },
        view.pinned.map((pin) =>
          h(
            'span',
            { class: lit.has(pin.linear) ? 'on' : '', title: `pins: ${pin.count}` },
            `${hex(pin.page << 12n)} → ${hex(pin.linear * 4096)} ×${pin.count}`,
          ),
        ),
      ),
      ccw === undefined
        ? h(
            'p',
            { class: 'note' },
            'Guest address → host address × pins. Pick a CCW to see its address list and light up its pages, here and in the IOVA map.',
          )
        : h(
            'p',
            { class: 'note' },
            ccw.idaws.length === 0
              ? 'A transfer in channel: it names our copy of its target.'
              : ['IDAL of the picked CCW: ', h('code', null, ccw.idaws.map((idaw) => hex(idaw)).join('  '))],
          ),
    );
  }

  return {
    id: 'program',
    title: 'Channel program',
    calls: true,
    mount(given) {
      world = given;
      fill(
        chooser,
        h('option', { value: 'own' }, 'Your own, on a live 3390 (edit the guest’s column)'),
        h(
          'optgroup',
          { label: 'Recorded from running systems' },
          PROGRAMS.map(({ note, recording }) => h('option', { value: recording.name }, note)),
        ),
      );
      const wanted = setting('program', PROGRAMS[0]?.recording.name ?? 'own');
      chooser.value = wanted;
      if (chooser.value !== wanted) chooser.value = 'own';
      chooser.addEventListener('change', () => choose());
      const section = h(
        'section',
        { class: 'view' },
        intro(LEAD, TRIES, WORDS),
        h(
          'div',
          { class: 'panel view' },
          h(
            'div',
            { class: 'bar' },
            chooser,
            startButton,
            backButton,
            stepButton,
            runButton,
            tamperButton,
            resetButton,
          ),
          slider,
          moment,
        ),
        tables,
        pages,
      );
      section.addEventListener('keydown', (event) => {
        if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
        if (event.key === 'ArrowRight' && event.altKey) step(1);
        if (event.key === 'ArrowLeft' && event.altKey) step(-1);
      });
      choose();
      return section;
    },
    hide: stop,
  };
}
