// `vfio-wasm migrate`: moves a running guest between two processes, or into a file and out again.
import { createReadStream, createWriteStream, renameSync, statSync } from 'node:fs';
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { Migration } from '../migration/migration.ts';
import { socketLink, writeAll } from '../migration/node.ts';
import {
  MigrationError,
  type MigrationOptions,
  type MigrationProgress,
  type MigrationReport,
} from '../migration/types.ts';
import { type Address, connect, listen, parseAddress } from './address.ts';
import { UsageError } from './input.ts';
import { DemoGuest, FIRST_DATA_PAGE, type GuestHealth } from './migrate_guest.ts';

const HELP = `
ADDRESS is HOST:PORT, unix:PATH (or a path), or file:PATH.

  vfio-wasm migrate listen /tmp/vm.sock &        # the destination
  vfio-wasm migrate send /tmp/vm.sock            # the source

The guest is RAM that a program keeps writing, an edu and a pci-msix function, a 3390 disk and an mtty card, all busy. Both sides need the same --ram.
Afterwards the destination checks that everything fits together.
Exit status: 0 the guest runs where it should, 1 the migration failed (the source runs on) or the guest is damaged, 2 wrong usage.`;

/** How long a sender waits for somebody to listen: both are often started at once, on machines that have other work. */
const CONNECT_MS = 10_000;
/** How long a side tries to tell, or to hear, the outcome after the link broke at the decision. */
const RESOLVE_MS = 10_000;

interface CommonOptions {
  readonly ram: string;
  readonly json?: boolean;
}
interface SendOptions extends CommonOptions {
  readonly dirtyRate: string;
  readonly warmUp: string;
  readonly downtime: string;
  readonly rounds: string;
  readonly bandwidth?: string;
  readonly compress?: boolean;
}
interface ListenOptions extends CommonOptions {
  readonly run: string;
}

export function addMigrateCommand(program: Command): void {
  const migrate = program
    .command('migrate')
    .description('move a running guest between two processes, or into a file and out')
    .addHelpText('after', HELP);
  migrate
    .command('send')
    .description('run the demo guest and send it away')
    .argument('<address>', 'where a `migrate listen` waits, or file:PATH')
    .option('--ram <MiB>', 'RAM of the guest', '16')
    .option('--dirty-rate <pages>', 'pages that the guest writes per second', '2000')
    .option('--warm-up <ms>', 'how long the guest runs before', '200')
    .option('--downtime <ms>', 'stop the guest when the rest needs at most this', '50')
    .option('--rounds <n>', 'at most so many rounds of pre-copy', '30')
    .option('--bandwidth <MiB/s>', 'do not send faster')
    .option('--compress', 'compress the stream')
    .option('--json', 'the report as one line of JSON on standard output')
    .action(async (text: string, options: SendOptions) => {
      process.exitCode = await send(parseAddress(text), options);
    });
  migrate
    .command('listen')
    .description('take a guest, run it for a while, check it')
    .argument('<address>', 'where to listen, or file:PATH to read')
    .option('--ram <MiB>', 'RAM of the guest', '16')
    .option('--run <ms>', 'how long to run the guest afterwards', '200')
    .option('--json', 'the report as one line of JSON on standard output')
    .action(async (text: string, options: ListenOptions) => {
      process.exitCode = await receive(parseAddress(text), options);
    });
}

async function send(address: Address, options: SendOptions): Promise<number> {
  const pages = ramPages(options.ram);
  const guest = await DemoGuest.create(pages, count(options.dirtyRate, '--dirty-rate'));
  const display = new Display(options.json === true);
  const policy = {
    downtimeLimit: count(options.downtime, '--downtime'),
    maxRounds: count(options.rounds, '--rounds'),
    ...(options.bandwidth === undefined ? {} : { bandwidth: count(options.bandwidth, '--bandwidth') * 1024 * 1024 }),
  };
  const migration = new Migration(guest.guest, { ...display.options, policy, compress: options.compress ?? false });
  guest.boot();
  await sleep(count(options.warmUp, '--warm-up'));
  try {
    const report = address.kind === 'file' ? await save(migration, address.path) : await sendTo(migration, address);
    display.end(report, guest.health());
    return 0;
  } catch (error) {
    display.failed(error);
    return 1;
  } finally {
    guest.pause();
    guest.vfio.exit();
  }
}

async function sendTo(migration: Migration, address: Exclude<Address, { kind: 'file' }>): Promise<MigrationReport> {
  const socket = await connect(address, CONNECT_MS);
  // Whoever waits for the outcome on a new connection gets it.
  const tell = async () => {
    try {
      await migration.answer(socketLink(await connect(address, RESOLVE_MS)));
    } catch {
      // Nobody asks any more.
    }
  };
  try {
    return await migration.send(socketLink(socket));
  } finally {
    if (migration.mayBeAsked) await tell();
  }
}

/** Into a file that has its name only when it is whole. */
async function save(migration: Migration, path: string): Promise<MigrationReport> {
  const part = `${path}.part`;
  await writeAll(migration.save(), createWriteStream(part, { flush: true }));
  renameSync(part, path);
  return migration.commit();
}

