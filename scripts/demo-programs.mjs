// Picks the recorded programs that the page offers, from the test data: demo/src/programs.json (not kept in the repository).
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** File, least and most CCWs, what a reader should know. The first program that fits is taken. */
const WANTED = [
  [
    '3390',
    (p) => p.name.startsWith('lnx') && has(p, 0x63) && has(p, 0x86) && between(p, 4, 10),
    '3390 disk: Linux reads a few blocks (define extent, locate record, read)',
  ],
  ['3390', (p) => has(p, 0x85) && between(p, 4, 12), '3390 disk: Linux writes blocks'],
  ['3390', (p) => has(p, 0xe7) && between(p, 2, 8), '3390 disk: the same with the newer prefix command'],
  ['3390', (p) => has(p, 0x1d) && between(p, 5, 20), '3390 disk: formatting a track'],
  ['9336', (p) => has(p, 0x42) && between(p, 4, 12), '9336 disk: fixed blocks, one data chain'],
  ['3480', (p) => has(p, 0x02) && between(p, 2, 8), '3480 tape: read a block, shorter than asked for'],
  ['3590', (p) => has(p, 0x01) && between(p, 2, 8), '3590 tape: write a block'],
  [
    '3270',
    (p) => [0x01, 0x05, 0x0d].some((command) => has(p, command)) && between(p, 1, 4),
    '3270 terminal: the console draws',
  ],
  ['3215', (p) => p.executed && between(p, 2, 6), '3215 console: a line of text'],
  ['3088', (p) => p.outcome.kind === 'ended' && between(p, 2, 8), '3088 channel-to-channel: a packet for the network'],
  [
    'virtio-ccw',
    (p) => p.data.some((area) => area.len === 5) && between(p, 1, 4),
    'virtio: a driver asks for feature bits',
  ],
  ['1403', (p) => p.executed, '1403 printer: asked who it is, it does not know the command'],
];

const commands = (p) => (p.steps ?? p.executed ?? []).length;
const between = (p, low, high) =>
  Math.max(commands(p), p.data.length) >= low && Math.max(commands(p), p.data.length) <= high;
/** Is this command among the CCWs executed? The first byte of a CCW is its command in both formats. */
function has(program, command) {
  return (program.executed ?? []).some((address) =>
    program.memory.some(({ iova, hex }) => {
      const at = 2 * (Number(address) - Number(iova));
      return at >= 0 && at < hex.length && Number.parseInt(hex.slice(at, at + 2), 16) === command;
    }),
  );
}

const chosen = [];
for (const [file, fits, note] of WANTED) {
  const text = gunzipSync(readFileSync(join(root, `test/data/ccw-real/${file}.jsonl.gz`))).toString('utf8');
  const program = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .find(
      (p) =>
        (p.orb_origin === undefined || p.orb_origin === 'SSCH') &&
        !p.self_modifying &&
        !p.resumed &&
        !chosen.some((c) => c.recording.name === p.name) &&
        fits(p),
    );
  if (program === undefined) throw new Error(`no program for "${note}"`);
  chosen.push({ note, recording: program });
}
writeFileSync(join(root, 'demo/src/programs.json'), `${JSON.stringify(chosen)}\n`);
console.log(`demo: ${chosen.length} recorded programs, ${(JSON.stringify(chosen).length / 1024).toFixed(0)} KiB`);
