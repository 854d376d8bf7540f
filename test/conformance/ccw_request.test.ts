// The 2016 form of a request through its call: errno in order, the same outcome as the regions, what ends it (spec ccw section 11, docs/uapi/ccw.md).
import { describe, expect, it } from 'vitest';
import { EAGAIN, EBUSY, EFAULT, EINVAL, EIO, EOPNOTSUPP } from '../../assembly/abi.ts';
import { FlatCaller } from '../../host/ccw/flat_caller.ts';
import type { ChannelDevice, CommandEnd, Transfer } from '../../host/css/device.ts';
import type { EngineSubchannel } from '../../host/css/engine.ts';
import { VfioError } from '../../host/errno.ts';
import { VFIO_DEVICE_CCW_CMD_REQUEST, VfioCcwCmdRequest } from '../../host/uapi/ccw_request.ts';
import { VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import {
  type CcwMachine,
  DATA,
  engineMachine,
  NOTHING,
  ORB_WORD1,
  PROGRAM,
  RAM,
  request,
  u32be,
} from '../support/ccw_machine.ts';
import { ccw1 } from '../support/ccw_programs.ts';

const [WRITE, READ, NOP, SEARCH, TIC] = [0x01, 0x02, 0x03, 0x31, 0x08];
const [CD, CC, SLI, IDA] = [0x80, 0x40, 0x20, 0x04];
const ENDED: CommandEnd = { unitStatus: 0x0c, lengthMismatch: false };

/** Echoes: what was written is what the next read gives; a search is equal every third time. */
class Echo implements ChannelDevice {
  deferred = false;
  #data: Uint8Array = new Uint8Array(0);
  #searches = 0;
  /** Transfers whose command a deferred device has not ended yet. */
  readonly waiting: Transfer[] = [];
  execute(command: number, transfer: Transfer): CommandEnd | null {
    if (command === WRITE) {
      this.#data = transfer.fetch(0x10000).slice();
    } else if (command === READ) {
      transfer.store(this.#data);
      if (!this.deferred) return { unitStatus: 0x0c };
    } else if (command === SEARCH) {
      transfer.fetch(5);
      if (++this.#searches % 3 === 0) return { unitStatus: 0x4c };
    } else if (command !== NOP) return { unitStatus: 0x0e, sense: Uint8Array.of(0x80) };
    if (!this.deferred) return ENDED;
    this.waiting.push(transfer);
    return null;
  }
  end(): void {
    this.waiting.shift()?.end(ENDED);
  }
}

class Bench {
  readonly echo: Echo;
  readonly machine: CcwMachine<EngineSubchannel>;
  readonly fd: number;
  readonly caller: FlatCaller;
  constructor(echo: Echo, machine: CcwMachine<EngineSubchannel>) {
    this.echo = echo;
    this.machine = machine;
    this.fd = machine.open();
    const { ram } = machine;
    // Two pieces, so that the guest's storage is not contiguous in the caller.
    const half = BigInt(DATA + 0x1000);
    this.caller = new FlatCaller(machine.vfio, this.fd, [
      { address: 0n, vaddr: ram, size: half },
      { address: half, vaddr: ram + half, size: BigInt(RAM) - half },
    ]);
  }
  orb(cpa = PROGRAM, word1 = ORB_WORD1): Uint8Array {
    return u32be(0, word1, cpa);
  }
  /** The same program through the regions. @returns the 64 bytes of its IRB. */
  region(cpa = PROGRAM): Uint8Array {
    const { vfio } = this.machine;
    vfio.write(this.fd, request(ORB_WORD1, cpa), 0);
    this.machine.work();
    this.machine.work();
    const irb = new Uint8Array(64);
    vfio.read(this.fd, irb, 24);
    return irb;
  }
  storage(address: number, size: number): Uint8Array {
    return this.machine.vfio.view(this.machine.ram + BigInt(address), size).slice();
  }
  fill(address: number, size: number, seed: number): void {
    this.machine.vfio
      .view(this.machine.ram + BigInt(address), size)
      .set(Array.from({ length: size }, (_, i) => (i * 7 + seed) & 0xff));
  }
  raw(fields: Record<string, unknown> = {}): number {
    const { vfio, ram } = this.machine;
    return vfio.ioctlRaw(
      this.fd,
      VFIO_DEVICE_CCW_CMD_REQUEST,
      new VfioCcwCmdRequest({
        orb_area: this.orb(0),
        scsw_area: u32be(0x4000, 0, 0),
        ccwchain_nr: 1,
        u_ccwchain: ram + 0x30000n,
        ...fields,
      }),
    );
  }
}

async function bench(): Promise<Bench> {
  const echo = new Echo();
  return new Bench(echo, await engineMachine(echo));
}

const errnoOf = (call: () => unknown): number => {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error.errno;
    throw error;
  }
  return 0;
};

describe('the outcome', () => {
  const programs: Record<string, Uint8Array[]> = {
    'write and read back': [ccw1(WRITE, CC, 0x1800, DATA), ccw1(READ, 0, 0x1800, DATA + 0x3000)],
    'data chaining, the second command is anything': [
      ccw1(WRITE, CD, 0x800, DATA + 0x900),
      ccw1(0, CC, 0x700, DATA),
      ccw1(READ, CD | SLI, 0x100, DATA + 0x4000),
      ccw1(0x10, SLI, 0x2000, DATA + 0x5000),
    ],
    'indirect data': [ccw1(WRITE, CC, 0x1000, DATA + 0x1080), ccw1(READ, IDA, 0x1000, PROGRAM + 0x800)],
    'a search loop': [
      ccw1(SEARCH, CC, 5, DATA),
      ccw1(TIC, 0, 0, PROGRAM),
      ccw1(READ, CC | SLI, 8, DATA + 0x100),
      ccw1(TIC, 0, 0, PROGRAM + 0x1000),
    ],
    'incorrect length': [ccw1(WRITE, CC, 16, DATA), ccw1(READ, 0, 32, DATA + 0x200)],
    'a command that the device rejects': [ccw1(NOP, CC, 1, 0), ccw1(0x0b, CC, 1, DATA), ccw1(READ, 0, 1, DATA)],
  };

  it.each(Object.keys(programs))('is that of the regions: %s', async (name) => {
    const outcomes = [];
    for (const way of ['region', 'request'] as const) {
      const own = await bench();
      own.fill(DATA, 0x2000, 3);
      own.machine.put(PROGRAM, ...programs[name]!);
      own.machine.put(PROGRAM + 0x1000, ccw1(READ, SLI, 8, DATA + 0x300));
      own.machine.put(PROGRAM + 0x800, u32be(0, DATA + 0x6f80, 0, DATA + 0x5000));
      const irb = way === 'region' ? own.region() : own.caller.request(own.orb()).subarray(0, 64);
      outcomes.push({ irb, data: own.storage(DATA, 0x8000), violations: own.machine.hardware.violations });
      own.machine.vfio.close(own.fd);
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[0]?.violations).toBe(0);
  });

  it('touches neither regions nor eventfds, and leaves nothing', async () => {
    const own = await bench();
    const eventfd = own.machine.bindIrq(own.fd, 0);
    own.machine.put(PROGRAM, ccw1(NOP, 0, 1, 0));
    own.caller.request(own.orb());
    own.machine.work();
    expect([own.machine.signals(eventfd), own.machine.device.state, own.machine.device.program?.held]).toEqual([
      0,
      'IDLE',
      false,
    ]);
    const region = new Uint8Array(124);
    own.machine.vfio.read(own.fd, region, 0);
    expect(region).toEqual(new Uint8Array(124));
    for (const fd of [eventfd, own.fd, own.machine.group, own.machine.container]) own.machine.vfio.close(fd);
    own.caller.close();
    expect(own.machine.leftovers()).toEqual(NOTHING);
  });
});

describe('errno, in this order', () => {
  const half = u32be(0x4000, 0, 0);
  it.each([
    ['EINVAL argsz', { argsz: 135, ccwchain_nr: 0, scsw_area: u32be(0, 0, 0) }, EINVAL],
    ['EINVAL no CCW', { ccwchain_nr: 0, scsw_area: u32be(0, 0, 0) }, EINVAL],
    ['EINVAL 257 CCWs', { ccwchain_nr: 257, scsw_area: u32be(0, 0, 0) }, EINVAL],
    ['EOPNOTSUPP halt beside start', { scsw_area: u32be(0x6000, 0, 0), u_ccwchain: 0n }, EOPNOTSUPP],
    ['EOPNOTSUPP no function', { scsw_area: u32be(0, 0, 0), u_ccwchain: 0n }, EOPNOTSUPP],
    ['EOPNOTSUPP format-0', { orb_area: u32be(0, 0x0042ff00, 0), u_ccwchain: 0n }, EOPNOTSUPP],
    ['EOPNOTSUPP no prefetch', { orb_area: u32be(0, 0x0082ff00, 0), scsw_area: half, u_ccwchain: 0n }, EOPNOTSUPP],
    ['EFAULT the buffer', { u_ccwchain: 0n }, EFAULT],
  ] as const)('%s', async (_name, fields, errno) => {
    expect((await bench()).raw(fields)).toBe(-errno);
  });

  it('EFAULT an argument that is not there', async () => {
    const own = await bench();
    expect(own.machine.vfio.ioctlRaw(own.fd, VFIO_DEVICE_CCW_CMD_REQUEST, 0)).toBe(-EFAULT);
  });

  it('EBUSY a program is pending, EIO not operational, both before the buffer', async () => {
    const own = await bench();
    own.machine.hardware.hold(true);
    own.machine.putProgram();
    own.machine.vfio.write(own.fd, request(), 0);
    expect(own.raw({ u_ccwchain: 0n })).toBe(-EBUSY);
    own.machine.hardware.detach();
    expect(own.raw({ u_ccwchain: 0n })).toBe(-EIO);
  });

  it('EAGAIN a device that takes its time, before the program is looked at: nothing was started', async () => {
    const own = await bench();
    own.echo.deferred = true;
    own.machine.put(0x30000, ccw1(TIC, 0, 0, 0x900));
    expect(own.raw()).toBe(-EAGAIN);
    expect([own.machine.hardware.started, own.machine.device.state]).toEqual([0, 'IDLE']);
    own.echo.deferred = false;
    expect(own.raw()).toBe(-EINVAL);
  });

  it('EAGAIN a program that loops: it is ended, the device is idle again', async () => {
    const own = await bench();
    own.machine.put(PROGRAM, ccw1(NOP, CC | SLI, 1, 0), ccw1(TIC, 0, 0, PROGRAM));
    expect(errnoOf(() => own.caller.request(own.orb()))).toBe(EAGAIN);
    expect([own.machine.device.state, own.machine.device.program?.held]).toEqual(['IDLE', false]);
    own.machine.put(PROGRAM, ccw1(NOP, 0, 1, 0));
    expect(own.caller.request(own.orb())[8]).toBe(0x0c);
  });

  it.each([
    ['EINVAL a TIC into the slots', ccw1(TIC, 0, 0, 2048), EINVAL],
    ['EINVAL a slot among the CCWs', ccw1(READ, 0, 1, 2040), EINVAL],
    ['EINVAL a slot that leaves the buffer', ccw1(READ, 0, 1, 4089), EINVAL],
    ['EINVAL a direct CCW that moves nothing', ccw1(READ, 0, 0, 2048), EINVAL],
    ['EFAULT data that are not there', ccw1(READ, 0, 1, 2048), EFAULT],
    ['EFAULT a list that is not there', ccw1(READ, IDA, 1, 2048), EFAULT],
  ] as const)('translating: %s', async (_name, ccw, errno) => {
    const own = await bench();
    own.machine.put(0x30000, ccw);
    expect(own.raw()).toBe(-errno);
    expect([own.machine.device.state, own.machine.device.program?.held]).toEqual(['IDLE', false]);
    expect(own.machine.vfio.task.mm.lockedPages).toBe(0);
  });

  it('starting: what the condition code says', async () => {
    const own = await bench();
    own.machine.hardware.answer('ssch', 2);
    own.machine.put(0x30000, ccw1(NOP, 0, 1, 0));
    expect(own.raw()).toBe(-EBUSY);
    expect(own.machine.device.state).toBe('IDLE');
  });
});

describe('ioctlAsync', () => {
  it('waits for a device that takes its time; the device is busy meanwhile', async () => {
    const own = await bench();
    own.fill(DATA, 16, 1);
    own.machine.put(PROGRAM, ccw1(WRITE, CC, 16, DATA), ccw1(READ, 0, 16, DATA + 0x100));
    own.echo.deferred = true;
    const promise = own.caller.requestAsync(own.orb());
    expect(own.machine.vfio.writeRaw(own.fd, request(), 0)).toBe(-EBUSY);
    for (let i = 0; i < 2; i++) {
      own.machine.work();
      own.echo.end();
    }
    own.machine.work();
    const irb = await promise;
    expect([irb[8], irb.subarray(4, 8)]).toEqual([0x0c, u32be(PROGRAM + 16)]);
    expect(own.storage(DATA + 0x100, 16)).toEqual(own.storage(DATA, 16));
    expect(own.machine.device.state).toBe('IDLE');
  });

  it.each([
    ['close', (own: Bench) => own.machine.vfio.close(own.fd)],
    ['reset', (own: Bench) => own.machine.vfio.ioctl(own.fd, VFIO_DEVICE_RESET)],
    ['a subchannel that goes', (own: Bench) => own.machine.hardware.detach()],
  ] as const)('EIO when %s ends the program; nothing stays pinned', async (_name, end) => {
    const own = await bench();
    own.echo.deferred = true;
    own.machine.put(PROGRAM, ccw1(WRITE, 0, 16, DATA));
    const promise = own.caller.requestAsync(own.orb()).then(
      () => 0,
      (error: VfioError) => error.errno,
    );
    own.machine.work();
    expect(own.machine.device.program?.pinCount).toBe(1);
    end(own);
    own.machine.work();
    expect(await promise).toBe(EIO);
    expect(own.machine.vfio.task.mm.lockedPages).toBe(0);
    own.echo.end();
    own.machine.work();
  });

  it('settles at once for every other request', async () => {
    const own = await bench();
    expect(await own.machine.vfio.ioctlAsync(own.fd, VFIO_DEVICE_RESET)).toBe(0);
    expect(await own.machine.vfio.ioctlAsyncRaw(own.fd, VFIO_DEVICE_CCW_CMD_REQUEST, 0)).toBe(-EFAULT);
  });
});
