// The summary of a replay: a table by device type, then what differs and what could not be compared, in words.
import Table from 'cli-table3';
import type { ReplayReport } from '../replay/runner.ts';

interface Counts {
  programs: number;
  equal: number;
  refused: number;
  notCompared: number;
  differing: number;
}

/** Differing programs listed by name; more are counted only. */
const LISTED = 20;

export class ReplaySummary {
  readonly #types = new Map<string, Counts>();
  readonly #reasons = new Map<string, string[]>();
  readonly #differing: ReplayReport[] = [];

  get differing(): number {
    return this.#differing.length;
  }

  add(type: string, report: ReplayReport): void {
    const counts = this.#types.get(type) ?? { programs: 0, equal: 0, refused: 0, notCompared: 0, differing: 0 };
    this.#types.set(type, counts);
    counts.programs += 1;
    if (report.ok === false) {
      counts.differing += 1;
      this.#differing.push(report);
      return;
    }
    if (report.ok === null) counts.notCompared += 1;
    else if (report.outcome?.kind === 'refused') counts.refused += 1;
    else counts.equal += 1;
    if (report.reason !== undefined)
      this.#reasons.set(report.reason, [...(this.#reasons.get(report.reason) ?? []), report.name]);
  }

  /** Everything in one sentence. */
  sentence(): string {
    const all = this.#total();
    return `${all.programs} ${all.programs === 1 ? 'program' : 'programs'}: ${all.equal} equal, ${all.refused} rightly refused, ${all.notCompared} not compared, ${all.differing} different`;
  }

  table({ color }: { color: boolean }): string {
    const head = ['device', 'programs', 'equal', 'rightly refused', 'not compared', 'different'];
    const table = new Table({
      head,
      colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      ...(color ? {} : { style: { head: [], border: [] } }),
    });
    const row = (name: string, counts: Counts) => [
      name,
      counts.programs,
      counts.equal,
      counts.refused,
      counts.notCompared,
      counts.differing,
    ];
    const types = [...this.#types].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [type, counts] of types) table.push(row(type, counts));
    table.push(row('all', this.#total()));
    return [table.toString(), this.#meaning(), ...this.#listReasons(), ...this.#listDifferences()].join('\n');
  }

  #total(): Counts {
    const sum: Counts = { programs: 0, equal: 0, refused: 0, notCompared: 0, differing: 0 };
    for (const counts of this.#types.values())
      for (const key of Object.keys(sum) as Array<keyof Counts>) sum[key] += counts[key];
    return sum;
  }

  /** What "equal" says, for who sees the table for the first time. */
  #meaning(): string {
    const { programs, equal, differing } = this.#total();
    return `${equal} of ${programs} ran the same commands, moved the same data and ended with the same status as on the machine that they were\nrecorded from; ${differing === 0 ? 'none differs' : `${differing} did not`}.`;
  }

  #listReasons(): string[] {
    if (this.#reasons.size === 0) return [];
    const lines = [...this.#reasons].map(
      ([reason, names]) => `  ${names.length} x ${reason}\n      ${names.join(', ')}`,
    );
    return ['', 'Not compared or refused:', ...lines];
  }

  #listDifferences(): string[] {
    if (this.#differing.length === 0) return [];
    const shown = this.#differing.slice(0, LISTED);
    const lines = shown.map(({ name, differences }) =>
      [`  ${name}`, ...differences.map((text) => `      ${text}`)].join('\n'),
    );
    const more = this.#differing.length - shown.length;
    return ['', 'Different:', ...lines, ...(more > 0 ? [`  and ${more} more`] : [])];
  }
}
