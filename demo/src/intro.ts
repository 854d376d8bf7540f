// What opens a view: what it shows, what to try, and the words that it uses.
import { h } from './dom.ts';

/** `tries` are pairs of the control's label and what then happens, `words` pairs of a word and its meaning. */
export function intro(
  lead: string,
  tries: readonly (readonly [string, string])[],
  words: readonly (readonly [string, string])[],
): HTMLElement {
  return h(
    'div',
    { class: 'intro' },
    h('p', { class: 'lead' }, lead),
    h(
      'section',
      { class: 'tries' },
      h('h3', null, 'Try'),
      h(
        'ol',
        null,
        tries.map(([label, outcome]) => h('li', null, h('b', null, label), ` ${outcome}`)),
      ),
    ),
    h(
      'details',
      { class: 'words' },
      h('summary', null, 'Words used here'),
      h(
        'dl',
        null,
        words.map(([word, meaning]) => h('div', null, h('dt', null, word), h('dd', null, meaning))),
      ),
    ),
  );
}
