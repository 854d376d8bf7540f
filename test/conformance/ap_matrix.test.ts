import { describe, expect, it } from 'vitest';
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENODEV, ERANGE } from '../../assembly/abi.ts';
import { ApMask } from '../../host/devices/ap/mask.ts';
import { parseConfig, showMatrix } from '../../host/drivers/ap/matrix.ts';
import { apHost } from '../support/ap.ts';

const config = (apm: number[], aqm: number[], adm: number[] = []): string =>
  `${ApMask.of(...apm)},${ApMask.of(...aqm)},${ApMask.of(...adm)}\n`;

describe('ap: the worked examples (section 11)', () => {
  it('1: assigning an adapter and two domains gives the product', async () => {
    const host = await apHost();
    expect(host.write('a', 'assign_adapter', '5')).toBe(1);
    expect(host.write('a', 'assign_domain', '4')).toBe(1);
    expect(host.write('a', 'assign_domain', '0xAB\n')).toBe(5);
    expect(host.read('a', 'matrix')).toBe('05.0004\n05.00ab\n');
    expect(host.read('a', 'guest_matrix')).toBe('05.0004\n05.00ab\n');
  });

  it('2: the conflict appears when the other dimension is assigned', async () => {
    const host = await apHost();
    for (const [name, value] of [
      ['adapter', '5'],
      ['domain', '4'],
      ['domain', '0xab'],
    ] as const)
      host.write('a', `assign_${name}`, value);
    expect(host.write('b', 'assign_adapter', '5')).toBe(1);
    expect(host.write('b', 'assign_domain', '4')).toBe(-EADDRINUSE);
    expect(host.read('b', 'matrix')).toBe('05.\n');
    expect(host.write('b', 'assign_domain', '0x47')).toBe(4);
    expect(host.read('b', 'matrix')).toBe('05.0047\n');
  });

  it('3: beyond the machine is ENODEV, no number EINVAL, too big a number ERANGE, again is success', async () => {
    const host = await apHost();
    expect(host.write('a', 'assign_adapter', '0x100')).toBe(-ENODEV);
    expect(host.write('a', 'assign_adapter', 'abc')).toBe(-EINVAL);
    expect(host.write('a', 'assign_adapter', '0x10000000000000000')).toBe(-ERANGE);
    expect(host.write('a', 'assign_adapter', '5')).toBe(1);
    expect(host.write('a', 'assign_adapter', '5')).toBe(1);
    expect(host.write('a', 'assign_domain', '0xac')).toBe(-ENODEV);
    expect(host.write('a', 'assign_control_domain', '0xac')).toBe(-ENODEV);
    expect(host.write('a', 'unassign_adapter', '0x100')).toBe(-ENODEV);
  });

  it('4 and 5: one unbound queue filters the whole adapter, binding it brings the adapter back', async () => {
    const host = await apHost();
    for (const [name, value] of [
      ['adapter', '5'],
      ['domain', '4'],
      ['domain', '0xab'],
    ] as const)
      host.write('a', `assign_${name}`, value);
    expect(host.write('/sys/bus/ap/drivers/vfio_ap', 'unbind', '05.00ab')).toBe(7);
    expect(host.read('a', 'guest_matrix')).toBe('');
    expect(host.read('a', 'matrix')).toBe('05.0004\n05.00ab\n');
    expect(host.write('/sys/bus/ap/drivers/vfio_ap', 'bind', '05.00ab')).toBe(7);
    expect(host.read('a', 'guest_matrix')).toBe('05.0004\n05.00ab\n');
  });

  it('6: the host cannot reserve what is assigned', async () => {
    const host = await apHost();
    host.write('a', 'assign_adapter', '5');
    host.write('a', 'assign_domain', '4');
    expect(host.write('/sys/bus/ap', 'apmask', '+5')).toBe(2);
    expect(host.write('/sys/bus/ap', 'aqmask', '+4')).toBe(-EADDRINUSE);
    expect(host.write('/sys/bus/ap', 'aqmask', '+0x47')).toBe(5);
    expect(host.write('a', 'assign_domain', '0x47')).toBe(-EADDRNOTAVAIL);
    expect(host.read('a', 'matrix')).toBe('05.0004\n');
  });

  it('7: a whole configuration with a bit beyond the machine changes nothing', async () => {
    const host = await apHost();
    host.write('a', 'assign_adapter', '5');
    const before = host.read('a', 'ap_config');
    expect(host.write('a', 'ap_config', config([5], [4, 255]))).toBe(-ENODEV);
    expect(host.read('a', 'ap_config')).toBe(before);
    expect(String(before)).toHaveLength(201);
  });
});

