// The running log: every call of the page's process as the script line that replays it, decoded for reading; interrupts beside.

export interface Entry {
  /** The script line, or undefined for what is no call (an interrupt). */
  readonly line: string | undefined;
  readonly text: string;
  readonly failed: boolean;
  readonly kind: 'call' | 'interrupt';
}

interface Call {
  op: string;
  request?: string;
  fd?: string | number;
  path?: string;
  length?: string | number;
  data?: string;
  offset?: string | number;
  name?: string;
  action?: string;
  struct?: Record<string, unknown>;
  expect?: { ret?: number | string; errno?: string | null };
}

const MAX = 2000;

export class Log {
  readonly entries: Entry[] = [];
  readonly #listeners = new Set<() => void>();
  #queued = false;

  call(line: string): void {
    const call = JSON.parse(line) as Call;
    const errno = call.expect?.errno;
    const failed = typeof errno === 'string';
    this.#add({ line, kind: 'call', failed, text: `${describe(call)}${failed ? ` → ${errno}` : ''}` });
  }

  interrupt(text: string): void {
    this.#add({ line: undefined, kind: 'interrupt', failed: false, text: `⚡ ${text}` });
  }

  latest(n: number): Entry[] {
    return this.entries.slice(-n).reverse();
  }

  /** The whole recording as a script that `vfio-wasm run` replays. */
  script(): string {
    return `${this.entries.flatMap((entry) => entry.line ?? []).join('\n')}\n`;
  }

  onEntry(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #add(entry: Entry): void {
    this.entries.push(entry);
    if (this.entries.length > MAX) this.dropped = true;
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** More calls than a reader will scroll through. */
  dropped = false;
}

const short = (value: unknown): string =>
  typeof value === 'number' && value > 4095
    ? `0x${value.toString(16)}`
    : typeof value === 'object' && value !== null
      ? '{…}'
      : String(value);

function describe(call: Call): string {
  const { op, request, struct } = call;
  if (op === 'ioctl') {
    const fields = Object.entries(struct ?? {})
      .filter(([name, value]) => name !== 'type' && name !== 'argsz' && value !== 0)
      .map(([name, value]) => `${name} ${short(value)}`);
    return `ioctl ${call.fd} ${request}${fields.length > 0 ? ` { ${fields.join(', ')} }` : ''}`;
  }
  if (op === 'open') return `open ${call.path}`;
  if (op === 'write' || op === 'read') {
    const bytes = call.data === undefined ? call.length : call.data.length / 2;
    return `${op} ${call.fd} ${bytes} bytes at ${short(call.offset ?? 0)}`;
  }
  if (op === 'mmap') return `mmap ${short(call.length)}`;
  if (op === 'poke') return `memory ← ${(call.data?.length ?? 0) / 2} bytes`;
  if (op === 'device') return `hardware: ${call.action} (${call.name?.slice(0, 8)}…)`;
  return op;
}
