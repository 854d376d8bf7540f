// Input of the command line: JSON Lines files, plain or gzipped, `-` for standard input. A bad file is the caller's error: it names
// file, line and reason and ends the program with 2.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** Wrong input or usage: printed without a stack, exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The text of a file; gzip is recognised by its magic. @throws UsageError when it cannot be read. */
export function readText(path: string): string {
  try {
    const data = path === '-' ? readFileSync(0) : readFileSync(path);
    return (data[0] === 0x1f && data[1] === 0x8b ? gunzipSync(data) : data).toString('utf8');
  } catch (error) {
    throw new UsageError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export interface Line<T> {
  /** 1-based. */
  readonly number: number;
  readonly value: T;
}

/** Parses JSON Lines; blank lines and lines that begin with # are skipped. `check` says what is wrong with a value, or nothing. */
export function parseLines<T>(path: string, text: string, check: (value: unknown) => string | undefined): Line<T>[] {
  const lines: Line<T>[] = [];
  text.split('\n').forEach((raw, index) => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new UsageError(`${path}:${index + 1}: not JSON: ${(error as Error).message}`);
    }
    const wrong = check(value);
    if (wrong !== undefined) throw new UsageError(`${path}:${index + 1}: ${wrong}`);
    lines.push({ number: index + 1, value: value as T });
  });
  return lines;
}