describe('ap: attributes', () => {
  it('adapters or domains alone are listed alone; control domains do not follow domains', async () => {
    const host = await apHost();
    expect(host.read('a', 'matrix')).toBe('');
    host.write('a', 'assign_domain', '4');
    expect(host.read('a', 'matrix')).toBe('.0004\n');
    expect(host.read('a', 'control_domains')).toBe('');
    expect(host.write('a', 'assign_control_domain', '7')).toBe(1);
    expect(host.read('a', 'control_domains')).toBe('0007\n');
    expect(host.write('a', 'unassign_control_domain', '7')).toBe(1);
    expect(host.read('a', 'control_domains')).toBe('');
  });

  it('a configuration replaces the matrix at once; reserved and shared queues refuse it', async () => {
    const host = await apHost();
    expect(host.write('a', 'ap_config', config([4, 5], [4], [4]))).toBe(201);
    expect(host.read('a', 'matrix')).toBe('04.0004\n05.0004\n');
    expect(host.write('b', 'ap_config', config([5], [4]))).toBe(-EADDRINUSE);
    expect(host.write('b', 'ap_config', config([6], [4]))).toBe(201);
    expect(host.write('a', 'ap_config', config([4], [0x47]))).toBe(201);
    expect(host.read('a', 'guest_matrix')).toBe('04.0047\n');
    host.write('/sys/bus/ap', 'apmask', '+5');
    host.write('/sys/bus/ap', 'aqmask', '+0xab');
    expect(host.write('a', 'ap_config', config([5], [0xab]))).toBe(-EADDRNOTAVAIL);
    expect(host.read('a', 'matrix')).toBe('04.0047\n');
  });

  it('masks: fewer than 64 digits are left aligned; missing ones, junk and no hex are EINVAL', async () => {
    const host = await apHost();
    expect(parseConfig('0x8,0x4,0x1')?.apm.numbers()).toEqual([0]);
    expect(host.write('a', 'ap_config', '0x04,0x08,0x0')).toBe(13);
    expect(host.read('a', 'matrix')).toBe('05.0004\n');
    for (const text of ['0x04,0x08', '0x04,0x08,0x0,', '0x04,0x08,0x0 x', '04,08,00', `0x${'0'.repeat(65)},0x0,0x0`])
      expect(host.write('a', 'ap_config', text), text).toBe(-EINVAL);
  });

  it('taking away what is not there succeeds; taking away a domain keeps the adapter', async () => {
    const host = await apHost();
    expect(host.write('a', 'unassign_adapter', '5')).toBe(1);
    host.write('a', 'ap_config', config([5], [4, 0x47]));
    expect(host.write('a', 'unassign_domain', '4')).toBe(1);
    expect(host.read('a', 'guest_matrix')).toBe('05.0047\n');
    expect(host.write('a', 'unassign_adapter', '5')).toBe(1);
    expect(host.read('a', 'matrix')).toBe('.0047\n');
  });

  it('without extended addressing adapters end at 63 and domains at 15', async () => {
    const host = await apHost({ adapters: [4], domains: [4], apxa: false });
    expect(host.write('a', 'assign_adapter', '63')).toBe(2);
    expect(host.write('a', 'assign_adapter', '64')).toBe(-ENODEV);
    expect(host.write('a', 'assign_domain', '16')).toBe(-ENODEV);
  });

  it('a queue tells whether it is assigned', async () => {
    const host = await apHost();
    const queue = '/sys/devices/ap/card05/05.0004';
    expect(host.read(queue, 'status')).toBe('unassigned\n');
    host.write('a', 'ap_config', config([5], [4]));
    expect(host.read(queue, 'status')).toBe('assigned\n');
  });
});

describe('ap: hot plug (section 6)', () => {
  const host2 = async () => {
    const host = await apHost();
    host.write('a', 'ap_config', config([5, 6], [4, 0x47]));
    return host;
  };

  it('an adapter that leaves the host leaves the guest; when it comes back the bus scan gives it again', async () => {
    const host = await host2();
    const all = { apm: ApMask.of(4, 5, 6), aqm: ApMask.of(4, 0x47, 0xab), adm: ApMask.of(4, 0x47, 0xab) };
    host.bus.reconfigure({ ...all, apm: ApMask.of(4, 6) });
    expect(host.read('a', 'guest_matrix')).toBe('06.0004\n06.0047\n');
    expect(host.read('a', 'matrix')).toContain('05.0004');
    host.bus.reconfigure(all);
    expect(host.read('a', 'guest_matrix')).toBe('05.0004\n05.0047\n06.0004\n06.0047\n');
  });

  it('a card older than CEX4 is never passed through', async () => {
    const host = await apHost({ adapters: [4, 5], domains: [4], types: { 5: 3 } });
    host.write('a', 'ap_config', config([4, 5], [4]));
    expect(host.read('a', 'guest_matrix')).toBe('04.0004\n');
  });

  it('a queue whose reset failed takes its adapter away', async () => {
    const host = await host2();
    host.bus.queues.get(0x0504)!.state = 'checkstopped';
    host.write('/sys/bus/ap/drivers/vfio_ap', 'unbind', '05.0047');
    expect(host.read('a', 'guest_matrix')).toBe('06.0004\n06.0047\n');
    host.write('/sys/bus/ap/drivers/vfio_ap', 'bind', '05.0047');
    // Checkstopped is no reason to hide it.
    expect(host.read('a', 'guest_matrix')).toBe('05.0004\n05.0047\n06.0004\n06.0047\n');
  });
});

it('ap: bit 0 of a mask is the leftmost', () => {
  expect(ApMask.of(0).toString()).toBe(`0x8${'0'.repeat(63)}`);
  expect(ApMask.of(255).toString()).toBe(`0x${'0'.repeat(63)}1`);
  expect(showMatrix(parseConfig(`${ApMask.of(255)},${ApMask.of(0)},0x0`)!)).toBe('ff.0000\n');
});
