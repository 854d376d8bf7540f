// The address of the page carries what is seen: view, scenario, seed and each view's settings. The same address shows the same again.

const listeners = new Set<() => void>();

function read(): URLSearchParams {
  return new URLSearchParams(location.hash.slice(1));
}

/** A setting from the address, or the default. */
export function setting(name: string, fallback: string): string {
  return read().get(name) ?? fallback;
}

/** Changes settings in the address without a new entry in the history. Empty values go. */
export function set(values: Record<string, string | number>): void {
  const params = read();
  for (const [name, value] of Object.entries(values)) {
    if (value === '') params.delete(name);
    else params.set(name, String(value));
  }
  const hash = `#${params.toString()}`;
  if (hash !== location.hash) history.replaceState(null, '', hash);
}

/** Called when the reader changes the address by hand or walks through the history. */
export function onNavigate(listener: () => void): void {
  listeners.add(listener);
}
addEventListener('hashchange', () => {
  for (const listener of listeners) listener();
});

/** The seed of this page: every random choice follows from it. */
export function seed(): number {
  const value = Number(setting('seed', '1'));
  return Number.isInteger(value) && value >= 0 ? value >>> 0 : 1;
}
