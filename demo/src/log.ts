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
  as?: string;
  request?: string;
  fd?: string | number;
  path?: string;
  length?: string | number;
  data?: string;
  offset?: string | number;
  name?: string;
  action?: string;
  ms?: number;
  value?: number;
  string?: string;
  struct?: Record<string, unknown>;
  expect?: { ret?: number | string; errno?: string | null };
}

/** Names of flag bits, by request. */
const FLAGS: Record<string, readonly (readonly [bit: number, name: string])[]> = {
  VFIO_IOMMU_MAP_DMA: [
    [1, 'READ'],
    [2, 'WRITE'],
  ],
  VFIO_DEVICE_SET_IRQS: [
    [4, 'DATA_EVENTFD'],
    [32, 'ACTION_TRIGGER'],
  ],
  VFIO_IOMMU_DIRTY_PAGES: [
    [1, 'START'],
    [2, 'STOP'],
    [4, 'GET_BITMAP'],
  ],
};

export class Log {
  readonly entries: Entry[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #names: ReadonlyMap<string, string>;
  #queued = false;

  /** `names`: what a reader knows the devices by. */
  constructor(names: ReadonlyMap<string, string>) {
    this.#names = names;
  }

  call(line: string): void {
    const call = JSON.parse(line) as Call;
    const errno = call.expect?.errno;
    const failed = typeof errno === 'string';
    this.#add({ line, kind: 'call', failed, text: `${describe(call, this.#names)}${failed ? ` → ${errno}` : ''}` });
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
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

const short = (value: unknown): string => {
  if (typeof value === 'number') return value > 4095 ? `0x${value.toString(16)}` : String(value);
  if (Array.isArray(value)) return value.map(short).join(' ');
  return typeof value === 'object' && value !== null ? '{…}' : String(value);
};

/** A field of a structure; flags by name where every bit has one. */
function field(request: string | undefined, name: string, value: unknown): string {
  const names = name === 'flags' && typeof value === 'number' ? (FLAGS[request ?? ''] ?? []) : [];
  const set = names.filter(([bit]) => (Number(value) & bit) !== 0);
  return set.length > 0 && set.reduce((sum, [bit]) => sum + bit, 0) === value
    ? `${name} ${set.map(([, word]) => word).join('|')}`
    : `${name} ${short(value)}`;
}

function describe(call: Call, names: ReadonlyMap<string, string>): string {
  const { op, request, struct } = call;
  const result = call.as === undefined ? '' : `$${call.as} = `;
  if (op === 'ioctl') {
    const fields = Object.entries(struct ?? {})
      .filter(([name, value]) => name === 'iova' || (name !== 'type' && name !== 'argsz' && value !== 0))
      .map(([name, value]) => field(request, name, value));
    const argument = fields.length > 0 ? ` { ${fields.join(', ')} }` : ` ${short(call.string ?? call.value ?? '')}`;
    return `${result}ioctl ${call.fd} ${request}${argument}`.trimEnd();
  }
  if (op === 'open') return `${result}open ${call.path}`;
  if (op === 'write' || op === 'read') {
    const bytes = call.data === undefined ? call.length : call.data.length / 2;
    return `${op} ${call.fd} ${bytes} bytes at ${short(call.offset ?? 0)} of the I/O region`;
  }
  if (op === 'mmap') return `${result}mmap ${short(call.length)}`;
  if (op === 'poke') return `guest memory ← ${(call.data?.length ?? 0) / 2} bytes`;
  if (op === 'idle') return `time passes: ${call.ms} ms`;
  if (op === 'device')
    return `hardware of ${names.get(call.name ?? '') ?? call.name}: ${call.action} ${call.value ?? ''}`.trimEnd();
  return `${result}${op}`;
}
