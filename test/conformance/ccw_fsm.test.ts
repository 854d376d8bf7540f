// vfio-ccw: the state machine, interrupts, reports, notifications (spec ccw sections 3, 4, 6, 7). One test per rule; the recorded scenarios are in
// ccw_scenarios.test.ts.
import { beforeEach, describe, expect, it } from 'vitest';
import { EACCES, EBADF, EBUSY, EFAULT, EINVAL, EIO, ENODEV, EOPNOTSUPP, EPERM } from '../../assembly/abi.ts';
import { SCHIB_SCSW, SCSW_ACTL_CLEAR_PENDING, SCSW_ACTL_HALT_PENDING } from '../../host/css/schib.ts';
import type { ConditionCode } from '../../host/css/subchannel.ts';
import { ScriptedSubchannel } from '../../host/devices/scripted.ts';
import type { CcwState } from '../../host/drivers/ccw/device.ts';
import { type CcwEvent, FSM, raise } from '../../host/drivers/ccw/fsm.ts';
import { shutdown } from '../../host/drivers/ccw/paths.ts';
import { VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS, VFIO_IOMMU_UNMAP_DMA } from '../../host/uapi/ioctl.ts';
import { VfioIommuType1DmaUnmap } from '../../host/uapi/structs.ts';
import {
  type CcwMachine,
  ccwMachine,
  DATA,
  FINAL,
  INTERMEDIATE,
  irb,
  irqSet,
  ORB_WORD1,
  PROGRAM,
  request,
  SUBCHANNEL,
  s32,
  UNSOLICITED,
  u32be,
} from '../support/ccw_machine.ts';
import { ccw1 } from '../support/ccw_programs.ts';

const IO = 0;
const CMD = 0x400;
const HALT = s32(1);
const CLEAR = s32(2);
const [NONE, BOOL, EVENTFD] = [1, 2, 4];
const FCTL_HALT = 0x2000;
const FCTL_CLEAR = 0x1000;

/** Its halts and clears are accepted and stay pending. */
class BusySubchannel extends ScriptedSubchannel {
  override stsch(schib: Uint8Array): ConditionCode {
    const cc = super.stsch(schib);
    const pending = this.ops.includes('csch') ? SCSW_ACTL_CLEAR_PENDING : SCSW_ACTL_HALT_PENDING;
    if (this.ops.includes('hsch')) schib.set(u32be(pending), SCHIB_SCSW);
    return cc;
  }
}

let machine: CcwMachine;
let fd: number;
beforeEach(async () => {
  machine = await ccwMachine();
  machine.putProgram();
  fd = machine.open();
});

const write = (data: Uint8Array, offset: number): number => machine.vfio.writeRaw(fd, data, offset);
const start = (): number => write(request(), IO);
const irbArea = (size = 12): Uint8Array => {
  const bytes = new Uint8Array(size);
  machine.vfio.read(fd, bytes, IO + 24);
  return bytes;
};
const hostCpa = (offset: number): number => machine.device.program!.chains()[0]!.host + offset;