async function receive(address: Address, options: ListenOptions): Promise<number> {
  const guest = await DemoGuest.create(ramPages(options.ram), 1000);
  const display = new Display(options.json === true);
  const migration = new Migration(guest.guest, display.options);
  try {
    const report = address.kind === 'file' ? await restore(migration, address.path) : await take(migration, address);
    const arrived = guest.health();
    await sleep(count(options.run, '--run'));
    guest.pause();
    const health = guest.health();
    const damage = [...new Set([...arrived.damage, ...health.damage])];
    display.end(report, { ...health, damage });
    return damage.length === 0 ? 0 : 1;
  } catch (error) {
    display.failed(error);
    return 1;
  } finally {
    guest.pause();
    guest.vfio.exit();
  }
}

async function restore(migration: Migration, path: string): Promise<MigrationReport> {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) throw new UsageError(`${path}: no such file`);
  return migration.restore(createReadStream(path, { highWaterMark: 1 << 18 }) as AsyncIterable<Uint8Array>);
}

async function take(migration: Migration, address: Exclude<Address, { kind: 'file' }>): Promise<MigrationReport> {
  const { server, accept } = await listen(address);
  try {
    const report = await migration.receive(socketLink(await accept()));
    if (report.outcome !== 'in-doubt') return report;
    process.stderr.write('The link broke at the decision; waiting for the source to tell it.\n');
    for (const end = Date.now() + RESOLVE_MS; Date.now() < end; ) {
      const socket = await Promise.race([accept(), sleep(end - Date.now()).then(() => null)]);
      if (socket === null) break;
      const outcome = await migration.query(socketLink(socket));
      if (outcome !== 'unknown') return await migration.resolve(outcome);
    }
    throw new MigrationError(
      'link',
      'in doubt: the source did not come back. The guest is stopped here and may run there',
    );
  } finally {
    server.close();
  }
}

/** Progress on standard error, the report on standard output. */
class Display {
  readonly #json: boolean;
  readonly #bar: SingleBar | null;
  #started = false;

  constructor(json: boolean) {
    this.#json = json;
    this.#bar =
      json || !process.stderr.isTTY
        ? null
        : new SingleBar({
            format: '{phase} |{bar}| round {round}  {mib} MiB  {rate} MiB/s  {left} pages left',
            stream: process.stderr,
            hideCursor: true,
          });
  }

  get options(): MigrationOptions {
    return { onProgress: (progress) => this.#show(progress) };
  }

  #show({ phase, round, bytes, rate, pagesLeft, pagesTotal }: MigrationProgress): void {
    if (this.#bar === null) return;
    const mib = (n: number) => (Number.isFinite(n) ? (n / 1024 / 1024).toFixed(1) : '-');
    const payload = { phase: phase.padEnd(9), round, mib: mib(bytes), rate: mib(rate), left: pagesLeft };
    if (!this.#started) this.#bar.start(pagesTotal, 0, payload);
    this.#started = true;
    this.#bar.update(pagesTotal - pagesLeft, payload);
  }

  end(report: MigrationReport, guest: GuestHealth): void {
    this.#bar?.stop();
    if (this.#json) {
      process.stdout.write(`${JSON.stringify({ ...report, guest })}\n`);
      return;
    }
    const table = new Table({
      head: ['round', 'pages', 'bytes', 'ms'],
      colAligns: ['right', 'right', 'right', 'right'],
      style: { head: [], border: [] },
    });
    for (const { round, pages, bytes, milliseconds } of report.rounds)
      table.push([round, pages, bytes, milliseconds.toFixed(1)]);
    const where = report.side === 'source' ? 'The guest runs at the destination' : 'The guest runs here';
    process.stdout.write(
      `${table.toString()}\n${where}: ${report.bytes} bytes, ${report.pages} pages and ${report.zeroPages} of zeros, ${report.deviceBytes} bytes of device ` +
        `state, downtime ${report.downtime.toFixed(1)} ms of ${report.milliseconds.toFixed(1)} ms.\n` +
        `Guest: step ${guest.steps}, ${guest.pagesWritten} pages written, ${guest.damage.length === 0 ? 'everything fits together' : 'DAMAGED'}.\n`,
    );
    for (const line of guest.damage) process.stderr.write(`${line}\n`);
  }

  failed(error: unknown): void {
    this.#bar?.stop();
    if (!(error instanceof MigrationError)) throw error;
    if (this.#json) process.stdout.write(`${JSON.stringify({ error: error.reason, message: error.message })}\n`);
    else process.stderr.write(`vfio-wasm migrate: ${error.message}\n`);
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new UsageError(`${option}: ${text} is not a number`);
  return value;
}

function ramPages(text: string): number {
  const pages = Math.floor((count(text, '--ram') * 1024 * 1024) / 4096);
  if (pages <= FIRST_DATA_PAGE || pages > 1024 * 256)
    throw new UsageError(`--ram: ${text} MiB; 1 to 1024 are possible`);
  return pages;
}
