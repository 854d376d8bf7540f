// Calls and interrupts: the running log of every call of this page's process, decoded, and the interrupts between them. It can be taken away as a
// script that `vfio-wasm run` replays.
import { fill, h } from '../dom.ts';
import { intro } from '../intro.ts';
import type { View } from '../view.ts';
import type { World } from '../world.ts';

/** As many as a reader will scroll through. */
const MOST = 400;
const LEAD =
  'Everything above the hardware is made of system calls. This is every call behind the channel program and the IOVA map, newest first, as the kernel would have seen it, and each interrupt that came back. (A migration has two machines of its own; their calls are not in this list.)';
const TRIES = [
  ['everything → refused calls:', 'what came back with an errno.'],
  [
    'Save as script:',
    'the calls with their results as a file; npx vfio-wasm run calls.jsonl repeats them and checks each result.',
  ],
] as const;
const WORDS = [
  ['ioctl', 'a request to a file: to a container, a group or a device'],
  ['$f1, $m8', 'the file that an earlier call opened; the memory that an earlier call allocated'],
  ['⚡', 'an eventfd was signalled: the device interrupts'],
  ['hardware', 'no call: what this page has the device behind the driver do'],
  ['EEXIST, EINVAL …', 'the errno with which a call was refused'],
] as const;

export function callsView(): View {
  let world: World;
  const list = h('ol', {
    class: 'scroll mono',
    id: 'calls',
    tabIndex: 0,
    'aria-label': 'Calls, newest first',
    style: 'max-height: 60vh; list-style: none; padding: 0; margin: 0',
  });
  const count = h('span', { class: 'note' });
  const filter = h('input', {
    id: 'filter',
    'aria-label': 'Only calls that contain',
    placeholder: 'filter, e.g. MAP_DMA',
    oninput: () => refresh(),
  });
  let only: 'all' | 'failed' | 'interrupt' = 'all';

  function refresh(): void {
    const wanted = filter.value.trim().toLowerCase();
    const shown = world.log.entries.filter(
      (entry) =>
        (wanted === '' || entry.text.toLowerCase().includes(wanted)) &&
        (only === 'all' || (only === 'failed' ? entry.failed : entry.kind === 'interrupt')),
    );
    fill(count, `${Math.min(shown.length, MOST)} shown of ${world.log.entries.length}`);
    fill(
      list,
      shown
        .slice(-MOST)
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
    calls: false,
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
        intro(LEAD, TRIES, WORDS),
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