describe('the table', () => {
  const table: ReadonlyArray<[CcwState, CcwEvent, CcwState, string]> = [
    ['NOT_OPER', 'NOT_OPER', 'NOT_OPER', ''],
    ['NOT_OPER', 'IO_REQ', 'NOT_OPER', 'io EIO'],
    ['NOT_OPER', 'ASYNC_REQ', 'NOT_OPER', 'cmd EIO'],
    ['NOT_OPER', 'INTERRUPT', 'NOT_OPER', 'disable'],
    ['NOT_OPER', 'OPEN', 'NOT_OPER', ''],
    ['NOT_OPER', 'CLOSE', 'NOT_OPER', ''],
    ['STANDBY', 'NOT_OPER', 'NOT_OPER', 'unregister'],
    ['STANDBY', 'IO_REQ', 'STANDBY', 'io EIO'],
    ['STANDBY', 'ASYNC_REQ', 'STANDBY', 'cmd EIO'],
    ['STANDBY', 'INTERRUPT', 'STANDBY', 'disable'],
    ['STANDBY', 'OPEN', 'IDLE', 'enable'],
    ['STANDBY', 'CLOSE', 'NOT_OPER', 'unregister'],
    ['IDLE', 'NOT_OPER', 'NOT_OPER', 'unregister'],
    ['IDLE', 'INTERRUPT', 'IDLE', 'work'],
    ['IDLE', 'OPEN', 'NOT_OPER', 'unregister'],
    ['IDLE', 'CLOSE', 'STANDBY', 'disable'],
    ['CP_PROCESSING', 'NOT_OPER', 'NOT_OPER', 'unregister'],
    ['CP_PROCESSING', 'IO_REQ', 'CP_PROCESSING', 'io EAGAIN'],
    ['CP_PROCESSING', 'ASYNC_REQ', 'CP_PROCESSING', 'cmd EAGAIN'],
    ['CP_PROCESSING', 'INTERRUPT', 'CP_PROCESSING', 'work'],
    ['CP_PROCESSING', 'OPEN', 'NOT_OPER', 'unregister'],
    ['CP_PROCESSING', 'CLOSE', 'STANDBY', 'disable'],
    ['CP_PENDING', 'NOT_OPER', 'NOT_OPER', 'unregister'],
    ['CP_PENDING', 'IO_REQ', 'CP_PENDING', 'io EBUSY'],
    ['CP_PENDING', 'INTERRUPT', 'CP_PENDING', 'work'],
    ['CP_PENDING', 'OPEN', 'NOT_OPER', 'unregister'],
    ['CP_PENDING', 'CLOSE', 'STANDBY', 'disable'],
  ];
  const ERRNO: Record<string, number> = { EIO: -5, EAGAIN: -11, EBUSY: -16 };

  it.each(table)('%s on %s: %s %s', (state, event, next, effect) => {
    const { device, hardware } = machine;
    device.state = state;
    hardware.ops.length = 0;
    raise(device, event);
    const [what, errno] = effect.split(' ');
    expect(device.state).toBe(next);
    expect(device.unregisterWork.pending).toBe(what === 'unregister');
    expect(device.ioWork.pending).toBe(what === 'work');
    expect(hardware.ops).toEqual(what === 'disable' || what === 'enable' ? [what] : []);
    expect(device.ioRetCode).toBe(what === 'io' ? ERRNO[errno!] : 0);
    expect(device.cmdRetCode).toBe(what === 'cmd' ? ERRNO[errno!] : 0);
  });

  it('is complete', () => {
    for (const row of Object.values(FSM)) expect(Object.keys(row)).toHaveLength(6);
    expect(Object.keys(FSM)).toHaveLength(5);
  });
});

describe('start', () => {
  it('START wins over HALT and CLEAR; those alone are EOPNOTSUPP', () => {
    expect(write(request(ORB_WORD1, PROGRAM, FCTL_HALT), IO)).toBe(-EOPNOTSUPP);
    expect(write(request(ORB_WORD1, PROGRAM, FCTL_CLEAR), IO)).toBe(-EOPNOTSUPP);
    expect(write(request(ORB_WORD1, PROGRAM, 0x7000), IO)).toBe(24);
  });

  it('EOPNOTSUPP for transport mode comes before the program is read', () => {
    expect(write(request(ORB_WORD1 | 0x00040000, 0xdead0000), IO)).toBe(-EOPNOTSUPP);
    expect(write(request(ORB_WORD1, 0xdead0000), IO)).toBe(-EINVAL);
  });

  it('a failed translation leaves no pin and an idle device', () => {
    machine.put(PROGRAM, ccw1(0x02, 0x40, 0x1000, DATA), ccw1(0x02, 0, 1, 0xdead0000));
    expect(start()).toBe(-EINVAL);
    expect([machine.device.state, machine.device.program?.pinCount]).toEqual(['IDLE', 0]);
  });

  it('EPERM: data in a mapping without write permission', () => {
    machine.map(0x1000000n, 0x1000n, machine.ram, 1);
    machine.put(PROGRAM, ccw1(0x01, 0, 1, 0x1000000));
    expect(start()).toBe(-EPERM);
  });

  it('the ORB handed over names no unused path: 0 becomes the mask of the subchannel', () => {
    write(request(ORB_WORD1 & ~0xff00), IO);
    expect(machine.hardware.orb?.subarray(4, 8)).toEqual(u32be(0x00c2f000));
  });

  it.each([1, 2] as const)('condition code %i: EBUSY, the program is released', (cc) => {
    machine.hardware.answer('ssch', cc);
    expect(start()).toBe(-EBUSY);
    expect(machine.device.program?.held).toBe(false);
  });

  it('condition code 3 takes the paths away: EACCES while some remain, then ENODEV', () => {
    machine.hardware.answer('ssch', 3);
    expect(write(request(0x00c2c000), IO)).toBe(-EACCES);
    expect(machine.device.subchannel.lpm).toBe(0x30);
    expect(write(request(0x00c20000), IO)).toBe(-ENODEV);
    expect(machine.device.subchannel.lpm).toBe(0);
  });
});

