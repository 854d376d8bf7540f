// The description of a machine that recorded sequences ran on (vectors/insn, machine.json), as far as results depend on it.
import type { DescribedBar, DescribedRegion } from '../../devices/described_function.ts';
import type { BarRegion } from '../zpci/backend.ts';
import { parseBytes } from './lines.ts';

interface JsonRegion {
  at: number;
  len: number;
  what?: string;
  sizes?: number[];
  bytes?: string;
}

/** machine.json. */
export interface MachineJson {
  storage: string;
  functions: Array<{
    fid: string;
    uid?: string;
    handle: string;
    /** Only on board for this group of sequences. */
    group?: string;
    what?: string;
    vendor_device?: string;
    bars?: Record<string, { size: number; regions?: JsonRegion[] }>;
    config?: string;
  }>;
  group: { id: number; interrupts: number; maxstbl: number; mui: number; msi_addr: string };
  subchannels: Array<{ sid: string; devno: string; what: string }>;
  subchannel_common: { pim: string; pam: string; pom: string };
}

const ALL_SIZES = [1, 2, 4, 8];
const ENTRY = 16;

/** The region as a model: what is in it at power-on, and how many of its bytes a store changes. */
function region({ at, len, what = '', sizes = ALL_SIZES, bytes = '' }: JsonRegion): DescribedRegion {
  if (/^MSI-X table/.test(what)) {
    const content = new Uint8Array(len);
    for (let mask = 12; mask < len; mask += ENTRY) content[mask] = 1;
    return { at, length: len, sizes, content, fill: 0, writable: len };
  }
  const content = parseBytes(bytes);
  const base = { at, length: len, sizes, content, fill: content.length > 0 ? 0xff : 0 };
  if (/^pending bits/.test(what)) return { ...base, writable: 0 };
  const first = /first (\d+) writable/.exec(what);
  if (first !== null) return { ...base, writable: Number(first[1]) };
  // Registers that only a recording knows: the accesses count, not what they mean.
  return { ...base, writable: len, recorded: content.length === 0 };
}

export function describeBars(bars: MachineJson['functions'][number]['bars'] = {}): Record<number, DescribedBar> {
  return Object.fromEntries(
    Object.entries(bars).map(([index, { size, regions }]): [number, DescribedBar] => [
      Number(index),
      { size, regions: (regions ?? [{ at: 0, len: size }]).map(region) },
    ]),
  );
}

/** What each BAR takes, for the layer. */
export function acceptance(bars: Record<number, DescribedBar>): Map<number, BarRegion[]> {
  return new Map(Object.entries(bars).map(([index, { regions }]) => [Number(index), [...regions]]));
}

/** @throws TypeError when it lacks what a machine needs. */
export function parseMachine(text: string): MachineJson {
  let json: MachineJson | null;
  try {
    json = JSON.parse(text) as MachineJson | null;
  } catch {
    throw new TypeError('machine.json is not JSON');
  }
  if (typeof json?.storage !== 'string' || !Array.isArray(json.functions) || !Array.isArray(json.subchannels))
    throw new TypeError('machine.json needs "storage", "functions" and "subchannels"');
  return json;
}
