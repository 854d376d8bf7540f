// Output of the command line: lines in large pieces, to standard output or a file.
import { closeSync, openSync, writeSync } from 'node:fs';
import { UsageError } from './input.ts';

/** Opens a file for writing. @returns its descriptor. @throws UsageError when it cannot be. */
export function openForWriting(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`);
  }
}

/** Lines to a descriptor in large pieces; commands give many short ones. */
export class Lines {
  readonly #fd: number;
  #pending = '';
  /** @param fd 1 for standard output. */
  constructor(fd: number) {
    this.#fd = fd;
  }
  /** Adds a line. */
  write(line: string): void {
    this.#pending += `${line}\n`;
    if (this.#pending.length > 1 << 16) this.flush();
  }
  /** Writes what is pending. */
  flush(): void {
    let rest = Buffer.from(this.#pending, 'utf8');
    this.#pending = '';
    while (rest.length > 0) rest = rest.subarray(writeSome(this.#fd, rest));
  }
  /** Writes what is pending and closes the descriptor. */
  close(): void {
    this.flush();
    closeSync(this.#fd);
  }
}

/** A pipe whose reader is slow answers EAGAIN: try again, it is the reader's turn. One whose reader has gone takes everything. */
function writeSome(fd: number, data: Buffer): number {
  try {
    return writeSync(fd, data);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN') return 0;
    if (code === 'EPIPE') return data.length;
    throw error;
  }
}
