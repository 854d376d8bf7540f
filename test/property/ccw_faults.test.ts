// A vfio-ccw device when memory runs out, or a page cannot be pinned or read, at every place one after the other: the call says so, the device is
// idle, nothing is left, and the next call works.
import { describe, expect, it } from 'vitest';
import { ARENA_FAIL_NTH, EFAULT, ENOMEM, IOMMU_PIN_NTH, IOMMU_READ_NTH } from '../../assembly/abi.ts';
import { FlatCaller } from '../../host/ccw/flat_caller.ts';
import type { Core } from '../../host/core.ts';
import { VfioError } from '../../host/errno.ts';
import { VFIO_DEVICE_RESET } from '../../host/uapi/ioctl.ts';
import {
  type CcwMachine,
  ccwMachine,
  DATA,
  engineMachine,
  NOTHING,
  PROGRAM,
  request,
  u32be,
} from '../support/ccw_machine.ts';
import { ccw1 } from '../support/ccw_programs.ts';

/** Seventeen chains' worth of work: TICs to chains far apart, each with data and an IDAL. */
function putLargeProgram(machine: Pick<CcwMachine, 'put'>): void {
  const chains = 14;
  for (let i = 0; i < chains; i++) {
    const at = PROGRAM + 0x800 * i;
    const next = i + 1 < chains ? [ccw1(0x08, 0, 0, at + 0x800)] : [ccw1(0x02, 0x20, 1, DATA)];
    machine.put(at + 0x700, u32be(0, DATA + 0x80, 0, DATA + 0x1000));
    const data = Array.from({ length: 20 }, (_, k) => ccw1(0x02, 0x60, 0x1800, DATA + 0x1780 * k));
    machine.put(at, ccw1(0x02, 0x64, 0x1000, at + 0x700), ...data, ...next);
  }
}

/** Has the fault not been met? Then there are no more allocations than this. */
const untouched = (core: Core): boolean => core.view.getUint32(core.arena + ARENA_FAIL_NTH, true) !== 0;

const errnoOf = (call: () => unknown): number => {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return -error.errno;
    throw error;
  }
  return 0;
};

function finish(machine: CcwMachine, fd: number): void {
  for (const open of [fd, machine.group, machine.container]) machine.vfio.close(open);
  expect(machine.leftovers()).toEqual(NOTHING);
}

describe('what fails once', () => {
  it('the n-th allocation of an open and of a start: ENOMEM', async () => {
    const machine = await ccwMachine();
    putLargeProgram(machine);
    const { core } = machine.vfio;
    core.failAllocation(1);
    expect(machine.openRaw()).toBe(-ENOMEM);
    core.failAllocation(0);
    const fd = machine.open();
    let failures = 0;
    for (let nth = 1, all = false; !all; nth++) {
      core.failAllocation(nth);
      const result = machine.vfio.writeRaw(fd, request(), 0);
      all = untouched(core);
      core.failAllocation(0);
      // What only speeds things up, such as the entries of translated pages, may be missing.
      if (result === 24) machine.vfio.ioctl(fd, VFIO_DEVICE_RESET);
      else failures++;
      expect([-ENOMEM, 24]).toContain(result);
      expect([machine.device.state, machine.device.program?.held]).toEqual(['IDLE', false]);
      expect(machine.vfio.task.mm.lockedPages).toBe(0);
    }
    expect(failures).toBeGreaterThan(2);
    finish(machine, fd);
  });

  it.each([
    ['pin', IOMMU_PIN_NTH, [-ENOMEM]],
    ['read', IOMMU_READ_NTH, [-EFAULT]],
  ] as const)('the n-th %s of a start', async (_name, field, errnos) => {
    const machine = await ccwMachine();
    putLargeProgram(machine);
    const fd = machine.open();
    const iommu = machine.device.dma?.iommu ?? 0;
    const { view } = machine.vfio.core;
    let failures = 0;
    for (let nth = 1; nth < 5000; nth++) {
      view.setUint32(iommu + field, nth, true);
      const result = machine.vfio.writeRaw(fd, request(), 0);
      view.setUint32(iommu + field, 0, true);
      if (result === 24) break;
      failures++;
      expect(errnos).toContain(result);
      expect([machine.device.state, machine.device.program?.held, machine.vfio.task.mm.lockedPages]).toEqual([
        'IDLE',
        false,
        0,
      ]);
    }
    expect(failures).toBeGreaterThan(10);
    finish(machine, fd);
  });

  it('the n-th allocation of a 2016 request: ENOMEM', async () => {
    const machine = await engineMachine({ execute: () => ({ unitStatus: 0x0c, lengthMismatch: false }) });
    const { core } = machine.vfio;
    const fd = machine.open();
    machine.put(
      PROGRAM,
      ...Array.from({ length: 200 }, (_, i) => ccw1(0x02, i === 199 ? 0x20 : 0x60, 0x3000, DATA + i)),
    );
    const caller = new FlatCaller(machine.vfio, fd, [{ address: 0n, vaddr: machine.ram, size: 0x40000n }]);
    const orb = u32be(0, 0x00c2ff00, PROGRAM);
    const before = core.liveBytes;
    let failures = 0;
    for (let nth = 1, all = false; !all; nth++) {
      core.failAllocation(nth);
      const result = errnoOf(() => caller.request(orb));
      all = untouched(core);
      core.failAllocation(0);
      if (result !== 0) failures++;
      expect([-ENOMEM, 0]).toContain(result);
      expect([machine.device.state, machine.device.program?.held]).toEqual(['IDLE', false]);
      expect([core.liveBytes, machine.vfio.task.mm.lockedPages]).toEqual([before, 0]);
    }
    expect(failures).toBeGreaterThan(2);
    caller.close();
    for (const open of [fd, machine.group, machine.container]) machine.vfio.close(open);
    expect(machine.leftovers()).toEqual(NOTHING);
  });
});
