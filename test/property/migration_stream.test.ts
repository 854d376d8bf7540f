// A reference stream, changed in every way: always refused with a clear error, the destination unchanged and still usable. Source: the stream's own
// layout (host/migration/frames.ts).
import { describe, expect, it } from 'vitest';
import { FRAME_DEVICE, FRAME_END, FRAME_HEADER, FRAME_PAGES, frameName } from '../../host/migration/frames.ts';
import { Migration } from '../../host/migration/migration.ts';
import { MigrationError, type MigrationReport } from '../../host/migration/types.ts';
import { freshCore } from '../support/core.ts';
import { factor, Random } from '../support/counts.ts';
import { TinyGuest } from '../support/guest.ts';

const FRAME_SIZE = 4096 + 512;

interface Piece {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

async function reference() {
  const source = new TinyGuest(await freshCore({ length: 1 << 19 }), [2], [7, 3]);
  const target = new TinyGuest(await freshCore({ length: 1 << 19 }), [2], [7, 3]);
  const random = new Random(11);
  for (let i = 0; i < 4096; i++) source.poke(0, i, random.int(256));
  for (const bank of source.banks) for (let i = 0; i < bank.regs.length; i++) bank.regs[i] = random.int(256);
  target.poke(0, 17, 1, 2, 3);
  target.poke(0, 4096 + 99, 4);
  target.banks[1]!.regs.fill(0x77);
  const chunks: Uint8Array[] = [];
  const saving = new Migration(source.guest, { frameSize: FRAME_SIZE, id: 'reference' });
  for await (const chunk of saving.save()) chunks.push(chunk.slice());
  saving.commit();
  const stream = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  const pieces: Piece[] = [];
  let at = 0;
  for (const chunk of chunks) {
    stream.set(chunk, at);
    pieces.push({ type: chunk[4]! | (chunk[5]! << 8), start: at, end: at + chunk.length });
    at += chunk.length;
  }
  return { source, target, stream, pieces };
}

async function restore(target: TinyGuest, ...parts: Uint8Array[]): Promise<MigrationReport> {
  async function* bytes() {
    yield* parts;
  }
  return new Migration(target.guest, { frameSize: FRAME_SIZE }).restore(bytes());
}

/** Both are multiples of four bytes long. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  const left = new Uint32Array(a.buffer, a.byteOffset, a.length >> 2);
  const right = new Uint32Array(b.buffer, b.byteOffset, b.length >> 2);
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
  return left.length === right.length;
}

/** One changed stream must be refused and leave no trace. */
async function refused(target: TinyGuest, before: Uint8Array, what: string, ...parts: Uint8Array[]): Promise<string> {
  const result = await restore(target, ...parts).catch((error: unknown) => error);
  if (!(result instanceof MigrationError))
    throw new Error(`${what}: ${result instanceof Error ? result.stack : 'accepted'}`);
  if (result.message.length < 10) throw new Error(`${what}: no clear error`);
  if (!same(target.picture(), before)) throw new Error(`${what}: the destination changed`);
  if (target.running || target.states().some((state) => state !== 2)) throw new Error(`${what}: not as before`);
  return result.reason;
}

describe('a migration stream', () => {
  it('is refused with any byte changed, whatever to', async () => {
    const { target, stream, pieces } = await reference();
    const before = target.picture();
    const random = new Random();
    const live = target.process.core.liveBytes;
    const changed = stream.slice();
    const reasons = new Map<string, number>();
    const seen = new Set<number>();
    for (const { type, start, end } of pieces) {
      // One frame of each kind stands for the others.
      if (factor === 1 && seen.has(type)) continue;
      seen.add(type);
      for (let at = start; at < end; at++) {
        const payload = at >= start + FRAME_HEADER;
        const dense = !payload || type === FRAME_DEVICE || type === FRAME_END;
        // Page data: sampled bytes; other payloads: sampled values.
        if (payload && type === FRAME_PAGES && at >= start + FRAME_HEADER + 40 && random.int(40) !== 0) continue;
        const values = dense || factor > 1 ? 255 : 3;
        for (let i = 1; i <= values; i++) {
          changed[at] = (stream[at]! + (values === 255 ? i : 1 + random.int(255))) & 255;
          const reason = await refused(
            target,
            before,
            `${frameName(type)} byte ${at - start} = ${changed[at]}`,
            changed,
          );
          reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
        }
        changed[at] = stream[at]!;
      }
    }
    // Nearly all are caught by the sums; what is left is refused for what it says.
    expect(reasons.get('stream')).toBeGreaterThan(50000);
    expect([...reasons.keys()].every((reason) => reason === 'stream' || reason === 'link')).toBe(true);
    expect(target.process.core.liveBytes).toBe(live);
  });

  it('is refused when it ends early, at every position', async () => {
    const { target, stream } = await reference();
    const before = target.picture();
    for (let length = 0; length < stream.length; length += length > 700 && length < stream.length - 700 ? 7 : 1)
      expect(await refused(target, before, `${length} bytes`, stream.subarray(0, length))).toBe('stream');
  });

  it('is refused with frames dropped, doubled, exchanged, or from another stream', async () => {
    const { target, stream, pieces } = await reference();
    const before = target.picture();
    const frames = pieces.map(({ start, end }) => stream.subarray(start, end));
    for (let i = 0; i < frames.length; i++) {
      const name = frameName(pieces[i]!.type);
      await refused(target, before, `${name} dropped`, ...frames.slice(0, i), ...frames.slice(i + 1));
      await refused(target, before, `${name} doubled`, ...frames.slice(0, i + 1), ...frames.slice(i));
      for (let j = i + 1; j < frames.length; j++) {
        const mixed = [...frames];
        [mixed[i], mixed[j]] = [mixed[j]!, mixed[i]!];
        await refused(target, before, `${i} and ${j} exchanged`, ...mixed);
      }
    }
  });

  it('is refused with anything behind its end', async () => {
    const { target, stream } = await reference();
    const before = target.picture();
    for (const more of [Uint8Array.of(0), new Uint8Array(100).fill(0xff), stream])
      expect(await refused(target, before, `${more.length} bytes more`, stream, more)).toBe('stream');
  });

  it('arrives in pieces of any size, and after all of that', async () => {
    const { source, target, stream } = await reference();
    const before = target.picture();
    await refused(target, before, 'half', stream.subarray(0, stream.length >> 1));
    const random = new Random();
    const parts: Uint8Array[] = [];
    for (let at = 0; at < stream.length; ) {
      const n = random.int(3) === 0 ? 1 + random.int(5) : 1 + random.int(900);
      parts.push(stream.subarray(at, at + n));
      at += n;
    }
    expect((await restore(target, ...parts)).outcome).toBe('committed');
    expect(same(target.picture(), source.picture())).toBe(true);
    expect(target.running).toBe(true);
  });
});
