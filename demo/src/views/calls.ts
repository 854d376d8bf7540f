// Calls and interrupts: the running log of every call of this page's process, decoded, and the interrupts between them. It can be taken away as a
// script that `vfio-wasm run` replays.
import { fill, h } from '../dom.ts';
import type { View } from '../view.ts';
import type { World } from '../world.ts';

export function callsView(): View {
  let world: World;
  const list = h('ol', {
    class: 'scroll mono',
    id: 'calls',
    style: 'max-height: 60vh; list-style: none; padding: 0; margin: 0',
  });
  const count = h('span', { class: 'note' });
  const filter = h('input', { id: 'filter', placeholder: 'filter, e.g. MAP_DMA', oninput: () => refresh() });
  let only: 'all' | 'failed' | 'interrupt' = 'all';

  function refresh(): void {
    const wanted = filter.value.trim().toLowerCase();
    const shown = world.log.entries.filter(
      (entry) =>
        (wanted === '' || entry.text.toLowerCase().includes(wanted)) &&
        (only === 'all' || (only === 'failed' ? entry.failed : entry.kind === 'interrupt')),
    );
    fill(count, `${shown.length} of ${world.log.entries.length}`);
    fill(
      list,
      shown
        .slice(-400)
        .reverse()
        .map((entry) =>
          h(
            'li',
            { class: entry.failed ? 'bad' : entry.kind === 'interrupt' ? 'pin' : '', title: entry.line ?? '' },
            entry.text,
          ),
        ),
    );
  }

  function save(): void {
    const url = URL.createObjectURL(new Blob([world.log.script()], { type: 'application/jsonl' }));
    const link = h('a', { href: url, download: 'calls.jsonl' });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  return {
    id: 'calls',
    title: 'Calls & interrupts',
    mount(given) {
      world = given;
      const choice = h(
        'select',
        {
          'aria-label': 'Which entries',
          onchange: () => {
            only = choice.value as typeof only;
            refresh();
          },
        },
        h('option', { value: 'all' }, 'everything'),
        h('option', { value: 'failed' }, 'refused calls'),
        h('option', { value: 'interrupt' }, 'interrupts'),
      );
      return h(
        'section',
        { class: 'view' },
        h(
          'p',
          { class: 'lead' },
          'Every call that this page made, newest first, as the kernel would have seen it. Saved, it is a script: the command below repeats the calls and checks the results.',
        ),
        h('p', null, h('code', null, 'vfio-wasm run calls.jsonl')),
        h(
          'div',
          { class: 'panel view' },
          h(
            'div',
            { class: 'bar' },
            filter,
            choice,
            h('button', { id: 'save', type: 'button', class: 'act primary', onclick: save }, 'Save as script'),
            count,
          ),
          list,
        ),
      );
    },
    refresh,
  };
}
