import { describe, expect, it } from 'vitest';
import { run } from '../support/scripts.ts';

describe('insn in scripts', () => {
  it('gives a condition code or a program interruption, and the registers that changed', async () => {
    const { results } = await run(
      [
        '{"op": "vm", "as": "vm", "storage": "0x10000"}',
        '{"op": "insn", "i": "TPI", "registers": {"r6": "0x100"}}',
        '{"op": "insn", "i": "TPI", "registers": {"r6": "0x101"}}',
        '{"op": "insn", "i": "TPI", "registers": {"r6": 0}, "problem": true}',
        '{"op": "insn", "i": "STSCH", "registers": {"r1": "0x10000", "r6": "0x20000"}}',
        '{"op": "insn", "code": "b2ff0000"}',
        '{"op": "insn", "code": "b9d20024", "registers": {"r4": "0x8000000000000004"}}',
        '{"op": "insn", "i": "PQAP", "registers": {"r0": "0x0102"}}',
      ].join('\n'),
    );
    expect(results.slice(1).map(({ cc, pgm, out }) => [cc, pgm, out])).toEqual([
      [0, undefined, undefined],
      [undefined, 6, undefined],
      [undefined, 2, undefined],
      [undefined, 5, undefined],
      [undefined, 1, undefined],
      [3, undefined, undefined],
      [3, undefined, { r1: 65536 }],
    ]);
  });

  it('attaching a descriptor that is closed, or of another kind of device, is refused as a call is', async () => {
    const { results } = await run(
      [
        '{"op": "machine", "devices": [{"bus": "pci", "model": "ism", "name": "0001:00:00.0", "group": 3}]}',
        '{"op": "open", "as": "c", "path": "/dev/vfio/vfio"}',
        '{"op": "open", "as": "g", "path": "/dev/vfio/3"}',
        '{"op": "ioctl", "fd": "$g", "request": "VFIO_GROUP_SET_CONTAINER", "struct": {"type": "s32", "value": "$c"}}',
        '{"op": "ioctl", "fd": "$c", "request": "VFIO_SET_IOMMU", "value": 3}',
        '{"op": "ioctl", "as": "d", "fd": "$g", "request": "VFIO_GROUP_GET_DEVICE_FD", "string": "0001:00:00.0"}',
        '{"op": "vm"}',
        '{"op": "attach", "kind": "pci", "fd": 99, "container": "$c"}',
        '{"op": "attach", "kind": "ap", "fd": 99}',
        '{"op": "attach", "kind": "ccw", "fd": "$d", "id": "0x10000"}',
        '{"op": "attach", "kind": "ap", "fd": "$d"}',
        '{"op": "attach", "kind": "pci", "fd": "$d", "container": "$c"}',
      ].join('\n'),
    );
    expect(results.slice(-5).map(({ ret, errno }) => [ret, errno])).toEqual([
      [-9, 'EBADF'],
      [-9, 'EBADF'],
      [-19, 'ENODEV'],
      [-19, 'ENODEV'],
      [0x10000, undefined],
    ]);
  });

  for (const id of ['0x313', '0x100010313', '0x90000'])
    it(`an identification such as ${id} is a mistake of the script`, async () => {
      const script = `{"op": "vm"}\n{"op": "attach", "kind": "ccw", "fd": 3, "id": "${id}"}`;
      await expect(run(script)).rejects.toThrow(/line 2.*0x1nnnn/);
    });

  it('storage that the process has no room for is ENOMEM', async () => {
    const { results } = await run('{"op": "vm", "storage": "0x40000000"}');
    expect(results[0]).toMatchObject({ ret: -12, errno: 'ENOMEM' });
  });

  for (const [title, line] of [
    ['a name and bytes together', '{"op": "insn", "i": "TPI", "code": "b2360000"}'],
    ['an unknown instruction', '{"op": "insn", "i": "LPSW"}'],
    ['a register that does not exist', '{"op": "insn", "i": "TPI", "registers": {"r16": 0}}'],
    ['no machine', '{"op": "insn", "i": "TPI"}'],
    ['a function without container', '{"op": "attach", "kind": "pci", "fd": 3}'],
    ['a subchannel without id', '{"op": "attach", "kind": "ccw", "fd": 3}'],
    ['an unknown kind', '{"op": "attach", "kind": "usb", "fd": 3}'],
    ['storage that is no number of pages', '{"op": "vm", "storage": 100}'],
  ] as const)
    it(`${title} is a mistake of the script`, async () => {
      await expect(run(line)).rejects.toThrow(/line 1/);
    });
});
