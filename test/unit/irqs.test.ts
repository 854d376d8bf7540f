import { beforeEach, describe, expect, it } from 'vitest';
import { EBADF, EFAULT, EINVAL } from '../../assembly/abi.ts';
import { PageAllocator } from '../../host/memory.ts';
import { EventFd } from '../../host/vfio/eventfd.ts';
import { VfioFile } from '../../host/vfio/file.ts';
import { EventFdSlot, readIrqSet, validateIrqSet } from '../../host/vfio/irqs.ts';
import { Task } from '../../host/vfio/task.ts';
import { DirectBuffer, ValueArg } from '../../host/vfio/user.ts';
import { freshCore } from '../support/core.ts';

class PlainFile extends VfioFile {
  readonly kind = 'other';
}

let task: Task;
beforeEach(async () => {
  const core = await freshCore();
  task = new Task(core, new PageAllocator(core));
});

const NONE = 1;
const BOOL = 2;
const EVENTFD = 4;
const TRIGGER = 0x20;

function irqSet(argsz: number, flags: number, index: number, start: number, count: number, data: number[] = []) {
  const bytes = new Uint8Array(20 + data.length);
  const view = new DataView(bytes.buffer);
  [argsz, flags, index, start, count].forEach((value, i) => {
    view.setUint32(4 * i, value, true);
  });
  bytes.set(data, 20);
  return new DirectBuffer(bytes);
}

describe('the common SET_IRQS check', () => {
  it('EFAULT: the header is not readable', () => {
    expect(validateIrqSet(task, new ValueArg(0n), 1, 1)).toBe(-EFAULT);
  });

  // Each request breaks the named rule and every later one too, so the order shows in the reason.
  it.each([
    ['argsz before the index', irqSet(19, 0x40, 9, 5, 0xffffffff), /argsz/],
    ['the index before the wrap', irqSet(20, 0x40, 5, 5, 0xffffffff), /index 5/],
    ['the wrap before the flags', irqSet(20, 0x40, 0, 5, 0xfffffffa), /wraps/],
    ['the flags before the range', irqSet(20, 0x40, 0, 5, 1), /flags/],
    ['the range before the kind of data', irqSet(20, 0, 0, 5, 1), /start 5/],
    ['the kind of data before its size', irqSet(20, BOOL | EVENTFD, 0, 0, 4), /one kind/],
    ['the size last', irqSet(35, EVENTFD, 0, 0, 4), /room/],
  ] as const)('checks %s (EINVAL)', (_name, arg, why) => {
    expect(validateIrqSet(task, arg, 5, 4)).toBe(-EINVAL);
    expect(task.why).toMatch(why);
  });

  it('an index without subindexes takes nothing, not even count 0', () => {
    expect(validateIrqSet(task, irqSet(20, NONE | TRIGGER, 0, 0, 0), 1, 0)).toBe(-EINVAL);
  });

  it('count 0 passes at start 0', () => {
    expect(validateIrqSet(task, irqSet(20, NONE | TRIGGER, 0, 0, 0), 1, 1)).toMatchObject({
      count: 0,
      action: TRIGGER,
    });
  });

  it('asks for the subindexes of the index that was named', () => {
    const num = (index: number) => [1, 8][index] as number;
    expect(validateIrqSet(task, irqSet(20, NONE, 1, 7, 1), 2, num)).toMatchObject({ start: 7 });
    expect(validateIrqSet(task, irqSet(20, NONE, 0, 7, 1), 2, num)).toBe(-EINVAL);
  });

  it('EFAULT: argsz promises data that are not there', () => {
    expect(readIrqSet(task, irqSet(24, EVENTFD | TRIGGER, 0, 0, 1), 1, 1)).toBe(-EFAULT);
  });

  it('reads BOOL bytes and EVENTFD descriptors', () => {
    const bools = readIrqSet(task, irqSet(23, BOOL | TRIGGER, 0, 0, 3, [0, 1, 255]), 1, 4);
    if (typeof bools === 'number') throw new Error(task.why);
    expect([bools.bool(0), bools.bool(1), bools.bool(2)]).toEqual([false, true, true]);
    const fds = readIrqSet(task, irqSet(28, EVENTFD | TRIGGER, 0, 1, 2, [255, 255, 255, 255, 7, 0, 0, 0]), 1, 4);
    if (typeof fds === 'number') throw new Error(task.why);
    expect([fds.fd(0), fds.fd(1)]).toEqual([-1, 7]);
  });
});

describe('the eventfd slot', () => {
  it('binds, signals, replaces and removes', () => {
    const slot = new EventFdSlot();
    const [first, second] = [new EventFd(), new EventFd()];
    const [fd1, fd2] = [task.install(first), task.install(second)];
    expect(slot.signal()).toBe(false);
    expect(slot.set(task, fd1)).toBe(0);
    expect(slot.signal()).toBe(true);
    expect(slot.set(task, fd2)).toBe(0);
    slot.signal();
    expect([first.count, second.count]).toEqual([1n, 1n]);
    expect(slot.set(task, -1)).toBe(0);
    expect(slot.bound).toBe(false);
  });

  it('EBADF not open, EINVAL not an eventfd or below -1; the old one stays', () => {
    const slot = new EventFdSlot();
    const eventfd = new EventFd();
    slot.set(task, task.install(eventfd));
    const other = task.install(new PlainFile());
    expect(slot.set(task, 99)).toBe(-EBADF);
    expect(slot.set(task, other)).toBe(-EINVAL);
    expect(slot.set(task, -2)).toBe(-EINVAL);
    expect(slot.eventfd).toBe(eventfd);
  });

  it('keeps signalling after the user closed the descriptor', () => {
    const slot = new EventFdSlot();
    const eventfd = new EventFd();
    const fd = task.install(eventfd);
    slot.set(task, fd);
    task.close(fd);
    slot.signal();
    expect(eventfd.count).toBe(1n);
  });
});