describe('async commands', () => {
  it.each([
    ['hsch', HALT, [4, -EBUSY, -EBUSY, -ENODEV]],
    ['csch', CLEAR, [4, 1, 2, -ENODEV]],
  ] as const)('%s: what each condition code gives', (instruction, command, results) => {
    const seen = ([0, 1, 2, 3] as const).map((cc) => {
      machine.hardware.answer(instruction, cc);
      return write(command, CMD);
    });
    expect(seen).toEqual(results);
  });

  it('EINVAL: every other command', () => {
    for (const command of [0, 3, -1]) expect(write(s32(command), CMD)).toBe(-EINVAL);
  });

  it('work while a program is pending, which stays pending', () => {
    start();
    expect([write(HALT, CMD), write(CLEAR, CMD)]).toEqual([4, 4]);
    expect(machine.device.state).toBe('CP_PENDING');
  });
});

describe('interrupts', () => {
  it('a final one translates the CPA, releases the program, stores 64 bytes, signals', () => {
    const eventfd = machine.bindIrq(fd, 0);
    start();
    machine.hardware.interrupt(irb(FINAL, hostCpa(16)));
    expect([machine.device.state, machine.signals(eventfd)]).toEqual(['CP_PENDING', 0]);
    machine.work();
    expect([machine.device.state, machine.signals(eventfd)]).toEqual(['IDLE', 1]);
    expect(machine.device.program?.held).toBe(false);
    expect(irbArea()).toEqual(u32be(FINAL, PROGRAM + 16, 0x0c000000));
  });

  it('an intermediate one translates the CPA and keeps the program', () => {
    start();
    machine.hardware.interrupt(irb(INTERMEDIATE, hostCpa(8)));
    machine.work();
    expect([machine.device.state, machine.device.program?.held]).toEqual(['CP_PENDING', true]);
    expect(irbArea(8)).toEqual(u32be(INTERMEDIATE, PROGRAM + 8));
  });

  it('an unsolicited one is shown as it is and changes nothing', () => {
    const eventfd = machine.bindIrq(fd, 0);
    start();
    machine.hardware.interrupt(irb(UNSOLICITED, hostCpa(8), 0x80000000));
    machine.work();
    expect([machine.device.state, machine.signals(eventfd)]).toEqual(['CP_PENDING', 1]);
    expect(irbArea()).toEqual(u32be(UNSOLICITED, hostCpa(8), 0x80000000));
  });

  it('alert status with a deferred condition code is solicited', () => {
    start();
    machine.hardware.interrupt(irb(UNSOLICITED | 0x01004000));
    machine.work();
    expect(machine.device.state).toBe('IDLE');
  });

  it('two before the work runs are one, the last', () => {
    const eventfd = machine.bindIrq(fd, 0);
    start();
    machine.hardware.interrupt(irb(INTERMEDIATE));
    machine.hardware.interrupt(irb(FINAL));
    machine.work();
    expect([machine.signals(eventfd), machine.device.state]).toEqual([1, 'IDLE']);
  });

  it('the CPA one CCW behind the last belongs to the chain, further ones to nobody', () => {
    start();
    const beyond = hostCpa(24);
    machine.hardware.interrupt(irb(FINAL, beyond));
    machine.work();
    expect(irbArea(8)).toEqual(u32be(FINAL, beyond));
  });

  it('close loses the work of an interrupt that came before', () => {
    const eventfd = machine.bindIrq(fd, 0);
    machine.hardware.interrupt(irb(UNSOLICITED));
    machine.vfio.close(fd);
    machine.work();
    expect(machine.signals(eventfd)).toBe(0);
  });
});

