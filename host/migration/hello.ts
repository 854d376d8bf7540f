// Reading the JSON frames: HELLO must describe exactly this side's guest, and every field is checked before it is used.
import { PAGE_SIZE_4K } from '../../assembly/abi.ts';
import { STREAM_MAJOR, STREAM_MINOR } from './frames.ts';
import type { Hello, Session } from './session.ts';
import type { Frame, FrameReader } from './stream.ts';
import { MigrationError } from './types.ts';

const MAX_LIST = 4096;

function parse(reader: FrameReader, frame: Frame): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(reader.payload(frame)));
  } catch {
    reader.wrong('content', 'not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) reader.wrong('content', 'not an object');
  return value as Record<string, unknown>;
}

const count = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** A list of {name, number} pairs. */
function pairs(reader: FrameReader, value: unknown, key: string): Array<{ name: string; value: number }> {
  if (!Array.isArray(value) || value.length > MAX_LIST) reader.wrong('content', `HELLO: no list of ${key}`);
  return (value as unknown[]).map((entry) => {
    const { name, [key]: number } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name !== 'string' || !count(number)) reader.wrong('content', `HELLO: an entry without name and ${key}`);
    return { name, value: number };
  });
}

/** @throws StreamError not a HELLO; MigrationError `refused` with the difference between the guests. */
export function checkHello(reader: FrameReader, frame: Frame, session: Session): Hello {
  const hello = parse(reader, frame);
  const { major, minor, id, frameSize, pageSize, oneWay } = hello;
  if (!count(major) || !count(minor)) reader.wrong('content', 'HELLO: no version');
  if (major !== STREAM_MAJOR || minor > STREAM_MINOR)
    reader.wrong('version', `stream version ${major}.${minor}, this side speaks ${STREAM_MAJOR}.${STREAM_MINOR}`);
  if (typeof id !== 'string' || id.length === 0 || id.length > 256 || !count(frameSize) || typeof oneWay !== 'boolean')
    reader.wrong('content', 'HELLO: a field is missing');
  if (pageSize !== PAGE_SIZE_4K) throw new MigrationError('refused', `pages of ${String(pageSize)} bytes`);
  if (frameSize > session.frameSize)
    throw new MigrationError('refused', `frames of ${frameSize} bytes, this side takes ${session.frameSize}`);
  const ram = pairs(reader, hello['ram'], 'size').map(({ name, value }) => ({ name, size: value }));
  const devices = pairs(reader, hello['devices'], 'flags').map(({ name, value }) => ({ name, flags: value }));
  const text = (list: ReadonlyArray<{ name: string; size?: number }>) =>
    list.map(({ name, size }) => (size === undefined ? name : `${name} (${size} bytes)`)).join(', ') || 'none';
  if (text(ram) !== text(session.blocks.map(({ name, size }) => ({ name, size }))))
    throw new MigrationError('refused', `RAM differs: source has ${text(ram)}, this side ${text(session.blocks)}`);
  const names = (list: ReadonlyArray<{ name: string }>) => text(list.map(({ name }) => ({ name })));
  if (names(devices) !== names(session.devices))
    throw new MigrationError(
      'refused',
      `devices differ: source has ${names(devices)}, this side ${names(session.devices)}`,
    );
  return { major, minor, id, frameSize, pageSize, ram, devices, oneWay };
}

export function parseRound(reader: FrameReader, frame: Frame): { round: number; pages: number } {
  const { round, pages } = parse(reader, frame);
  if (!count(round) || !count(pages)) reader.wrong('content', 'ROUND: a field is missing');
  return { round, pages };
}
