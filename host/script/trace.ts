// Records what a process does as a script: every call becomes a line with its result as `expect`, so that the recording replays as a check
// (spec script, "Recorder"). What the process writes into its own memory between calls is recorded as `poke`, what time passes as `idle`.
import { EFAULT } from '../../assembly/abi.ts';
import type { ActionFields, ActionResult } from '../devices/model.ts';
import { errnoName } from '../errno.ts';
import { toHex } from '../hex.ts';
import type { IoctlArg, MmapOptions, VfioProcess } from '../process.ts';
import { VfioInstance } from '../source.ts';
import { ioctlName, VFIO_GROUP_GET_DEVICE_FD } from '../uapi/ioctl.ts';
import { argumentBytes, comparable, describeStruct, NO_NAMES } from './describe.ts';
import { ActionReader } from './device.ts';
import { IDLE_MS, WAIT_MS } from './ops.ts';
import { Memory } from './trace_memory.ts';
import { hexInteger, type Json, type JsonObject, printed } from './values.ts';

/** Takes one line of the recording, without its new line. */
export type TraceSink = (line: string) => void;

/**
 * Wraps a process (or an instance): calls made through the result are carried out and recorded. Calls on the original are not recorded. Memory
 * is followed where `view` was asked for it through the result. A recording from the first call on replays to the same results.
 */
export function trace<T extends VfioProcess>(process: T, sink: TraceSink): T {
  const recorder = new Recorder(process, sink);
  return new Proxy(process, {
    get(target, name) {
      const recorded = typeof name === 'string' && CALLS.has(name) ? Reflect.get(recorder, name) : undefined;
      return typeof recorded === 'function' ? recorded.bind(recorder) : Reflect.get(target, name);
    },
  });
}

/** Methods of Recorder that stand in for the process's own. Those that throw are built on these by the process itself. */
const CALLS: ReadonlySet<string> = new Set([
  ...[
    'openRaw',
    'closeRaw',
    'ioctlRaw',
    'readRaw',
    'writeRaw',
    'mmapRaw',
    'munmapRaw',
    'pokeRaw',
    'peekRaw',
    'eventfdRaw',
  ],
  ...['takeRaw', 'sysfsReadRaw', 'sysfsWriteRaw', 'rlimit', 'actionRaw', 'view', 'exit'],
]);

const PAGE = 4096;
/** An address that no mapping without a wish of its own gets. */
const SCRATCH = '0x6f0000000000';

type Outcome = JsonObject;
const outcome = (ret: number): Outcome => (ret < 0 ? { ret, errno: errnoName(ret) } : { ret });
/** The call succeeds with a number of its own choice. */
const succeeds: Outcome = { errno: null };
const integer = (value: bigint | number): Json => printed(BigInt(value));
const at = (offset: bigint | number | undefined): JsonObject =>
  offset === undefined ? {} : { offset: integer(offset) };

