// Elements in one line.

type Child = Node | string | number | null | undefined | false | Child[];
type Props = Record<string, unknown>;

/** An element: attributes, `on…` listeners, `class`, `style` text, and properties such as `value` or `disabled`. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props?: Props | null,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value as EventListener);
    else if (name in element && name !== 'style' && name !== 'list' && typeof value !== 'string')
      Reflect.set(element, name, value);
    else if (name === 'class') element.className = String(value);
    else if (name === 'value') Reflect.set(element, name, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

function append(parent: Node, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (child !== null && child !== undefined && child !== false)
      parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Puts these children in place of whatever was there. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** A control that has just been switched off loses the focus to `instead`, so that the keyboard does not start over at the top of the page. */
export function keepFocus(change: () => void, ...instead: HTMLButtonElement[]): void {
  const focused = document.activeElement;
  change();
  if (focused instanceof HTMLButtonElement && focused.disabled) instead.find((button) => !button.disabled)?.focus();
}

export const hex = (value: number | bigint, digits = 0): string => `0x${value.toString(16).padStart(digits, '0')}`;

/** 1536 -> `1.5 KiB`. */
export function size(bytes: number | bigint): string {
  let value = Number(bytes);
  for (const unit of ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']) {
    if (value < 1024 || unit === 'PiB') return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value}`;
}