describe('SET_IRQS', () => {
  const set = (index: number, type: number, data?: Uint8Array, header?: Parameters<typeof irqSet>[3]): number =>
    machine.vfio.ioctlRaw(fd, VFIO_DEVICE_SET_IRQS, irqSet(index, type, data, header));

  it('EINVAL: only triggers', () => {
    expect(set(0, NONE, undefined, { flags: NONE | 8 })).toBe(-EINVAL);
    expect(set(0, NONE, undefined, { flags: NONE | 16 })).toBe(-EINVAL);
    expect(set(0, NONE, undefined, { flags: NONE | 0x38 })).toBe(0);
  });

  it('NONE and BOOL signal, NONE also with count 0 and without removing', () => {
    const eventfd = machine.bindIrq(fd, 1);
    expect([set(1, NONE), set(1, NONE, undefined, { count: 0 })]).toEqual([0, 0]);
    expect([set(1, BOOL, Uint8Array.of(1)), set(1, BOOL, Uint8Array.of(0))]).toEqual([0, 0]);
    expect(machine.signals(eventfd)).toBe(3);
  });

  it('BOOL and EVENTFD read their datum even with count 0 (EFAULT)', () => {
    expect(set(0, BOOL, undefined, { count: 0 })).toBe(-EFAULT);
    expect(set(0, EVENTFD, undefined, { count: 0 })).toBe(-EFAULT);
    const eventfd = machine.vfio.eventfd();
    expect(set(0, EVENTFD, s32(eventfd), { count: 0 })).toBe(0);
    expect(machine.device.ioIrq.bound).toBe(true);
  });

  it('EBADF and EINVAL keep the eventfd that is there; -1 removes it', () => {
    machine.bindIrq(fd, 2);
    expect([set(2, EVENTFD, s32(99)), set(2, EVENTFD, s32(-2)), set(2, EVENTFD, s32(fd))]).toEqual([
      -EBADF,
      -EINVAL,
      -EINVAL,
    ]);
    expect(machine.device.reqIrq.bound).toBe(true);
    expect(set(2, EVENTFD, s32(-1))).toBe(0);
    expect(machine.device.reqIrq.bound).toBe(false);
  });
});