class Recorder {
  readonly #process: VfioProcess;
  readonly #sink: TraceSink;
  readonly #memory: Memory;
  readonly #descriptors = new Map<number, string>();
  readonly #names = {
    descriptor: (fd: bigint) => {
      const name = this.#descriptors.get(Number(fd));
      return name === undefined ? undefined : `$${name}`;
    },
    address: (address: bigint) => this.#memory.reference(address),
  };
  #count = 0;
  #time: number;

  constructor(process: VfioProcess, sink: TraceSink) {
    this.#process = process;
    this.#sink = sink;
    this.#memory = new Memory(process);
    this.#time = process.clock.now();
    const { memlock, lockCap } = process.task.limits;
    if (process instanceof VfioInstance && Object.keys(process.machine.given).length > 0)
      this.#write({ op: 'machine', ...(process.machine.given as unknown as JsonObject) });
    if (memlock !== Number.POSITIVE_INFINITY || !lockCap)
      this.#write({ op: 'rlimit', ...limits({ memlock, lockCap }) });
  }

  openRaw(path: string): number {
    return this.#makes({ op: 'open', path }, () => this.#process.openRaw(path));
  }

  closeRaw(fd: number): number {
    const ret = this.#plain({ op: 'close', fd: this.#fd(fd) }, () => this.#process.closeRaw(fd));
    if (ret >= 0) this.#descriptors.delete(fd);
    return ret;
  }

  ioctlRaw(fd: number, request: number, arg?: IoctlArg): number {
    const line: JsonObject = {
      op: 'ioctl',
      fd: this.#fd(fd),
      request: ioctlName(request, this.#process.task.file(fd)?.kind),
    };
    const call = () => this.#process.ioctlRaw(fd, request, arg);
    const form = (given: JsonObject): number =>
      request === VFIO_GROUP_GET_DEVICE_FD
        ? this.#makes({ ...line, ...given }, call)
        : this.#plain({ ...line, ...given }, call);
    if (arg === undefined) return form({});
    if (typeof arg === 'string') return this.#string(line, arg, call, request === VFIO_GROUP_GET_DEVICE_FD);
    if (typeof arg === 'number' || typeof arg === 'bigint') return form({ value: this.#address(BigInt(arg)) });
    const { bytes, type } = argumentBytes(arg);
    if (type === 'string') {
      const text = new TextDecoder().decode(bytes.subarray(0, -1));
      return this.#string(line, text, call, request === VFIO_GROUP_GET_DEVICE_FD);
    }
    return this.#buffer(line, bytes, type, call);
  }

  readRaw(fd: number, buffer: Uint8Array, offset?: bigint | number): number {
    const line = { op: 'read', fd: this.#fd(fd), ...at(offset), length: buffer.length };
    const data = (ret: number) => ({ data: toHex(buffer.subarray(0, ret)) });
    return this.#call(line, () => this.#process.readRaw(fd, buffer, offset), data);
  }

  writeRaw(fd: number, data: Uint8Array, offset?: bigint | number): number {
    const line = { op: 'write', fd: this.#fd(fd), ...at(offset), data: toHex(data) };
    return this.#plain(line, () => this.#process.writeRaw(fd, data, offset));
  }

  mmapRaw(length: bigint | number, options: MmapOptions = {}): bigint {
    const { fd, offset, prot, addr, backed } = options;
    this.#before();
    const address = this.#process.mmapRaw(length, options);
    const line: JsonObject = {
      op: 'mmap',
      ...(address < 0n ? {} : { as: this.#name('m') }),
      length: integer(length),
      ...(fd === undefined ? {} : { fd: this.#fd(fd) }),
      ...at(offset),
      ...(prot === undefined ? {} : { prot }),
      ...(addr === undefined ? {} : { addr: this.#address(BigInt(addr)) }),
      ...(backed === undefined ? {} : { backed }),
    };
    if (address >= 0n) this.#memory.mapped(address, BigInt(length), line['as'] as string);
    this.#after(line, address < 0n ? outcome(Number(address)) : succeeds);
    return address;
  }

  munmapRaw(address: bigint, length: bigint | number): number {
    const line = { op: 'munmap', addr: this.#address(address), length: integer(length) };
    this.#before();
    const ret = this.#process.munmapRaw(address, length);
    if (ret >= 0) this.#memory.unmapped(address, BigInt(length));
    this.#after(line, outcome(ret));
    return ret;
  }

  pokeRaw(address: bigint, data: Uint8Array): number {
    const line = { op: 'poke', addr: this.#address(address), data: toHex(data) };
    return this.#plain(line, () => this.#process.pokeRaw(address, data));
  }

  peekRaw(address: bigint, into: Uint8Array): number {
    const line = { op: 'peek', addr: this.#address(address), length: into.length };
    return this.#call(
      line,
      () => this.#process.peekRaw(address, into),
      () => ({ data: toHex(into) }),
    );
  }

  eventfdRaw(initval: bigint | number = 0, options: { semaphore?: boolean } = {}): number {
    const start = BigInt(initval) === 0n ? {} : { initval: integer(initval) };
    const semaphore = options.semaphore === true ? { semaphore: true } : {};
    return this.#makes({ op: 'eventfd', ...start, ...semaphore }, () => this.#process.eventfdRaw(initval, options));
  }

  /** A look at an eventfd: `wait` when the caller let that time pass, else a read, which takes none. */
  takeRaw(fd: number): bigint {
    const waited = this.#process.clock.now() - this.#time >= WAIT_MS;
    this.#before(waited ? WAIT_MS : 0);
    const count = this.#process.takeRaw(fd);
    const line = waited ? { op: 'wait', fd: this.#fd(fd) } : { op: 'read', fd: this.#fd(fd), length: 8 };
    if (count < 0n) this.#after(line, outcome(Number(count)));
    else {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, count, true);
      this.#after(line, waited ? { ret: 0, count: integer(count) } : { ret: 8, data: toHex(bytes) });
    }
    return count;
  }

  sysfsReadRaw(path: string): string | number {
    this.#before();
    const text = this.#process.sysfsReadRaw(path);
    this.#after({ op: 'sysfs_read', path }, typeof text === 'number' ? outcome(text) : { ret: 0, text });
    return text;
  }

  sysfsWriteRaw(path: string, text: string): number {
    return this.#plain({ op: 'sysfs_write', path, data: text }, () => this.#process.sysfsWriteRaw(path, text));
  }

  rlimit(changed: { memlock?: number; lockCap?: boolean }): void {
    this.#before();
    this.#process.rlimit(changed);
    this.#after({ op: 'rlimit', ...limits(changed) }, { ret: 0 });
  }

  /** Only fields that came from a script can be written down. */
  actionRaw(name: string, action: string, fields: ActionFields): ActionResult {
    this.#before();
    const result = (this.#process as VfioInstance).actionRaw(name, action, fields);
    const { ret, data } = typeof result === 'number' ? { ret: result, data: undefined } : result;
    const given = fields instanceof ActionReader ? fields.plain() : {};
    this.#after(
      { op: 'device', name, action, ...given },
      { ...outcome(ret), ...(data === undefined ? {} : { data: toHex(data) }) },
    );
    return result;
  }

  view(address: bigint, length: number): Uint8Array {
    const view = this.#process.view(address, length);
    this.#memory.watch(address, view);
    return view;
  }

  exit(): void {
    for (const fd of [...this.#process.task.fds].reverse()) this.closeRaw(fd);
    this.#process.exit();
  }

  #string(line: JsonObject, text: string, call: () => number, gives: boolean): number {
    if (gives) return this.#makes({ ...line, string: text }, call);
    this.#before();
    const ret = call();
    if (ret === -EFAULT) return this.#shortBuffer(line, new TextEncoder().encode(`${text}\0`));
    this.#after({ ...line, string: text }, outcome(ret));
    return ret;
  }

  #buffer(line: JsonObject, bytes: Uint8Array, type: string | undefined, call: () => number): number {
    const given = type === undefined ? null : describeStruct(type, bytes, this.#names);
    const argument: JsonObject = given === null ? { arg: toHex(bytes) } : { struct: given };
    this.#before();
    const before = bytes.slice();
    const ret = call();
    if (ret === -EFAULT) return this.#shortBuffer(line, before);
    const left = given === null || type === undefined ? null : describeStruct(type, bytes, NO_NAMES);
    if (given === null || left === null) this.#after({ ...line, ...argument }, { ...outcome(ret), arg: toHex(bytes) });
    else
      this.#after(
        { ...line, ...this.#adopt(left, ret), ...argument },
        { ...outcome(ret), struct: comparable(given, left) },
      );
    return ret;
  }

  /**
   * A call that ran off the end of its buffer. Behind a script's buffer lie zeros, so the recording puts the bytes where memory ends.
   */
  #shortBuffer(line: JsonObject, bytes: Uint8Array): number {
    const length = Math.max(PAGE, Math.ceil(bytes.length / PAGE) * PAGE);
    const name = this.#name('m');
    const start = length - bytes.length;
    this.#write({ op: 'mmap', as: name, length, addr: SCRATCH });
    this.#write({ op: 'poke', addr: `$${name}+${start}`, data: toHex(bytes) });
    this.#after({ ...line, value: `$${name}+${start}` }, outcome(-EFAULT));
    this.#write({ op: 'munmap', addr: `$${name}`, length });
    return -EFAULT;
  }

  /** A descriptor that a call left in its structure (a migration transfer) is named after the call. */
  #adopt(left: JsonObject, ret: number): JsonObject {
    const fd = (left['data'] as JsonObject | undefined)?.['data_fd'];
    if (ret < 0 || typeof fd !== 'number' || fd < 0 || this.#process.task.file(fd) === undefined) return {};
    const name = this.#name('t');
    this.#descriptors.set(fd, `${name}.data.data_fd`);
    return { as: name };
  }

  /** A call that gives a descriptor. */
  #makes(line: JsonObject, call: () => number): number {
    this.#before();
    const fd = call();
    if (fd < 0) this.#after(line, outcome(fd));
    else {
      const name = this.#name('f');
      this.#descriptors.set(fd, name);
      const { op, ...rest } = line;
      this.#after({ op: op as Json, as: name, ...rest }, succeeds);
    }
    return fd;
  }

  #plain(line: JsonObject, call: () => number): number {
    return this.#call(line, call, () => ({}));
  }

  #call(line: JsonObject, call: () => number, more: (ret: number) => JsonObject): number {
    this.#before();
    const ret = call();
    this.#after(line, ret < 0 ? outcome(ret) : { ret, ...more(ret) });
    return ret;
  }

  /** What happened outside of calls since the last one: time, and writes to memory. `own`: time that the coming operation takes itself. */
  #before(own = 0): void {
    const now = this.#process.clock.now();
    const passed = Math.round(now - this.#time) - own;
    this.#time = now;
    if (passed > 0) this.#write(passed === IDLE_MS ? { op: 'idle' } : { op: 'idle', ms: passed });
    for (const { address, data } of this.#memory.changes())
      this.#write({ op: 'poke', addr: this.#address(address), data: toHex(data) });
  }

  #after(line: JsonObject, expect: Outcome): void {
    this.#memory.settle();
    this.#write({ ...line, expect });
  }

  #write(line: JsonObject): void {
    this.#sink(JSON.stringify(line));
  }

  #name(letter: string): string {
    return `${letter}${++this.#count}`;
  }

  #fd(fd: number): Json {
    const name = this.#descriptors.get(fd);
    return name === undefined ? fd : `$${name}`;
  }

  #address(address: bigint): Json {
    return this.#memory.reference(address) ?? (address < 1n << 53n ? Number(address) : hexInteger(address));
  }
}

function limits({ memlock, lockCap }: { memlock?: number; lockCap?: boolean }): JsonObject {
  return {
    ...(memlock === undefined ? {} : { memlock: memlock < 2 ** 63 ? integer(Math.floor(memlock)) : 'unlimited' }),
    ...(lockCap === undefined ? {} : { lock_cap: lockCap }),
  };
}
