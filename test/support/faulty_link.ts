// A link that breaks, changes a byte, or dawdles, at a place that the test chose. Only promises, no timers: the same run in every environment.
import { type Link, LinkError, Pipe } from '../../host/migration/link.ts';

export interface LinkFaults {
  /** Bytes that pass in each direction before the link breaks for both; Infinity: never. */
  readonly breakAfter: readonly [number, number];
  /** Breaks inside the first frame of this type to the destination, after so many bytes of it; null: never. */
  readonly cutFrame: { readonly type: number; readonly at: number } | null;
  /** Byte to change on the way to the destination; -1: none. */
  readonly corrupt: number;
  /** Turns of the event loop's microtasks that each chunk takes. */
  readonly slow: number;
}

export const NO_FAULTS: LinkFaults = {
  breakAfter: [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  cutFrame: null,
  corrupt: -1,
  slow: 0,
};

/** Both ends; the first is the source's. */
export function faultyPair(faults: LinkFaults): [Link, Link] {
  const pipes = [new Pipe(), new Pipe()] as const;
  const passed = [0, 0];
  const broken = () => new LinkError('the wire was cut');
  let cut = false;
  const end = (mine: 0 | 1): Link => ({
    incoming: pipes[1 - mine]!,
    async send(bytes) {
      for (let i = 0; i < faults.slow; i++) await Promise.resolve();
      if (cut) throw broken();
      const begin = passed[mine]!;
      passed[mine] = begin + bytes.length;
      const { cutFrame } = faults;
      const here = mine === 0 && cutFrame !== null && bytes[4] === cutFrame.type;
      const room = here ? cutFrame.at : faults.breakAfter[mine]! - begin;
      let chunk = bytes;
      if (mine === 0 && faults.corrupt >= begin && faults.corrupt < begin + bytes.length) {
        chunk = bytes.slice();
        chunk[faults.corrupt - begin]! ^= 0x40;
      }
      if (room >= bytes.length) return pipes[mine].send(chunk);
      cut = true;
      if (room > 0) void pipes[mine].send(chunk.slice(0, room)).catch(() => {});
      for (const pipe of pipes) pipe.close();
      throw broken();
    },
    async close(reason) {
      if (reason === undefined) pipes[mine].close();
      else {
        cut = true;
        for (const pipe of pipes) pipe.close(broken());
      }
    },
  });
  return [end(0), end(1)];
}
