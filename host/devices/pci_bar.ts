// BARs as a model asks for them, and what is possible: a mistake is said when the function is built, not met later as an odd access.

/** A BAR as a model asks for it. */
export interface PciBarOptions {
  /** Bytes, a power of two: at least 16 for memory, 4 for I/O; at most 2 GiB, with 64 bits 1 TiB. */
  readonly size: number;
  /** Default `mem32`. A 64-bit BAR takes its own index and the next. */
  readonly kind?: 'mem32' | 'mem64' | 'io';
  readonly prefetchable?: boolean;
  /** Plain storage: the model's read and write are not called. */
  readonly memory?: boolean;
  /** Where firmware put it, a multiple of the size. Default a free place. */
  readonly address?: number;
}

const LAST_BAR = 5;
const MOST_32 = 2 ** 31;
/** Regions lie 2^40 apart on a descriptor. */
const MOST_64 = 2 ** 40;
const ENTRY_SIZE = 16;

/** @throws RangeError the header cannot hold such BARs. */
export function checkBars(bars: Readonly<Record<string, PciBarOptions>>): void {
  for (const [key, { size, kind = 'mem32', address = 0 }] of Object.entries(bars)) {
    const index = Number(key);
    const fail = (why: string): never => {
      throw new RangeError(`BAR ${key}: ${why}`);
    };
    if (!Number.isInteger(index) || index < 0 || index > LAST_BAR) fail('there are BARs 0 to 5');
    const least = kind === 'io' ? 4 : 16;
    const most = kind === 'mem64' ? MOST_64 : MOST_32;
    if (size < least || 2 ** Math.round(Math.log2(size)) !== size)
      fail(`${size} is not a power of two of at least ${least}`);
    if (size > most) fail(`${size} bytes, ${kind} has at most ${most}`);
    if (address % size !== 0) fail(`address ${address} is not a multiple of its size ${size}`);
    if (kind === 'mem64' && (index === LAST_BAR || bars[index + 1] !== undefined))
      fail('its upper half needs the next index');
  }
}

/** @throws RangeError the table or the pending bits are not inside a memory BAR, not at a multiple of 8, or overlap. */
export function checkMsix(
  msix: { bar: number; vectors: number; tableOffset: number; pendingOffset: number; pending: Uint8Array },
  bars: Readonly<Record<string, PciBarOptions>>,
): void {
  const bar = bars[msix.bar];
  if (bar === undefined || bar.kind === 'io') throw new RangeError(`MSI-X: BAR ${msix.bar} is no memory BAR`);
  const { tableOffset: table, pendingOffset: pending } = msix;
  const tableEnd = table + msix.vectors * ENTRY_SIZE;
  const pendingEnd = pending + msix.pending.length;
  if (table % 8 !== 0 || pending % 8 !== 0)
    throw new RangeError('MSI-X: table and pending bits begin at multiples of 8');
  if (tableEnd > bar.size || pendingEnd > bar.size)
    throw new RangeError(
      `MSI-X: table and pending bits reach to ${Math.max(tableEnd, pendingEnd)} of ${bar.size} bytes`,
    );
  if (table < pendingEnd && pending < tableEnd) throw new RangeError('MSI-X: table and pending bits overlap');
}
