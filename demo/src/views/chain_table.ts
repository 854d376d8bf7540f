// The three columns of a channel program: tables of CCWs, of which one may be picked and one may be where the channel is; the guest's can be edited.
import { h, hex } from '../dom.ts';
import type { OwnCcw } from '../own.ts';

export interface CcwRow {
  /** Column and place: what brings the focus back after the table is drawn again. */
  readonly id: string;
  readonly cells: readonly (string | Node)[];
  readonly picked: boolean;
  readonly classes: string;
  readonly pick: () => void;
}

export function ccwRow({ id, cells, picked, classes, pick }: CcwRow): HTMLElement {
  return h(
    'tr',
    {
      'data-pick': '1',
      'data-row': id,
      tabIndex: 0,
      'aria-selected': String(picked),
      class: `${classes}${picked ? ' on' : ''}`,
      onclick: pick,
      onkeydown: (event: KeyboardEvent) => {
        if (event.key !== 'Enter' && event.key !== ' ') return;
        event.preventDefault();
        pick();
      },
    },
    cells.map((cell) => h('td', { class: 'mono' }, cell)),
  );
}

/** A CCW of the reader's own; `change` gets it when a field holds another valid number. The row stays. */
export function editRow(first: OwnCcw, index: number, change: (ccw: OwnCcw) => void): HTMLElement {
  let ccw = first;
  const show = (name: keyof OwnCcw): string => (name === 'count' ? String(ccw.count) : hex(ccw[name]));
  const cell = (name: keyof OwnCcw, width: number) =>
    h('input', {
      class: 'mono',
      size: width,
      'aria-label': `${name} of CCW ${index + 1}`,
      value: show(name),
      onchange: (event: Event) => {
        const input = event.target as HTMLInputElement;
        const value = Number(input.value);
        const limit = name === 'cda' ? 0xffffffff : name === 'count' ? 0xffff : 0xff;
        if (input.value.trim() !== '' && Number.isInteger(value) && value >= 0 && value <= limit) {
          ccw = { ...ccw, [name]: value };
          change(ccw);
        }
        input.value = show(name);
      },
    });
  return h(
    'tr',
    null,
    h('td', { class: 'mono' }, hex(0x1000 + 8 * index)),
    h('td', null, cell('cmd', 4)),
    h('td', null, cell('flags', 4)),
    h('td', null, cell('count', 5)),
    h('td', null, cell('cda', 9)),
  );
}

export function chainTable(
  title: string,
  colour: string,
  head: readonly string[],
  rows: HTMLElement[],
  note: string,
): HTMLElement {
  return h(
    'section',
    { class: 'panel' },
    h('h2', { class: colour }, title),
    rows.length === 0
      ? h('p', { class: 'note' }, note)
      : h(
          'div',
          { class: 'scroll' },
          h(
            'table',
            { class: 'chain' },
            h(
              'thead',
              null,
              h(
                'tr',
                null,
                head.map((name) => h('th', { scope: 'col' }, name)),
              ),
            ),
            h('tbody', null, rows),
          ),
        ),
  );
}
