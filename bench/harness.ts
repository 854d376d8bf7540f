// How a row is measured: candidates take turns (A B C A B C ...), each turn runs long enough for the clock, the median of the rounds counts.
// A row's ratios are against peers measured in the same run, so that they hold when the machine's speed drifts.

/** One contestant of a row. */
export interface Candidate {
  /** `core` for ours; peers by name. */
  readonly name: string;
  /** Runs the operation `n` times. */
  run(n: number): void | Promise<void>;
}

/** What a row is about. */
export interface Subject {
  /** Table the row belongs to, such as `ccw translate + release`. */
  readonly table: string;
  /** The row, such as `b: dasd 8 x 4 KiB`. */
  readonly row: string;
  /** What one `n` is: `program`, `page`, `byte`... */
  readonly unit: string;
  /** Goals as text, from the performance goals. */
  readonly goal?: string;
  /** Further facts for the table, such as bytes per entry. */
  readonly note?: string;
}

export interface Case extends Subject {
  /** The first is ours, the others are peers. */
  readonly candidates: readonly Candidate[];
  /** Units per operation (a run over 512 pages is 512 pages); default 1. */
  readonly per?: number;
}

export interface Row extends Required<Subject> {
  /** Median nanoseconds per unit by candidate, ours first. */
  ns: Record<string, number>;
  /** Peer time divided by ours: above 1, ours is faster. */
  ratio: Record<string, number>;
}

export interface MeasureOptions {
  /** Rounds that count. */
  rounds?: number;
  /** Least duration of one turn, ms. */
  turn?: number;
}

/** Measures a case. */
export async function measure(benchCase: Case, options: MeasureOptions = {}): Promise<Row> {
  const { rounds = 7, turn = 25 } = options;
  const per = benchCase.per ?? 1;
  const counts: number[] = [];
  for (const candidate of benchCase.candidates) {
    await calibrate(candidate, turn * 2); // warm: the first thousand calls run before the optimising tiers
    counts.push(await calibrate(candidate, turn));
  }
  const times = benchCase.candidates.map(() => [] as number[]);
  for (let round = 0; round < rounds; round++)
    for (const [index, candidate] of benchCase.candidates.entries()) {
      const n = counts[index] as number;
      const start = performance.now();
      await candidate.run(n);
      times[index]?.push(((performance.now() - start) * 1e6) / (n * per));
    }
  const ns: Record<string, number> = {};
  benchCase.candidates.forEach((candidate, index) => {
    ns[candidate.name] = median(times[index] as number[]);
  });
  return rowOf(benchCase, ns);
}

/** A row from figures in hand, such as a native program's. `ns` has ours first. */
export function rowOf(subject: Subject, ns: Record<string, number>): Row {
  const [ours] = Object.values(ns);
  const ratio: Record<string, number> = {};
  for (const [name, value] of Object.entries(ns).slice(1)) ratio[name] = value / (ours as number);
  const { table, row, unit, goal = '', note = '' } = subject;
  return { table, row, unit, goal, note, ns, ratio };
}

async function calibrate(candidate: Candidate, turn: number): Promise<number> {
  let n = 1;
  for (;;) {
    const start = performance.now();
    await candidate.run(n);
    const elapsed = performance.now() - start;
    if (elapsed >= turn || n >= 2 ** 30) return n;
    n = elapsed < turn / 16 ? n * 8 : Math.ceil((n * turn * 1.1) / Math.max(elapsed, 0.001));
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
