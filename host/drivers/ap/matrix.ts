// A matrix: adapters, domains and control domains as masks, and their text forms in sysfs. Spec ap sections 1 and 3.
import { ApMask } from '../../devices/ap/mask.ts';

export class ApMatrix {
  readonly apm = new ApMask();
  readonly aqm = new ApMask();
  readonly adm = new ApMask();

  clone(): ApMatrix {
    const copy = new ApMatrix();
    copy.copyFrom(this);
    return copy;
  }
  copyFrom(other: ApMatrix): void {
    this.apm.copyFrom(other.apm);
    this.aqm.copyFrom(other.aqm);
    this.adm.copyFrom(other.adm);
  }
  clear(): void {
    this.apm.clearAll();
    this.aqm.clearAll();
    this.adm.clearAll();
  }
  equals(other: ApMatrix): boolean {
    return this.apm.equals(other.apm) && this.aqm.equals(other.aqm) && this.adm.equals(other.adm);
  }
  /** Is the queue in the cross product? */
  has(apqn: number): boolean {
    return this.apm.has(apqn >> 8) && this.aqm.has(apqn & 0xff);
  }
  /** Every queue of the cross product, adapters first. */
  *queues(): Generator<number> {
    const domains = this.aqm.numbers();
    for (const apid of this.apm.numbers()) for (const apqi of domains) yield (apid << 8) | apqi;
  }
}

const hex = (number: number, digits: number): string => number.toString(16).padStart(digits, '0');

/** `matrix`: the cross product, one queue a line; adapters or domains alone as `aa.` or `.dddd`. */
export function showMatrix({ apm, aqm }: ApMatrix): string {
  const [adapters, domains] = [apm.numbers(), aqm.numbers()];
  if (domains.length === 0) return adapters.map((apid) => `${hex(apid, 2)}.\n`).join('');
  if (adapters.length === 0) return domains.map((apqi) => `.${hex(apqi, 4)}\n`).join('');
  return adapters.flatMap((apid) => domains.map((apqi) => `${hex(apid, 2)}.${hex(apqi, 4)}\n`)).join('');
}

/** `control_domains`. */
export const showControlDomains = ({ adm }: ApMatrix): string =>
  adm
    .numbers()
    .map((domain) => `${hex(domain, 4)}\n`)
    .join('');

/** `ap_config`: three masks and a new line, 201 characters. */
export const showConfig = ({ apm, aqm, adm }: ApMatrix): string => `${apm},${aqm},${adm}\n`;

/** Three masks; null when one is missing, malformed, or followed by anything but a new line. */
export function parseConfig(text: string): ApMatrix | null {
  const parts = text.replace(/\n$/, '').split(',');
  const masks = parts.map((part) => ApMask.parse(part));
  const [apm, aqm, adm] = masks;
  if (parts.length !== 3 || apm == null || aqm == null || adm == null) return null;
  const matrix = new ApMatrix();
  matrix.apm.copyFrom(apm);
  matrix.aqm.copyFrom(aqm);
  matrix.adm.copyFrom(adm);
  return matrix;
}