describe('notifications', () => {
  it('unmapping pages of the program ends it and leaves an idle device', () => {
    start();
    machine.vfio.ioctl(machine.container, VFIO_IOMMU_UNMAP_DMA, new VfioIommuType1DmaUnmap({ size: 0x40000n }));
    expect([machine.device.state, machine.device.program?.held]).toEqual(['IDLE', false]);
  });

  it('unmapping pages of a program whose subchannel is gone releases it at once', () => {
    start();
    machine.hardware.valid = false;
    machine.hardware.examine();
    const unmap = new VfioIommuType1DmaUnmap({ size: 0x40000n });
    machine.vfio.ioctl(machine.container, VFIO_IOMMU_UNMAP_DMA, unmap);
    expect([unmap.size, machine.device.program?.held, machine.vfio.task.mm.lockedPages]).toEqual([0x40000n, false, 0]);
  });

  it('unmapping pages that hold only CCWs does nothing', () => {
    machine.map(0x1000000n, 0x2000n, machine.ram + BigInt(PROGRAM));
    expect(write(request(ORB_WORD1, 0x1000000), IO)).toBe(24);
    const unmap = new VfioIommuType1DmaUnmap({ iova: 0x1000000n, size: 0x2000n });
    machine.vfio.ioctl(machine.container, VFIO_IOMMU_UNMAP_DMA, unmap);
    expect(machine.device.state).toBe('CP_PENDING');
  });

  it('channel reports signal when they are queued, and at each read while more remain', () => {
    const eventfd = machine.bindIrq(fd, 1);
    machine.hardware.channelPath('offline', 1, 0x40);
    machine.hardware.channelPath('online', 1, 0x40);
    expect(machine.signals(eventfd)).toBe(0);
    machine.work();
    expect(machine.signals(eventfd)).toBe(1);
    machine.vfio.read(fd, new Uint8Array(8), 0xc00);
    expect(machine.signals(eventfd)).toBe(1);
    machine.vfio.read(fd, new Uint8Array(8), 0xc00);
    expect(machine.signals(eventfd)).toBe(0);
  });

  it('varying a path changes the masks and reports nothing; the last-used path ends what runs', () => {
    machine.hardware.ops.length = 0;
    machine.hardware.channelPath('vary-off', 1, 0x40);
    expect([machine.device.subchannel.lpm, machine.device.subchannel.opm]).toEqual([0xb0, 0xb0]);
    machine.hardware.channelPath('online', 1, 0x40);
    expect(machine.device.subchannel.lpm).toBe(0xb0);
    machine.hardware.channelPath('vary-on', 1, 0x40);
    expect([machine.device.subchannel.lpm, machine.hardware.ops.length]).toEqual([0xf0, 0]);
    machine.hardware.channelPath('vary-off', 0, 0x80);
    expect([machine.hardware.ops, machine.device.crws.length]).toEqual([['xsch', 'hsch'], 1]);
  });

  it('the host asks for the device: REQ each time', () => {
    const eventfd = machine.bindIrq(fd, 2);
    machine.hardware.valid = false;
    machine.hardware.examine();
    machine.work();
    expect(machine.signals(eventfd)).toBe(1);
    machine.clock.advance(20_000);
    expect(machine.signals(eventfd)).toBe(2);
  });

  it('a subchannel that goes takes its device along, once the user has closed', () => {
    start();
    machine.hardware.stored = 3;
    machine.hardware.examine();
    machine.work();
    expect(machine.openRaw()).toBe(-ENODEV);
    expect(machine.vfio.kernel.mdev.devices.size).toBe(1);
    for (const open of [fd, machine.group, machine.container]) machine.vfio.close(open);
    const { kernel, core, task } = machine.vfio;
    expect([kernel.mdev.devices.size, kernel.mdev.parents.length, kernel.groups.size]).toEqual([0, 0, 0]);
    expect([core.liveBytes, task.mm.lockedPages, task.openFiles]).toEqual([0, 0, 0]);
    expect(machine.hardware.listener).toBeNull();
  });

  it('a program outlives its subchannel until the queued work runs', () => {
    start();
    machine.hardware.valid = false;
    machine.hardware.examine();
    const { device } = machine;
    expect([device.state, device.program?.pinCount]).toEqual(['NOT_OPER', 3]);
    expect([start(), write(HALT, CMD)]).toEqual([-EIO, -EIO]);
    machine.work();
    expect(device.program?.pinCount).toBe(0);
  });
});

describe('quiesce', () => {
  it('cancels once, halts 3 times, clears 255 times, then gives up: not operational', async () => {
    machine = await ccwMachine(() => new BusySubchannel({ busId: SUBCHANNEL }));
    fd = machine.open();
    machine.hardware.disableResults = Array(300).fill(-EBUSY);
    machine.hardware.ops.length = 0;
    expect(machine.vfio.ioctlRaw(fd, VFIO_DEVICE_RESET)).toBe(-EINVAL);
    const count = (name: string) => machine.hardware.ops.filter((op) => op === name).length;
    expect([count('xsch'), count('hsch'), count('csch'), count('wait')]).toEqual([1, 3, 255, 258]);
  });

  it('ends also where no instruction is accepted and the subchannel stays busy', () => {
    machine.hardware.disableResults = Array(1000).fill(-EBUSY);
    machine.hardware.answer('hsch', 3);
    expect(machine.vfio.ioctlRaw(fd, VFIO_DEVICE_RESET)).toBe(-EINVAL);
    expect(machine.device.state).toBe('NOT_OPER');
  });

  it('an interrupt that comes while it waits is worked on before the next try', () => {
    start();
    machine.hardware.disableResults = [-EBUSY];
    machine.hardware.interruptWhileWaiting = true;
    machine.hardware.ops.length = 0;
    machine.vfio.close(fd);
    expect(machine.hardware.ops).toEqual(['disable', 'xsch', 'hsch', 'wait', 'disable']);
    expect(machine.device.state).toBe('STANDBY');
  });

  it('shutdown ends the program and leaves nothing operational', () => {
    start();
    shutdown(machine.device);
    expect([machine.device.state, machine.device.program?.held]).toEqual(['NOT_OPER', false]);
  });
});
